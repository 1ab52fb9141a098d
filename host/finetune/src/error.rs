//! What can go wrong in fine-tuning.

use std::path::{Path, PathBuf};

/// Errors of this crate; messages are fragments that name the file, setting or variable.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A file of training data holds something that is none.
    #[error("`{}`{place}: {reason}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// Where in it, for people; empty for all of it.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// The training data have too few tokens.
    #[error("the training data have {found} tokens, a sequence takes {needed}")]
    ShortData {
        /// Tokens in all files.
        found: usize,
        /// Tokens of a sequence, and the one after it.
        needed: usize,
    },
    /// The training data have no token that a loss is taken on.
    #[error("no token of the training data belongs to an answer")]
    NoAnswers,
    /// A setting that makes no training.
    #[error("{0}")]
    Settings(String),
    /// A checkpoint is not whole.
    #[error("checkpoint `{}` is damaged: {reason}", path.display())]
    Damaged {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A checkpoint is of another training.
    #[error("checkpoint `{}` was made with another `{key}`: {stored}, not {given}", path.display())]
    OtherSettings {
        /// The checkpoint.
        path: PathBuf,
        /// The first setting that differs.
        key: String,
        /// Its value there.
        stored: String,
        /// Its value now.
        given: String,
    },
    /// A loss is NaN or infinite.
    #[error("the loss of {what} is not finite in step {step}")]
    NotFinite {
        /// Whose loss.
        what: &'static str,
        /// The step, from 1.
        step: u64,
    },
    /// A variable has no gradient: an operation between it and the loss has no backward pass. A bug, never the user's fault.
    #[error("`{name}` is trained but has no gradient")]
    NoGradient {
        /// The variable.
        name: String,
    },
    /// A gradient is NaN or infinite.
    #[error("the gradient of `{name}` is not finite in step {step}")]
    BrokenGradient {
        /// The variable.
        name: String,
        /// The step, from 1.
        step: u64,
    },
    /// The network failed.
    #[error(transparent)]
    Supernet(#[from] edgewise_supernet::Error),
    /// candle failed.
    #[error("computation failed")]
    Candle(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => "check the path",
                std::io::ErrorKind::StorageFull => "free some space, or write to another disk",
                _ => return None,
            },
            Self::Data { .. } => {
                "give plain text (.txt), lines of {\"text\": ..} (.jsonl), or instructions with the keys \
                 instruction, input and output (.json, .jsonl)"
            }
            Self::ShortData { .. } => "give more data with --data, or a smaller --sequence",
            Self::NoAnswers => "plain text has no answers: give --loss-on all",
            Self::Settings(_) => "see `host finetune --help`",
            Self::Damaged { .. } => "remove it: training goes on from the checkpoint before it",
            Self::OtherSettings { .. } => "resume with the flags it was begun with, or give -o a new name",
            Self::NotFinite { .. } | Self::BrokenGradient { .. } => {
                "training diverged: try a smaller --lr or --clip; checkpoints up to here are kept"
            }
            Self::Supernet(error) => return error.hint(),
            Self::NoGradient { .. } | Self::Candle(_) => return None,
        })
    }
}
