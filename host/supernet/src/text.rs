//! Texts as tokens, and windows of them.

use crate::Error;
use edgewise_onnx::ModelConfig;
use sha2::{Digest, Sha256};
use tokenizers::{
    DecodeStream, DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer,
};

/// A text as a model sees it.
#[derive(Debug, Clone)]
pub struct Text {
    /// SHA-256 of the text's bytes.
    pub sha256: String,
    /// The tokens, with whatever the tokenizer itself puts around them.
    pub tokens: Vec<u32>,
}

/// Which part of a text is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Tokens of a window.
    pub length: usize,
    /// Number of windows, from the start of the text, without overlap.
    pub count: usize,
}

impl Text {
    /// Encodes a text once.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer fails on it, [`Error::Vocabulary`] if it gives tokens outside the model.
    pub fn encode(tokenizer: &Tokenizer, text: &str, vocabulary: usize) -> Result<Self, Error> {
        let tokens = encode(tokenizer, text, vocabulary)?;
        Ok(Self { sha256: hex::encode(Sha256::digest(text.as_bytes())), tokens })
    }

    /// The windows that the text has; where it is shorter than one window, what there is.
    ///
    /// # Errors
    /// [`Error::ShortText`] if there are not two tokens.
    pub fn windows(&self, windows: Windows) -> Result<Vec<&[u32]>, Error> {
        if self.tokens.len() < 2 {
            return Err(Error::ShortText { found: self.tokens.len(), needed: 2 });
        }
        let whole: Vec<&[u32]> = self.tokens.chunks_exact(windows.length).take(windows.count).collect();
        Ok(if whole.is_empty() { vec![&self.tokens] } else { whole })
    }
}

/// Text that comes token by token. A letter may take several tokens: what is given is always whole letters.
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    decoder: DecodeStream<'a, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>,
    /// Tokens of which nothing was given yet.
    held: Vec<u32>,
}

impl<'a> TextStream<'a> {
    /// The text that follows these tokens: some tokenizers write a word otherwise at the start of a text.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer fails on them.
    pub fn after(tokenizer: &'a Tokenizer, prompt: &[u32]) -> Result<Self, Error> {
        let mut stream = Self { tokenizer, decoder: tokenizer.decode_stream(true), held: Vec::new() };
        for &token in prompt {
            stream.push(token)?;
        }
        Ok(stream)
    }

    /// The letters that are whole with one more token; none, if it needs more.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer fails on it.
    pub fn push(&mut self, token: u32) -> Result<String, Error> {
        self.held.push(token);
        match self.decoder.step(token).map_err(|e| failed(&e))? {
            Some(piece) => {
                self.held.clear();
                Ok(piece)
            }
            None => Ok(String::new()),
        }
    }

    /// At the end: what was held back, with a sign for a letter that never became whole.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer fails on it.
    pub fn rest(&mut self) -> Result<String, Error> {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() { Ok(String::new()) } else { self.tokenizer.decode(&held, true).map_err(|e| failed(&e)) }
    }
}

/// The tokens of a text, with whatever the tokenizer itself puts around them.
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str, vocabulary: usize) -> Result<Vec<u32>, Error> {
    encode_as(tokenizer, text, true, vocabulary)
}

/// Encodes a text without any token that the tokenizer would put around it.
///
/// # Errors
/// [`Error::Tokenizer`] if the tokenizer fails on it, [`Error::Vocabulary`] if it gives tokens outside the model.
pub fn encode_bare(tokenizer: &Tokenizer, text: &str, vocabulary: usize) -> Result<Vec<u32>, Error> {
    encode_as(tokenizer, text, false, vocabulary)
}

fn encode_as(tokenizer: &Tokenizer, text: &str, special: bool, vocabulary: usize) -> Result<Vec<u32>, Error> {
    let encoding = tokenizer.encode_fast(text, special).map_err(|e| failed(&e))?;
    within(encoding.get_ids(), vocabulary).map(<[u32]>::to_vec)
}

/// What stands before the first token of a text that is scored from its beginning: the token that begins a text, or else the one
/// that ends it.
pub(crate) fn prefix_token(config: &ModelConfig) -> Option<u32> {
    config.bos_token.or_else(|| config.eos_tokens.first().copied())
}

/// Tokens that are all of the model's vocabulary.
pub(crate) fn within(tokens: &[u32], vocabulary: usize) -> Result<&[u32], Error> {
    match tokens.iter().find(|&&t| t as usize >= vocabulary) {
        Some(&token) => Err(Error::Vocabulary { token, vocabulary }),
        None => Ok(tokens),
    }
}

pub(crate) fn failed(error: &dyn std::fmt::Display) -> Error {
    Error::Tokenizer { path: "this model".into(), reason: error.to_string() }
}
