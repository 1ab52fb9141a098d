//! The study in its file: what is stored is there afterwards, once, and foreign files are refused.

use edgewise_search::{
    Artifact, Candidate, Device, Dimension, Energy, Error, Estimate, Failure, Form, Gap, Objective, Origin, Quality, Role,
    Session, Settings, Space, SqliteStudy, StudyStore, TaskScore, Trial,
};
use proptest::prelude::*;
use std::{collections::BTreeMap, path::PathBuf};

fn settings() -> Settings {
    let one = Dimension::fixed(8).unwrap();
    Settings {
        seed: 7,
        sampler: "random".to_owned(),
        space: Space::per_layer(1, one, one, Dimension::new(1, 64, 1).unwrap(), vec![1, 0]).unwrap(),
        objectives: vec![Objective::Perplexity, Objective::TpotMs],
        constraints: vec!["tpot_ms<=20".parse().unwrap()],
        budget: 12,
        details: BTreeMap::from([("model".to_owned(), serde_json::json!({"sha256": "ab"}))]),
    }
}

fn candidate(mlp: u32) -> Candidate {
    Candidate { layers: vec![0], width: 8, kv_groups: vec![8], mlp: vec![mlp], head_size: None, order: None }
}

fn trial(device: &str, block: u32, seat: u32, role: Role) -> Trial {
    let estimate = Estimate { median: 2.5, ci95: [2.4, 2.6], n: 30 };
    Trial {
        device: device.to_owned(),
        block,
        seat,
        role,
        form: Form::Memory,
        runtime: "ort".to_owned(),
        precision: "fp32".to_owned(),
        ttft_ms: estimate,
        tpot_ms: estimate,
        peak_rss_bytes: 1 << 33,
        artifact_bytes: 10,
        bytes_sent: 5,
        converged: true,
        flags: vec!["drift".to_owned()],
        at_ms: 1_700_000_000_000,
        ttft_ns: vec![1, u64::MAX],
        tpot_ns: (0..64).collect(),
        warmup_ns: vec![9],
        energy: None,
        extra: serde_json::json!({"threads": 2}),
    }
}

fn screen(device: &str, block: u32, seat: u32) -> Trial {
    trial(device, block, seat, Role::Screen)
}

fn gap(device: &str, block: u32, seat: u32) -> Gap {
    Gap { device: device.to_owned(), block, seat, status: "timed_out".to_owned(), message: "no answer".to_owned(), at_ms: 4 }
}

fn quality() -> Quality {
    Quality { perplexity: 6.143_1, nll: 1.815_33, tokens: 2044, kl: None, tasks: BTreeMap::new() }
}

fn temporary() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a study.edgewise");
    (folder, path)
}

#[test]
fn everything_comes_back_as_it_was_stored() {
    let (_folder, path) = temporary();
    let mut study = SqliteStudy::create(&path, &settings()).unwrap();
    let a = study.propose(&candidate(64), &Origin::search(0)).unwrap();
    let b = study.propose(&candidate(3), &Origin::search(1)).unwrap();
    let recipe = Origin { series: "baseline:depth".to_owned(), position: 0 };
    assert_eq!(study.propose(&candidate(64), &recipe).unwrap(), a, "two series share one candidate");
    study.store_quality(&a, &quality()).unwrap();
    let artifact = Artifact { sha256: "cd".repeat(32), bytes: 10, parameters: 1000 };
    study.store_artifact(&a, &artifact).unwrap();
    // Stored in another order than they are read: block and seat count, not time.
    let energy = Energy { sensor: "VDD_IN".to_owned(), joules_per_token: 0.1 + 0.2, idle_watts: 3.0, mean_watts: 7.25 };
    let last = Trial { energy: Some(energy), form: Form::Files, ..trial("jetson", 10, 3, Role::Final) };
    let trials = [screen("jetson", 0, 0), trial("jetson", 2, 0, Role::Race), trial("jetson", 2, 1, Role::Race), last];
    for trial in trials.iter().rev() {
        study.store_trial(&a, trial).unwrap();
    }
    study.store_gap(&b, &gap("jetson", 10, 1)).unwrap();
    study.store_gap(&a, &gap("jetson", 9, 0)).unwrap();
    let failure = Failure { device: Some("pi".to_owned()), status: "timed_out".to_owned(), message: "no answer".to_owned() };
    study.store_failure(&a, &failure).unwrap();
    let device = Device { name: "jetson".to_owned(), target: "jetson".to_owned(), fingerprint: BTreeMap::new(), health: None };
    study.store_device(&device).unwrap();
    let fingerprint = BTreeMap::from([("cpu".to_owned(), "x".to_owned())]);
    let device = Device { fingerprint, health: Some(serde_json::json!({"score": 80})), ..device };
    study.store_device(&device).unwrap();
    let session =
        Session { at_ms: 5, fingerprint: "ef".to_owned(), flags: vec!["sentinel_moved".to_owned()], note: "warm".to_owned() };
    let calm = Session { at_ms: 6, flags: Vec::new(), note: String::new(), ..session.clone() };
    study.store_session("jetson", &session).unwrap();
    study.store_session("pi", &session).unwrap();
    study.store_session("jetson", &calm).unwrap();
    study.add_seconds("measure", 1.5).unwrap();
    study.add_seconds("measure", 2.0).unwrap();
    drop(study);

    let study = SqliteStudy::read(&path).unwrap();
    assert_eq!(study.settings().unwrap(), settings());
    let records = study.records().unwrap();
    assert_eq!(records.iter().map(|r| &r.id).collect::<Vec<_>>(), [&a, &b]);
    assert_eq!(records[0].candidate, candidate(64));
    assert_eq!(records[0].origins, [recipe, Origin::search(0)]);
    assert_eq!(records[0].quality, Some(quality()));
    assert_eq!(records[0].artifact, Some(artifact));
    assert_eq!(records[0].trials, trials);
    assert_eq!(study.gaps().unwrap(), [(a, gap("jetson", 9, 0)), (b, gap("jetson", 10, 1))]);
    assert_eq!(records[0].failures, [failure]);
    assert_eq!(study.devices().unwrap(), [device]);
    let of = |device: &str, session: &Session| (device.to_owned(), session.clone());
    assert_eq!(study.sessions().unwrap(), [of("jetson", &session), of("pi", &session), of("jetson", &calm)]);
    assert_eq!(study.seconds().unwrap(), BTreeMap::from([("measure".to_owned(), 3.5)]));
}

