use super::{Intervals, View};
use crate::measuring::WorkloadSpec;
use edgewise_search::{
    Artifact, Candidate, Constraint, Device, Estimate, Failure, Form, Gap, Objective, Origin, Outcome, Quality, RANDOM, Record,
    Role, Rules, SENTINEL_SEAT, Session, Settings, Shape, Space, Trial,
};
use std::collections::BTreeMap;

const SHAPE: Shape = Shape { layers: 2, width: 64, kv_groups: 2, mlp: 128 };

fn view(records: Vec<Record>) -> View {
    View {
        settings: Settings {
            seed: 3,
            sampler: RANDOM.into(),
            space: Space::preset("default", SHAPE, 32, vec![0, 1]).unwrap(),
            objectives: vec![Objective::Perplexity, Objective::TpotMs],
            constraints: Vec::new(),
            budget: 9,
            details: BTreeMap::new(),
        },
        records,
        devices: vec![device("pi"), device("jetson")],
        gaps: Vec::new(),
        sessions: Vec::new(),
        seconds: BTreeMap::new(),
        workload: WorkloadSpec::default(),
    }
}

fn device(name: &str) -> Device {
    Device { name: name.into(), target: "raspberry-pi".into(), fingerprint: BTreeMap::new(), health: None }
}

/// The candidate proposed at `position`.
fn record(position: u32, perplexity: f64, trials: Vec<Trial>) -> Record {
    Record {
        id: format!("c-{position}"),
        candidate: Candidate {
            layers: vec![0],
            width: 64,
            kv_groups: vec![1],
            mlp: vec![32 * (position + 1)],
            head_size: None,
            order: None,
        },
        origins: vec![Origin::search(position)],
        quality: Some(Quality { perplexity, nll: perplexity.ln(), tokens: 9, kl: None, tasks: BTreeMap::new() }),
        artifact: Some(Artifact {
            sha256: "ab".into(),
            bytes: 1000 - u64::from(position),
            parameters: 100 - u64::from(position),
        }),
        trials,
        failures: Vec::new(),
    }
}

/// A trial of 9 prefills and 40 tokens, all of which take `tpot_ms`; a prefill takes ten times that.
fn trial(on: &str, block: u32, seat: u32, role: Role, tpot_ms: f64) -> Trial {
    let estimate = |median: f64, n| Estimate { median, ci95: [median, median], n };
    Trial {
        device: on.into(),
        block,
        seat,
        role,
        form: if role == Role::Screen { Form::Memory } else { Form::Files },
        runtime: "tract".into(),
        precision: "fp32".into(),
        ttft_ms: estimate(10.0 * tpot_ms, 9),
        tpot_ms: estimate(tpot_ms, 40),
        peak_rss_bytes: if role == Role::Screen { 900 } else { 300 + u64::from(block) },
        artifact_bytes: 1000,
        bytes_sent: 7,
        converged: true,
        flags: Vec::new(),
        at_ms: u64::from(block) * 1000 + u64::from(seat),
        ttft_ns: vec![(tpot_ms * 1e7) as u64; 9],
        tpot_ns: vec![(tpot_ms * 1e6) as u64; 40],
        warmup_ns: Vec::new(),
        energy: None,
        extra: serde_json::Value::Null,
    }
}

/// A baseline of 10 ms and two candidates: one that is far faster, and one that is not told apart from it.
fn study() -> View {
    let screened = |seat, ms| vec![trial("pi", 0, seat, Role::Screen, ms)];
    view(vec![
        record(0, 10.0, vec![trial("pi", 0, SENTINEL_SEAT, Role::Screen, 10.0), trial("pi", 2, SENTINEL_SEAT, Role::Race, 10.1)]),
        record(1, 20.0, screened(1, 5.0)),
        record(2, 20.5, screened(2, 4.98)),
    ])
}

