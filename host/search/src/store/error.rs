//! What can go wrong with a study.

use std::path::PathBuf;

/// Why a study could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such file.
    #[error("no study at `{}`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A study must not be created over a file that is there.
    #[error("`{}` exists already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("`{}` is not a study", path.display())]
    NotAStudy {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a newer build.
    #[error("study `{}` has format {found}, this build reads up to {supported}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format this build knows.
        supported: i64,
    },
    /// The file was written by an older build, in a format that this one does not read.
    #[error(
        "study `{}` has format {found}, this build reads only format {supported}: begin a new study under another name",
        path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The format this build knows.
        supported: i64,
    },
    /// The file was a study, but its content is broken.
    #[error("study `{}` is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// Another process runs this study.
    #[error("study `{}` is in use by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The study was opened to be read.
    #[error("study `{}` is open for reading only", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// A study resumes only with the settings it began with.
    #[error("study `{}` was begun with other settings: {} differ", path.display(), names.join(", "))]
    SettingsDiffer {
        /// The file.
        path: PathBuf,
        /// Names of the settings, such as `seed` or `details.model`.
        names: Vec<String>,
    },
    /// A result for something that was never proposed.
    #[error("the study has no candidate `{id}`")]
    UnknownCandidate {
        /// The candidate.
        id: String,
    },
    /// Tasks are part of a score that is not there.
    #[error("`{id}` was not evaluated")]
    NotEvaluated {
        /// The candidate.
        id: String,
    },
    /// The sentinel's seat is the baseline's.
    #[error("`{id}` is not the baseline and cannot take seat 0 of block {block} on `{device}`")]
    NotTheBaseline {
        /// The candidate.
        id: String,
        /// The device.
        device: String,
        /// The block.
        block: u32,
    },
    /// A second result for the same thing.
    #[error("{what} of `{id}` is stored already")]
    AlreadyStored {
        /// The candidate, or the series and position.
        id: String,
        /// What it would be.
        what: &'static str,
    },
    /// A configuration that is none.
    #[error("not a configuration")]
    Candidate(#[from] crate::candidate::CandidateError),
    /// A number that JSON and comparisons have no place for.
    #[error("{what} of `{id}` holds a number that is not finite")]
    NotFinite {
        /// The candidate or device.
        id: String,
        /// What it would be.
        what: &'static str,
    },
    /// The file could not be read or written.
    #[error("study `{}` cannot be accessed", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// The database refused (disk full, permissions, ...).
    #[error("study `{}` cannot be accessed", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: rusqlite::Error,
    },
}