#[test]
fn numbers_come_back_to_the_last_bit() {
    let (_folder, path) = temporary();
    let mut study = SqliteStudy::create(&path, &settings()).unwrap();
    // Shortest decimal forms that a fast parser gets wrong by one unit in the last place.
    let values = [6.899_999_999_999_999_5, 1.005_407_148_007_303_7, 15.333_247_061_659_508, 17.681_484_7e-7];
    for (n, perplexity) in (0u32..).zip(values) {
        let id = study.propose(&candidate(n + 1), &Origin::search(n)).unwrap();
        study
            .store_quality(&id, &Quality { perplexity, nll: perplexity / 3.0, tokens: 1, kl: None, tasks: BTreeMap::new() })
            .unwrap();
    }
    for (record, perplexity) in study.records().unwrap().iter().zip(values) {
        assert_eq!(
            record.quality,
            Some(Quality { perplexity, nll: perplexity / 3.0, tokens: 1, kl: None, tasks: BTreeMap::new() })
        );
    }
}

#[test]
fn what_is_missing_is_pending_and_what_is_stored_is_not() {
    let (_folder, path) = temporary();
    let mut study = SqliteStudy::create(&path, &settings()).unwrap();
    let devices = ["jetson".to_owned(), "pi".to_owned()];
    let a = study.propose(&candidate(64), &Origin::search(0)).unwrap();
    let b = study.propose(&candidate(3), &Origin::search(1)).unwrap();
    let pending = |study: &SqliteStudy| {
        let list = study.pending(&devices).unwrap().into_iter();
        list.map(|p| (p.id, p.quality, p.artifact, p.devices)).collect::<Vec<_>>()
    };
    let all = devices.to_vec();
    assert_eq!(pending(&study), [(a.clone(), true, true, all.clone()), (b.clone(), true, true, all.clone())]);
    study.store_trial(&a, &screen("pi", 0, 0)).unwrap();
    study.store_quality(&a, &quality()).unwrap();
    // Neither a gap nor a trial of the race settles that a device has screened a candidate.
    study.store_gap(&a, &gap("jetson", 4, 0)).unwrap();
    study.store_trial(&a, &trial("jetson", 4, 1, Role::Race)).unwrap();
    let failure = Failure { device: None, status: "bad".to_owned(), message: "no logits".to_owned() };
    study.store_failure(&b, &failure).unwrap();
    assert_eq!(pending(&study), [(a.clone(), false, true, vec!["jetson".to_owned()])]);
    study.store_failure(&a, &Failure { device: Some("jetson".to_owned()), ..failure }).unwrap();
    assert_eq!(pending(&study), []);
}

