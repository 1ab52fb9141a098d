//! Real servers of our own on the loopback interface, and programs that stand in for what no test machine has.
//!
//! Without the programs that they need the tests say that they are skipped, and fail where `CI=true` promises them.

use edgewise_fleet::{
    Address, AgentBuild, Caller, Destination, Endpoint, KnownHosts, SshRoute, SshSession, SshSettings, fetch_host_key,
};
use edgewise_protocol::{AgentHello, AgentMessage, MAGIC, PROTOCOL_VERSION, encode_control};
use edgewise_targets::Profile;
use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

pub(crate) fn caller() -> Caller {
    Caller { owner: "ann@lab".into(), lease: "device".into() }
}

/// A visible word in place of a test that cannot run here.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI=true, but {why}");
    // Straight to the stream: the test harness would swallow a macro's output.
    std::io::stderr().write_all(format!("SKIPPED: {why}\n").as_bytes()).unwrap();
}

/// A program from PATH or where servers are kept; `None`, and a visible word, if it is missing.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        skip(&format!("there is no {name} on this machine"));
    }
    found
}

/// Whether this account may do what only root may; says so if not.
pub(crate) fn is_root() -> bool {
    let root = user() == "root";
    if !root {
        // CI need not run as root, so this is no failure there.
        std::io::stderr().write_all(b"SKIPPED: only root may do this\n").unwrap();
    }
    root
}

pub(crate) fn user() -> String {
    String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap().trim().to_owned()
}

pub(crate) fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
}

pub(crate) fn keygen(path: &Path, kind: &str, passphrase: &str) {
    let done = Command::new("ssh-keygen").args(["-q", "-N", passphrase, "-t", kind, "-f"]).arg(path).status().unwrap();
    assert!(done.success());
}

/// How a server differs from the usual one.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    /// Types of its host keys; ed25519 and ecdsa unless given.
    pub(crate) host_keys: &'a [&'a str],
    /// Lines of its configuration, which outweigh the usual ones.
    pub(crate) lines: &'a str,
    /// A shell script that is run in place of every command, which it finds in `SSH_ORIGINAL_COMMAND`.
    pub(crate) login: &'a str,
}

pub(crate) struct Server {
    pub(crate) dir: tempfile::TempDir,
    child: Child,
    pub(crate) address: Address,
}

/// The usual server, or `None` with a visible word where there is no OpenSSH.
pub(crate) fn server() -> Option<Server> {
    server_with(&Setup::default())
}

pub(crate) fn server_with(setup: &Setup<'_>) -> Option<Server> {
    let sshd = program("sshd")?;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let port = free_port();
    let mut config = format!(
        "{}\nPort {port}\nListenAddress 127.0.0.1\nAuthorizedKeysFile {}\nPidFile {}\nUsePAM no\nStrictModes no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nMaxStartups 50\n",
        setup.lines,
        at("authorized_keys"),
        at("pid"),
    );
    for kind in if setup.host_keys.is_empty() { &["ed25519", "ecdsa"] } else { setup.host_keys } {
        keygen(&dir.path().join(format!("host_{kind}")), kind, "");
        writeln!(config, "HostKey {}", at(&format!("host_{kind}"))).unwrap();
    }
    for name in ["user", "stranger"] {
        keygen(&dir.path().join(name), "ed25519", "");
    }
    keygen(&dir.path().join("locked"), "ed25519", "secret");
    fs::copy(dir.path().join("user.pub"), dir.path().join("authorized_keys")).unwrap();
    if !setup.login.is_empty() {
        write_program(&dir.path().join("login"), &format!("#!/bin/sh\n{}\n", setup.login));
        writeln!(config, "ForceCommand {}", at("login")).unwrap();
    }
    fs::write(dir.path().join("config"), config).unwrap();
    // Needed, and only possible, as root.
    let _ = fs::create_dir_all("/run/sshd");
    let log = fs::File::create(dir.path().join("log")).unwrap();
    let child = Command::new(sshd).args(["-D", "-e", "-f"]).arg(dir.path().join("config")).stderr(log).spawn().unwrap();
    let server = Server { dir, child, address: Address { user: user(), host: "127.0.0.1".into(), port } };
    wait_for_port(port, || server.log());
    Some(server)
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn wait_for_port(port: u16, log: impl Fn() -> String) {
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < Duration::from_secs(20), "nobody listens: {}", log());
        thread::sleep(Duration::from_millis(20));
    }
}

