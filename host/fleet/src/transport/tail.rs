//! The last bytes of a process's stderr, made safe to print.

use std::collections::VecDeque;

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
