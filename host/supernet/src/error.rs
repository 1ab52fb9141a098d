//! What can go wrong between a checkpoint and a super-network.

use std::path::{Path, PathBuf};

/// Errors of this crate; messages are fragments that name the file, key or tensor.
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
    /// The path holds nothing that this crate reads.
    #[error("`{}` is not a model: {reason}", path.display())]
    NotAModel {
        /// The path.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// `config.json` or GGUF metadata lacks a key or has a wrong value.
    #[error("`{}`: {reason}", path.display())]
    BadConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The architecture is none of the Llama family.
    #[error("`{}`: architecture `{found}` is not supported (supported: LlamaForCausalLM, MistralForCausalLM without sliding window, GGUF `llama`)", path.display())]
    Architecture {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// A GGUF file is damaged.
    #[error("`{}` is not a valid GGUF file: {reason}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A weight is NaN or infinite.
    #[error("weight `{name}` is not finite in {count} of its values")]
    NotFinite {
        /// The tensor.
        name: String,
        /// How many.
        count: usize,
    },
    /// The tokenizer is missing, damaged or of a kind that cannot be read.
    #[error("tokenizer of `{}`: {reason}", path.display())]
    Tokenizer {
        /// The model.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A text has too few tokens.
    #[error("text has {found} tokens, at least {needed} are needed")]
    ShortText {
        /// Tokens in the text.
        found: usize,
        /// Tokens needed.
        needed: usize,
    },
    /// The tokenizer knows tokens that the model does not.
    #[error("tokenizer gives token {token}, the model's vocabulary has {vocabulary}")]
    Vocabulary {
        /// The token.
        token: u32,
        /// Entries of the model's vocabulary.
        vocabulary: usize,
    },
    /// The sorted super-network does not compute what the checkpoint computes: a bug, never the user's fault.
    #[error("sorted super-network differs from the checkpoint: logits by {difference}, tolerance {tolerance}")]
    Identity {
        /// Largest difference of a logit.
        difference: f32,
        /// Largest accepted one.
        tolerance: f32,
    },
    /// Settings of a training that cannot be.
    #[error("cannot be trained: {0}")]
    Trainable(String),
    /// Heads cannot keep so many dimensions.
    #[error("heads of {of} dimensions cannot keep {size}")]
    HeadSize {
        /// Dimensions to keep.
        size: u32,
        /// Dimensions there are.
        of: usize,
    },
    /// Heads are to be cut of a super-network that was not prepared for it.
    #[error("the super-network was prepared without scores for the dimensions of its heads")]
    NoHeadScores,
    /// A sequence is longer than the network was loaded for.
    #[error("a sequence of {found} tokens, the network has positions for {most}")]
    Positions {
        /// Tokens of the sequence.
        found: usize,
        /// Positions.
        most: usize,
    },
    /// A continuation has no token of its own after its context.
    #[error("`{continuation}` adds no token to its context")]
    NoContinuation {
        /// The continuation.
        continuation: String,
    },
    /// A text was to be scored from its first token on, and the model has no token to stand before it.
    #[error("the model names no token that begins or ends a text, so the first token of one cannot be scored")]
    NoPrefix,
    /// The model's own numbers overflow: its logits are not finite.
    #[error("logits are not finite")]
    Logits,
    /// Weights or configuration of the wrong shape.
    #[error(transparent)]
    Artifact(#[from] edgewise_onnx::Error),
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
            Self::NotAModel { .. } => {
                "give a folder in Hugging Face layout (config.json, tokenizer.json, *.safetensors), a .gguf file, or `demo`"
            }
            Self::Architecture { .. } => "convert the model to a Llama-family architecture, or choose another model",
            Self::Gguf { .. } | Self::Artifact(edgewise_onnx::Error::Safetensors { .. }) => {
                "the file is damaged or was not downloaded to its end; fetch it again"
            }
            Self::Artifact(edgewise_onnx::Error::MissingTensor(_) | edgewise_onnx::Error::BadTensor { .. }) => {
                "config.json and the weights do not belong together, or a shard is missing"
            }
            Self::BadConfig { .. } => {
                "the model is of a kind that is not supported, or damaged: fetch it again, or choose another one"
            }
            Self::Io { source, .. } | Self::Artifact(edgewise_onnx::Error::Io { source, .. }) => match source.kind() {
                std::io::ErrorKind::NotFound => "a file of the model is missing; fetch it again",
                std::io::ErrorKind::StorageFull => "free some space, or set EDGEWISE_HOME to another disk",
                _ => return None,
            },
            Self::NotFinite { .. } | Self::Logits => "the checkpoint is broken (a diverged training?); use another one",
            Self::Tokenizer { .. } => {
                "put the model's tokenizer.json beside its weights; a .gguf file must hold one of a kind that is supported"
            }
            Self::ShortText { .. } => "choose a longer text with --text or --calibration",
            Self::Trainable(_) => "choose other settings for what is trained",
            Self::HeadSize { .. } => "a head keeps an even number of dimensions, 2 at least",
            Self::NoHeadScores => {
                "give the checkpoint itself, or prepare it again with `host prepare --heads`, and before it is fine-tuned"
            }
            Self::Positions { .. } => "give a smaller --window or a shorter text",
            Self::NoContinuation { .. } => "a question of the task has an empty answer; choose another file",
            Self::NoPrefix => "its config.json lacks bos_token_id and eos_token_id",
            Self::Vocabulary { .. } => "tokenizer.json and the weights do not belong together",
            _ => return None,
        })
    }
}
