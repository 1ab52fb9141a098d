//! The agent's side: starts a worker, listens to it, and ends it.

use super::{
    ending::{MemoryWatch, Tail, describe},
    order::{Order, Outcome, Report, Step},
};
use crate::{cancel::Cancel, error::wire, sys};
use crossbeam_channel::{Receiver, Sender, select};
use edgewise_protocol::{Decoder, ErrorCode, Frame, WireError, encode_control, from_control};
use std::{
    io::{Read, Write},
    path::PathBuf,
    process::{Child, ChildStderr, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

/// How workers are started: this very program, behind an emulator if it runs under one.
#[derive(Debug, Clone)]
pub(crate) struct Launcher {
    program: PathBuf,
    runner: Vec<String>,
}

impl Launcher {
    /// Workers are started through `runner`, the words of a command whose next argument is a program; empty for none.
    ///
    /// # Errors
    /// If the path of this program cannot be found.
    pub(crate) fn new(runner: Vec<String>) -> std::io::Result<Self> {
        // The link works even after the file was replaced or removed; an emulator needs the path itself.
        let program = if runner.is_empty() { PathBuf::from("/proc/self/exe") } else { std::env::current_exe()? };
        Ok(Self { program, runner })
    }

    /// Whether an emulator runs this program.
    pub(crate) fn is_emulated(&self) -> bool {
        !self.runner.is_empty()
    }

    fn command(&self) -> Command {
        let mut command = match self.runner.split_first() {
            None => Command::new(&self.program),
            Some((runner, rest)) => {
                let mut command = Command::new(runner);
                command.args(rest).arg(&self.program);
                command
            }
        };
        command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        sys::isolate(&mut command);
        command
    }
}

/// What the thread that listens to a worker passes on.
enum Heard {
    Report(Report),
    /// The worker said something that is no report; nothing after it can be trusted.
    Nonsense(String),
}

/// A started worker, which does not outlive this value.
struct Worker {
    child: Child,
    reaped: bool,
}

impl Worker {
    fn end(&mut self) -> std::io::Result<sys::Ending> {
        // The group first, even if its leader is dead: what the leader started must go too, and until the leader is reaped
        // its number cannot be anybody else's.
        sys::kill_group(self.child.id());
        self.reaped = true;
        sys::wait(self.child.id())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self.end();
        }
    }
}

/// Carries out `order` in a worker of its own. `hear` is called with what the worker says meanwhile.
///
/// The calling thread must live until this returns: the worker dies with it.
///
/// # Errors
/// What the worker reports; [`ErrorCode::WorkerCrashed`], [`ErrorCode::OutOfMemory`] if it dies,
/// [`ErrorCode::TimedOut`] after `deadline`, [`ErrorCode::Cancelled`].
pub(crate) fn supervise(
    launcher: &Launcher,
    order: &Order,
    deadline: Duration,
    cancel: &Cancel,
    mut hear: impl FnMut(Step),
) -> Result<Outcome, WireError> {
    let internal = |message: String| wire(ErrorCode::Internal, message);
    let mut bytes = Vec::new();
    encode_control(order, &mut bytes).map_err(|e| internal(e.to_string()))?;

    let watch = MemoryWatch::start();
    let clock = crossbeam_channel::after(deadline);
    let mut child = launcher.command().spawn().map_err(|e| internal(format!("cannot start a worker: {e}")))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut worker = Worker { child, reaped: false };
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(internal("the worker has no pipes".to_owned()));
    };
    let reports = listen(stdout);
    let complaints = thread::spawn(move || collect(stderr));
    // A worker that died already shows in its reports' end.
    let _ = stdin.write_all(&bytes);
    drop(stdin);

    let ended = loop {
        select! {
            recv(reports) -> heard => match heard {
                Ok(Heard::Report(Report::Step(step))) => hear(step),
                Ok(Heard::Report(Report::Done(result))) => break Some(result),
                Ok(Heard::Nonsense(what)) => break Some(Err(internal(format!("the worker speaks nonsense: {what}")))),
                Err(_) => break None,
            },
            recv(cancel.signal()) -> _ => break Some(Err(wire(ErrorCode::Cancelled, "given up by the host"))),
            recv(clock) -> _ => {
                let message = format!("not done within {} ms; the worker was ended", deadline.as_millis());
                break Some(Err(wire(ErrorCode::TimedOut, message)));
            }
        }
    };
    if let Some(result) = ended {
        worker.end().map_err(|e| internal(format!("cannot end the worker: {e}")))?;
        return result;
    }
    // Its output is closed, so it is dead or dying: how it ended must be its own doing, not the kill's.
    worker.reaped = true;
    let ending = reap(worker.child.id(), &clock).map_err(|e| internal(format!("cannot wait for the worker: {e}")))?;
    // Anything it started goes too, and with it the last writer of the pipe that is read to its end next.
    sys::kill_group(worker.child.id());
    let tail = complaints.join().unwrap_or_default();
    Err(describe(ending, &watch, &tail))
}

/// Waits for a worker that has closed its output; kills it if it lingers.
fn reap(pid: u32, clock: &Receiver<std::time::Instant>) -> std::io::Result<sys::Ending> {
    let (done, waited) = crossbeam_channel::bounded(1);
    let waiter = thread::spawn(move || {
        let ending = sys::wait(pid);
        let _ = done.send(());
        ending
    });
    select! {
        recv(waited) -> _ => {}
        recv(clock) -> _ => sys::kill_group(pid),
    }
    waiter.join().unwrap_or_else(|_| Err(std::io::Error::other("the waiting thread panicked")))
}

/// Turns a worker's output into reports on a thread. The channel closes when the output does.
fn listen(mut stdout: ChildStdout) -> Receiver<Heard> {
    let (sender, receiver) = crossbeam_channel::unbounded();
    thread::spawn(move || {
        let mut decoder = Decoder::default();
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n) = stdout.read(&mut buffer) {
            if n == 0 {
                break;
            }
            decoder.push(&buffer[..n]);
            if !pass_on(&mut decoder, &sender) {
                break;
            }
        }
    });
    receiver
}

/// Passes on every whole report; false when listening makes no sense any more.
fn pass_on(decoder: &mut Decoder, sender: &Sender<Heard>) -> bool {
    loop {
        let heard = match decoder.next_frame() {
            Ok(None) => return true,
            Ok(Some(Frame::Control(body))) => match from_control(&body) {
                Ok(report) => Heard::Report(report),
                Err(e) => Heard::Nonsense(e.to_string()),
            },
            Ok(Some(Frame::Chunk { .. })) => Heard::Nonsense("a chunk".to_owned()),
            Err(e) => Heard::Nonsense(e.to_string()),
        };
        let nonsense = matches!(heard, Heard::Nonsense(_));
        if sender.send(heard).is_err() || nonsense {
            return false;
        }
    }
}

fn collect(mut stderr: ChildStderr) -> Tail {
    let mut tail = Tail::default();
    let mut buffer = [0; 4096];
    while let Ok(n) = stderr.read(&mut buffer) {
        if n == 0 {
            break;
        }
        tail.push(&buffer[..n]);
    }
    tail
}
