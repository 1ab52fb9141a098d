//! The user's end of the two queues behind every transport, and what all transports do alike with them.

use super::{End, Event, Exit, SendError, Transport, printable};
use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender};
use std::{
    io::Read,
    time::{Duration, Instant},
};

/// Pieces in which a file becomes messages, in bytes.
pub(crate) const INPUT_PIECE: usize = 256 << 10;
/// Most that a command of ours prints; more is noise of a login script.
const MAX_OUTPUT: usize = 1 << 20;
/// For the end to be told once force was used.
const AFTER_FORCE: Duration = Duration::from_secs(10);

/// The user's end of the queues to and from whoever moves the bytes.
pub(crate) struct Queues {
    /// `None` once stdin is to be closed.
    outgoing: Option<Sender<Vec<u8>>>,
    incoming: Receiver<Event>,
    end: Option<End>,
}

impl Queues {
    pub(crate) fn new(outgoing: Sender<Vec<u8>>, incoming: Receiver<Event>) -> Self {
        Self { outgoing: Some(outgoing), incoming, end: None }
    }

    /// See [`Transport::send`].
    pub(crate) fn send(&mut self, message: &mut Vec<u8>, deadline: Instant) -> Result<(), SendError> {
        let Some(outgoing) = self.outgoing.as_ref().filter(|_| self.end.is_none()) else { return Err(SendError::Closed) };
        match outgoing.send_deadline(std::mem::take(message), deadline) {
            Ok(()) => Ok(()),
            Err(SendTimeoutError::Timeout(back)) => {
                *message = back;
                Err(SendError::Timeout)
            }
            Err(SendTimeoutError::Disconnected(back)) => {
                *message = back;
                Err(SendError::Closed)
            }
        }
    }

    /// See [`Transport::receive`].
    pub(crate) fn receive(&mut self, deadline: Instant) -> Option<Event> {
        if self.end.is_some() {
            return None;
        }
        let event = match self.incoming.recv_deadline(deadline) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return None,
            // Only a panic of the mover ends the queue without an end.
            Err(RecvTimeoutError::Disconnected) => {
                Event::Ended(End { exit: Exit::Lost("the thread that reads from it failed".into()), stderr: String::new() })
            }
        };
        if let Event::Ended(end) = &event {
            self.end = Some(end.clone());
        }
        Some(event)
    }

    /// Nothing more will be sent; what is queued still is.
    pub(crate) fn finish(&mut self) {
        self.outgoing = None;
    }

    /// How the process ended, if that was received.
    pub(crate) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }
}

/// A transport whose process can be made to end.
pub(crate) trait Process: Transport {
    /// Closes the process's stdin once everything queued is sent.
    fn finish(&mut self);

    /// How it ended, if that was received.
    fn ended(&self) -> Option<&End>;

    /// Ends the process, or gives up the way to it; [`Event::Ended`] follows at once.
    fn force(&mut self);
}

/// [`Transport::close`] for every process.
pub(crate) fn close(process: &mut impl Process, patience: Duration) -> End {
    process.finish();
    let mut deadline = Instant::now() + patience;
    loop {
        if let Some(end) = process.ended() {
            return end.clone();
        }
        if process.receive(deadline).is_none() {
            process.force();
            deadline = Instant::now() + AFTER_FORCE;
        }
    }
}

/// What a command left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) stdout: Vec<u8>,
    pub(crate) end: End,
}

impl Output {
    /// Both streams and the end in one line, for an error's text.
    pub(crate) fn describe(&self) -> String {
        let said = printable(&self.stdout);
        if said.is_empty() { format!("it {}", self.end) } else { format!("it {}; it printed: {said}", self.end) }
    }
}

/// Gives a process its `input` and waits for its end, within `limit`. A process that went out of reach is an error, and so
/// is one that goes on; the text says why.
pub(crate) fn run(process: &mut impl Process, input: &mut dyn Read, limit: Duration) -> Result<Output, String> {
    let deadline = Instant::now() + limit;
    let mut stdout = Vec::new();
    let mut message = Vec::new();
    let mut input_open = true;
    loop {
        if Instant::now() >= deadline {
            close(process, Duration::ZERO);
            return Err(format!("a command did not end within {} s", limit.as_secs()));
        }
        if input_open && message.is_empty() {
            message.resize(INPUT_PIECE, 0);
            let n = input.read(&mut message).map_err(|e| format!("what was to be sent cannot be read: {e}"))?;
            message.truncate(n);
            if n == 0 {
                input_open = false;
                process.finish();
            }
        }
        // With input at hand the queue is the place to wait; what the command prints is small and waits for us.
        let pause = if input_open {
            match process.send(&mut message, Instant::now() + Duration::from_millis(50)) {
                Ok(()) => message.clear(),
                Err(SendError::Timeout) => {}
                Err(SendError::Closed) => input_open = false,
            }
            Duration::ZERO
        } else {
            deadline.saturating_duration_since(Instant::now())
        };
        match process.receive(Instant::now() + pause) {
            Some(Event::Data(bytes)) if stdout.len() < MAX_OUTPUT => stdout.extend_from_slice(&bytes),
            Some(Event::Data(_)) | None => {}
            Some(Event::Ended(End { exit: Exit::Lost(why), stderr })) => {
                return Err(if stderr.is_empty() { why } else { format!("{why}; its last words: {stderr}") });
            }
            Some(Event::Ended(end)) => return Ok(Output { stdout, end }),
        }
    }
}
