//! Texts as tokens, and windows of them.

use crate::Error;
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

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
        let encoding = tokenizer
            .encode_fast(text, true)
            .map_err(|e| Error::Tokenizer { path: "this model".into(), reason: e.to_string() })?;
        let tokens = encoding.get_ids().to_vec();
        if let Some(&token) = tokens.iter().find(|&&t| t as usize >= vocabulary) {
            return Err(Error::Vocabulary { token, vocabulary });
        }
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
