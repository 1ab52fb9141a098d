//! Runs a small command and takes its output.
//!
//! Contract: a command that fails, prints more than [`LIMIT`] bytes, no UTF-8, or is not done within [`TIME`] has told nothing.
//! Nothing of it is left running: it leads a process group, and the group is killed. One that was too slow is not run again by
//! the same [`Tool`], since it would spoil each trial anew. Only if this process is killed meanwhile does a command go on to
//! its own end: tying it to its parent would need a fork, which takes milliseconds in a process that holds a model. This module holds the crate's one unsafe call.

use crate::root::LIMIT;
use std::{
    io::Read,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// Time a command gets.
const TIME: Duration = Duration::from_secs(2);
/// Time a killed command gets to vanish before its end is awaited elsewhere: one that hangs in the kernel may take long.
const FAREWELL: Duration = Duration::from_millis(100);

/// An executable.
#[derive(Debug)]
pub(crate) struct Tool {
    path: PathBuf,
    too_slow: AtomicBool,
}

impl Tool {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, too_slow: AtomicBool::new(false) }
    }

    /// What the command prints when it is run with `arguments`, if it succeeds.
    pub(crate) fn run(&self, arguments: &[&str]) -> Option<String> {
        if self.too_slow.load(Ordering::Relaxed) {
            return None;
        }
        let deadline = Instant::now() + TIME;
        let mut child = Command::new(&self.path)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .ok()?;
        let bytes = output(&mut child, deadline);
        let status = bytes.as_ref().and_then(|_| wait(&mut child, deadline));
        let Some(succeeded) = status else {
            self.too_slow.store(Instant::now() >= deadline, Ordering::Relaxed);
            end(child);
            return None;
        };
        if succeeded { String::from_utf8(bytes?).ok() } else { None }
    }
}

/// All that the child prints before the deadline, if that is no more than the limit.
fn output(child: &mut Child, deadline: Instant) -> Option<Vec<u8>> {
    let stdout = child.stdout.take()?;
    let (send, receive) = mpsc::sync_channel(1);
    // Detached: it ends when the pipe is closed, at the latest by the end of the group.
    thread::Builder::new()
        .name("sensor-command".to_owned())
        .spawn(move || {
            let mut bytes = Vec::new();
            let read = stdout.take(LIMIT + 1).read_to_end(&mut bytes);
            // Nobody may be waiting any more.
            let _ = send.send(read.ok().map(|_| bytes));
        })
        .ok()?;
    let bytes = receive.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()??;
    (bytes.len() as u64 <= LIMIT).then_some(bytes)
}

/// Whether the child succeeded; `None` if it has not ended by the deadline.
fn wait(child: &mut Child, deadline: Instant) -> Option<bool> {
    let mut pause = Duration::from_micros(50);
    loop {
        if let Some(status) = child.try_wait().ok()? {
            return Some(status.success());
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

/// Kills the child's group and reaps the child.
fn end(mut child: Child) {
    // SAFETY: sends a signal; no memory is involved. The child was not reaped, so its number still names its group.
    unsafe { libc::kill(-(child.id() as libc::pid_t), libc::SIGKILL) };
    if wait(&mut child, Instant::now() + FAREWELL).is_none() {
        // Detached for the same reason; if no thread can be made, the child stays until this process ends.
        let _ = thread::Builder::new().name("sensor-reaper".to_owned()).spawn(move || child.wait());
    }
}
