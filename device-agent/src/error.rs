//! How failures become answers.
//!
//! Contract: inside the agent a request fails with a [`WireError`]: a code that the host decides by, and a lowercase fragment
//! that names the thing. Failures of the connection itself are a [`ServeError`] and end the process.

use crate::sys;
use edgewise_protocol::{DecodeError, ErrorCode, WireError};
use std::{io, path::Path};

/// Why serving ended before the host closed the connection.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store cannot be used.
    #[error("cannot use the store {path}")]
    Store {
        /// Its folder.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Standard input or output failed.
    #[error("connection to the host failed")]
    Connection(#[source] io::Error),
    /// Bytes came that are no frame or no message.
    #[error("undecodable bytes from the host")]
    Undecodable(#[source] DecodeError),
    /// No hello came in time.
    #[error("no greeting from the host within {0} s")]
    Silent(u64),
    /// The host wants a version that this build does not speak.
    #[error("host speaks protocol {host}, this agent {oldest} to {newest}")]
    Version {
        /// What the host asked for.
        host: u16,
        /// Oldest that is spoken here.
        oldest: u16,
        /// Newest that is spoken here.
        newest: u16,
    },
    /// A well-formed message at a time when it makes no sense.
    #[error("host broke the protocol: {0}")]
    Protocol(String),
    /// The host said nothing for too long.
    #[error("host was silent for {0} s")]
    Idle(u64),
}

impl ServeError {
    /// The agent's exit code: 13 for anything that broke the protocol, 12 for the rest, as `host` numbers them.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Undecodable(_) | Self::Version { .. } | Self::Protocol(_) | Self::Silent(_) => 13,
            Self::Store { .. } | Self::Connection(_) | Self::Idle(_) => 12,
        }
    }
}

/// A [`WireError`] of `code`.
pub(crate) fn wire(code: ErrorCode, message: impl Into<String>) -> WireError {
    WireError { code, message: message.into() }
}

/// A file operation on `path` failed; a full disk has its own code.
pub(crate) fn io_error(doing: &str, path: &Path, error: &io::Error) -> WireError {
    let code = if sys::is_full(error) { ErrorCode::NoSpace } else { ErrorCode::Io };
    wire(code, format!("cannot {doing} `{}`: {error}", path.display()))
}

/// The first `lines` lines of a runtime's message, without control characters: messages of runtimes carry whole call stacks.
pub(crate) fn first_lines(text: &str, lines: usize) -> String {
    neutralise(&text.lines().map(str::trim).filter(|line| !line.is_empty()).take(lines).collect::<Vec<_>>().join(" | "))
}

/// `text` with every control character replaced, so that it cannot move a terminal's cursor.
pub(crate) fn neutralise(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_runtimes_are_cut_and_made_harmless() {
        assert_eq!(first_lines("  bad \x1b[2J model\n\n at 1\n at 2\n at 3\n", 3), "bad \u{fffd}[2J model | at 1 | at 2");
        assert_eq!(first_lines("", 3), "");
    }

    #[test]
    fn a_full_disk_has_its_own_code() {
        let full = io_error("write", Path::new("/x"), &io::Error::from_raw_os_error(libc::ENOSPC));
        assert_eq!(full.code, ErrorCode::NoSpace);
        assert!(full.message.starts_with("cannot write `/x`: "), "{}", full.message);
        assert_eq!(io_error("write", Path::new("/x"), &io::Error::from_raw_os_error(libc::EIO)).code, ErrorCode::Io);
    }
}
