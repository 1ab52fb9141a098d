//! A place where scripts can be run, whichever way leads there.

use crate::{
    Error,
    transport::{Output, Transport},
};
use std::{io::Read, time::Duration};

/// A way to run scripts on a device, one at a time. Every script is one line for a POSIX sh, see [`crate::shell`].
pub(crate) trait Remote: Sized {
    /// What a script that is talked to becomes.
    type Process: Transport + 'static;

    /// The device's name.
    fn device(&self) -> &str;

    /// Runs a script to its end with `input` as its stdin, within `limit`.
    ///
    /// # Errors
    /// Whatever keeps its end from being seen.
    fn run(self, script: &str, input: &mut dyn Read, limit: Duration) -> Result<(Self, Output), Error>;

    /// Starts a script that is then talked to; the way there goes with it.
    ///
    /// # Errors
    /// Whatever keeps it from being started.
    fn start(self, script: &str) -> Result<Self::Process, Error>;
}
