//! The last bytes of a process's stderr, made safe to print.

use std::{
    collections::VecDeque,
    io::Read,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, bounded};

/// Enough for a panic message with a few frames.
const KEPT: usize = 4 << 10;

/// Keeps the last bytes of a stream.
#[derive(Debug, Default)]
pub(crate) struct Tail(VecDeque<u8>);

impl Tail {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(KEPT)..];
        let excess = (self.0.len() + bytes.len()).saturating_sub(KEPT);
        self.0.drain(..excess);
        self.0.extend(bytes);
    }

    pub(crate) fn text(&self) -> String {
        printable(&self.0.iter().copied().collect::<Vec<_>>())
    }
}

/// The last words of a helper process, collected by a thread for as long as its stderr is open.
#[derive(Debug, Clone)]
pub(crate) struct Words {
    tail: Arc<Mutex<Tail>>,
    /// Disconnected once everything was read.
    done: Receiver<()>,
}

impl Words {
    /// Reads `stderr` to its end, in a thread of this name.
    pub(crate) fn collect(mut stderr: impl Read + Send + 'static, thread: &str) -> std::io::Result<Self> {
        let tail = Arc::new(Mutex::new(Tail::default()));
        let (open, done) = bounded::<()>(0);
        let words = Self { tail: Arc::clone(&tail), done };
        thread::Builder::new().name(thread.into()).spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stderr.read(&mut buffer) {
                tail.lock().unwrap_or_else(PoisonError::into_inner).push(&buffer[..n]);
            }
            drop(open);
        })?;
        Ok(words)
    }

    /// What was said, once all of it is known or `patience` is over: a process of the helper's may keep its stderr open.
    pub(crate) fn text(&self, patience: Duration) -> String {
        let _ = self.done.recv_timeout(patience);
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).text()
    }
}

/// Text from a device for a person's terminal: no escape sequences, one line.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.trim().lines().map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>());
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_kept_and_nothing_moves_the_cursor() {
        let mut tail = Tail::default();
        tail.push(&[b'a'; KEPT]);
        tail.push(b"\x1b[2Jboom\r\n\nbye\x07\n");
        assert!(tail.text().ends_with("[2Jboom / bye"), "{}", tail.text());
        assert_eq!(tail.0.len(), KEPT);
        tail.push(&vec![b'z'; 3 * KEPT]);
        assert_eq!(tail.text(), "z".repeat(KEPT));
    }
}
