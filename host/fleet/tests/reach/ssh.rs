//! The session: who answers, who we are, and what is run.

use crate::common::{Setup, caller, route, script_agent, server, server_with, soon};
use edgewise_fleet::{
    Address, AgentBuild, Blob, Category, Connect, Device, Error, Event, Exit, HostKey, LocalRoute, SendError, SshSession,
    SshTransport, Transport, fetch_host_key,
};
use edgewise_protocol::{BlobId, BlobState, ErrorCode, OrtLibrary};
use std::{
    fs,
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

/// What a process prints until it ends, and its end.
fn to_the_end(transport: &mut SshTransport) -> (Vec<u8>, edgewise_fleet::End) {
    let mut out = Vec::new();
    loop {
        match transport.receive(soon()) {
            Some(Event::Data(bytes)) => out.extend_from_slice(&bytes),
            Some(Event::Ended(end)) => return (out, end),
            None => panic!("no end"),
        }
    }
}

#[test]
fn an_unknown_key_is_refused_until_it_is_trusted() {
    let Some(server) = server() else { return };
    let hosts = server.hosts();
    let connect = || SshSession::connect("pi", &server.endpoint(), &hosts, &server.settings("user"));
    let Err(error) = connect() else { panic!("an unknown server was accepted") };
    let Error::HostKeyUnknown { fingerprint, .. } = &error else { panic!("{error}") };
    assert_eq!(error.category(), Category::HostKey);
    let listed = Command::new("ssh-keygen").arg("-lf").arg(server.path("host_ed25519.pub")).output().unwrap();
    assert!(String::from_utf8(listed.stdout).unwrap().contains(fingerprint), "not what ssh-keygen shows: {fingerprint}");
    assert!(!hosts.own_file().exists(), "a refusal stores nothing");

    let key = fetch_host_key(&server.endpoint(), &hosts).unwrap();
    assert_eq!(&key.fingerprint(), fingerprint);
    hosts.store(&server.address, &key).unwrap();
    connect().unwrap_or_else(|e| panic!("{e}\n{}", server.log()));
    // ssh itself reads the same file the same way.
    let found = Command::new("ssh-keygen")
        .args(["-F", &format!("[127.0.0.1]:{}", server.address.port), "-f"])
        .arg(hosts.own_file())
        .output()
        .unwrap();
    assert!(found.status.success());
}

#[test]
fn a_changed_key_is_refused_with_both_fingerprints() {
    let Some(server) = server() else { return };
    let hosts = server.hosts();
    let other = fs::read_to_string(server.path("stranger.pub")).unwrap();
    let (kind, key) = other.split_once(' ').unwrap();
    let line = format!("[127.0.0.1]:{} {kind} {key}", server.address.port);
    fs::write(hosts.own_file(), format!("# boards\n{line}")).unwrap();
    let Err(error) = SshSession::connect("pi", &server.endpoint(), &hosts, &server.settings("user")) else {
        panic!("a changed key was accepted")
    };
    let text = error.to_string();
    let Error::HostKeyChanged(mismatch) = &error else { panic!("{error}") };
    assert_eq!(mismatch.received, fetch_host_key(&server.endpoint(), &hosts).unwrap().fingerprint());
    assert!(text.contains(&mismatch.received) && text.contains(&mismatch.expected[0].fingerprint), "{text}");
    assert!(text.contains("known_hosts:2"), "{text}");
    assert!(error.hint().unwrap().contains("remove line 2"));
}

#[test]
fn the_type_of_key_that_is_known_is_asked_for() {
    let Some(server) = server() else { return };
    let hosts = server.hosts();
    // The server would show ed25519 by itself; the file knows its ecdsa key only.
    let known = fs::read_to_string(server.path("host_ecdsa.pub")).unwrap();
    fs::write(hosts.own_file(), format!("[127.0.0.1]:{} {known}", server.address.port)).unwrap();
    let key: HostKey = fetch_host_key(&server.endpoint(), &hosts).unwrap();
    assert_eq!(key.key_type(), "ecdsa-sha2-nistp256");
    SshSession::connect("pi", &server.endpoint(), &hosts, &server.settings("user")).unwrap_or_else(|e| panic!("{e}"));
}

/// A server with three types of keys, of which the file knows one: that one is asked for. Where the server has lost that one,
/// the others are unknown and not an attack.
#[test]
fn another_type_of_key_is_unknown_and_not_changed() {
    let Some(server) = server_with(&Setup { host_keys: &["ed25519", "ecdsa", "rsa"], ..Setup::default() }) else { return };
    let hosts = server.hosts();
    let name = format!("[127.0.0.1]:{}", server.address.port);
    let connect = || SshSession::connect("pi", &server.endpoint(), &hosts, &server.settings("user")).map(drop);
    for (kind, key_type) in [("ed25519", "ssh-ed25519"), ("ecdsa", "ecdsa-sha2-nistp256"), ("rsa", "ssh-rsa")] {
        fs::write(hosts.own_file(), server.host_line(&name, kind)).unwrap();
        assert_eq!(fetch_host_key(&server.endpoint(), &hosts).unwrap().key_type(), key_type);
        connect().unwrap_or_else(|e| panic!("{kind}: {e}\n{}", server.log()));
    }
    let Some(young) = server_with(&Setup { host_keys: &["ed25519"], ..Setup::default() }) else { return };
    let hosts = young.hosts();
    let name = format!("[127.0.0.1]:{}", young.address.port);
    fs::write(hosts.own_file(), server.host_line(&name, "rsa")).unwrap();
    let error = SshSession::connect("pi", &young.endpoint(), &hosts, &young.settings("user")).map(drop).unwrap_err();
    assert!(matches!(&error, Error::HostKeyUnknown { key_type, .. } if key_type == "ssh-ed25519"), "{error}");
    // The same file with a key of the type that is shown is a change, beside which the rsa key is no comfort.
    let known = server.host_line(&name, "rsa") + &server.host_line(&name, "ed25519");
    fs::write(hosts.own_file(), known).unwrap();
    let error = SshSession::connect("pi", &young.endpoint(), &hosts, &young.settings("user")).map(drop).unwrap_err();
    assert!(matches!(&error, Error::HostKeyChanged(key) if key.expected.len() == 1), "{error}");
}

#[test]
fn keys_that_do_not_open_are_told_apart() {
    let Some(server) = server() else { return };
    let hosts = server.trusted();
    let connect = |key| match SshSession::connect("pi", &server.endpoint(), &hosts, &server.settings(key)) {
        Err(error) => error,
        Ok(_) => panic!("`{key}` opened the door"),
    };
    let refused = connect("stranger");
    assert!(matches!(&refused, Error::Auth { tried, .. } if tried[0].contains("stranger: refused")), "{refused}");
    assert_eq!(refused.category(), Category::Connect);
    assert!(matches!(connect("nowhere"), Error::Identity { path, .. } if path == server.path("nowhere")));
    assert!(matches!(connect("user.pub"), Error::Identity { problem, .. } if problem.contains("private")));
    assert!(matches!(connect("locked"), Error::Identity { problem, .. } if problem.contains("passphrase")));
}

#[test]
fn who_does_not_answer_is_named() {
    let Some(server) = server() else { return };
    let hosts = server.hosts();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let closer = thread::spawn(move || drop(listener.accept()));
    let mute = Address { port, ..server.address.clone() };
    assert!(matches!(fetch_host_key(&mute.clone().into(), &hosts), Err(Error::Handshake { .. })));
    closer.join().unwrap();
    let error = fetch_host_key(&mute.clone().into(), &hosts).unwrap_err();
    assert!(matches!(&error, Error::Connect { .. }) && error.to_string().contains(&port.to_string()), "{error}");
    let nowhere = Address { host: "no-such-board.invalid".into(), ..server.address.clone() };
    assert!(matches!(fetch_host_key(&nowhere.into(), &hosts), Err(Error::Resolve { .. })));
}

#[test]
fn megabytes_come_back_byte_for_byte_both_ways_at_once() {
    let Some(server) = server() else { return };
    let mut cat = server.session().start("exec cat").unwrap();
    let size = 64 << 20;
    let byte = |i: usize| (i.wrapping_mul(2_654_435_761) >> 17) as u8;
    let (mut sent, mut got) = (0, 0);
    let mut message = Vec::new();
    while got < size {
        if message.is_empty() && sent < size {
            message = (sent..sent + (256 << 10)).map(byte).collect();
        }
        if !message.is_empty() && cat.send(&mut message, Instant::now()) == Ok(()) {
            sent += 256 << 10;
            message.clear();
        }
        let patience = if sent < size { Duration::from_millis(1) } else { Duration::from_secs(30) };
        match cat.receive(Instant::now() + patience) {
            Some(Event::Data(bytes)) => {
                assert!(bytes.iter().enumerate().all(|(i, b)| *b == byte(got + i)), "wrong bytes near {got}");
                got += bytes.len();
            }
            Some(Event::Ended(end)) => panic!("after {got} bytes it {end}"),
            None => assert!(sent < size, "stalled: {sent} sent, {got} back"),
        }
    }
    assert_eq!(cat.bytes_moved(), size as u64);
    assert_eq!(cat.close(Duration::from_secs(10)).exit, Exit::Code(0));
}

#[test]
fn a_reader_that_waits_holds_up_the_far_side_and_loses_nothing() {
    let Some(server) = server() else { return };
    let mut source = server.session().start("echo warning >&2; head -c 20000000 /dev/zero").unwrap();
    // Longer than the pump needs to fill the queue and the window.
    thread::sleep(Duration::from_millis(1500));
    let (out, end) = to_the_end(&mut source);
    assert_eq!(out.len(), 20_000_000);
    assert_eq!((end.exit, end.stderr.as_str()), (Exit::Code(0), "warning"));
}

#[test]
fn status_signal_and_last_words_come_through() {
    let Some(server) = server() else { return };
    let run = |command: &str| to_the_end(&mut server.session().start(command).unwrap());
    let (out, end) = run("echo out; echo last >&2; exit 42");
    assert_eq!((out.as_slice(), end.exit, end.stderr.as_str()), (&b"out\n"[..], Exit::Code(42), "last"));
    assert_eq!(run("exec sh -c 'kill -KILL $$'").1.exit, Exit::Signal("KILL".into()));
    assert_eq!(run("exec /nonexistent/agent").1.exit, Exit::Code(127));
    // A process that reads nothing and ends: what was to be sent is given up, its end is not.
    let mut deaf = server.session().start("exit 5").unwrap();
    let mut message = vec![0; 200 << 10];
    while deaf.send(&mut message, soon()) == Ok(()) {
        message = vec![0; 200 << 10];
        if matches!(deaf.receive(Instant::now()), Some(Event::Ended(end)) if end.exit == Exit::Code(5)) {
            return;
        }
    }
    assert_eq!(to_the_end(&mut deaf).1.exit, Exit::Code(5));
}

#[test]
fn a_process_that_does_not_end_is_left_in_bounded_time() {
    let Some(server) = server() else { return };
    let mut deaf = server.session().start("exec sleep 600").unwrap();
    let start = Instant::now();
    assert!(matches!(deaf.close(Duration::from_millis(300)).exit, Exit::Lost(_)));
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(deaf.send(&mut vec![1], soon()), Err(SendError::Closed));
}

#[test]
fn a_server_that_dies_is_noticed_at_once() {
    let Some(mut server) = server() else { return };
    let mut cat = server.session().start("exec cat").unwrap();
    cat.send(&mut b"x".to_vec(), soon()).unwrap();
    assert!(matches!(cat.receive(soon()), Some(Event::Data(_))));
    let start = Instant::now();
    server.kill();
    let (_, end) = to_the_end(&mut cat);
    assert!(matches!(end.exit, Exit::Lost(_)), "{end}");
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_agent_is_put_there_once_and_mended_when_damaged() {
    let Some(server) = server() else { return };
    let build = script_agent(&server, "exec cat >/dev/null");
    let store = server.path("device's home/edge wise");
    let route = route(&server, build.clone(), &store);

    let mut device = Device::new("pi", Box::new(route.clone()), caller());
    assert_eq!(device.hello().unwrap_or_else(|e| panic!("{e}\n{}", server.log())).version, "script");
    device.close();
    let place = store.join(format!("agents/x86_64-unknown-linux-musl-{}", &build.sha256()[..16]));
    assert_eq!(fs::read_dir(&place).unwrap().count(), 1, "no temporary file stays");
    let agent = place.join("device-agent");
    assert_eq!(fs::read(&agent).unwrap(), fs::read(build.path()).unwrap());

    let report = route.deploy("pi").unwrap().unwrap();
    assert_eq!((report.bytes_sent, report.path.as_str()), (0, agent.to_str().unwrap()));

    // What a power cut leaves.
    fs::write(&agent, "").unwrap();
    assert_eq!(device.hello().unwrap().version, "script");
    device.close();
    fs::write(&agent, "echo damaged").unwrap();
    assert_eq!(route.deploy("pi").unwrap().unwrap().bytes_sent, build.size());
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_megabyte_agent_arrives_whole_and_its_death_is_told() {
    let Some(server) = server() else { return };
    let padding = "# ".to_owned() + &"é\\\u{1}\r".repeat(700_000);
    let then = format!("head -c 1 >/dev/null; echo 'out of ideas' >&2; exit 3\n{padding}");
    let mut device = Device::new("pi", Box::new(route(&server, script_agent(&server, &then), &server.path("d"))), caller());
    let error = device.have(&[BlobId([1; 32])]).unwrap_err();
    let Error::AgentDied { end, .. } = &error else { panic!("{error}\n{}", server.log()) };
    assert_eq!((&end.exit, end.stderr.as_str()), (&Exit::Code(3), "out of ideas"));
    assert_eq!(error.category(), Category::Agent);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_device_without_a_place_or_an_agent_that_greets_says_so() {
    let Some(server) = server() else { return };
    let build = script_agent(&server, "");
    let nowhere = route(&server, build.clone(), Path::new("/dev/null/edgewise"));
    assert!(matches!(nowhere.deploy("pi"), Err(Error::ReadOnly { dirs, .. }) if dirs == ["/dev/null/edgewise"]));
    // An agent that never greets is told with what it said.
    let mute = script_agent(&server, "");
    fs::write(mute.path(), "#!/bin/sh\necho no such luck >&2\nexit 4\n").unwrap();
    let mute = AgentBuild::open(mute.triple(), mute.path()).unwrap();
    let error = Device::new("pi", Box::new(route(&server, mute, &server.path("d"))), caller()).hello().unwrap_err();
    assert!(matches!(error, Error::AgentStart { .. }) && error.to_string().contains("no such luck"), "{error}");
}

/// The real agent, where it was built already; end-to-end tests proper are in the workspace's `tests`.
fn real_agent() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/device-agent");
    if !path.exists() {
        std::io::stderr().write_all(b"SKIPPED: target/release/device-agent is not built\n").unwrap();
        return None;
    }
    Some(path)
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_real_agent_takes_blobs_once_over_ssh_and_from_here() {
    let (Some(path), Some(server)) = (real_agent(), server()) else { return };
    let content: Vec<u8> = (0..(12u32 << 20) + 77).map(|i| (i.wrapping_mul(2_654_435_761) >> 15) as u8).collect();
    let file = server.path("weights");
    fs::write(&file, &content).unwrap();
    let sum = Command::new("sha256sum").arg(&file).output().unwrap();
    let blob: BlobId = String::from_utf8(sum.stdout).unwrap()[..64].parse().unwrap();
    let blobs = [Blob::file(blob, content.len() as u64, &file)];
    let never = AtomicBool::new(false);

    let build = AgentBuild::open("x86_64-unknown-linux-gnu", &path).unwrap();
    let mut remote = Device::new("pi", Box::new(route(&server, build, &server.path("d"))), caller());
    let first = remote.ensure_blobs(&blobs, &never).unwrap_or_else(|e| panic!("{e}\n{}", server.log()));
    assert_eq!(first, content.len() as u64);
    assert_eq!(remote.ensure_blobs(&blobs, &never).unwrap(), 0);
    // On a new connection, too: the store is the device's.
    remote.close();
    assert_eq!(remote.have(&[blob, BlobId([1; 32])]).unwrap(), [BlobState::Complete, BlobState::Missing]);
    let description = remote.describe(&OrtLibrary::Default).unwrap();
    assert!(description.stored_bytes >= content.len() as u64, "{description:?}");
    // What arrived is checked by its hash there: another file under this name is refused.
    let forged = Blob { id: BlobId([9; 32]), ..blobs[0].clone() };
    let error = remote.ensure_blobs(&[forged], &never).unwrap_err();
    assert!(matches!(error, Error::Device { code: ErrorCode::HashMismatch, .. }), "{error}");

    let mut local = Device::new("local", Box::new(LocalRoute { agent: path, store: server.path("local store") }), caller());
    assert_eq!(local.ensure_blobs(&blobs, &never).unwrap(), 0);
    assert_eq!(local.have(&[blob]).unwrap(), [BlobState::Complete]);
}
