//! A real sshd of our own, on a free port of the loopback interface, and a real ssh-agent.

use crate::{eventually, fixture, home::Home, kill};
use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A running server that lets the key `user` in.
pub struct Sshd {
    folder: tempfile::TempDir,
    child: Child,
    /// Its port.
    pub port: u16,
    /// The account that runs the tests.
    pub user: String,
}

impl Sshd {
    /// Starts one. `None`, and a visible word, where there is no OpenSSH.
    pub fn start() -> Option<Self> {
        let sshd = fixture::tool(&["sshd"])?;
        let folder = tempfile::Builder::new().prefix("edgewise-sshd-").tempdir().expect("a temporary folder can be made");
        for name in ["host", "user", "stranger"] {
            let path = folder.path().join(name);
            let done = Command::new("ssh-keygen").args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(path).status();
            assert!(done.expect("ssh-keygen can be started").success());
        }
        fs::copy(folder.path().join("user.pub"), folder.path().join("authorized_keys")).expect("the key was made");
        let port = free_port();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile {}\nUsePAM no\nStrictModes no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nMaxStartups 50\n",
            at("host"),
            at("authorized_keys"),
            at("pid"),
        );
        fs::write(folder.path().join("config"), config).expect("the folder can be written");
        // Needed, and only possible, as root.
        let _ = fs::create_dir_all("/run/sshd");
        let log = fs::File::create(folder.path().join("log")).expect("the folder can be written");
        let config = folder.path().join("config");
        let child = Command::new(sshd).args(["-D", "-e", "-f"]).arg(config).stderr(log).spawn().expect("sshd can be started");
        let user = Command::new("id").arg("-un").output().expect("id can be started").stdout;
        let user = String::from_utf8(user).expect("a name is text").trim().to_owned();
        let server = Self { folder, child, port, user };
        eventually("sshd listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        Some(server)
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
        let path = home.path("devices.toml");
        let text = fs::read_to_string(&path).expect("the registry was written");
        fs::write(&path, format!("{}\nstore = {:?}\n", text.trim_end(), store.display().to_string())).expect("it can be written");
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on.
fn free_port() -> u16 {
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
