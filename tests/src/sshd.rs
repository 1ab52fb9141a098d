//! A real sshd of our own, on a free port of the loopback interface, and a real ssh-agent.

use crate::{children, eventually, fixture, home::Home, kill};
use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A running server that lets the key `user` in.
pub struct Sshd {
    folder: tempfile::TempDir,
    program: PathBuf,
    child: Option<Child>,
    /// Its port, the first of them.
    pub port: u16,
    /// All ports that it listens on.
    pub ports: Vec<u16>,
    /// The account that runs the tests.
    pub user: String,
}

impl Sshd {
    /// Starts one. `None`, and a visible word, where there is no OpenSSH.
    pub fn start() -> Option<Self> {
        Self::start_with(1, "")
    }

    /// Starts one that listens on several ports, with more lines in its configuration.
    pub fn start_with(ports: usize, more: &str) -> Option<Self> {
        let program = fixture::tool(&["sshd"])?;
        let folder = tempfile::Builder::new().prefix("edgewise-sshd-").tempdir().expect("a temporary folder can be made");
        for name in ["host", "user", "stranger"] {
            let path = folder.path().join(name);
            let done = Command::new("ssh-keygen").args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(path).status();
            assert!(done.expect("ssh-keygen can be started").success());
        }
        fs::copy(folder.path().join("user.pub"), folder.path().join("authorized_keys")).expect("the key was made");
        let ports: Vec<u16> = (0..ports).map(|_| free_port()).collect();
        let listens: Vec<String> = ports.iter().map(|port| format!("ListenAddress 127.0.0.1:{port}\n")).collect();
        let listens = listens.concat();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "{listens}HostKey {}\nAuthorizedKeysFile {}\nPidFile {}\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin yes\nMaxStartups 50\n{more}\n",
            at("host"),
            at("authorized_keys"),
            at("pid"),
        );
        fs::write(folder.path().join("config"), config).expect("the folder can be written");
        // Needed, and only possible, as root.
        let _ = fs::create_dir_all("/run/sshd");
        let user = Command::new("id").arg("-un").output().expect("id can be started").stdout;
        let user = String::from_utf8(user).expect("a name is text").trim().to_owned();
        let mut server = Self { folder, program, child: None, port: ports[0], ports, user };
        server.resume();
        Some(server)
    }

    /// Starts it again after [`Self::stop`].
    pub fn resume(&mut self) {
        let log = fs::File::options().append(true).create(true).open(self.path("log")).expect("the folder can be written");
        let mut command = Command::new(&self.program);
        command.args(["-D", "-e", "-f"]).arg(self.path("config")).stderr(log);
        self.child = Some(command.spawn().expect("sshd can be started"));
        for port in &self.ports {
            eventually("sshd listens", || TcpStream::connect(("127.0.0.1", *port)).ok());
        }
    }

    /// Kills it and the processes of its connections, as a reboot does; what those connections run is left to itself.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let mut connections = vec![child.id()];
        let mut next = 0;
        while next < connections.len() {
            let is_sshd = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("sshd"));
            connections.extend(children(connections[next]).into_iter().filter(is_sshd));
            next += 1;
        }
        for pid in connections {
            kill(pid, libc::SIGKILL);
        }
        child.wait().expect("a child can be waited for");
    }

    /// A file of the server: `user` and `stranger` are private keys, each with its `.pub`; `host.pub` is its own key.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// `USER@127.0.0.1`.
    pub fn address(&self) -> String {
        format!("{}@127.0.0.1", self.user)
    }

    /// Registers the server in a home as a device with this private key, which keeps its things in `store`.
    pub fn register(&self, home: &Home, name: &str, key: Option<&str>, store: &Path) {
        let add = home.host("device add --target linux-x86_64 --shares-host").arg(name);
        let add = add.arg("--address").arg(self.address()).arg("--port").arg(self.port.to_string());
        let add = match key {
            Some(key) => add.arg("--identity").arg(self.path(key)),
            None => add,
        };
        add.run().ok();
        // The newest table is the last one of the file.
        append(&home.path("devices.toml"), &format!("store = {:?}\n", store.display().to_string()));
    }

    /// Registers it under this name as a board of its own, reached through `port`, whose key is trusted already: with a store
    /// of its own, and a lease of its own, since it shares this machine with others. `more` are further lines of its entry.
    pub fn board(&self, home: &Home, name: &str, port: u16, more: &str) -> PathBuf {
        self.board_of(home, name, "linux-x86_64", port, more)
    }

    /// The same for a board of another target than this machine's.
    pub fn board_of(&self, home: &Home, name: &str, target: &str, port: u16, more: &str) -> PathBuf {
        let store = home.path(name);
        let entry = format!(
            "[device.{name}]\ntarget = {target:?}\naddress = {:?}\nport = {port}\nidentity = {:?}\nssh_config = false\n\
             lease = {:?}\nstore = {:?}\n{more}\n",
            self.address(),
            self.path("user").display().to_string(),
            // No two tests, and no two boards of one, have the same port.
            format!("test-{port}"),
            store.display().to_string(),
        );
        append(&home.path("devices.toml"), &entry);
        self.trust(home, port, "host");
        store
    }

    /// Makes a home trust a key of this server, by its file, at a port.
    pub fn trust(&self, home: &Home, port: u16, key: &str) {
        let key = fs::read_to_string(self.path(&format!("{key}.pub"))).expect("the key was made");
        append(&home.path("known_hosts"), &format!("[127.0.0.1]:{port} {}\n", key.trim_end()));
    }
}

/// Adds text to a file, on a line of its own.
fn append(path: &Path, text: &str) {
    let before = fs::read_to_string(path).unwrap_or_default();
    let gap = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    fs::write(path, format!("{before}{gap}{text}")).expect("the home can be written");
}

impl Drop for Sshd {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a loopback interface");
    listener.local_addr().expect("it is bound").port()
}

/// An ssh-agent that holds one key.
pub struct KeyAgent {
    folder: tempfile::TempDir,
    child: Child,
}

impl KeyAgent {
    /// Starts one with this private key. `None`, and a visible word, where there is no OpenSSH.
    pub fn start(key: &Path) -> Option<Self> {
        let program = fixture::tool(&["ssh-agent"])?;
        let folder = tempfile::Builder::new().prefix("edgewise-keys-").tempdir().expect("a temporary folder can be made");
        let socket = folder.path().join("socket");
        let child = Command::new(program).arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn();
        let agent = Self { folder, child: child.expect("ssh-agent can be started") };
        eventually("ssh-agent listens", || socket.exists().then_some(()));
        let added = Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &socket).status();
        assert!(added.expect("ssh-add can be started").success(), "the key was not taken");
        Some(agent)
    }

    /// For `SSH_AUTH_SOCK`.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}

impl Drop for KeyAgent {
    fn drop(&mut self) {
        kill(self.child.id(), libc::SIGTERM);
        let _ = self.child.wait();
    }
}
