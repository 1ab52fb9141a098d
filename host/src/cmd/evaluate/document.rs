//! What is printed.

use super::tasks::TaskDocument;
use edgewise_supernet::{Divergence, PerText, Perplexity, Protocol};
use serde::Serialize;

/// The JSON. `perplexity`, `nll`, `tokens` and `parameters` are the same in every version of the schema.
#[derive(Debug, Serialize)]
pub(super) struct Document {
    schema: &'static str,
    perplexity: f64,
    nll: f64,
    tokens: usize,
    parameters: u64,
    nll_stderr: Option<f64>,
    definition: &'static str,
    window: usize,
    /// The window's length where windows do not overlap.
    stride: usize,
    windows: usize,
    /// The token before the text or, with llama.cpp's definition, before each window.
    bos: Option<u32>,
    #[serde(flatten)]
    per_text: Option<PerTextDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kl: Option<KlDocument>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tasks: Vec<TaskDocument>,
}

#[derive(Debug, Serialize)]
struct PerTextDocument {
    words: usize,
    bytes: usize,
    word_perplexity: f64,
    byte_perplexity: f64,
    bits_per_byte: f64,
}

/// Divergence from the full network, in nats per token.
#[derive(Debug, Serialize)]
struct KlDocument {
    value: f64,
    stderr: Option<f64>,
    tokens: usize,
}

impl Document {
    pub(super) fn new(
        found: Perplexity,
        (definition, protocol): (&'static str, Protocol),
        parameters: u64,
        divergence: Option<Divergence>,
        tasks: Vec<TaskDocument>,
    ) -> Self {
        let per_text = |p: PerText| PerTextDocument {
            words: p.words,
            bytes: p.bytes,
            word_perplexity: p.word_perplexity,
            byte_perplexity: p.byte_perplexity,
            bits_per_byte: p.bits_per_byte,
        };
        Self {
            schema: "edgewise.evaluate/1",
            perplexity: found.quality.perplexity,
            nll: found.quality.nll,
            tokens: found.quality.tokens,
            parameters,
            nll_stderr: found.nll_stderr,
            definition,
            window: protocol.window,
            stride: protocol.stride.unwrap_or(protocol.window),
            windows: found.windows,
            bos: found.bos,
            per_text: found.per_text.map(per_text),
            kl: divergence.map(|d| KlDocument { value: d.kl, stderr: d.stderr, tokens: d.tokens }),
            tasks,
        }
    }

    /// The same for people.
    pub(super) fn text(&self) -> String {
        let error = |stderr: Option<f64>| stderr.map(|stderr| format!(" ± {stderr:.5}")).unwrap_or_default();
        let mut lines = vec![format!(
            "perplexity {:.4}, nll {:.5}{} over {} tokens, {} parameters\n",
            self.perplexity,
            self.nll,
            error(self.nll_stderr),
            self.tokens,
            self.parameters
        )];
        lines.extend(self.per_text.as_ref().map(|p| {
            let (word, byte) = (p.word_perplexity, p.byte_perplexity);
            format!("per word {word:.4}, per byte {byte:.4}, {:.4} bits per byte\n", p.bits_per_byte)
        }));
        lines.extend(self.kl.as_ref().map(|kl| {
            format!("divergence from the full network {:.5}{} over {} tokens\n", kl.value, error(kl.stderr), kl.tokens)
        }));
        lines.extend(self.tasks.iter().map(TaskDocument::line));
        lines.concat()
    }
}
