//! Two agents on one device.

use crate::support::{Agent, code, endless_job, eventually, short_job, unique_lease};
use edgewise_protocol::{AgentMessage, ErrorCode, HostMessage, MeasureJob, Progress, Request, Runtime, Stage};

/// Two agents with stores of their own, for one device.
fn two() -> (Agent, Agent) {
    let lease = unique_lease();
    (Agent::with(&[], "ann on host a", &lease), Agent::with(&[], "bob on host b", &lease))
}

/// The agent measures until somebody stops it.
fn occupy(agent: &mut Agent) -> u32 {
    let files = agent.put_tiny();
    let id = agent.ask(Request::Measure(Box::new(endless_job(files))));
    agent.wait_for_stage(id, Stage::Warm);
    id
}

fn wait_for_note(agent: &mut Agent, id: u32) -> Option<String> {
    match agent.next() {
        AgentMessage::Progress { id: got, progress: Progress { stage: Stage::Lease, note } } if got == id => note,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_waits_for_the_other_and_says_for_whom() {
    let (mut ann, mut bob) = two();
    let first = occupy(&mut ann);
    let job = MeasureJob { lease_wait_ms: 60_000, ..short_job(bob.put_tiny(), Runtime::Tract) };
    let second = bob.ask(Request::Measure(Box::new(job)));
    assert_eq!(wait_for_note(&mut bob, second).as_deref(), Some("ann on host a"));
    assert!(bob.workers().is_empty(), "nothing runs beside a measurement");
    ann.send(&HostMessage::Cancel { id: first });
    assert_eq!(code(ann.reply(first)), ErrorCode::Cancelled);
    bob.reply(second).unwrap();
}

#[test]
fn patience_ends_with_the_holders_name() {
    let (mut ann, mut bob) = two();
    occupy(&mut ann);
    let job = MeasureJob { lease_wait_ms: 200, ..short_job(bob.put_tiny(), Runtime::Tract) };
    let error = bob.call(Request::Measure(Box::new(job))).unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::Busy, "device is in use by ann on host a"));
    assert!(bob.is_alive() && ann.workers().len() == 1);
}

#[test]
fn a_wait_can_be_given_up() {
    let (mut ann, mut bob) = two();
    occupy(&mut ann);
    let job = MeasureJob { lease_wait_ms: 3_600_000, ..short_job(bob.put_tiny(), Runtime::Tract) };
    let id = bob.ask(Request::Measure(Box::new(job)));
    wait_for_note(&mut bob, id);
    bob.send(&HostMessage::Cancel { id });
    assert_eq!(code(bob.reply(id)), ErrorCode::Cancelled);
}

#[test]
fn a_killed_holder_holds_nothing() {
    let (mut ann, mut bob) = two();
    occupy(&mut ann);
    let worker = ann.workers()[0];
    let job = MeasureJob { lease_wait_ms: 60_000, ..short_job(bob.put_tiny(), Runtime::Tract) };
    let id = bob.ask(Request::Measure(Box::new(job)));
    wait_for_note(&mut bob, id);
    ann.child.kill().unwrap();
    ann.child.wait().unwrap();
    bob.reply(id).unwrap();
    eventually("its worker died with it", || {
        let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap_or_default();
        (status.is_empty() || status.contains("State:\tZ")).then_some(())
    });
}

#[test]
fn other_leases_are_no_concern() {
    let (mut ann, _) = two();
    occupy(&mut ann);
    let mut other = Agent::new();
    let job = short_job(other.put_tiny(), Runtime::Tract);
    other.call(Request::Measure(Box::new(job))).unwrap();
}
