//! A process on an Android device, through `adb shell -T`.
//!
//! With the shell protocol (Android 7 and later) both directions are clean bytes, stderr comes apart and the end of stdin
//! reaches the process. What the adb client cannot tell is whether the process ended or the cable was pulled: its status is
//! then the same. So every command says on its stderr how it ended, and one that did not say so is out of reach.

use super::{End, Event, Exit, LocalTransport, Process, SendError, Transport, queues};
use crate::shell;
use std::{
    io,
    process::Command,
    time::{Duration, Instant},
};

/// Stands before the exit status, at the end of stderr.
const MARK: &str = "@@EDGEWISE-EXIT=";

/// A process on an Android device.
pub struct AdbTransport {
    inner: LocalTransport,
    end: Option<End>,
}

impl AdbTransport {
    /// Starts `script` on the device in sh; `adb` is the program with the words that choose the device.
    ///
    /// # Errors
    /// If adb cannot be started.
    pub(crate) fn start(adb: &mut Command, script: &str) -> io::Result<Self> {
        // In a subshell, since scripts end in `exit` and `exec`.
        let script = format!("( {script} ); echo \"{MARK}$?\" >&2");
        let inner = LocalTransport::spawn(adb.args(["shell", "-T"]).arg(shell::command(&script)))?;
        Ok(Self { inner, end: None })
    }
}

/// What the client's end says about the process's.
fn end_of_process(client: End) -> End {
    let told = client.stderr.rsplit_once(MARK).and_then(|(stderr, status)| {
        let status = status.trim().parse().ok()?;
        Some(End { exit: exit_of(status), stderr: stderr.strip_suffix(" / ").unwrap_or(stderr).to_owned() })
    });
    told.unwrap_or_else(|| {
        let why = match &client.exit {
            Exit::Code(code) => format!("adb ended with status {code}"),
            Exit::Signal(name) => format!("adb was killed by signal {name}"),
            Exit::Lost(why) => why.clone(),
        };
        End { exit: Exit::Lost(if client.stderr.is_empty() { why } else { client.stderr }), stderr: String::new() }
    })
}

/// A shell tells a signal by a status above 128. The agent's own statuses are small.
fn exit_of(status: i32) -> Exit {
    match status {
        129..=192 => Exit::Signal(match status - 128 {
            libc::SIGKILL => "KILL".into(),
            libc::SIGSEGV => "SEGV".into(),
            libc::SIGABRT => "ABRT".into(),
            libc::SIGTERM => "TERM".into(),
            libc::SIGILL => "ILL".into(),
            number => number.to_string(),
        }),
        code => Exit::Code(code),
    }
}

impl Transport for AdbTransport {
    fn send(&mut self, message: &mut Vec<u8>, deadline: Instant) -> Result<(), SendError> {
        self.inner.send(message, deadline)
    }

    fn receive(&mut self, deadline: Instant) -> Option<Event> {
        match self.inner.receive(deadline)? {
            Event::Ended(client) => {
                let end = end_of_process(client);
                self.end = Some(end.clone());
                Some(Event::Ended(end))
            }
            event @ Event::Data(_) => Some(event),
        }
    }

    fn bytes_moved(&self) -> u64 {
        self.inner.bytes_moved()
    }

    /// adb sends nothing by itself that we could stop.
    fn set_quiet(&mut self, _quiet: bool) {}

    fn close(&mut self, patience: Duration) -> End {
        queues::close(self, patience)
    }
}

impl Process for AdbTransport {
    fn finish(&mut self) {
        self.inner.finish();
    }

    fn ended(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The device closes the process's stdin when the client is gone, and the agent leaves at the end of its stdin.
    fn force(&mut self) {
        self.inner.force();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_that_told_its_end_has_ended() {
        let end = |code, stderr: &str| end_of_process(End { exit: Exit::Code(code), stderr: stderr.into() });
        assert_eq!(end(0, "@@EDGEWISE-EXIT=0"), End { exit: Exit::Code(0), stderr: String::new() });
        assert_eq!(end(3, "a / b / @@EDGEWISE-EXIT=3"), End { exit: Exit::Code(3), stderr: "a / b".into() });
        assert_eq!(end(3, "no newline@@EDGEWISE-EXIT=137").exit, Exit::Signal("KILL".into()));
        for (stderr, why) in [("", "adb ended with status 1"), ("error: closed", "error: closed"), ("@@EDGEWISE-EXIT=", "@@")] {
            let Exit::Lost(found) = end(1, stderr).exit else { panic!("{stderr}") };
            assert!(found.contains(why), "{found}");
        }
    }
}
