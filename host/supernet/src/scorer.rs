//! Log-likelihoods of continuations and greedy texts, each prompt continuing what it has in common with the one before.
//!
//! Contract: texts become tokens as in lm-evaluation-harness: spaces at the end of a context belong to the continuation; context
//! and continuation are encoded as one text, and the continuation's tokens are those beyond as many as the context alone has.
//! A prompt that is longer than the network's positions loses its beginning. Special tokens are those that the tokenizer itself
//! puts; an empty context is the token that begins a text, or else the one that ends it.
//!
//! Of a prompt only what follows the longest common beginning with the previous prompt is computed, together with all of its
//! continuations but their last tokens: several continuations of one token each cost nothing beyond their context.

use crate::{
    Error, Network, TextStream,
    network::Context,
    ops::log_sum_exp,
    rows::map_rows,
    text::{encode, prefix_token},
};
use candle_core::{Device, Tensor};
use edgewise_onnx::SubNetwork;
use tokenizers::Tokenizer;

/// Rows of a forward pass: scores are `[heads, rows, tokens]`, so that memory stays bounded however long a prompt is.
const ROWS: usize = 512;

/// How likely a continuation is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogLikelihood {
    /// Sum over its tokens of the natural logarithm of their probability.
    pub log_likelihood: f64,
    /// Each of its tokens is the likeliest one in its place.
    pub greedy: bool,
    /// Its tokens.
    pub tokens: usize,
}

/// Scores texts with one sub-network.
pub struct Scorer<'a> {
    network: &'a Network,
    tokenizer: &'a Tokenizer,
    context: Context<'a>,
    positions: usize,
    /// Prompts that lost their beginning.
    truncated: usize,
}

/// What is looked up in a row of logits: of which continuation, and which token.
struct Wanted {
    row: u32,
    continuation: usize,
    token: u32,
}

/// A row's logarithm of the sum of exponentials, its likeliest token, and the logits of the tokens that were looked up.
struct Looked {
    log_sum: f64,
    likeliest: u32,
    logits: Vec<f32>,
}

impl<'a> Scorer<'a> {
    /// Sequences have up to `max_length` tokens, or what the model was made for and the network loaded for, if that is less.
    ///
    /// # Errors
    /// [`Error::Artifact`] if `sub` does not fit.
    pub fn new(network: &'a Network, sub: &'a SubNetwork, tokenizer: &'a Tokenizer, max_length: usize) -> Result<Self, Error> {
        let positions = max_length.min(network.positions()).min(network.config().max_positions);
        Ok(Self { network, tokenizer, context: network.context(sub)?, positions, truncated: 0 })
    }

    /// Longest sequence, in tokens.
    pub fn max_length(&self) -> usize {
        self.positions
    }

    /// Prompts so far that were longer than the network's positions and lost their beginning.
    pub fn truncated(&self) -> usize {
        self.truncated
    }

    /// How likely each continuation is after the context.
    ///
    /// # Errors
    /// [`Error::NoContinuation`] for one that adds no token, [`Error::NoPrefix`] for an empty context of a model that names no
    /// token for it, [`Error::Positions`] for a continuation that is too long by itself, [`Error::Logits`], [`Error::Tokenizer`].
    pub fn likelihoods<S: AsRef<str>>(&mut self, context: &str, continuations: &[S]) -> Result<Vec<LogLikelihood>, Error> {
        let kept = context.trim_end();
        let spaces = &context[kept.len()..];
        let mut before = self.encode(kept)?;
        let mut after = Vec::with_capacity(continuations.len());
        for continuation in continuations {
            let continuation = continuation.as_ref();
            let mut tokens = self.encode(&format!("{kept}{spaces}{continuation}"))?;
            tokens.drain(..before.len().min(tokens.len()));
            if tokens.is_empty() {
                return Err(Error::NoContinuation { continuation: continuation.to_owned() });
            }
            after.push(tokens);
        }
        if before.is_empty() {
            before.push(self.prefix()?);
        }
        self.score(&before, &after)
    }

    /// The text that follows a context, each time with the likeliest token: up to the first of `stop`, which is left out, to a
    /// token that ends a text, or to `max_tokens`.
    ///
    /// # Errors
    /// [`Error::NoPrefix`], [`Error::Positions`] if `max_tokens` alone are too many, [`Error::Logits`], [`Error::Tokenizer`].
    pub fn generate<S: AsRef<str>>(&mut self, context: &str, stop: &[S], max_tokens: usize) -> Result<String, Error> {
        let mut prompt = self.encode(context)?;
        if prompt.is_empty() {
            prompt.push(self.prefix()?);
        }
        if max_tokens >= self.positions {
            return Err(Error::Positions { found: max_tokens + 1, most: self.positions });
        }
        let prompt = self.fitting(&prompt, self.positions - max_tokens);
        let mut hidden = self.append(prompt)?;
        let (tokenizer, network) = (self.tokenizer, self.network);
        let (mut stream, mut text) = (TextStream::after(tokenizer, &[])?, String::new());
        for _ in 0..max_tokens {
            let likeliest = map_rows(network, &hidden, |_, logits| largest(logits))?[0];
            let token = likeliest.ok_or(Error::Logits)?;
            if network.config().eos_tokens.contains(&token) {
                break;
            }
            text += &stream.push(token)?;
            if first_stop(&text, stop).is_some() {
                break;
            }
            hidden = self.context.advance(&[token], &[])?;
        }
        text += &stream.rest()?;
        if let Some(at) = first_stop(&text, stop) {
            text.truncate(at);
        }
        Ok(text)
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        encode(self.tokenizer, text, self.network.config().vocab_size)
    }

