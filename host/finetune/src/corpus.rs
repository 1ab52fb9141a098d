//! Documents as one row of tokens, cut into sequences, and the order in which they are trained on.

use crate::{Document, Error, LossOn};
use edgewise_onnx::ModelConfig;
use edgewise_supernet::{Tokenizer, encode_bare, ops::mix};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// What names the streams of random numbers that come from a seed.
const DOCUMENTS: u64 = 1;
const EPOCHS: u64 = 2;

/// Training data, packed: documents in random order stand behind one another, with the model's end-of-text token between them,
/// and every sequence is as long as was asked for. A token may look at the document before its own.
#[derive(Debug)]
pub struct Corpus {
    tokens: Vec<u32>,
    /// Whether a loss is taken on predicting the token.
    counted: Vec<bool>,
    /// Where sequences begin that have something to learn.
    starts: Vec<u32>,
    sequence: usize,
    seed: u64,
}

/// One sequence: what goes in, what shall come out, and which of that counts; all of the same length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example<'a> {
    /// Tokens of the sequence.
    pub inputs: &'a [u32],
    /// The token after each.
    pub targets: &'a [u32],
    /// Whether the loss of predicting it is taken.
    pub counted: &'a [bool],
}

impl Corpus {
    /// Encodes documents and packs them into sequences of `sequence` tokens.
    ///
    /// # Errors
    /// [`Error::ShortData`], [`Error::NoAnswers`]; the tokenizer's, and tokens that the model does not know.
    pub fn new(
        documents: &[Document],
        tokenizer: &Tokenizer,
        config: &ModelConfig,
        sequence: usize,
        loss_on: LossOn,
        seed: u64,
    ) -> Result<Self, Error> {
        let encode = |text: &str| encode_bare(tokenizer, text, config.vocab_size);
        let encoded = documents
            .par_iter()
            .map(|document| Ok((encode(&document.prompt)?, encode(&document.answer)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        let mut order: Vec<usize> = (0..encoded.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(mix(seed, DOCUMENTS)));

        let (mut tokens, mut counted) = (Vec::new(), Vec::new());
        let mut add = |from: &[u32], counts: bool| {
            tokens.extend_from_slice(from);
            counted.extend(std::iter::repeat_n(counts, from.len()));
        };
        let end = config.eos_tokens.first().copied();
        // Where the same token begins and ends a text, the end of one is the beginning of the next.
        let begin = config.bos_token.filter(|begin| Some(*begin) != end);
        for (prompt, answer) in order.into_iter().map(|number| &encoded[number]) {
            add(begin.as_slice(), false);
            add(prompt, loss_on == LossOn::All);
            // Of plain text everything counts: it is its own answer.
            add(answer, true);
            add(end.as_slice(), true);
        }
        let needed = sequence + 1;
        if tokens.len() < needed {
            return Err(Error::ShortData { found: tokens.len(), needed });
        }
        let starts = (0..=tokens.len() - needed).step_by(sequence);
        let starts: Vec<u32> = starts.filter(|&at| counted[at + 1..=at + sequence].contains(&true)).map(|at| at as u32).collect();
        if starts.is_empty() {
            return Err(Error::NoAnswers);
        }
        Ok(Self { tokens, counted, starts, sequence, seed })
    }

    /// Tokens in all sequences together.
    pub fn tokens(&self) -> usize {
        self.starts.len() * self.sequence
    }

    /// The first `count` tokens, or all there are.
    pub fn first(&self, count: usize) -> &[u32] {
        &self.tokens[..count.min(self.tokens.len())]
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.starts.len()
    }

    fn example(&self, sequence: usize) -> Example<'_> {
        let at = self.starts[sequence] as usize;
        let end = at + self.sequence;
        Example { inputs: &self.tokens[at..end], targets: &self.tokens[at + 1..=end], counted: &self.counted[at + 1..=end] }
    }
}

/// The endless order of a corpus' sequences: each epoch visits all of them in a new random order.
pub(crate) struct Order<'a> {
    corpus: &'a Corpus,
    epoch: Option<u64>,
    permutation: Vec<u32>,
}

impl<'a> Order<'a> {
    pub(crate) fn new(corpus: &'a Corpus) -> Self {
        Self { corpus, epoch: None, permutation: Vec::new() }
    }

    /// The sequence that comes `number`-th.
    pub(crate) fn example(&mut self, number: u64) -> Example<'a> {
        let count = self.corpus.starts.len() as u64;
        let epoch = number / count;
        if self.epoch != Some(epoch) {
            self.permutation = (0..count as u32).collect();
            let seed = mix(mix(self.corpus.seed, EPOCHS), epoch);
            self.permutation.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
            self.epoch = Some(epoch);
        }
        self.corpus.example(self.permutation[(number % count) as usize] as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgewise_onnx::testing::tiny_config;
    use std::collections::BTreeSet;

    /// A tokenizer with a token for each letter.
    fn letters() -> Tokenizer {
        let vocabulary: serde_json::Map<String, serde_json::Value> =
            ('a'..='z').chain(['.', ' ', '\n']).enumerate().map(|(i, c)| (c.to_string(), (i + 2).into())).collect();
        let json = serde_json::json!({
            "version": "1.0",
            "model": { "type": "BPE", "vocab": vocabulary, "merges": [] },
        });
        Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap()
    }

    fn config() -> ModelConfig {
        ModelConfig { bos_token: Some(0), eos_tokens: vec![1], ..tiny_config() }
    }

    fn documents() -> Vec<Document> {
        let prompts = ["", "what.\n\n", ""];
        let answers = ["abcdefghij", "yes", "klmnopqrst"];
        prompts.iter().zip(answers).map(|(p, a)| Document { prompt: (*p).into(), answer: a.into() }).collect()
    }

    #[test]
    fn everything_is_packed_and_visited_once_in_an_epoch() {
        let corpus = Corpus::new(&documents(), &letters(), &config(), 4, LossOn::All, 1).unwrap();
        // Three documents with two tokens around each.
        assert_eq!(corpus.tokens.len(), 10 + 7 + 3 + 10 + 6);
        assert_eq!(corpus.sequences(), (36 - 1) / 4);
        let mut order = Order::new(&corpus);
        for epoch in 0..3 {
            let visited: BTreeSet<&[u32]> = (0..8).map(|i| order.example(epoch * 8 + i).inputs).collect();
            assert_eq!(visited.len(), 8, "epoch {epoch}");
        }
        let first: Vec<_> = (0..16).map(|i| order.example(i)).collect();
        assert_ne!(first[..8], first[8..], "epochs differ in their order");
        let mut again = Order::new(&corpus);
        assert_eq!(again.example(13), first[13], "a position says it all");
        let example = first[0];
        assert_eq!(example.inputs[1..], example.targets[..3]);
    }

    #[test]
    fn only_answers_count_where_that_is_asked_for() {
        let only = |documents: &[Document]| Corpus::new(documents, &letters(), &config(), 3, LossOn::Answer, 1);
        let corpus = only(&documents()[1..2]).unwrap();
        assert_eq!(corpus.counted.iter().filter(|c| **c).count(), 4, "y, e, s and the end");
        assert!(corpus.starts.iter().all(|&at| corpus.counted[at as usize + 1..][..3].contains(&true)));
        assert_eq!(corpus.sequences(), 1, "sequences without an answer are left out");
    }

    #[test]
    fn too_little_is_an_error() {
        let error = Corpus::new(&documents()[1..2], &letters(), &config(), 64, LossOn::All, 1).unwrap_err();
        assert!(matches!(error, Error::ShortData { found: 12, needed: 65 }), "{error}");
    }
}
