//! A child process of this one, over pipes.

use super::{
    End, Event, Exit, INCOMING_PIECES, OUTGOING_MESSAGES, Process, READ_SIZE, SendError, Transport, Words, queues, queues::Queues,
};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::{
    io::{self, Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Time a child gets to end by itself once its stdout is closed.
const LINGER: Duration = Duration::from_secs(5);

/// A worker that outlives the agent may keep stderr open: it is not waited for longer.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A child process of this one.
pub struct LocalTransport {
    queues: Queues,
    moved: Arc<AtomicU64>,
    /// Shared with the reader, which reaps; the lock makes sure that a reaped process's number is never signalled.
    child: Arc<Mutex<Child>>,
}

impl LocalTransport {
    /// Starts a program with its three standard streams piped here.
    ///
    /// It gets a process group of its own: an interrupt from the keyboard is for the host, which then ends the agent in order.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
            return Err(io::Error::other("a pipe of the child is missing"));
        };
        let child = Arc::new(Mutex::new(child));
        let moved = Arc::new(AtomicU64::new(0));
        let (outgoing, to_send) = bounded(OUTGOING_MESSAGES);
        let (received, incoming) = bounded(INCOMING_PIECES);
        let words = Words::collect(stderr, "agent-stderr")?;
        {
            let moved = Arc::clone(&moved);
            thread::Builder::new().name("agent-stdin".into()).spawn(move || write_all(stdin, &to_send, &moved))?;
        }
        {
            let child = Arc::clone(&child);
            thread::Builder::new().name("agent-stdout".into()).spawn(move || {
                let why = read_all(stdout, &received);
                let exit = reap(&child, why);
                let _ = received.send(Event::Ended(End { exit, stderr: words.text(LAST_WORDS) }));
            })?;
        }
        Ok(Self { queues: Queues::new(outgoing, incoming), moved, child })
    }
}

fn write_all(mut stdin: ChildStdin, messages: &Receiver<Vec<u8>>, moved: &AtomicU64) {
    for message in messages {
        // The pipe is not buffered, so there is nothing to flush. A child that closed its stdin is heard of through its end.
        if stdin.write_all(&message).is_err() {
            return;
        }
        moved.fetch_add(message.len() as u64, Ordering::Relaxed);
    }
}

/// Until the end of the stream; an error of reading is returned.
fn read_all(mut stdout: ChildStdout, received: &Sender<Event>) -> Option<io::Error> {
    let mut buffer = vec![0; READ_SIZE];
    loop {
        match stdout.read(&mut buffer) {
            Ok(0) => return None,
            Ok(n) => {
                if received.send(Event::Data(buffer[..n].to_vec())).is_err() {
                    return None;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Some(e),
        }
    }
}

fn reap(child: &Mutex<Child>, why: Option<io::Error>) -> Exit {
    let patience = Instant::now() + LINGER;
    let mut pause = Duration::from_millis(1);
    let status = loop {
        let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < patience => {}
            // It closed its stdout and goes on: nobody can hear it any more.
            Ok(None) => {
                let _ = child.kill();
            }
            Err(e) => return Exit::Lost(e.to_string()),
        }
        drop(child);
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    };
    match why {
        Some(e) => Exit::Lost(e.to_string()),
        None => exit_of(status),
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(libc::SIGKILL)) => Exit::Signal("KILL".into()),
        (None, Some(libc::SIGSEGV)) => Exit::Signal("SEGV".into()),
        (None, Some(libc::SIGABRT)) => Exit::Signal("ABRT".into()),
        (None, Some(libc::SIGTERM)) => Exit::Signal("TERM".into()),
        (None, Some(libc::SIGILL)) => Exit::Signal("ILL".into()),
        (None, signal) => Exit::Signal(signal.map_or_else(|| "unknown".into(), |signal| signal.to_string())),
    }
}

impl Transport for LocalTransport {
    fn send(&mut self, message: &mut Vec<u8>, deadline: Instant) -> Result<(), SendError> {
        self.queues.send(message, deadline)
    }

    fn receive(&mut self, deadline: Instant) -> Option<Event> {
        self.queues.receive(deadline)
    }

    fn bytes_moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Pipes send nothing by themselves.
    fn set_quiet(&mut self, _quiet: bool) {}

    fn close(&mut self, patience: Duration) -> End {
        queues::close(self, patience)
    }
}

impl Process for LocalTransport {
    fn finish(&mut self) {
        self.queues.finish();
    }

    fn ended(&self) -> Option<&End> {
        self.queues.end()
    }

    fn force(&mut self) {
        // A process that has ended already is what we want.
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).kill();
    }
}

impl Drop for LocalTransport {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.close(Duration::from_secs(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> LocalTransport {
        LocalTransport::spawn(Command::new("sh").arg("-c").arg(script)).unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn bytes_come_back_in_order_under_back_pressure() {
        let mut cat = sh("exec cat");
        let size = 24 << 20;
        let piece = |at: usize| (at..at + (256 << 10)).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect::<Vec<u8>>();
        let (mut sent, mut got, mut refused) = (0, 0, 0);
        let mut pending = piece(0);
        while got < size {
            // Nothing is received until the queues refuse more, so that both bounds are reached.
            let patience = Duration::from_millis(if refused < 3 { 100 } else { 0 });
            if sent < size {
                match cat.send(&mut pending, Instant::now() + patience) {
                    Ok(()) => {
                        sent += 256 << 10;
                        pending = piece(sent);
                        continue;
                    }
                    Err(SendError::Timeout) => {
                        assert_eq!(pending, piece(sent), "an untaken message is untouched");
                        refused += 1;
                        if refused < 3 {
                            continue;
                        }
                    }
                    Err(SendError::Closed) => panic!("closed"),
                }
            }
            let Some(Event::Data(bytes)) = cat.receive(soon()) else { panic!("ended at {got}") };
            let expected: Vec<u8> = (got..got + bytes.len()).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
            assert!(bytes == expected, "wrong bytes at {got}");
            got += bytes.len();
        }
        assert_eq!(cat.close(Duration::from_secs(5)), End { exit: Exit::Code(0), stderr: String::new() });
        assert!(sent >= size && cat.bytes_moved() >= size as u64);
    }

    #[test]
    fn the_end_tells_status_signal_and_last_words() {
        let mut failing = sh("echo out; echo 'last words' >&2; exit 3");
        assert!(matches!(failing.receive(soon()), Some(Event::Data(bytes)) if bytes == b"out\n"));
        let Some(Event::Ended(end)) = failing.receive(soon()) else { panic!("no end") };
        assert_eq!(end, End { exit: Exit::Code(3), stderr: "last words".into() });
        assert!(failing.receive(soon()).is_none());
        let mut killed = sh("kill -KILL $$");
        let Some(Event::Ended(end)) = killed.receive(soon()) else { panic!("no end") };
        assert_eq!(end.exit, Exit::Signal("KILL".into()));
    }

    #[test]
    fn a_child_that_ignores_the_end_of_its_input_is_killed() {
        let mut deaf = sh("while :; do sleep 0.1; done");
        let start = Instant::now();
        assert_eq!(deaf.close(Duration::from_millis(200)).exit, Exit::Signal("KILL".into()));
        assert!(start.elapsed() < Duration::from_secs(8));
    }
}
