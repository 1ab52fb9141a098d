//! Runs `host` as a user would, in a home of the test's own.

use crate::{kill, programs};
use serde_json::Value;
use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Longest wait for anything a command does. A comparison on a machine that others disturb takes minutes, and as long as it
/// takes it is no fault.
const PATIENCE: Duration = Duration::from_mins(15);

/// A temporary `EDGEWISE_HOME`, which is `HOME` as well so that the tester's own keys and hosts do not matter.
pub struct Home {
    folder: tempfile::TempDir,
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// An empty home.
    pub fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("edgewise-test-").tempdir().expect("a temporary folder can be made") }
    }

    /// A home in which the demo model was prepared already.
    pub fn with_demo() -> Self {
        let home = Self::new();
        let ready = programs::prepared_demo().join("cache/supernets");
        let folder = home.path("cache/supernets");
        fs::create_dir_all(&folder).expect("the home can be written");
        for entry in fs::read_dir(ready).expect("the prepared demo is there").flatten() {
            std::os::unix::fs::symlink(entry.path(), folder.join(entry.file_name())).expect("the home can be written");
        }
        home
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A call of `host` with arguments without spaces in them.
    pub fn host(&self, words: &str) -> Call {
        call_in(self.folder()).words(words)
    }

    /// Studies in the home.
    pub fn studies(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.path("studies")).into_iter().flatten().flatten().map(|e| e.path());
        let mut studies: Vec<PathBuf> = files.filter(|p| p.extension().is_some_and(|x| x == "study")).collect();
        studies.sort();
        studies
    }

    /// A file in the home with this text.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is in the home")).expect("the home can be written");
        fs::write(&path, text).expect("the home can be written");
        path
    }
}

pub(crate) fn call_in(folder: &Path) -> Call {
    let mut command = Command::new(programs::host());
    command.env("EDGEWISE_HOME", folder).env("HOME", folder).stdin(Stdio::null());
    for variable in ["EDGEWISE_AGENT", "ORT_DYLIB_PATH", "SSH_AUTH_SOCK", "RUST_LOG", "XDG_CACHE_HOME"] {
        command.env_remove(variable);
    }
    // A group of its own, as a shell gives each command: signals from the keyboard go to the group.
    command.process_group(0);
    Call { command }
}

/// A call that is being put together.
pub struct Call {
    command: Command,
}

impl Call {
    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// More arguments, separated by spaces.
    #[must_use]
    pub fn words(mut self, words: &str) -> Self {
        self.command.args(words.split_whitespace());
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let what = self.command.get_args().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
        let mut child = self.command.spawn().expect("host can be started");
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let (sender, lines) = channel();
        let reader = thread::spawn(move || {
            let mut all = String::new();
            let mut from = BufReader::new(stdout);
            loop {
                let mut line = String::new();
                match from.read_line(&mut line) {
                    Ok(0) => return all,
                    Ok(_) => {
                        all.push_str(&line);
                        // A test that waits for no more lines still gets them all at the end.
                        let _ = sender.send(line);
                    }
                    Err(e) => panic!("stdout is not text: {e}"),
                }
            }
        });
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).expect("stderr can be read");
            String::from_utf8_lossy(&text).into_owned()
        });
        Running { child: Some(child), what, lines, streams: Some((reader, errors)) }
    }

    /// Runs it to its end.
    pub fn run(self) -> Run {
        self.start().finish()
    }
}

/// A call that runs. Dropped before its end, it is killed.
pub struct Running {
    child: Option<Child>,
    what: String,
    lines: Receiver<String>,
    streams: Option<(JoinHandle<String>, JoinHandle<String>)>,
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    /// Sends a signal to its process group, as the keyboard does.
    pub fn signal_group(&self, signal: i32) {
        // SAFETY: sends a signal to the group that `call_in` made; no memory is involved.
        unsafe { libc::kill(-(self.pid() as libc::pid_t), signal) };
    }

    /// The next line of its stdout; panics with its stderr if it ends before.
    pub fn line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("host {} printed nothing in {PATIENCE:?}", self.what),
            Err(RecvTimeoutError::Disconnected) => panic!("ended early: {:#?}", self.wait()),
        }
    }

    /// The next line of its stdout as JSON.
    pub fn json_line(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().expect("it runs").try_wait().expect("a child can be waited for").is_none()
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Run {
        self.wait()
    }

    fn wait(&mut self) -> Run {
        let child = self.child.as_mut().expect("it runs");
        let start = Instant::now();
        let status: ExitStatus = loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if start.elapsed() > PATIENCE {
                let _ = child.kill();
                panic!("host {} does not end", self.what);
            }
            thread::sleep(Duration::from_millis(5));
        };
        self.child = None;
        let (reader, errors) = self.streams.take().expect("it was not waited for before");
        let stdout = reader.join().unwrap_or_else(|_| panic!("host {} printed no text", self.what));
        let stderr = errors.join().expect("the reader of stderr does not panic");
        Run { what: std::mem::take(&mut self.what), status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A call that ended.
#[derive(Debug)]
pub struct Run {
    /// The arguments.
    pub what: String,
    /// How it ended.
    pub status: ExitStatus,
    /// All of its stdout.
    pub stdout: String,
    /// All of its stderr.
    pub stderr: String,
}

impl Run {
    /// Demands success.
    #[must_use = "`ok` demands success and nothing else"]
    pub fn checked(self) -> Self {
        assert!(self.status.success(), "host {} ended with {}\n{}", self.what, self.status, self.stderr);
        self
    }

    /// Demands success, and nothing else.
    pub fn ok(self) {
        drop(self.checked());
    }

    /// Demands this exit code, an error with a hint on stderr, and nothing on stdout.
    pub fn fails(&self, code: i32) -> &Self {
        self.fails_after_output(code).silent()
    }

    /// Demands this exit code, and an error with a hint on stderr.
    pub fn fails_after_output(&self, code: i32) -> &Self {
        self.fails_unhinted(code).says(&["\nhint: "])
    }

    /// Demands this exit code and an error; for usage errors, which explain themselves.
    pub fn fails_unhinted(&self, code: i32) -> &Self {
        assert_eq!(self.status.signal(), None, "host {} was killed\n{}", self.what, self.stderr);
        assert_eq!(self.status.code(), Some(code), "host {}\n{}", self.what, self.stderr);
        assert!(self.stderr.lines().any(|line| line.starts_with("error: ")), "no error: {}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// Demands that nothing went to stdout.
    pub fn silent(&self) -> &Self {
        assert_eq!(self.stdout, "", "host {} wrote to stdout although it failed", self.what);
        self
    }

    /// Demands these words on stderr.
    pub fn says(&self, words: &[&str]) -> &Self {
        for word in words {
            assert!(self.stderr.contains(word), "host {} does not say `{word}`:\n{}", self.what, self.stderr);
        }
        self
    }

    /// Its stdout as one JSON document.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }
}
