//! A study's file that somebody sent: the database's pages, its tables, and the JSON in them.
#![no_main]

use edgewise_fuzz::{folder, seed};
use edgewise_search::{
    Artifact, Candidate, Device, Dimension, Energy, Error, Estimate, Failure, Form, Gap, Objective, Origin, Quality, Role,
    Settings, Space, SqliteStudy, StudyStore, Trial,
};
use libfuzzer_sys::fuzz_target;
use std::{collections::BTreeMap, fs};

fuzz_target!(init: seed([study().expect("the temporary folder can be written")]), |data: &[u8]| {
    let path = folder().join("study");
    fs::write(&path, data).expect("the temporary folder can be written");
    let Ok(study) = SqliteStudy::read(&path) else { return };
    let settings = study.settings().expect("they were read before");
    let _ = (study.devices(), study.sessions(), study.gaps(), study.seconds(), study.pending(&["pi".to_owned()]));
    let records = study.records();
    for record in records.iter().flatten() {
        assert_eq!(record.candidate.id(), record.id);
        assert!(record.candidate.check().is_ok() && !record.origins.is_empty());
        settings.space.contains(&record.candidate);
    }
    drop(study);
    let changed = SqliteStudy::write(&path).and_then(|mut study| study.set_budget(settings.budget ^ 1));
    if changed.is_ok() {
        let again = SqliteStudy::read(&path).expect("a change leaves it a study");
        assert_eq!(again.settings().expect("they were read before").budget, settings.budget ^ 1);
        assert_eq!(again.records().ok(), records.ok());
    }
});

/// One that holds something of everything.
fn study() -> Result<Vec<u8>, Error> {
    let path = folder().join("seed");
    let size = |value| Dimension::fixed(value).expect("a size is no zero");
    let settings = Settings {
        seed: 7,
        sampler: "random".into(),
        space: Space::per_layer(1, size(8), size(8), Dimension::new(1, 64, 1).expect("it is a range"), vec![1, 0])
            .expect("both layers are in their order"),
        objectives: vec![Objective::Perplexity, Objective::TpotMs],
        constraints: vec!["tpot_ms<=20".parse().expect("it is a constraint")],
        budget: 12,
        details: BTreeMap::from([("model".into(), serde_json::json!({ "sha256": "ab" }))]),
    };
    let mut study = SqliteStudy::create(&path, &settings)?;
    let candidate =
        |mlp| Candidate { layers: vec![0], width: 8, kv_groups: vec![8], mlp: vec![mlp], head_size: None, order: None };
    let first = study.propose(&candidate(64), &Origin::search(0))?;
    let second = study.propose(&candidate(3), &Origin::search(1))?;
    study.store_quality(&first, &Quality { perplexity: 6.25, nll: 1.75, tokens: 9, kl: Some(0.25), tasks: BTreeMap::new() })?;
    study.store_artifact(&first, &Artifact { sha256: "cd".repeat(32), bytes: 10, parameters: 1000 })?;
    let estimate = Estimate { median: 2.5, ci95: [2.4, 2.6], n: 30 };
    let trial = Trial {
        device: "pi".into(),
        block: 0,
        seat: 0,
        role: Role::Screen,
        form: Form::Memory,
        runtime: "ort".into(),
        precision: "fp32".into(),
        ttft_ms: estimate,
        tpot_ms: estimate,
        peak_rss_bytes: 1 << 33,
        artifact_bytes: 10,
        bytes_sent: 5,
        converged: true,
        flags: vec!["drift".into()],
        at_ms: 1,
        ttft_ns: vec![1],
        tpot_ns: vec![2],
        warmup_ns: vec![9],
        energy: Some(Energy { sensor: "VDD_IN".into(), joules_per_token: 0.5, idle_watts: 3.0, mean_watts: 7.25 }),
        extra: serde_json::json!({ "threads": 2 }),
    };
    study.store_trial(&first, &trial)?;
    let (status, message) = ("timed_out".to_owned(), "no answer".to_owned());
    study.store_gap(
        &second,
        &Gap { device: "pi".into(), block: 1, seat: 1, status: status.clone(), message: message.clone(), at_ms: 4 },
    )?;
    study.store_failure(&second, &Failure { device: Some("pi".into()), status, message })?;
    let fingerprint = BTreeMap::from([("model".into(), "4".into())]);
    study.store_device(&Device { name: "pi".into(), target: "raspberry-pi".into(), fingerprint, health: None })?;
    study.add_seconds("search", 2.5)?;
    drop(study);
    fs::read(&path).map_err(|source| Error::Io { path, source })
}
