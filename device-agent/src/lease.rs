//! The device's lease: who holds it may measure, one agent at a time on the whole system, whoever started it.
//!
//! Contract: the lease is an abstract Unix socket that the holder has bound. The kernel frees the name when the last process
//! with the socket is gone, however it ended, so that no lease outlives a crash and none is ever broken. Who connects is told
//! the owner. Systems that refuse such sockets (Android's policy for apps) have a lock on a file of the store instead,
//! which a crash frees as well, but which only agents of the same store respect.
//!
//! Names are those of one network namespace: containers with a network of their own do not see each other's.

use crate::{
    cancel::Cancel,
    error::{io_error, neutralise, wire},
    limits::{ASK_OWNER, MAX_LEASE, MAX_OWNER, OWNER_REPLY},
    random::SplitMix,
    sys,
};
use crossbeam_channel::RecvTimeoutError;
use edgewise_protocol::{ErrorCode, HostHello, WireError};
#[cfg(target_os = "android")]
use std::os::android::net::SocketAddrExt;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::net::{SocketAddr, UnixListener, UnixStream},
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Shortest and longest time between two attempts, in milliseconds. It is drawn anew each time, so that of several that wait
/// none is favoured for long.
const POLL_MS: (u32, u32) = (50, 250);

/// Which lease, and who wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    name: String,
    owner: String,
}

impl Claim {
    /// What a host said in its hello.
    ///
    /// # Errors
    /// If the lease's name is empty, long, or contains anything but letters, digits, `.`, `_` and `-`.
    pub(crate) fn new(hello: &HostHello) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if hello.lease.is_empty() || hello.lease.len() > MAX_LEASE || !hello.lease.chars().all(plain) {
            return Err(format!("{:?} is no name of a lease", hello.lease.chars().take(MAX_LEASE).collect::<String>()));
        }
        Ok(Self { name: hello.lease.clone(), owner: presentable(&hello.owner) })
    }

    fn address(&self) -> io::Result<SocketAddr> {
        SocketAddr::from_abstract_name(format!("edgewise-lease-{}", self.name))
    }

    fn file(&self, store: &Path) -> PathBuf {
        store.join(format!("lease-{}.lock", self.name))
    }

    /// Takes the lease, waiting for it `wait` at most. `waiting` is told the holder's name when it is known or changes.
    ///
    /// # Errors
    /// [`ErrorCode::Busy`] naming the holder, [`ErrorCode::Cancelled`], [`ErrorCode::Io`].
    pub(crate) fn take(
        &self,
        store: &Path,
        wait: Duration,
        cancel: &Cancel,
        mut waiting: impl FnMut(Option<&str>),
    ) -> Result<Lease, WireError> {
        let start = Instant::now();
        let mut random = SplitMix::new(u64::from(std::process::id()) << 32 ^ u64::from(start.elapsed().subsec_nanos()));
        let mut asked: Option<Instant> = None;
        let mut holder: Option<String> = None;
        loop {
            if let Some(lease) = self.try_take(store)? {
                return Ok(lease);
            }
            if asked.is_none_or(|at| at.elapsed() >= ASK_OWNER) {
                let now = self.holder(store);
                if asked.is_none() || (now.is_some() && now != holder) {
                    waiting(now.as_deref());
                }
                holder = now.or(holder);
                asked = Some(Instant::now());
            }
            let left = wait.saturating_sub(start.elapsed());
            if left.is_zero() {
                let holder = holder.as_deref().unwrap_or("somebody who does not say");
                return Err(wire(ErrorCode::Busy, format!("device is in use by {holder}")));
            }
            let pause = Duration::from_millis(u64::from(POLL_MS.0 + random.below(POLL_MS.1 - POLL_MS.0)));
            if cancel.signal().recv_timeout(pause.min(left)) == Err(RecvTimeoutError::Disconnected) {
                return Err(wire(ErrorCode::Cancelled, "given up by the host"));
            }
        }
    }

    fn try_take(&self, store: &Path) -> Result<Option<Lease>, WireError> {
        match self.address().and_then(|address| UnixListener::bind_addr(&address)) {
            Ok(listener) => Lease::announce(listener, self.owner.clone()).map(Some),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(_) => self.try_lock(store),
        }
    }

    fn try_lock(&self, store: &Path) -> Result<Option<Lease>, WireError> {
        let path = self.file(store);
        let fail = |e: io::Error| io_error("lock", &path, &e);
        let mut file = File::options().create(true).truncate(false).write(true).open(&path).map_err(fail)?;
        if !sys::try_lock(&file, true).map_err(fail)? {
            return Ok(None);
        }
        file.set_len(0).and_then(|()| file.write_all(self.owner.as_bytes())).map_err(fail)?;
        Ok(Some(Lease(Kind::Lock { _file: file })))
    }

    /// Who has the lease, if somebody has it and says so.
    pub(crate) fn holder(&self, store: &Path) -> Option<String> {
        let mut text = Vec::new();
        if let Ok(stream) = self.address().and_then(|address| UnixStream::connect_addr(&address)) {
            stream.set_read_timeout(Some(OWNER_REPLY)).ok()?;
            // A holder that trickles its name byte by byte has this long for each, so their number is bounded, too.
            stream.take(4 * MAX_OWNER as u64).read_to_end(&mut text).ok()?;
        } else {
            let file = File::open(self.file(store)).ok()?;
            if sys::try_lock(&file, false).ok()? {
                return None;
            }
            file.take(4 * MAX_OWNER as u64).read_to_end(&mut text).ok()?;
        }
        Some(presentable(&String::from_utf8_lossy(&text)))
    }
}