#[test]
fn nothing_is_stored_twice() {
    let (_folder, path) = temporary();
    let mut study = SqliteStudy::create(&path, &settings()).unwrap();
    let id = study.propose(&candidate(64), &Origin::search(0)).unwrap();
    let again = |r: Result<(), Error>| assert!(matches!(r, Err(Error::AlreadyStored { .. })), "{r:?}");
    again(study.propose(&candidate(5), &Origin::search(0)).map(drop));
    again(study.propose(&candidate(64), &Origin::search(1)).map(drop));
    assert_eq!(study.records().unwrap().len(), 1, "a refused proposal leaves no candidate behind");
    assert!(study.lease(&id, Some("pi")).unwrap());
    assert!(!study.lease(&id, Some("pi")).unwrap(), "leased");
    study.release(&id, Some("pi")).unwrap();
    assert!(study.lease(&id, Some("pi")).unwrap(), "released");
    study.store_trial(&id, &screen("pi", 0, 0)).unwrap();
    assert!(!study.lease(&id, Some("pi")).unwrap(), "done");
    again(study.store_trial(&id, &screen("pi", 0, 0)));
    let failure = Failure { device: Some("pi".to_owned()), status: "crashed".to_owned(), message: String::new() };
    again(study.store_failure(&id, &failure));
    assert!(study.lease(&id, None).unwrap());
    study.store_quality(&id, &quality()).unwrap();
    again(study.store_quality(&id, &quality()));
    assert!(!study.lease(&id, None).unwrap());
    assert!(matches!(study.store_quality("c-0", &quality()), Err(Error::UnknownCandidate { .. })));
    let nan = Quality { perplexity: f64::INFINITY, ..quality() };
    assert!(matches!(study.store_quality(&id, &nan), Err(Error::NotFinite { .. })));
}

#[test]
fn tasks_are_added_once_to_a_score_that_is_there() {
    let (_folder, path) = temporary();
    let mut study = SqliteStudy::create(&path, &settings()).unwrap();
    let id = study.propose(&candidate(64), &Origin::search(0)).unwrap();
    let score = |value, stderr| TaskScore { metric: "acc".to_owned(), value, stderr };
    let tasks = BTreeMap::from([("mmlu".to_owned(), score(0.25, Some(0.125))), ("piqa".to_owned(), score(0.5, None))]);
    assert!(matches!(study.store_tasks(&id, &tasks), Err(Error::NotEvaluated { .. })));
    assert!(matches!(study.store_tasks("c-0", &tasks), Err(Error::UnknownCandidate { .. })));
    study.store_quality(&id, &quality()).unwrap();
    assert_eq!(study.records().unwrap()[0].quality.as_ref().unwrap().task_error(), None);
    let nan = BTreeMap::from([("mmlu".to_owned(), score(f64::NAN, None))]);
    assert!(matches!(study.store_tasks(&id, &nan), Err(Error::NotFinite { .. })));
    study.store_tasks(&id, &tasks).unwrap();
    assert!(matches!(study.store_tasks(&id, &tasks), Err(Error::AlreadyStored { .. })));
    drop(study);
    let stored = SqliteStudy::read(&path).unwrap().records().unwrap().remove(0).quality.unwrap();
    assert_eq!(stored, Quality { tasks, ..quality() });
    assert_eq!(stored.task_error(), Some(0.625));
}