    fn prefix(&self) -> Result<u32, Error> {
        prefix_token(self.network.config()).ok_or(Error::NoPrefix)
    }

    /// The end of a prompt that fits into so many tokens.
    fn fitting<'t>(&mut self, prompt: &'t [u32], room: usize) -> &'t [u32] {
        self.truncated += usize::from(prompt.len() > room);
        &prompt[prompt.len().saturating_sub(room)..]
    }

    /// Makes `prompt` the context, and gives the hidden state of its last token, `[1, width]`.
    fn append(&mut self, prompt: &[u32]) -> Result<Tensor, Error> {
        let mut rest = self.resume(prompt);
        while rest.len() > ROWS {
            self.context.advance(&rest[..ROWS], &[])?;
            rest = &rest[ROWS..];
        }
        let hidden = self.context.advance(rest, &[])?;
        Ok(hidden.narrow(0, rest.len() - 1, 1)?)
    }

    /// Keeps what the context has in common with a prompt, but not the prompt's last token: its hidden state is needed. Gives
    /// what is missing.
    fn resume<'t>(&mut self, prompt: &'t [u32]) -> &'t [u32] {
        let common = self.context.tokens().iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let kept = common.min(prompt.len() - 1);
        self.context.keep(kept);
        &prompt[kept..]
    }

    /// Scores continuations of at least one token each after a prompt of at least one token.
    fn score(&mut self, prompt: &[u32], continuations: &[Vec<u32>]) -> Result<Vec<LogLikelihood>, Error> {
        let longest = continuations.iter().map(Vec::len).max().unwrap_or_default();
        // The last token of a continuation is never put in.
        if longest > self.positions {
            return Err(Error::Positions { found: longest, most: self.positions });
        }
        let prompt = self.fitting(prompt, self.positions + 1 - longest.max(1));
        let mut trunk = self.resume(prompt);
        while trunk.len() > ROWS {
            self.context.advance(&trunk[..ROWS], &[])?;
            trunk = &trunk[ROWS..];
        }
        let mut found: Vec<LogLikelihood> =
            continuations.iter().map(|c| LogLikelihood { log_likelihood: 0.0, greedy: true, tokens: c.len() }).collect();
        // The first token of each is foretold by the prompt's last.
        let mut wanted: Vec<Wanted> = continuations
            .iter()
            .enumerate()
            .map(|(continuation, tokens)| Wanted { row: trunk.len() as u32 - 1, continuation, token: tokens[0] })
            .collect();
        let mut waiting = continuations.iter().enumerate().filter(|(_, tokens)| tokens.len() > 1).peekable();
        loop {
            let (mut branches, mut rows) = (Vec::new(), trunk.len());
            while let Some((continuation, tokens)) = waiting.next_if(|(_, t)| rows == 0 || rows + t.len() - 1 <= ROWS) {
                let branch = &tokens[..tokens.len() - 1];
                let targets = tokens[1..].iter().enumerate();
                wanted.extend(targets.map(|(at, &token)| Wanted { row: (rows + at) as u32, continuation, token }));
                rows += branch.len();
                branches.push(branch);
            }
            if rows == 0 {
                break;
            }
            let hidden = self.context.advance(trunk, &branches)?;
            self.look_up(&hidden, &wanted, &mut found)?;
            wanted.clear();
            trunk = &[];
        }
        Ok(found)
    }

    /// Adds what rows of hidden states say about tokens to the continuations' scores.
    fn look_up(&self, hidden: &Tensor, wanted: &[Wanted], found: &mut [LogLikelihood]) -> Result<(), Error> {
        // A row may be asked about several tokens; its logits are made once.
        let same_row = |a: &Wanted, b: &Wanted| a.row == b.row;
        let groups: Vec<&[Wanted]> = wanted.chunk_by(same_row).collect();
        let rows: Vec<u32> = groups.iter().map(|group| group[0].row).collect();
        let hidden = hidden.index_select(&Tensor::new(&rows[..], &Device::Cpu)?, 0)?;
        let looked = map_rows(self.network, &hidden, |row, logits| {
            let log_sum = log_sum_exp(logits, 1.0);
            let likeliest = largest(logits).filter(|_| log_sum.is_finite())?;
            let logits = groups[row].iter().map(|wanted| logits[wanted.token as usize]).collect();
            Some(Looked { log_sum, likeliest, logits })
        })?;
        for (group, looked) in groups.into_iter().zip(looked) {
            let looked = looked.ok_or(Error::Logits)?;
            for (wanted, logit) in group.iter().zip(looked.logits) {
                let score = &mut found[wanted.continuation];
                score.log_likelihood += f64::from(logit) - looked.log_sum;
                score.greedy &= wanted.token == looked.likeliest;
            }
        }
        Ok(())
    }
}

/// The place of the largest logit, the first of equal ones; nothing where none is a number.
fn largest(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(usize, f32)> = None;
    for (place, &logit) in logits.iter().enumerate() {
        if best.map_or(!logit.is_nan(), |(_, most)| logit > most) {
            best = Some((place, logit));
        }
    }
    best.map(|(place, _)| place as u32)
}

/// Where the first of these texts begins.
fn first_stop<S: AsRef<str>>(text: &str, stop: &[S]) -> Option<usize> {
    stop.iter().filter(|stop| !stop.as_ref().is_empty()).filter_map(|stop| text.find(stop.as_ref())).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_and_the_first() {
        assert_eq!(largest(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(largest(&[f32::NAN, -2.0, f32::NAN]), Some(1));
        assert_eq!(largest(&[f32::NAN]), None);
        assert_eq!(first_stop("a b c", &["c", "", "b"]), Some(2));
        assert_eq!(first_stop("a b c", &["d"]), None);
    }
}