impl Server {
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.address.clone().into()
    }

    /// Only an own file: the tester's must not matter.
    pub(crate) fn hosts(&self) -> KnownHosts {
        KnownHosts::new(self.path("known_hosts"), None)
    }

    pub(crate) fn trusted(&self) -> KnownHosts {
        let hosts = self.hosts();
        let key = fetch_host_key(&self.endpoint(), &hosts).unwrap();
        hosts.store(&self.address, &key).unwrap();
        hosts
    }

    /// A line of a known-hosts file for one of its host keys.
    pub(crate) fn host_line(&self, name: &str, kind: &str) -> String {
        format!("{name} {}", fs::read_to_string(self.path(&format!("host_{kind}.pub"))).unwrap())
    }

    pub(crate) fn settings(&self, key: &str) -> SshSettings {
        SshSettings { identity: Some(self.path(key)), ciphers: vec!["aes128-gcm@openssh.com".into()] }
    }

    pub(crate) fn session(&self) -> SshSession {
        SshSession::connect("pi", &self.endpoint(), &self.trusted(), &self.settings("user"))
            .unwrap_or_else(|e| panic!("{e}\n{}", self.log()))
    }

    /// Ends the server and every process that serves a connection.
    pub(crate) fn kill(&mut self) {
        let doomed = descendants(self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in doomed {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Children, their children, and so on.
pub(crate) fn descendants(parent: u32) -> Vec<u32> {
    let mut found = children(parent);
    let mut next = 0;
    while next < found.len() {
        found.extend(children(found[next]));
        next += 1;
    }
    found
}

fn children(parent: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok());
    let parent_of = |pid: &u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    pids.filter(|pid| parent_of(pid) == Some(parent)).collect()
}

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

/// A shell script in `dir` that greets as an agent does and then does `then`.
pub(crate) fn script_agent_in(dir: &Path, then: &str) -> AgentBuild {
    let mut bytes = MAGIC.to_vec();
    let (oldest, newest) = (PROTOCOL_VERSION, PROTOCOL_VERSION);
    let hello = AgentHello { oldest, newest, version: "script".into(), triple: "t".into(), pid: 1 };
    encode_control(&AgentMessage::Hello(hello), &mut bytes).unwrap();
    let octal: String = bytes.iter().fold(String::new(), |text, byte| text + &format!("\\{byte:03o}"));
    let text = format!("#!/bin/sh\n[ \"$1 $2\" = 'serve --store' ] || exit 9\nprintf '{octal}'\n{then}\n");
    let path = dir.join("agent");
    fs::write(&path, text).unwrap();
    AgentBuild::open("x86_64-unknown-linux-musl", &path).unwrap()
}

pub(crate) fn script_agent(server: &Server, then: &str) -> AgentBuild {
    script_agent_in(server.dir.path(), then)
}

pub(crate) fn route(server: &Server, build: AgentBuild, store: &Path) -> SshRoute {
    let Address { user, host, port } = server.address.clone();
    SshRoute {
        destination: Destination { user: Some(user), host, port: Some(port) },
        ssh: None,
        known_hosts: server.trusted(),
        identity: Some(server.path("user")),
        builds: vec![build],
        profile: Profile::find("linux-x86_64").unwrap(),
        store: Some(store.to_str().unwrap().to_owned()),
    }
}