#[test]
fn a_device_screens_once_and_a_seat_is_taken_once() {
    let (_folder, path) = temporary();
    let mut study = SqliteStudy::create(&path, &settings()).unwrap();
    let base = study.propose(&candidate(64), &Origin::search(0)).unwrap();
    let other = study.propose(&candidate(3), &Origin::search(1)).unwrap();
    let third = study.propose(&candidate(5), &Origin::search(2)).unwrap();
    let again = |r: Result<(), Error>| assert!(matches!(r, Err(Error::AlreadyStored { .. })), "{r:?}");
    // The baseline may be screened as often as there are blocks, but only on the sentinel's seat.
    for block in 0..3 {
        study.store_trial(&base, &screen("pi", block, 0)).unwrap();
    }
    again(study.store_trial(&base, &screen("pi", 3, 4)));
    let error = study.store_trial(&other, &screen("pi", 7, 0)).unwrap_err();
    assert_eq!(error.to_string(), format!("`{other}` is not the baseline and cannot take seat 0 of block 7 on `pi`"));
    assert!(matches!(study.store_gap(&other, &gap("pi", 7, 0)), Err(Error::NotTheBaseline { .. })));
    assert!(matches!(study.store_gap("c-0", &gap("pi", 7, 0)), Err(Error::UnknownCandidate { .. })));
    study.store_trial(&other, &screen("pi", 0, 1)).unwrap();
    again(study.store_trial(&other, &screen("pi", 1, 1)));
    study.store_trial(&other, &screen("jetson", 0, 1)).unwrap();
    // Any number of later trials, each on its own seat.
    study.store_trial(&other, &trial("pi", 1, 1, Role::Race)).unwrap();
    study.store_trial(&other, &trial("pi", 2, 1, Role::Race)).unwrap();
    again(study.store_trial(&third, &trial("pi", 2, 1, Role::Final)));
    again(study.store_gap(&third, &gap("pi", 2, 1)));
    study.store_gap(&other, &gap("pi", 2, 2)).unwrap();
    again(study.store_trial(&third, &screen("pi", 2, 2)));
    again(study.store_gap(&other, &gap("pi", 2, 2)));
    // A failure and a screening trial exclude each other, whichever comes first.
    let failure = Failure { device: Some("pi".to_owned()), status: "crashed".to_owned(), message: String::new() };
    again(study.store_failure(&other, &failure));
    again(study.store_failure(&base, &failure));
    study.store_failure(&third, &failure).unwrap();
    again(study.store_failure(&third, &failure));
    again(study.store_trial(&third, &screen("pi", 2, 3)));
    let nan = Energy { sensor: String::new(), joules_per_token: f64::NAN, idle_watts: 0.0, mean_watts: 0.0 };
    let nan = Trial { energy: Some(nan), ..trial("pi", 9, 9, Role::Race) };
    assert!(matches!(study.store_trial(&other, &nan), Err(Error::NotFinite { .. })));
    let stored: Vec<usize> = study.records().unwrap().iter().map(|r| r.trials.len()).collect();
    assert_eq!(stored, [3, 4, 0], "what was refused left nothing");
}

#[test]
fn one_writer_and_any_number_of_readers() {
    let (_folder, path) = temporary();
    let mut writer = SqliteStudy::create(&path, &settings()).unwrap();
    assert!(matches!(SqliteStudy::write(&path), Err(Error::InUse { .. })));
    let mut reader = SqliteStudy::read(&path).unwrap();
    writer.propose(&candidate(1), &Origin::search(0)).unwrap();
    assert_eq!(reader.records().unwrap().len(), 1);
    assert!(matches!(reader.add_seconds("x", 1.0), Err(Error::ReadOnly { .. })));
    drop(writer);
    SqliteStudy::write(&path).unwrap();
}

#[test]
fn resumes_only_with_the_same_settings_but_with_any_budget() {
    let (_folder, path) = temporary();
    drop(SqliteStudy::resume(&path, &settings()).unwrap());
    let more = Settings { budget: 40, ..settings() };
    assert_eq!(SqliteStudy::resume(&path, &more).unwrap().settings().unwrap(), more);
    let mut other = Settings { seed: 8, ..settings() };
    other.details.insert("model".to_owned(), serde_json::json!({"sha256": "cd"}));
    other.details.insert("text".to_owned(), serde_json::json!("new"));
    let error = SqliteStudy::resume(&path, &other).unwrap_err();
    let Error::SettingsDiffer { names, .. } = &error else { panic!("{error:?}") };
    assert_eq!(names, &["seed", "details.model", "details.text"]);
    assert!(error.to_string().ends_with("was begun with other settings: seed, details.model, details.text differ"), "{error}");
}

