//! The connection itself: greeting, versions, hostile bytes, and what is left when it ends.

use crate::support::{Agent, endless_job, eventually, start, wait_exit};
use edgewise_protocol::{
    AgentMessage, HostHello, HostMessage, MAGIC, OrtLibrary, PROTOCOL_VERSION, Reply, Request, Runtime, Stage, encode_control,
};
use std::{
    io::{Read, Write},
    process::{Child, Command},
};

const PROTOCOL_EXIT: i32 = 13;

fn stderr(child: &mut Child) -> String {
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text
}

/// What the agent answers to these first bytes: its exit code and its words.
fn after(bytes: &[u8]) -> (Option<i32>, String) {
    let store = tempfile::tempdir().unwrap();
    let mut child = start(store.path());
    child.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    let status = wait_exit(&mut child);
    (status.code(), stderr(&mut child))
}

fn hello(protocol: u16) -> Vec<u8> {
    hello_for(protocol, "test")
}

fn hello_for(protocol: u16, lease: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_control(
        &HostMessage::Hello(HostHello { protocol, version: "test".into(), owner: "test".into(), lease: lease.into() }),
        &mut bytes,
    )
    .unwrap();
    bytes
}

#[test]
fn the_first_bytes_are_the_magic() {
    let store = tempfile::tempdir().unwrap();
    let mut child = start(store.path());
    let mut first = [0; 8];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(first, MAGIC);
    drop(child.stdin.take());
    assert_eq!(wait_exit(&mut child).code(), Some(12), "closed before its greeting");
}

#[test]
fn the_host_leaving_is_no_error() {
    let mut agent = Agent::new();
    assert!(agent.is_alive());
    agent.close_input();
    assert_eq!(wait_exit(&mut agent.child).code(), Some(0));
}

#[test]
fn hostile_bytes_end_the_agent_with_a_message() {
    let mut ping = Vec::new();
    encode_control(&HostMessage::Ping, &mut ping).unwrap();
    let again = [hello(PROTOCOL_VERSION), hello(PROTOCOL_VERSION)].concat();
    let torn = [hello(PROTOCOL_VERSION), vec![3, 0, 0, 0, 1, 0xff, 0xff]].concat();
    let nameless = hello_for(PROTOCOL_VERSION, "../lease");
    for (bytes, words) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "frame of unknown kind"),
        (&[0xff; 64][..], "frame of unknown kind 255"),
        (&[0xff, 0xff, 0xff, 0xff, 1][..], "announces a length"),
        (&ping, "first message is no hello"),
        (&hello(999), "host speaks protocol 999, this agent 3 to 3"),
        (&nameless, "is no name of a lease"),
        (&again, "second hello"),
        (&torn, "undecodable"),
    ] {
        let (code, text) = after(bytes);
        assert_eq!(code, Some(PROTOCOL_EXIT), "{words}: {text}");
        assert!(text.starts_with("error: ") && text.contains(words), "{words}: {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}

#[test]
fn a_request_number_is_used_once() {
    let mut agent = Agent::new();
    let request = Request::Put { blob: crate::support::id_of(b"x"), size: 1 };
    agent.send(&HostMessage::Request { id: 5, request: request.clone() });
    agent.send(&HostMessage::Request { id: 5, request });
    let said = eventually("the agent says why", || match agent.next() {
        AgentMessage::Log(line) => Some(line),
        _ => None,
    });
    assert!(said.contains("request number 5 is used twice"), "{said}");
    assert_eq!(wait_exit(&mut agent.child).code(), Some(PROTOCOL_EXIT));
}

#[test]
fn a_ping_is_answered() {
    let mut agent = Agent::new();
    agent.send(&HostMessage::Ping);
    assert_eq!(agent.next(), AgentMessage::Heartbeat);
}

#[test]
fn an_idle_agent_sends_heartbeats() {
    let mut agent = Agent::new();
    assert_eq!(agent.within(std::time::Duration::from_secs(8)), Some(AgentMessage::Heartbeat));
}

#[test]
fn the_device_is_described() {
    let mut agent = Agent::new();
    let Reply::Described(device) = agent.call(Request::Describe { ort: OrtLibrary::Path("/nowhere.so".into()) }).unwrap() else {
        panic!("another reply")
    };
    assert!(device.fingerprint.contains_key("cpu") && device.fingerprint.contains_key("kernel"), "{device:?}");
    assert!(device.free_bytes > 0);
    let [tract, ort] = &device.runtimes[..] else { panic!("{device:?}") };
    assert_eq!((tract.runtime, tract.problem.as_ref()), (Runtime::Tract, None));
    assert!(tract.version.as_ref().is_some_and(|version| version.starts_with("0.")), "{tract:?}");
    assert_eq!((ort.runtime, ort.version.as_ref()), (Runtime::Ort, None));
    assert!(ort.problem.is_some());
}

#[test]
fn no_worker_outlives_the_connection() {
    let mut agent = Agent::new();
    let files = agent.put_tiny();
    let id = agent.ask(Request::Measure(Box::new(endless_job(files))));
    agent.wait_for_stage(id, Stage::Warm);
    let workers = agent.workers();
    assert_eq!(workers.len(), 1);
    agent.close_input();
    assert_eq!(wait_exit(&mut agent.child).code(), Some(0));
    gone(workers[0]);
    let artifacts = agent.store.path().join("artifacts");
    assert_eq!(std::fs::read_dir(artifacts).unwrap().count(), 0, "the artifact's folder went too");
}

#[test]
fn no_worker_outlives_a_killed_agent() {
    let mut agent = Agent::new();
    let files = agent.put_tiny();
    let id = agent.ask(Request::Measure(Box::new(endless_job(files))));
    agent.wait_for_stage(id, Stage::Warm);
    let workers = agent.workers();
    agent.child.kill().unwrap();
    agent.child.wait().unwrap();
    gone(workers[0]);
}

fn gone(pid: u32) {
    eventually("the worker is gone", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        (status.is_empty() || status.contains("State:\tZ")).then_some(())
    });
}

#[test]
fn the_command_line_serves_the_bootstrap() {
    let run = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_device-agent")).args(args).output().unwrap();
    let version = run(&["--version"]);
    assert_eq!(String::from_utf8(version.stdout).unwrap(), format!("device-agent {}\n", env!("CARGO_PKG_VERSION")));

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("abc");
    std::fs::write(&file, "abc").unwrap();
    let hash = run(&["hash", file.to_str().unwrap()]);
    assert_eq!(String::from_utf8(hash.stdout).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n");
    let none = run(&["hash", "/nowhere"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8(none.stderr).unwrap().starts_with("error: cannot open `/nowhere`\n  caused by: "));

    let store = run(&["serve", "--store", "/proc/nowhere"]);
    assert_eq!(store.status.code(), Some(12));
    assert!(store.stdout.is_empty());
    assert_eq!(run(&["worker"]).status.code(), Some(1), "a worker without an order says so and ends");
}
