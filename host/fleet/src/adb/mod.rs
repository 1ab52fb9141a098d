//! Android devices over adb: a second way to the same agent, for phones without an sshd.
//!
//! Contract: the `adb` program does the talking, as the user's own `adb devices` would; which devices there are, and in what
//! state, is asked before anything is run, so that every obstacle has a name.

mod problem;
mod session;

pub use problem::AdbProblem;
pub use session::{Adb, AdbSession};
