//! Tasks as commands use them: which are asked for and from which files, and asking a network.

mod asking;
mod files;

pub(crate) use asking::{Asked, MAX_LENGTH, Stopped, ask};
pub(crate) use files::{TaskFiles, task_files};
