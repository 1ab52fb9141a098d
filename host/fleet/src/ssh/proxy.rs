//! A program of ours whose stdin and stdout are the connection to a server.
//!
//! Contract: it can ask nothing (no terminal, `BatchMode`), its stderr is kept for the error's text, and neither it nor what
//! it started outlives the connection.

use super::{Endpoint, OpenSsh};
use crate::transport::Words;
use std::{
    io,
    net::Shutdown,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// For the program to leave by itself.
const GRACE: Duration = Duration::from_millis(500);

/// The way to a server that is not a TCP connection from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proxy {
    /// Over other servers, the nearest first, as `ProxyJump` lists them: ssh leads there.
    Jump {
        /// `[USER@]HOST[:PORT]` or `ssh://` addresses, with commas in between.
        hops: String,
        /// The program.
        ssh: OpenSsh,
    },
    /// A command for `sh`, with its tokens expanded.
    Command(String),
}

impl Proxy {
    /// For an error's text.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Jump { hops, .. } => format!("ProxyJump {hops}"),
            Self::Command(command) => format!("ProxyCommand {command}"),
        }
    }

    fn command(&self, to: &Endpoint) -> Command {
        match self {
            Self::Jump { hops, ssh } => {
                let mut command = ssh.command();
                // A connection that is shared already may be used; one made here must not linger to be shared.
                command.args(["-o", "BatchMode=yes", "-o", "ControlMaster=no", "-o", "ConnectTimeout=10", "-T"]);
                let last = match hops.rsplit_once(',') {
                    Some((first, last)) => {
                        command.args(["-J", first]);
                        last
                    }
                    None => hops,
                };
                let host = &to.address.host;
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                command.arg("-W").arg(format!("{host}:{}", to.address.port)).arg("--");
                // As a URL, since only that may hold a port.
                command.arg(if last.starts_with("ssh://") { last.to_owned() } else { format!("ssh://{last}") });
                command
            }
            Self::Command(text) => {
                let mut command = Command::new("sh");
                command.arg("-c").arg(format!("exec {text}"));
                command
            }
        }
    }

    /// Starts the program, and gives our end of its stdin and stdout, and its stderr.
    pub(super) fn open(&self, to: &Endpoint) -> io::Result<(ProxyStream, Words)> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = self.command(to);
        command.stdin(OwnedFd::from(theirs.try_clone()?)).stdout(OwnedFd::from(theirs)).stderr(Stdio::piped());
        // Nothing may ask for a password: there is nobody to answer.
        command.env("SSH_ASKPASS_REQUIRE", "never");
        // SAFETY: setsid(2) may be called between fork and exec, and nothing else is.
        unsafe {
            command.pre_exec(|| if libc::setsid() < 0 { Err(io::Error::last_os_error()) } else { Ok(()) });
        }
        let mut child = command.spawn()?;
        let stderr = child.stderr.take();
        let stream = ProxyStream { socket: ours, child };
        let stderr = stderr.ok_or_else(|| io::Error::other("the program's stderr is missing"))?;
        Ok((stream, Words::collect(stderr, "proxy-stderr")?))
    }
}

/// Our end of the program's stdin and stdout; the program goes with it.
pub(super) struct ProxyStream {
    socket: UnixStream,
    child: Child,
}

impl AsRawFd for ProxyStream {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl ProxyStream {
    /// To the program and all that it started: it leads a session, hence a group, of its own.
    fn signal(&self, signal: libc::c_int) {
        // SAFETY: the child is not reaped before the last call, so its number, which is the group's, is not another's.
        let _ = unsafe { libc::kill(-(self.child.id() as libc::pid_t), signal) };
    }

    /// Whether it has ended; it stays to be reaped.
    fn has_ended(&self) -> bool {
        // SAFETY: the struct is plain data that the call fills.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: the pointer is to a struct that outlives the call.
        let found = unsafe { libc::waitid(libc::P_PID, self.child.id() as libc::id_t, &raw mut info, options) };
        // SAFETY: the call succeeded, so the field is set, to zero if nothing ended.
        found != 0 || unsafe { info.si_pid() } != 0
    }
}

impl Drop for ProxyStream {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        self.signal(libc::SIGTERM);
        let start = Instant::now();
        while !self.has_ended() && start.elapsed() < GRACE {
            thread::sleep(Duration::from_millis(2));
        }
        self.signal(libc::SIGKILL);
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Address;
    use std::{
        fs,
        io::{Read, Write},
    };

    fn endpoint(host: &str) -> Endpoint {
        Address { user: "u".into(), host: host.into(), port: 2222 }.into()
    }

    fn words(proxy: &Proxy, host: &str) -> Vec<String> {
        proxy.command(&endpoint(host)).get_args().map(|arg| arg.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn ssh_is_told_the_way_and_may_not_ask() {
        let ssh = OpenSsh::new("ssh".into(), Some("/c".into()));
        let jump = |hops: &str| Proxy::Jump { hops: hops.into(), ssh: ssh.clone() };
        let one = words(&jump("me@gate:2200"), "fe80::1");
        assert!(one.starts_with(&["-F".into(), "/c".into(), "-o".into(), "BatchMode=yes".into()]), "{one:?}");
        assert!(one.ends_with(&["-W".into(), "[fe80::1]:2222".into(), "--".into(), "ssh://me@gate:2200".into()]), "{one:?}");
        assert!(!one.contains(&"-J".into()));
        let three = words(&jump("a,b@c:1,ssh://d"), "pi");
        assert!(three.windows(2).any(|pair| pair == ["-J", "a,b@c:1"]), "{three:?}");
        assert!(three.ends_with(&["pi:2222".into(), "--".into(), "ssh://d".into()]), "{three:?}");
    }

    #[test]
    fn the_program_is_the_connection_and_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        // A pipeline, so that there is more than the shell to end; it ignores the polite signal.
        let text = format!("sh -c 'trap \"\" TERM; echo $$ > {}; echo words >&2; cat | cat; sleep 60'", pids.display());
        let (mut stream, words) = Proxy::Command(text).open(&endpoint("pi")).unwrap();
        stream.socket.write_all(b"there and back").unwrap();
        let mut back = [0; 14];
        stream.socket.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"there and back");
        let pid: i32 = fs::read_to_string(&pids).unwrap().trim().parse().unwrap();
        let start = Instant::now();
        drop(stream);
        assert!(start.elapsed() < Duration::from_secs(5));
        // SAFETY: signal 0 only asks.
        assert_eq!(unsafe { libc::kill(pid, 0) }, -1, "it is gone");
        assert_eq!(words.text(Duration::from_secs(5)), "words");
    }
}