#[test]
fn a_value_is_the_median_of_trials_and_memory_is_that_of_the_shipped_form() {
    let trials =
        [(0, Role::Screen, 5.0), (2, Role::Race, 7.0), (3, Role::Race, 6.0)].map(|(b, role, ms)| trial("pi", b, 1, role, ms));
    let record = record(1, 20.0, trials.to_vec());
    let view = study();
    assert_eq!(view.value(&record, "pi", Objective::TpotMs), Some(6.0));
    assert_eq!(view.value(&record, "pi", Objective::LatencyMs), Some(60.0 + 63.0 * 6.0));
    assert_eq!(view.value(&record, "pi", Objective::PeakRssBytes), Some(303.0), "the larger of those from files");
    assert_eq!(view.value(&record, "jetson", Objective::TpotMs), None);
    let measured = view.measured(&record, "pi", &Intervals::of(&view, "pi")).unwrap();
    assert_eq!((measured.trials.len(), measured.tpot_ms.n, measured.bytes_sent), (3, 120, 21));
    assert_eq!((measured.peak_rss_bytes, measured.peak_rss_form), (303, Form::Files));
    assert!((measured.tpot_ms.median - 6.0).abs() < 1e-9);
    let only_memory = Record { trials: trials[..1].to_vec(), ..record };
    assert_eq!(view.value(&only_memory, "pi", Objective::PeakRssBytes), Some(900.0));
}

#[test]
fn what_races_found_changes_no_proposal() {
    let before = study();
    let mut after = study();
    after.records[0].trials.push(trial("pi", 3, SENTINEL_SEAT, Role::Race, 30.0));
    after.records[1].trials.push(trial("pi", 3, 1, Role::Race, 50.0));
    let values = |view: &View| -> Vec<Vec<f64>> {
        let history = view.history("pi");
        let proposals = history.proposals().iter();
        proposals
            .map(|p| match &p.outcome {
                Outcome::Measured { values, .. } => values.clone(),
                other => panic!("{other:?}"),
            })
            .collect()
    };
    assert_eq!(values(&before), [[10.0, 10.0], [20.0, 5.0], [20.5, 4.98]]);
    assert_eq!(values(&after), values(&before));
    assert_ne!(after.value(&after.records[1], "pi", Objective::TpotMs), Some(5.0), "the race counts where results are shown");
}

#[test]
fn a_front_tells_its_ties_and_keeps_limits() {
    let view = study();
    let front = view.front("pi", &[]).unwrap();
    assert_eq!(front.ids, ["c-2", "c-1", "c-0"], "the fastest first");
    assert_eq!(front.ties, [vec!["c-1".to_owned()], vec!["c-2".to_owned()], vec![]]);
    let limit: Constraint = "tpot_ms<=4.99".parse().unwrap();
    assert_eq!(view.front("pi", &[limit]).unwrap().ids, ["c-2"]);
    assert!(view.front("jetson", &[]).unwrap().ids.is_empty());
}

#[test]
fn a_race_asks_by_the_blocks_before_it_alone() {
    let rules = Rules { least: 2, most: 8 };
    let mut view = study();
    let asked = view.race("pi", rules, 4).unwrap();
    assert_eq!(asked, ["c-1", "c-2"], "members with fewer than two trials; the baseline has its sentinels");
    // In the midst of block 4 nothing else is asked for, whatever the trial that is there says.
    view.records[1].trials.push(trial("pi", 4, 1, Role::Race, 99.0));
    assert_eq!(view.race("pi", rules, 4).unwrap(), asked);
    // A trial that failed counts as an attempt.
    for block in 5..12 {
        let gap = |id: &str, seat| {
            let (status, message) = ("timed_out".into(), String::new());
            (id.to_owned(), Gap { device: "pi".into(), block, seat, status, message, at_ms: 0 })
        };
        view.gaps.extend([gap("c-1", 1), gap("c-2", 2)]);
    }
    assert_eq!(view.race("pi", rules, 12).unwrap(), Vec::<String>::new());
}

