//! Measurements through the real agent and its real worker, and every way in which one can end badly.

use crate::support::{Agent, code, endless_job, eventually, files_of, id_of, ort_library, short_job};
use edgewise_protocol::{
    AgentMessage, BlobId, ErrorCode, Flag, HostMessage, MeasureJob, Measurement, OrtLibrary, Probe, ProbePoint, Provider, Reply,
    Request, Runtime, Stage,
};
use std::time::Duration;

fn check(found: &Measurement) {
    assert!(found.ttft.n >= 15 && found.ttft_ns.len() == found.ttft.n as usize, "{found:?}");
    assert!(found.tpot.n >= 15 && found.tpot_ns.len() == found.tpot.n as usize, "{found:?}");
    assert!(found.ttft.low <= found.ttft.median && found.ttft.median <= found.ttft.high);
    assert!(found.tpot.median > 0.001 && found.tpot.median < found.ttft.median, "one token is cheaper than 16: {found:?}");
    assert!(found.load_ns > 0 && !found.warmup_ns.is_empty());
    assert!(found.peak_rss_bytes > 4 << 20, "{found:?}");
    assert_eq!(found.converged, !found.flags.contains(&Flag::NotConverged));
    assert_eq!(found.threads, 1);
}

#[test]
fn tract_is_measured() {
    let mut agent = Agent::new();
    let files = agent.put_tiny();
    let found = agent.measured(short_job(files, Runtime::Tract));
    check(&found);
    assert_eq!(found.runtime, Runtime::Tract);
    assert!(found.flags.contains(&Flag::Unverified) && found.probe_max_abs_diff.is_none());
    assert!(agent.workers().is_empty(), "the worker is gone");
}

#[test]
fn onnx_runtime_is_measured_from_a_path_and_from_a_blob() {
    let Some(library) = ort_library() else { return };
    let mut agent = Agent::new();
    let files = agent.put_tiny();
    let ort = OrtLibrary::Path(library.clone());
    let found = agent.measured(MeasureJob { ort: ort.clone(), ..short_job(files.clone(), Runtime::Ort) });
    check(&found);
    assert!(found.runtime_version.starts_with("1."), "{}", found.runtime_version);

    let Reply::Described(device) = agent.call(Request::Describe { ort }).unwrap() else { panic!("another reply") };
    assert_eq!(device.runtimes[1].version.as_ref(), Some(&found.runtime_version));

    let size = std::fs::metadata(&library).unwrap().len();
    let blob = id_of(&std::fs::read(&library).unwrap());
    assert_eq!(agent.call(Request::Take { blob, size, path: library }), Ok(Reply::Stored));
    let job = MeasureJob { ort: OrtLibrary::Blob(blob), ..short_job(files.clone(), Runtime::Ort) };
    let found = agent.measured(job.clone());
    check(&found);
    assert!(!found.flags.contains(&Flag::ProviderFallback), "nothing else was asked for: {found:?}");
    assert!(found.providers.iter().any(|p| p.name == Provider::Cpu.name() && p.nodes > 20), "{:?}", found.providers);
    // The library has no TensorRT: the processor steps in, and that is told.
    let found = agent.measured(MeasureJob { providers: vec![Provider::TensorRt, Provider::Cpu], ..job });
    assert!(found.flags.contains(&Flag::ProviderFallback), "{found:?}");
    assert!(found.providers[0].name == Provider::TensorRt.name() && found.providers[0].problem.is_some(), "{found:?}");
}

#[test]
fn steps_are_reported_in_order_and_timing_is_silent() {
    let mut agent = Agent::new();
    let files = agent.put_tiny();
    let mut job = short_job(files, Runtime::Tract);
    // Longer than a heartbeat's interval.
    job.plan.min_warmup_ms = 6000;
    job.plan.max_warmup_ms = 6000;
    let id = agent.ask(Request::Measure(Box::new(job)));
    agent.wait_for_stage(id, Stage::Load);
    agent.wait_for_stage(id, Stage::Warm);
    agent.send(&HostMessage::Ping);
    let mut stages = Vec::new();
    loop {
        match agent.next() {
            AgentMessage::Progress { progress, .. } => stages.push(progress.stage),
            AgentMessage::Reply { result, .. } => break drop(result.unwrap()),
            other => panic!("{other:?} while timing"),
        }
    }
    assert_eq!(stages, [Stage::Prefill, Stage::Decode]);
    agent.send(&HostMessage::Ping);
    assert_eq!(agent.next(), AgentMessage::Heartbeat, "and it speaks again");
}

