//! Text to tokens to training windows.
//!
//! The vocabulary is a byte-level BPE trained on the corpus, so that any text can be encoded and
//! the byte length of every token is known. Windows are drawn epoch by epoch: each epoch cuts the
//! corpus at a new random offset and visits every window once in random order.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use rand::Rng;
use rand::seq::SliceRandom;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

/// Begins and ends a text; id 0.
pub(crate) const END_OF_TEXT: &str = "<|endoftext|>";

/// The id of [`END_OF_TEXT`]: special tokens come first in the vocabulary.
pub(crate) const END_OF_TEXT_ID: u32 = 0;

/// Two blank lines stand between two works of the corpus.
const WORK_SEPARATOR: &str = "\n\n\n";

/// Reads a UTF-8 text.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Trains a byte-level BPE of `vocab` tokens, deterministic for the same text.
pub(crate) fn train_tokenizer(text: &str, vocab: usize) -> Result<Tokenizer> {
    let byte_level = ByteLevel::new(false, false, true);
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(byte_level)).with_decoder(Some(byte_level));
    let alphabet: HashSet<char> = ByteLevel::alphabet().into_iter().collect();
    let trainer = BpeTrainer::builder()
        .vocab_size(vocab)
        .initial_alphabet(alphabet)
        .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
        .show_progress(false)
        .build();
    let mut trainer = tokenizers::models::TrainerWrapper::from(trainer);
    // The pre-tokenizer never joins lines that hold words, and a long text in one piece would be
    // pre-tokenized by one thread.
    tokenizer.train(&mut trainer, text.split_inclusive('\n')).map_err(|error| anyhow!("cannot train the tokenizer: {error}"))?;
    ensure!(tokenizer.get_vocab_size(true) == vocab, "the text is too short for a vocabulary of {vocab}");
    ensure!(tokenizer.token_to_id(END_OF_TEXT) == Some(END_OF_TEXT_ID), "{END_OF_TEXT} is not token {END_OF_TEXT_ID}");
    Ok(tokenizer)
}

/// The ids of a text, nothing added.
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let encoding = tokenizer.encode(text, false).map_err(|error| anyhow!("cannot encode a text: {error}"))?;
    Ok(encoding.get_ids().to_vec())
}

/// The ids of a corpus with [`END_OF_TEXT`] around each work.
pub(crate) fn encode_works(tokenizer: &Tokenizer, corpus: &str) -> Result<Vec<u32>> {
    let mut ids = vec![END_OF_TEXT_ID];
    for work in corpus.split(WORK_SEPARATOR) {
        ids.extend(encode(tokenizer, work)?);
        ids.push(END_OF_TEXT_ID);
    }
    Ok(ids)
}

/// How many bytes of text each id stands for.
pub(crate) fn token_bytes(tokenizer: &Tokenizer) -> Result<Vec<usize>> {
    (0..tokenizer.get_vocab_size(true) as u32)
        .map(|id| {
            let token = tokenizer.id_to_token(id).with_context(|| format!("the vocabulary has no token {id}"))?;
            // Byte-level tokens are written with one character per byte; a special token is no text.
            Ok(if id == END_OF_TEXT_ID { 0 } else { token.chars().count() })
        })
        .collect()
}

/// Training windows in epochs.
pub(crate) struct Windows<'a> {
    ids: &'a [u32],
    length: usize,
    queue: Vec<usize>,
}

impl<'a> Windows<'a> {
    /// Windows of `length` ids, at least one of which must fit at every offset.
    pub(crate) fn new(ids: &'a [u32], length: usize) -> Result<Self> {
        ensure!(length > 0 && ids.len() >= 2 * length, "{} tokens are too few for windows of {length}", ids.len());
        Ok(Self { ids, length, queue: Vec::new() })
    }

    /// The next `count` windows.
    pub(crate) fn batch(&mut self, count: usize, rng: &mut impl Rng) -> Vec<&'a [u32]> {
        (0..count).map(|_| self.next(rng)).collect()
    }

    fn next(&mut self, rng: &mut impl Rng) -> &'a [u32] {
        if self.queue.is_empty() {
            let offset = rng.random_range(0..self.length);
            self.queue.extend((offset..=self.ids.len() - self.length).step_by(self.length));
            self.queue.shuffle(rng);
        }
        // `new` made sure that an epoch has a window at every offset.
        let start = self.queue.pop().unwrap_or(0);
        &self.ids[start..start + self.length]
    }
}

/// Non-overlapping windows from the start of a text; what does not fill a window is left out.
pub(crate) fn evaluation_windows(ids: &[u32], length: usize) -> Vec<&[u32]> {
    ids.chunks_exact(length).collect()
}

#[cfg(test)]
mod tests;
