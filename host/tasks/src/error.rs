//! What can be wrong with a task's file.

use std::path::{Path, PathBuf};

/// Errors of this crate; messages are fragments that name the file, row and column. Rows are counted from 0, as data set
/// viewers do, lines from 1, as editors do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is of no form that is read here, or damaged.
    #[error("`{}` {reason}", path.display())]
    NotATable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A line of a JSON Lines file is no object.
    #[error("`{}`, line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A column is missing or holds something else than the task needs.
    #[error("`{}`, row {row}: column `{column}` {problem}", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The row, from 0.
        row: usize,
        /// The column; names of nested ones are joined by dots.
        column: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There are fewer worked examples than shots.
    #[error("`{}` has {found} examples{}, {wanted} are needed", path.display(), subject.as_ref().map(|s| format!(" of the subject `{s}`")).unwrap_or_default())]
    Shots {
        /// The file with examples.
        path: PathBuf,
        /// The subject that lacks them.
        subject: Option<String>,
        /// Shots.
        wanted: usize,
        /// Examples, the question itself left out.
        found: usize,
    },
    /// No task has this name.
    #[error("unknown task `{name}`: known are {}", crate::Task::names())]
    UnknownTask {
        /// What was asked for.
        name: String,
    },
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => "check the path",
                _ => return None,
            },
            Self::NotATable { .. } | Self::Line { .. } => {
                "give a task's file as JSON Lines, as one JSON list of objects, or as Parquet; a damaged one must be fetched again"
            }
            Self::Column { .. } => {
                "the file may be of another task, or of a split without answers; columns must be named as on the Hugging Face hub"
            }
            Self::Shots { .. } => "give fewer shots with --fewshot, or more examples with --fewshot-file",
            Self::UnknownTask { .. } => return None,
        })
    }
}