#[test]
fn another_model_than_expected_is_not_timed() {
    let mut agent = Agent::new();
    let files = agent.put_tiny();
    let probe = |expected| {
        let points = vec![ProbePoint { feed: vec![1, 2, 3], expect: vec![(5, expected)] }];
        Some(Probe { points, tolerance: 1e-3 })
    };
    let job = |probe| MeasureJob { probe, ..short_job(files.clone(), Runtime::Tract) };
    let error = agent.call(Request::Measure(Box::new(job(probe(1e6))))).unwrap_err();
    assert_eq!(error.code, ErrorCode::ProbeMismatch);
    // The message tells what the model computed; with that as the expectation it is timed.
    let computed = error.message.split(" is ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    let found = agent.measured(job(probe(computed)));
    assert_eq!(found.probe_max_abs_diff, Some(0.0));
    assert!(!found.flags.contains(&Flag::Unverified));
}

#[test]
fn a_worker_that_dies_is_a_result() {
    let mut agent = Agent::new();
    let files = agent.put_tiny();
    for (signal, name) in [(libc::SIGKILL, "SIGKILL"), (libc::SIGSEGV, "SIGSEGV"), (libc::SIGILL, "SIGILL")] {
        let id = agent.ask(Request::Measure(Box::new(endless_job(files.clone()))));
        agent.wait_for_stage(id, Stage::Warm);
        // Rust's own handler lets the first bad access pass if nothing was accessed, and steps aside for the next.
        eventually("the worker dies", || {
            agent.workers().first().map_or(Some(()), |&worker| {
                crate::support::kill(worker, signal);
                None
            })
        });
        let error = agent.reply(id).unwrap_err();
        assert_eq!(error.code, ErrorCode::WorkerCrashed, "{error}");
        assert!(error.message.contains(name), "{error}");
        assert!(agent.is_alive());
    }
    check(&agent.measured(short_job(files, Runtime::Tract)));
}

#[test]
fn a_measurement_can_be_given_up() {
    let mut agent = Agent::new();
    let files = agent.put_tiny();
    let id = agent.ask(Request::Measure(Box::new(endless_job(files.clone()))));
    agent.wait_for_stage(id, Stage::Warm);
    let second = agent.ask(Request::Measure(Box::new(endless_job(files))));
    assert_eq!(code(agent.reply(second)), ErrorCode::Busy, "one at a time");
    agent.send(&HostMessage::Cancel { id });
    agent.send(&HostMessage::Cancel { id: 999 });
    assert_eq!(code(agent.reply(id)), ErrorCode::Cancelled);
    eventually("the worker is gone", || agent.workers().is_empty().then_some(()));
    assert!(agent.is_alive());
}

#[test]
fn the_deadline_ends_a_measurement() {
    let mut agent = Agent::new();
    let files = agent.put_tiny();
    let job = MeasureJob { deadline_ms: 700, ..endless_job(files) };
    let error = agent.call(Request::Measure(Box::new(job))).unwrap_err();
    assert_eq!(error.code, ErrorCode::TimedOut);
    assert!(error.message.contains("700 ms"), "{error}");
    assert!(agent.workers().is_empty());
}

#[test]
fn bad_jobs_start_no_worker() {
    let mut agent = Agent::new();
    let files = agent.put_tiny();
    let job = || short_job(files.clone(), Runtime::Tract);
    for name in ["../../escape", "a/b", "..", ""] {
        let mut job = job();
        files_of(&mut job)[0].name = name.into();
        assert_eq!(code(agent.call(Request::Measure(Box::new(job)))), ErrorCode::BadRequest, "{name:?}");
    }
    let mut missing = job();
    files_of(&mut missing)[0].blob = BlobId([9; 32]);
    assert_eq!(code(agent.call(Request::Measure(Box::new(missing)))), ErrorCode::MissingBlob);
    let empty = MeasureJob { vocabulary: 0, ..job() };
    assert_eq!(code(agent.call(Request::Measure(Box::new(empty)))), ErrorCode::BadRequest);
    assert!(agent.is_alive());
}

#[test]
fn a_missing_or_wrong_onnx_runtime_is_a_fact() {
    let mut agent = Agent::new();
    let files = agent.put_tiny();
    let text = agent.put(b"not a library");
    let missing = BlobId([9; 32]);
    for (ort, expected) in [
        (OrtLibrary::Path("/nowhere/libonnxruntime.so".into()), ErrorCode::RuntimeUnavailable),
        (OrtLibrary::Blob(text), ErrorCode::RuntimeUnavailable),
        (OrtLibrary::Blob(missing), ErrorCode::MissingBlob),
    ] {
        let job = MeasureJob { ort, ..short_job(files.clone(), Runtime::Ort) };
        let error = agent.call(Request::Measure(Box::new(job))).unwrap_err();
        assert_eq!(error.code, expected, "{error}");
    }
    assert!(agent.is_alive());
}

#[test]
fn a_refused_model_comes_with_the_reason() {
    let mut agent = Agent::new();
    let mut files = agent.put_tiny();
    let broken = agent.put(b"this is no model");
    let model = files.iter_mut().find(|file| file.name == "model.onnx").unwrap();
    (model.blob, model.size) = (broken, 16);
    let error = agent.call(Request::Measure(Box::new(short_job(files, Runtime::Tract)))).unwrap_err();
    assert_eq!(error.code, ErrorCode::ModelRejected);
    assert!(error.message.starts_with("tract cannot prepare the model: "), "{error}");
    assert!(agent.within(Duration::from_millis(50)).is_none_or(|message| message == AgentMessage::Heartbeat));
}
