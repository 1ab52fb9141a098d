//! A writer killed at any moment: what it said was stored is stored, and the study goes on.
#![cfg(unix)]

use edgewise_search::{
    Candidate, Dimension, Estimate, Form, Objective, Origin, Quality, Role, SENTINEL_SEAT, Settings, Space, SqliteStudy,
    StudyStore, Trial,
};
use std::{
    collections::{BTreeMap, HashSet},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

const STUDY: &str = "EDGEWISE_TEST_KILLED_STUDY";
const DEVICE: &str = "board";

fn settings() -> Settings {
    let range = Dimension::new(1, 1_000_000, 1).unwrap();
    let one = Dimension::fixed(1).unwrap();
    Settings {
        seed: 0,
        sampler: "random".to_owned(),
        space: Space::per_layer(1, one, one, range, vec![0]).unwrap(),
        objectives: vec![Objective::Perplexity, Objective::TpotMs],
        constraints: Vec::new(),
        budget: 1_000_000,
        details: BTreeMap::new(),
    }
}

/// The trial of the candidate that was proposed `n`th: two to a block, the baseline on its seat.
fn trial(n: u32) -> Trial {
    let estimate = Estimate { median: f64::from(n), ci95: [0.0, 1.0], n };
    Trial {
        device: DEVICE.to_owned(),
        block: n / 2,
        seat: if n == 0 { SENTINEL_SEAT } else { 1 + n % 2 },
        role: Role::Screen,
        form: Form::Memory,
        runtime: "tract".to_owned(),
        precision: "fp32".to_owned(),
        ttft_ms: estimate,
        tpot_ms: estimate,
        peak_rss_bytes: 1,
        artifact_bytes: 1,
        bytes_sent: 1,
        converged: true,
        flags: Vec::new(),
        at_ms: 0,
        ttft_ns: vec![u64::from(n); 200],
        tpot_ns: vec![u64::from(n); 2000],
        warmup_ns: Vec::new(),
        energy: None,
        extra: serde_json::Value::Null,
    }
}

/// The process that is killed: works through candidates for ever and says what is stored once it is.
#[test]
#[ignore = "runs as the child of `a_killed_writer_loses_nothing_that_it_acknowledged`"]
fn writer() {
    let Some(path) = std::env::var_os(STUDY) else { return };
    let mut study = SqliteStudy::resume(Path::new(&path), &settings()).unwrap();
    let mut out = std::io::stdout();
    let mut say = |what: &str, id: &str| {
        out.write_all(format!("ack {what} {id}\n").as_bytes()).unwrap();
        out.flush().unwrap();
    };
    let devices = [DEVICE.to_owned()];
    let mut next = study.records().unwrap().len() as u32;
    loop {
        // What an earlier life left half done comes first.
        let pending = study.pending(&devices).unwrap();
        for p in pending {
            if p.quality {
                study
                    .store_quality(&p.id, &Quality { perplexity: 2.0, nll: 1.0, tokens: 1, kl: None, tasks: BTreeMap::new() })
                    .unwrap();
                say("quality", &p.id);
            }
            for _ in p.devices {
                study.store_trial(&p.id, &trial(p.candidate.mlp[0] - 1)).unwrap();
                say("trial", &p.id);
            }
        }
        let candidate =
            Candidate { layers: vec![0], width: 1, kv_groups: vec![1], mlp: vec![next + 1], head_size: None, order: None };
        let id = study.propose(&candidate, &Origin::search(next)).unwrap();
        say("proposal", &id);
        next += 1;
    }
}

#[test]
fn a_killed_writer_loses_nothing_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study");
    let mut acknowledged: HashSet<(String, String)> = HashSet::new();
    for round in 0..25u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer", "--ignored", "--nocapture", "--test-threads=1"])
            .env(STUDY, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).collect::<Vec<_>>());
        // Different moments: the first rounds may hit the creation of the file.
        std::thread::sleep(Duration::from_millis(round * 7919 % 150 + if round < 3 { 2 } else { 40 }));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(!status.success(), "the writer ended by itself");
        for line in reader.join().unwrap() {
            // The harness's own words may stand before the first.
            let Some(at) = line.find("ack ") else { continue };
            let mut words = line[at + 4..].split(' ');
            if let (Some(what), Some(id)) = (words.next(), words.next()) {
                acknowledged.insert((what.to_owned(), id.to_owned()));
            }
        }
        if !path.exists() {
            assert!(acknowledged.is_empty());
            continue;
        }
        let records = SqliteStudy::read(&path).unwrap().records().unwrap();
        for (what, id) in &acknowledged {
            let record = records.iter().find(|r| &r.id == id).unwrap_or_else(|| panic!("round {round}: {what} {id} is lost"));
            match what.as_str() {
                "quality" => assert!(record.quality.is_some(), "round {round}: quality of {id}"),
                "trial" => assert_eq!(record.trials, [trial(record.candidate.mlp[0] - 1)], "round {round}: {id}"),
                _ => assert_eq!(record.origins.len(), 1),
            }
        }
        for (n, record) in records.iter().enumerate() {
            assert_eq!(record.origins, [Origin::search(n as u32)], "round {round}: a gap in the series");
        }
    }
    let measured = acknowledged.iter().filter(|(what, _)| what == "trial").count();
    assert!(measured > 20, "only {measured} trials were stored: nothing was tested");
}