#[test]
fn sessions_and_a_moved_sentinel_flag_the_device() {
    let mut view = study();
    assert!(view.session_flags("pi").is_empty());
    let session = |flag: &str| Session { at_ms: 0, fingerprint: "f".into(), flags: vec![flag.into()], note: String::new() };
    view.sessions = vec![("pi".into(), session("cooling")), ("jetson".into(), session("battery"))];
    view.records[0].trials.push(trial("pi", 3, SENTINEL_SEAT, Role::Race, 13.0));
    assert_eq!(view.session_flags("pi"), ["cooling", "sentinel_moved"]);
    assert_eq!(view.session_flags("jetson"), ["battery"]);
}

#[test]
fn devices_are_compared_where_both_measured() {
    let mut view = study();
    for (record, ms) in view.records.iter_mut().zip([30.0, 14.0, 20.0]) {
        record.trials.push(trial("jetson", 0, u32::from(ms < 30.0), Role::Screen, ms));
    }
    let rows = view.portability();
    let row = |a: &str, b: &str| rows.iter().find(|r| r.a == a && r.b == b).unwrap();
    assert_eq!((row("pi", "jetson").kendall, row("pi", "jetson").n), (Some(1.0 / 3.0), 3));
    assert_eq!(row("parameters", "pi").kendall, Some(1.0));
    view.records[2].failures.push(Failure { device: Some("jetson".into()), status: "crashed".into(), message: String::new() });
    view.records[2].trials.retain(|t| t.device == "pi");
    assert_eq!(view.portability().iter().find(|r| r.a == "pi").unwrap().kendall, None, "two are too few");
}

#[test]
fn what_an_emulator_measured_is_on_a_front_only_if_the_user_said_so() {
    let mut view = study();
    let whole = view.front("pi", &[]).unwrap().ids;
    assert!(!whole.is_empty());
    for trial in view.records.iter_mut().flat_map(|r| &mut r.trials).filter(|t| t.device == "pi") {
        trial.flags.push("emulated".into());
    }
    assert_eq!(view.front("pi", &[]).unwrap().ids, [""; 0]);
    view.settings.details.insert(super::ALLOW_EMULATED.into(), true.into());
    assert_eq!(view.front("pi", &[]).unwrap().ids, whole);
}

#[test]
fn recipes_are_compared_with_the_search_and_are_on_no_front() {
    let mut view = study();
    assert_eq!(view.compared("pi"), [], "no recipe was measured");
    let recipe = |position, perplexity, ms| Record {
        id: format!("r-{position}"),
        origins: vec![Origin { series: "baseline:depth".into(), position }],
        ..record(7 + position, perplexity, vec![trial("pi", 1, 1 + position, Role::Screen, ms)])
    };
    // Better than anything searched, and yet nothing that the search found.
    view.records.extend([recipe(0, 12.0, 8.8), recipe(1, 15.0, 4.0)]);
    assert_eq!(view.front("pi", &[]).unwrap().ids, ["c-2", "c-1", "c-0"]);
    assert_eq!(view.race("pi", Rules { least: 2, most: 8 }, 4).unwrap(), ["c-1", "c-2"]);
    assert_eq!(view.history("pi").len(), 3);
    let rows = view.compared("pi");
    assert_eq!(rows.iter().map(|r| &*r.series).collect::<Vec<_>>(), ["search", "baseline:depth"]);
    // The baseline's value is 10.05 ms, the median of its two trials: 7.84 ms is 22 % less, 6.03 ms is 40 % less.
    // Both series are read between the candidate that is fast enough and the next better one, on a logarithmic scale.
    let between = |(before, below): (f64, f64), (after, above): (f64, f64), at: f64| {
        (below.ln() + (at - before) / (after - before) * (above / below).ln()).exp()
    };
    let neighbours = [((5.0, 20.0), (10.05, 10.0), "c-1"), ((4.0, 15.0), (8.8, 12.0), "r-1")];
    for (row, (fast, better, id)) in rows.iter().zip(neighbours) {
        for (cut, latency) in row.cuts.iter().zip([0.78 * 10.05, 0.6 * 10.05]) {
            assert!((cut.perplexity.unwrap() - between(fast, better, latency)).abs() < 1e-9, "{cut:?}");
            assert_eq!(cut.id.as_deref(), Some(id));
        }
    }
}
