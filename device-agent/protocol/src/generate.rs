//! What is generated, how, and what comes back.

use crate::{OrtLibrary, Provider, ProviderShare, Runtime, Source};
use serde::{Deserialize, Serialize};

/// Text to generate, as tokens: the host has the tokenizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerateJob {
    /// The model.
    pub source: Source,
    /// What runs it.
    pub runtime: Runtime,
    /// Where ONNX Runtime is, when it runs it.
    pub ort: OrtLibrary,
    /// Execution providers to ask ONNX Runtime for, the best first.
    pub providers: Vec<Provider>,
    /// Threads of the runtime; 0 means all cores the agent may use.
    pub threads: u16,
    /// Tokens to begin with, at least 1.
    pub prompt: Vec<u32>,
    /// Tokens to generate at most, at least 1.
    pub max_tokens: u32,
    /// Tokens that end the text; they are not a part of it.
    pub stop: Vec<u32>,
    /// Entries of the vocabulary, which all tokens are below.
    pub vocabulary: u32,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// The worker is ended after this, in milliseconds. The wait for the lease does not count.
    pub deadline_ms: u32,
    /// The wait for the device's lease at most, in milliseconds.
    pub lease_wait_ms: u32,
}

/// How the next token is chosen from its logits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Logits are divided by this; at 0 the most likely token is taken, always.
    pub temperature: f32,
    /// Only this many of the most likely tokens are drawn from; 0 for all.
    pub top_k: u32,
    /// Only the most likely tokens that together have this probability are drawn from (nucleus sampling); 1 for all.
    pub top_p: f32,
    /// Of the draws.
    pub seed: u64,
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// The model gave one of the tokens that end it.
    Stop,
    /// It has as many tokens as were asked for.
    Length,
}

/// A text that was generated. Its tokens came before, as they were made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// What ran.
    pub runtime: Runtime,
    /// Its version.
    pub runtime_version: String,
    /// Its threads.
    pub threads: u16,
    /// Which execution providers carried out the graph.
    pub providers: Vec<ProviderShare>,
    /// Why it ended.
    pub ended: Ended,
    /// Tokens that were generated.
    pub tokens: u32,
    /// The prompt up to the choice of the first token, in nanoseconds.
    pub prefill_ns: u64,
    /// All steps after it, in nanoseconds; with the one that ended the text.
    pub decode_ns: u64,
    /// Those steps.
    pub steps: u32,
    /// Time to read the model and prepare it, in nanoseconds.
    pub load_ns: u64,
    /// Largest resident memory of the worker, in bytes.
    pub peak_rss_bytes: u64,
    /// An emulator ran the model.
    pub emulated: bool,
}
