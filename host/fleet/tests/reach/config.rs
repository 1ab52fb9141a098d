//! ssh's own configuration, ways over other servers, and agents with several keys.

use crate::common::{self, Server, Setup, descendants, program, server, server_with, soon, user, write_program};
use edgewise_fleet::{
    Category, Connect, Destination, Device, Endpoint, Error, Event, Exit, KeyAgent, OpenSsh, Proxy, SshSession, SshSettings,
    Transport, fetch_host_key,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The real ssh with a configuration of the test's own, which knows where everything is.
fn configured(server: &Server, config: &str) -> Option<OpenSsh> {
    let path = server.path("ssh_config");
    fs::write(&path, config).unwrap();
    Some(OpenSsh::new(program("ssh")?, Some(path)))
}

fn resolve(ssh: &OpenSsh, to: &str, port: Option<u16>) -> Result<Endpoint, Error> {
    Endpoint::resolve(&Destination::parse(to, port).unwrap(), Some(ssh), 22)
}

fn connect(server: &Server, endpoint: &Endpoint) -> Result<SshSession, Error> {
    SshSession::connect("pi", endpoint, &server.hosts(), &SshSettings::default())
}

/// What `echo` says at the far end.
fn says(session: SshSession, words: &str) {
    let mut echo = session.start(&format!("echo {words}")).unwrap();
    let mut out = Vec::new();
    let end = loop {
        match echo.receive(soon()) {
            Some(Event::Data(bytes)) => out.extend(bytes),
            Some(Event::Ended(end)) => break end,
            None => panic!("no end"),
        }
    };
    assert_eq!((end.exit, out.as_slice()), (Exit::Code(0), format!("{words}\n").as_bytes()));
}

#[test]
fn a_name_of_the_configuration_leads_to_the_server() {
    let Some(server) = server() else { return };
    let config = format!(
        "Host board*\n  HostName 127.0.0.1\n  Port {}\n  User {}\n  IdentityFile {}\n  IdentityAgent none\n  HostKeyAlias rack-7\n  \
         UserKnownHostsFile {}\n  GlobalKnownHostsFile none\nHost *\n  Include /nonexistent/*\n",
        server.address.port,
        user(),
        server.path("user").display(),
        server.path("their_hosts").display(),
    );
    let Some(ssh) = configured(&server, &config) else { return };
    let endpoint = resolve(&ssh, "board-3", None).unwrap();
    assert_eq!(endpoint.address, server.address);
    assert_eq!(endpoint.identities, [server.path("user")]);
    assert_eq!(endpoint.key_agent, KeyAgent::Disabled);

    // Nothing is trusted because a configuration says where it is.
    assert!(matches!(connect(&server, &endpoint), Err(Error::HostKeyUnknown { .. })));
    // The key is known under the alias, in the file that the configuration names.
    fs::write(server.path("their_hosts"), server.host_line("rack-7", "ecdsa")).unwrap();
    assert_eq!(fetch_host_key(&endpoint, &server.hosts()).unwrap().key_type(), "ecdsa-sha2-nistp256");
    says(connect(&server, &endpoint).unwrap_or_else(|e| panic!("{e}\n{}", server.log())), "hello");
    assert!(!server.hosts().own_file().exists());
    // Our own file is asked as well, and what it says of another key of this type stands against the server.
    let stranger = fs::read_to_string(server.path("stranger.pub")).unwrap();
    fs::write(server.path("known_hosts"), format!("rack-7 {stranger}")).unwrap();
    fs::write(server.path("their_hosts"), "").unwrap();
    assert!(matches!(connect(&server, &endpoint), Err(Error::HostKeyChanged(_))));

    // What the registry says outweighs the configuration.
    let other = resolve(&ssh, "someone@board-3", Some(2)).unwrap();
    assert_eq!(other.address.to_string(), "someone@127.0.0.1:2");
    // A name that no block knows is a plain host.
    assert_eq!(resolve(&ssh, "u@elsewhere", None).unwrap().address.to_string(), "u@elsewhere:22");
}

#[test]
fn a_configuration_that_ssh_refuses_is_an_error() {
    let Some(server) = server() else { return };
    let Some(ssh) = configured(&server, "Host *\n  NoSuchOption yes\n") else { return };
    let error = resolve(&ssh, "pi", None).unwrap_err();
    assert!(matches!(&error, Error::SshConfig { problem, .. } if problem.to_lowercase().contains("nosuchoption")), "{error}");
    assert_eq!(error.category(), Category::Usage);
}

/// Two servers, of which one leads to the other: `gate` and what is behind it.
fn behind_a_gate(gate: &Server, inner: &Server, hops: &str) -> Option<OpenSsh> {
    let config = format!(
        "Host inner\n  HostName 127.0.0.1\n  Port {}\n  ProxyJump {hops}\nHost gate gate2\n  HostName 127.0.0.1\n  Port {}\nHost *\n  \
         User {}\n  IdentityFile {}\n  IdentityAgent none\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile none\n",
        inner.address.port,
        gate.address.port,
        user(),
        gate.path("user").display(),
        gate.path("their_hosts").display(),
    );
    let line = |server: &Server| server.host_line(&format!("[127.0.0.1]:{}", server.address.port), "ed25519");
    fs::write(gate.path("their_hosts"), line(gate) + &line(inner)).unwrap();
    fs::copy(gate.path("user.pub"), inner.path("authorized_keys")).unwrap();
    configured(gate, &config)
}

#[test]
fn the_way_may_lead_over_other_servers() {
    let (Some(gate), Some(inner)) = (server(), server()) else { return };
    for hops in ["gate", "gate,gate2"] {
        let Some(ssh) = behind_a_gate(&gate, &inner, hops) else { return };
        let endpoint = resolve(&ssh, "inner", None).unwrap();
        assert!(matches!(&endpoint.proxy, Some(Proxy::Jump { hops: found, .. }) if found == hops), "{endpoint:?}");
        let session = connect(&gate, &endpoint).unwrap_or_else(|e| panic!("{e}\n{}\n{}", gate.log(), inner.log()));
        assert!(inner.log().contains("Accepted publickey"), "{}", inner.log());
        // Megabytes both ways, and the same connection for one command after the other.
        let mut cat = session.start("exec cat").unwrap();
        let sent: Vec<u8> = (0..4_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let (mut left, mut got) = (sent.chunks(200_000), Vec::new());
        while got.len() < sent.len() {
            if let Some(piece) = left.next() {
                cat.send(&mut piece.to_vec(), soon()).unwrap();
            }
            while let Some(Event::Data(bytes)) = cat.receive(Instant::now() + Duration::from_millis(20)) {
                got.extend(bytes);
            }
        }
        assert!(got == sent, "not what was sent");
        let ours = descendants(std::process::id());
        assert!(ours.iter().any(|pid| is_helper(*pid, inner.address.port)), "no ssh leads there");
        assert_eq!(cat.close(Duration::from_secs(10)).exit, Exit::Code(0));
        drop(cat);
        let start = Instant::now();
        while descendants(std::process::id()).iter().any(|pid| is_helper(*pid, inner.address.port)) {
            assert!(start.elapsed() < Duration::from_secs(10), "an ssh stays behind");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_board_behind_a_gate_is_trusted_and_used_like_another() {
    let (Some(gate), Some(inner)) = (server(), server()) else { return };
    let Some(ssh) = behind_a_gate(&gate, &inner, "gate") else { return };
    // Only the gate is known to ssh; the board's own key is for us to ask about.
    let known = fs::read_to_string(gate.path("their_hosts")).unwrap();
    fs::write(gate.path("their_hosts"), known.lines().next().unwrap().to_owned() + "\n").unwrap();
    let mut route = common::route(&gate, common::script_agent(&gate, "exec cat >/dev/null"), &gate.path("store"));
    route.destination = Destination::parse("inner", None).unwrap();
    (route.ssh, route.identity, route.known_hosts) = (Some(ssh), None, inner.hosts());
    let mut board = Device::new("board", Box::new(route.clone()), common::caller());
    assert!(matches!(board.hello(), Err(Error::HostKeyUnknown { .. })));
    let endpoint = route.endpoint().unwrap();
    let key = fetch_host_key(&endpoint, &route.known_hosts).unwrap();
    route.known_hosts.store(&endpoint.key_address(), &key).unwrap();
    assert_eq!(board.hello().unwrap_or_else(|e| panic!("{e}")).version, "script");
    board.close();
    assert_eq!(route.deploy("board").unwrap().unwrap().bytes_sent, 0);
}

/// Whether a process leads to this port, see `ssh -W`.
fn is_helper(pid: u32, port: u16) -> bool {
    let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words.contains("-W") && words.contains(&format!("127.0.0.1:{port}"))
}

#[test]
fn a_way_that_is_barred_says_where() {
    let (Some(gate), Some(mut inner)) = (server(), server()) else { return };
    let Some(ssh) = behind_a_gate(&gate, &inner, "gate") else { return };
    let endpoint = resolve(&ssh, "inner", None).unwrap();
    let refused = |word: &str| {
        let start = Instant::now();
        let error = connect(&gate, &endpoint).map(drop).unwrap_err();
        assert!(matches!(&error, Error::Proxy { said, .. } if said.contains(word)), "{error}");
        assert_eq!(error.category(), Category::Connect);
        assert!(start.elapsed() < Duration::from_secs(20));
    };
    // The gate's key is checked by ssh, and nobody is asked about it.
    let known = fs::read_to_string(gate.path("their_hosts")).unwrap();
    fs::write(gate.path("their_hosts"), known.lines().nth(1).unwrap()).unwrap();
    refused("verification failed");
    fs::write(gate.path("their_hosts"), &known).unwrap();
    // The gate does not let us in.
    fs::rename(gate.path("authorized_keys"), gate.path("aside")).unwrap();
    refused("Permission denied");
    fs::rename(gate.path("aside"), gate.path("authorized_keys")).unwrap();
    // What is behind it has another key than is known.
    fs::write(gate.path("known_hosts"), gate.host_line(&format!("[127.0.0.1]:{}", inner.address.port), "ed25519")).unwrap();
    fs::write(gate.path("their_hosts"), known.lines().next().unwrap().to_owned() + "\n").unwrap();
    assert!(matches!(connect(&gate, &endpoint), Err(Error::HostKeyChanged(_))));
    fs::remove_file(gate.path("known_hosts")).unwrap();
    fs::write(gate.path("their_hosts"), &known).unwrap();
    // The connection breaks on the way, and that is told with the words of the program in between.
    let mut cat = connect(&gate, &endpoint).unwrap().start("exec cat").unwrap();
    cat.send(&mut b"x".to_vec(), soon()).unwrap();
    assert!(matches!(cat.receive(soon()), Some(Event::Data(_))));
    inner.kill();
    let Some(Event::Ended(end)) = cat.receive(soon()) else { panic!("no end") };
    assert!(matches!(end.exit, Exit::Lost(_)), "{end}");
    drop(cat);
    refused("refused");
}

#[test]
fn a_command_may_be_the_way() {
    let Some(server) = server() else { return };
    let Some(nc) = program("bash") else { return };
    // The shell's own TCP, so that no further program is needed.
    let relay = server.path("relay");
    let script = "exec 3<>/dev/tcp/$1/$2; cat <&3 & cat >&3; kill $!";
    write_program(&relay, &format!("#!{}\necho relaying >&2\n{script}\n", nc.display()));
    let config = format!(
        "Host pi\n  HostName 127.0.0.1\n  Port {}\n  ProxyCommand {} %h %p\n  IdentityFile {}\n  User {}\nHost dead\n  \
         ProxyCommand echo 'no %% such \x1b[31m road to %n' >&2; exit 7\n  User x\n",
        server.address.port,
        relay.display(),
        server.path("user").display(),
        user(),
    );
    let Some(ssh) = configured(&server, &config) else { return };
    let endpoint = resolve(&ssh, "pi", None).unwrap();
    let hosts = server.trusted();
    let session = SshSession::connect("pi", &endpoint, &hosts, &SshSettings::default()).unwrap_or_else(|e| panic!("{e}"));
    says(session, "through");
    let error = connect(&server, &resolve(&ssh, "dead", None).unwrap()).map(drop).unwrap_err();
    let Error::Proxy { said, .. } = &error else { panic!("{error}") };
    assert!(said.contains("no % such") && said.contains("road to dead") && !said.contains('\x1b'), "{said}");
}

/// An ssh-agent of the test's own.
struct Agent {
    dir: tempfile::TempDir,
    child: Child,
}

impl Agent {
    fn start(keys: &[PathBuf]) -> Option<Self> {
        let program = program("ssh-agent")?;
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let child = Command::new(program).arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        let agent = Self { dir, child };
        let start = Instant::now();
        while !socket.exists() {
            assert!(start.elapsed() < Duration::from_secs(10), "no ssh-agent");
            thread::sleep(Duration::from_millis(10));
        }
        for key in keys {
            let added = Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &socket).status().unwrap();
            assert!(added.success());
        }
        Some(agent)
    }

    fn socket(&self) -> KeyAgent {
        KeyAgent::Socket(self.dir.path().join("socket"))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn strangers(dir: &Path, count: usize) -> Vec<PathBuf> {
    let make = |i| {
        let path = dir.join(format!("stranger-{i}"));
        common::keygen(&path, "ed25519", "");
        path
    };
    (0..count).map(make).collect()
}

#[test]
fn every_key_of_the_agent_is_offered_until_one_fits() {
    let Some(server) = server_with(&Setup { lines: "LogLevel VERBOSE", ..Setup::default() }) else { return };
    let hosts = server.trusted();
    let mut keys = strangers(server.dir.path(), 4);
    keys.push(server.path("user"));
    let Some(agent) = Agent::start(&keys) else { return };
    let endpoint = Endpoint { key_agent: agent.socket(), ..server.endpoint() };
    let connect = |settings: &SshSettings| SshSession::connect("pi", &endpoint, &hosts, settings);
    connect(&SshSettings::default()).unwrap_or_else(|e| panic!("{e}\n{}", server.log()));
    assert_eq!(server.log().matches("Failed publickey").count(), 4, "in the agent's order: {}", server.log());
    // A locked file whose key the agent holds: that key comes first.
    fs::copy(server.path("user.pub"), server.path("locked.pub")).unwrap();
    connect(&server.settings("locked")).unwrap_or_else(|e| panic!("{e}\n{}", server.log()));
    assert_eq!(server.log().matches("Failed publickey").count(), 4, "{}", server.log());
}

#[test]
fn a_server_that_had_enough_keys_is_understood() {
    let Some(server) = server_with(&Setup { lines: "MaxAuthTries 3", ..Setup::default() }) else { return };
    let hosts = server.trusted();
    let mut keys = strangers(server.dir.path(), 5);
    keys.push(server.path("user"));
    let Some(agent) = Agent::start(&keys) else { return };
    let crowded = Endpoint { key_agent: agent.socket(), ..server.endpoint() };
    let connect = |endpoint: &Endpoint| SshSession::connect("pi", endpoint, &hosts, &SshSettings::default()).map(drop);
    let error = connect(&crowded).unwrap_err();
    let Error::Auth { offered, tried, .. } = &error else { panic!("{error}") };
    assert_eq!(offered, "publickey");
    assert!(tried[0].contains("ssh agent's") && tried[0].ends_with("refused"), "{tried:?}");
    assert!(tried.last().unwrap().contains("hung up"), "{tried:?}");
    assert!(error.hint().unwrap().contains("IdentitiesOnly"));
    // The configuration names the right one, of which only the public half is a file.
    let named = Endpoint { identities: vec![server.path("user.pub")], identities_only: true, ..crowded };
    connect(&named).unwrap_or_else(|e| panic!("{e}\n{}", server.log()));
    let other = Endpoint { identities: vec![server.path("stranger.pub")], ..named };
    let error = connect(&other).unwrap_err();
    assert!(matches!(&error, Error::Auth { tried, .. } if tried[0].contains("IdentitiesOnly")), "{error}");
}

#[test]
fn locked_keys_without_an_agent_are_hinted_at() {
    let Some(server) = server() else { return };
    let hosts = server.trusted();
    let endpoint = Endpoint { identities: vec![server.path("locked")], key_agent: KeyAgent::Disabled, ..server.endpoint() };
    let error = SshSession::connect("pi", &endpoint, &hosts, &SshSettings::default()).map(drop).unwrap_err();
    assert!(matches!(&error, Error::Auth { tried, .. } if tried.len() == 2 && tried[1].ends_with("has a passphrase")), "{error}");
    assert!(error.hint().unwrap().contains("ssh-add"));
}

#[test]
fn a_server_that_takes_no_keys_is_told_apart() {
    let lines = "PubkeyAuthentication no\nPasswordAuthentication yes";
    let Some(server) = server_with(&Setup { lines, ..Setup::default() }) else { return };
    let hosts = server.trusted();
    let error = SshSession::connect("pi", &server.endpoint(), &hosts, &server.settings("user")).map(drop).unwrap_err();
    assert!(matches!(&error, Error::Auth { offered, tried, .. } if offered == "password" && tried.is_empty()), "{error}");
    assert!(error.to_string().ends_with("it offers password, we tried nothing"), "{error}");
    assert!(error.hint().unwrap().contains("PubkeyAuthentication"));
}