#[test]
fn other_files_are_refused_by_name() {
    let (folder, path) = temporary();
    let message = |path: &std::path::Path| SqliteStudy::read(path).unwrap_err().to_string();
    assert_eq!(message(&path), format!("no study at `{}`", path.display()));
    assert!(matches!(SqliteStudy::write(&path), Err(Error::Missing { .. })));
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing was created");
    assert_eq!(message(folder.path()), format!("`{}` is not a study", folder.path().display()));
    for content in [b"".as_slice(), b"hello", &[0; 5000], b"SQLite format 3\0", b"{\"schema\":\"edgewise.search/1\"}"] {
        std::fs::write(&path, content).unwrap();
        assert_eq!(message(&path), format!("`{}` is not a study", path.display()), "{content:?}");
        assert!(matches!(SqliteStudy::resume(&path, &settings()), Err(Error::NotAStudy { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), content, "left as it was");
    }
    std::fs::remove_file(&path).unwrap();
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(message(&path), format!("`{}` is not a study", path.display()));
    assert!(matches!(SqliteStudy::create(&path, &settings()), Err(Error::Exists { .. })));
}

#[test]
fn newer_and_altered_studies_are_told_apart() {
    let (_folder, path) = temporary();
    let alter = |sql: &str| {
        let _ = std::fs::remove_file(&path);
        let mut study = SqliteStudy::create(&path, &settings()).unwrap();
        study.propose(&candidate(9), &Origin::search(0)).unwrap();
        drop(study);
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        SqliteStudy::read(&path).and_then(|s| s.records()).unwrap_err()
    };
    let newer = alter("PRAGMA user_version = 9");
    assert!(matches!(newer, Error::Newer { found: 9, .. }));
    assert!(newer.to_string().ends_with("has format 9, this build reads up to 2"), "{newer}");
    let older = alter("PRAGMA user_version = 1");
    assert!(matches!(older, Error::Older { found: 1, .. }));
    assert!(older.to_string().ends_with("has format 1, this build reads only format 2: begin a new study under another name"));
    let seat = |kind: &str, device: &str, seat: u32, trial: &Trial| {
        let json = serde_json::to_string(trial).unwrap();
        format!("INSERT INTO seat SELECT '{device}', 0, {seat}, id, '{kind}', '{json}' FROM candidate")
    };
    let misplaced = [
        seat("screen", "jetson", 1, &screen("pi", 0, 1)),
        seat("screen", "pi", 2, &screen("pi", 0, 1)),
        seat("race", "pi", 1, &screen("pi", 0, 1)),
    ];
    for sql in [
        "PRAGMA user_version = 0",
        "CREATE TRIGGER t AFTER INSERT ON seconds BEGIN DELETE FROM candidate; END",
        "DROP TABLE session",
        "DROP INDEX screened_once",
        "DELETE FROM settings",
        "UPDATE settings SET json = '{}'",
        "UPDATE candidate SET config = replace(config, '9', '8')",
        "UPDATE candidate SET config = '[[[['",
        "INSERT INTO seat SELECT 'pi', 0, 1, id, 'screen', '{}' FROM candidate",
        "INSERT INTO seat SELECT 'pi', -1, 1, id, 'screen', '{}' FROM candidate",
        "INSERT INTO failure SELECT id, 'pi', '{\"device\":\"jetson\",\"status\":\"\",\"message\":\"\"}' FROM candidate",
        &misplaced[0],
        &misplaced[1],
        &misplaced[2],
        "PRAGMA foreign_keys = 0; INSERT INTO quality VALUES ('c-other', '{}')",
        "DELETE FROM origin",
        "UPDATE origin SET position = -1",
    ] {
        let error = alter(sql);
        assert!(matches!(error, Error::Damaged { .. }), "{sql}: {error:?}");
    }
}

fn whole_study() -> Vec<u8> {
    let (_folder, path) = temporary();
    let mut study = SqliteStudy::create(&path, &settings()).unwrap();
    for n in 0..20 {
        let id = study.propose(&candidate(n + 1), &Origin::search(n)).unwrap();
        study.store_quality(&id, &quality()).unwrap();
        study.store_trial(&id, &screen("pi", n / 4, if n == 0 { 0 } else { n + 1 })).unwrap();
        study.store_gap(&id, &gap("pi", 10, n + 1)).unwrap();
    }
    study.store_session("pi", &Session { at_ms: 1, fingerprint: String::new(), flags: Vec::new(), note: String::new() }).unwrap();
    drop(study);
    std::fs::read(&path).unwrap()
}

/// Reads all there is and writes a little: any outcome but a panic or a hang will do.
fn exercise(bytes: &[u8]) -> Result<usize, Error> {
    let (_folder, path) = temporary();
    std::fs::write(&path, bytes).unwrap();
    let mut study = SqliteStudy::write(&path)?;
    let records = study.records()?;
    study.sessions()?;
    study.gaps()?;
    study.pending(&["pi".to_owned()])?;
    study.propose(&candidate(60), &Origin::search(60))?;
    Ok(records.len())
}

#[test]
fn a_truncated_study_is_an_error() {
    let bytes = whole_study();
    assert_eq!(exercise(&bytes).unwrap(), 20);
    for length in (1..bytes.len()).step_by(997) {
        assert!(exercise(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
        prop_assert!(exercise(&bytes).is_err());
        let headed = [b"SQLite format 3\0".as_slice(), &bytes].concat();
        prop_assert!(exercise(&headed).is_err());
    }

    #[test]
    fn flipped_bytes_never_panic(flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..40)) {
        use std::sync::OnceLock;
        static WHOLE: OnceLock<Vec<u8>> = OnceLock::new();
        let mut bytes = WHOLE.get_or_init(whole_study).clone();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        // Free space may be overwritten without harm; what is read must be whole records or an error.
        if let Ok(records) = exercise(&bytes) {
            prop_assert!(records <= 20);
        }
    }
}