/// What may be shown to people of somebody else's words.
fn presentable(text: &str) -> String {
    let text: String = text.trim().chars().take(MAX_OWNER).collect();
    if text.is_empty() { "somebody without a name".to_owned() } else { neutralise(&text) }
}

/// The device is this agent's until this is dropped.
#[derive(Debug)]
pub(crate) struct Lease(Kind);

#[derive(Debug)]
enum Kind {
    Socket { listener: UnixListener, answering: Option<JoinHandle<()>> },
    Lock { _file: File },
}

impl Lease {
    /// Tells whoever asks who the owner is, on a thread that sleeps otherwise.
    fn announce(listener: UnixListener, owner: String) -> Result<Self, WireError> {
        let fail = |e: io::Error| wire(ErrorCode::Io, format!("cannot announce the lease: {e}"));
        let ours = listener.try_clone().map_err(fail)?;
        let answer = move || {
            while let Ok((mut stream, _)) = ours.accept() {
                // A name fits the socket's buffer; whoever does not read it holds nobody up.
                let _ = stream.write_all(owner.as_bytes());
            }
        };
        let answering = thread::Builder::new().name("lease".to_owned()).spawn(answer).map_err(fail)?;
        Ok(Self(Kind::Socket { listener, answering: Some(answering) }))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Kind::Socket { listener, answering } = &mut self.0 {
            // Ends the thread's wait, so that the name is free once this returns.
            sys::shut_down(listener);
            if let Some(thread) = answering.take() {
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel;

    fn claim(lease: &str, owner: &str) -> Claim {
        let hello = HostHello { protocol: 2, version: String::new(), owner: owner.into(), lease: lease.into() };
        Claim::new(&hello).unwrap()
    }

    /// A name that no other test uses.
    fn name(what: &str) -> String {
        format!("unit-{what}-{}", std::process::id())
    }

    #[test]
    fn names_are_plain_and_owners_presentable() {
        for lease in ["", "a/b", "a b", "ä", "a\0b", &"x".repeat(65)] {
            let hello = HostHello { protocol: 2, version: String::new(), owner: String::new(), lease: lease.into() };
            assert!(Claim::new(&hello).is_err(), "{lease:?}");
        }
        assert_eq!(claim("pi-5.lab_1", " ann@host\x1b[2J ").owner, "ann@host\u{fffd}[2J");
        assert_eq!(claim("x", "").owner, "somebody without a name");
        assert_eq!(claim("x", &"é".repeat(999)).owner.chars().count(), MAX_OWNER);
    }

    #[test]
    fn one_holds_it_and_the_other_learns_who() {
        let store = tempfile::tempdir().unwrap();
        let (_keep, cancel) = cancel::pair();
        let (ann, bob) = (claim(&name("two"), "ann"), claim(&name("two"), "bob"));
        let held = ann.take(store.path(), Duration::ZERO, &cancel, |_| panic!("it is free")).unwrap();
        assert_eq!(bob.holder(store.path()).as_deref(), Some("ann"));
        let mut told = Vec::new();
        let refused = bob.take(store.path(), Duration::from_millis(120), &cancel, |who| told.push(who.map(str::to_owned)));
        let error = refused.unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (ErrorCode::Busy, "device is in use by ann"));
        assert_eq!(told, [Some("ann".to_owned())]);
        drop(held);
        assert_eq!(bob.holder(store.path()), None, "free as soon as it is dropped");
        drop(bob.take(store.path(), Duration::ZERO, &cancel, |_| panic!("it is free")).unwrap());
    }

    #[test]
    fn who_waits_gets_it_or_gives_up() {
        let store = tempfile::tempdir().unwrap();
        let (canceller, cancel) = cancel::pair();
        let claim = claim(&name("wait"), "ann");
        let held = claim.take(store.path(), Duration::ZERO, &cancel, |_| {}).unwrap();
        let held = thread::scope(|scope| {
            let waiting = scope.spawn(|| claim.take(store.path(), Duration::from_mins(1), &cancel, |_| {}));
            thread::sleep(Duration::from_millis(150));
            assert!(!waiting.is_finished());
            drop(held);
            waiting.join().unwrap().unwrap()
        });
        drop(canceller);
        let error = claim.take(store.path(), Duration::from_mins(1), &cancel, |_| {}).unwrap_err();
        assert_eq!(error.code, ErrorCode::Cancelled);
        drop(held);
    }

    #[test]
    fn a_file_serves_where_sockets_are_refused() {
        let store = tempfile::tempdir().unwrap();
        let (ann, bob) = (claim(&name("file"), "ann"), claim(&name("file"), "bob"));
        assert_eq!(bob.holder(store.path()), None);
        let held = ann.try_lock(store.path()).unwrap().unwrap();
        assert!(bob.try_lock(store.path()).unwrap().is_none());
        assert_eq!(bob.holder(store.path()).as_deref(), Some("ann"));
        drop(held);
        assert_eq!(bob.holder(store.path()), None);
        assert!(bob.try_lock(store.path()).unwrap().is_some());
    }
}
