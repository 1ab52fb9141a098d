//! What can go wrong while an artifact is made or read.

use crate::ContentHash;
use std::path::{Path, PathBuf};

/// Errors of this crate; messages are fragments that name the file, tensor or value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read, written or mapped.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A safetensors file is damaged.
    #[error("`{}` is not a valid safetensors file: {reason}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor that the architecture needs is not in the weights.
    #[error("weight `{0}` is missing")]
    MissingTensor(String),
    /// A tensor has another shape or element type than the configuration says.
    #[error("weight `{name}` {problem}")]
    BadTensor {
        /// The tensor.
        name: String,
        /// What is wrong, as a predicate.
        problem: String,
    },
    /// The sub-network does not fit the model.
    #[error("sub-network does not fit the model: {0}")]
    BadSubNetwork(String),
    /// The configuration contradicts itself.
    #[error("model configuration: {0}")]
    BadConfig(String),
    /// The description of a super-network is damaged, too large, or contradicts itself.
    #[error("super-network index: {0}")]
    BadIndex(String),
    /// A chunk of a super-network is missing or is not what the index says.
    #[error("chunk `{}` of the super-network {problem}", path.display())]
    BadChunk {
        /// The file.
        path: PathBuf,
        /// What is wrong, as a predicate.
        problem: String,
    },
    /// A recipe is damaged, too large, or of another super-network.
    #[error("recipe: {0}")]
    BadRecipe(String),
    /// What was made is not the artifact that was asked for.
    #[error("made artifact {found} where {expected} was asked for")]
    OtherArtifact {
        /// The manifest's hash that was asked for.
        expected: ContentHash,
        /// That of what was made.
        found: ContentHash,
    },
    /// No memory for an artifact.
    #[error("no memory for {bytes} bytes of weights")]
    Memory {
        /// What was asked for.
        bytes: u64,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A manifest, or the folder around it, is not an artifact.
    #[error("`{}` is not an artifact: {reason}", path.display())]
    NotAnArtifact {
        /// The folder or file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
