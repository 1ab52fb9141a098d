//! A duplex byte stream to a process, wherever it runs.
//!
//! Contract: whatever is sent arrives in order or the stream ends; memory is bounded both ways; a send never blocks behind
//! an unread receive. The last event is always [`Event::Ended`], exactly once.

mod adb;
mod local;
mod poll;
mod pump;
mod queues;
mod ssh;
mod tail;

pub use adb::AdbTransport;
pub use local::LocalTransport;
#[cfg(test)]
pub(crate) use queues::Queues;
pub(crate) use queues::{Output, Process, run};
pub use ssh::SshTransport;
pub(crate) use tail::{Words, printable};

use std::{
    fmt,
    time::{Duration, Instant},
};

/// Messages that may wait to be sent; the sender is held up beyond that. Chunk frames make this about 4 MiB.
pub(crate) const OUTGOING_MESSAGES: usize = 16;
/// Pieces that may wait to be received, each at most [`READ_SIZE`]; the far side is held up beyond that.
pub(crate) const INCOMING_PIECES: usize = 64;
/// Most bytes that are read at once.
pub(crate) const READ_SIZE: usize = 64 << 10;

/// What comes from the process.
#[derive(Debug)]
pub enum Event {
    /// Bytes of its stdout.
    Data(Vec<u8>),
    /// No more will come.
    Ended(End),
}

/// How a process went away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It ended with this status.
    Code(i32),
    /// It was ended by this signal, named without `SIG`, or its number.
    Signal(String),
    /// The connection broke, for this reason; the process's fate is unknown.
    Lost(String),
}

/// The end of a process as it is seen from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// How.
    pub exit: Exit,
    /// The last of its stderr, without control characters.
    pub stderr: String,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.exit {
            Exit::Code(code) => write!(f, "ended with status {code}")?,
            Exit::Signal(name) => write!(f, "was killed by signal {name}")?,
            Exit::Lost(why) => write!(f, "is out of reach: {why}")?,
        }
        if self.stderr.is_empty() { Ok(()) } else { write!(f, "; its last words: {}", self.stderr) }
    }
}

/// Why something was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// The queue stayed full until the deadline. Nothing of the message was taken.
    Timeout,
    /// The process or the way to it is gone; [`Event::Ended`] says how.
    Closed,
}

/// A byte stream to a process. One thread uses it; the bytes are moved by others.
pub trait Transport: Send {
    /// Queues bytes, waiting for room until `deadline`. The message is left untouched unless it was taken.
    ///
    /// # Errors
    /// [`SendError`].
    fn send(&mut self, message: &mut Vec<u8>, deadline: Instant) -> Result<(), SendError>;

    /// The next event, or `None` at `deadline`. After [`Event::Ended`] it only gives `None`, at once.
    fn receive(&mut self, deadline: Instant) -> Option<Event>;

    /// Bytes that have left the queue towards the process so far; a number that grows means that the way is open.
    fn bytes_moved(&self) -> u64;

    /// While set, nothing is sent of the transport's own accord: the device is timing.
    fn set_quiet(&mut self, quiet: bool);

    /// Ends the process: closes its stdin, waits up to `patience`, then uses force. Unread bytes are thrown away.
    fn close(&mut self, patience: Duration) -> End;
}
