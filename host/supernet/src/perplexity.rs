//! Perplexity as others define it, so that figures can be compared.
//!
//! Contract: a definition cuts a text into [`Segment`]s, each of which is one run of the network and says which of its tokens are
//! scored. What differs between definitions is that cut and the token before the text; the scores are made by the same code.
//!
//! - [`Definition::Edgewise`]: windows from the start of the text, every token scored that has one before it in its window. With
//!   a stride, windows overlap and only what no earlier window scored is scored.
//! - [`Definition::Harness`]: lm-evaluation-harness's `loglikelihood_rolling` with a context of one token: windows do not
//!   overlap, every token is scored, the first one after the token that begins a text; the last window is filled up to its left.
//! - [`Definition::LlamaCpp`]: llama.cpp's `perplexity`: windows do not overlap, the first token of each is replaced by the one
//!   that begins a text where the tokenizer puts one, the second half of each window is scored.

use crate::{
    Error, Network, Quality,
    quality::negative_log_likelihood,
    rows::{map_rows, mean_and_error},
    text::{failed, prefix_token, within},
};
use edgewise_onnx::SubNetwork;
use std::borrow::Cow;
use tokenizers::Tokenizer;

/// Whose perplexity it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Definition {
    /// This program's.
    Edgewise,
    /// lm-evaluation-harness's.
    Harness,
    /// llama.cpp's.
    LlamaCpp,
}

/// How a text is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol {
    /// Whose perplexity it is.
    pub definition: Definition,
    /// Tokens of a window.
    pub window: usize,
    /// Tokens from one window's start to the next one's; only [`Definition::Edgewise`] leaves it open.
    pub stride: Option<usize>,
    /// Most windows, from the start of the text; all that it has, where unset.
    pub windows: Option<usize>,
}

/// A text that is scored.
#[derive(Debug, Clone)]
pub struct Passage {
    /// The tokens without any that the tokenizer puts around a text.
    tokens: Vec<u32>,
    /// Where each of them ends in the text, in bytes.
    ends: Vec<usize>,
    /// What the tokenizer puts before a text.
    begin: Option<u32>,
    text: String,
}

/// How well a network predicts a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Perplexity {
    /// Per token.
    pub quality: Quality,
    /// Standard error of the mean negative log-likelihood, tokens taken as independent; none for a single token.
    pub nll_stderr: Option<f64>,
    /// Windows.
    pub windows: usize,
    /// The token that stands before the text or, with llama.cpp's definition, before each window.
    pub bos: Option<u32>,
    /// Per word and per byte, of a text that is scored from its first token on.
    pub per_text: Option<PerText>,
}

/// Perplexities that do not depend on the tokenizer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PerText {
    /// Words, separated by white space, of what was scored.
    pub words: usize,
    /// Its bytes in UTF-8.
    pub bytes: usize,
    /// `exp(total negative log-likelihood / words)`.
    pub word_perplexity: f64,
    /// `exp(total negative log-likelihood / bytes)`.
    pub byte_perplexity: f64,
    /// Base-2 logarithm of that.
    pub bits_per_byte: f64,
}

/// One run of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment<'a> {
    tokens: Cow<'a, [u32]>,
    /// The first scored token, at least 1: it needs one before it.
    first: usize,
}

impl Passage {
    /// Encodes a text.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer fails on it, [`Error::Vocabulary`] if it gives tokens outside the model.
    pub fn encode(tokenizer: &Tokenizer, text: &str, vocabulary: usize) -> Result<Self, Error> {
        let encoding = tokenizer.encode(text, false).map_err(|e| failed(&e))?;
        let tokens = within(encoding.get_ids(), vocabulary)?.to_vec();
        let ends = encoding.get_offsets().iter().map(|(_, end)| *end).collect();
        // Any text shows what is put around texts.
        let ids = |special: bool| tokenizer.encode_fast("a", special).map(|e| e.get_ids().to_vec()).map_err(|e| failed(&e));
        let (with, without) = (ids(true)?, ids(false)?);
        let begin = with.first().copied().filter(|first| with.len() > without.len() && without.first() != Some(first));
        if let Some(token) = begin {
            within(&[token], vocabulary)?;
        }
        Ok(Self { tokens, ends, begin, text: text.to_owned() })
    }

    /// The token before the text or before each window.
    fn bos(&self, network: &Network, definition: Definition) -> Result<Option<u32>, Error> {
        Ok(match definition {
            Definition::Edgewise | Definition::LlamaCpp => self.begin,
            Definition::Harness => Some(prefix_token(network.config()).ok_or(Error::NoPrefix)?),
        })
    }

    /// Words and bytes up to the end of the first `tokens` tokens.
    fn size(&self, tokens: usize) -> (usize, usize) {
        let end = if tokens >= self.tokens.len() { self.text.len() } else { self.ends[tokens - 1] };
        // A token may end within a letter.
        let end = (end..=self.text.len()).find(|end| self.text.is_char_boundary(*end)).unwrap_or(self.text.len());
        // The pieces between runs of white space, as lm-evaluation-harness counts them: also an empty one at either end.
        let text = &self.text[..end];
        let open = |c: Option<char>| usize::from(c.is_none_or(char::is_whitespace));
        let words = text.split_whitespace().count();
        let pieces = if words == 0 {
            1 + usize::from(!text.is_empty())
        } else {
            words + open(text.chars().next()) + open(text.chars().next_back())
        };
        (pieces, end)
    }
}

impl Protocol {
    /// What the definition makes of a text's tokens, with `bos` in its place.
    ///
    /// # Errors
    /// [`Error::ShortText`] if there is nothing to score.
    fn segments<'a>(&self, tokens: &'a [u32], bos: Option<u32>) -> Result<Vec<Segment<'a>>, Error> {
        let segments = match self.definition {
            Definition::Edgewise => self.sliding(tokens),
            Definition::Harness => self.rolling(tokens, bos),
            Definition::LlamaCpp => self.halves(tokens, bos),
        };
        let needed = match self.definition {
            Definition::Edgewise => 2,
            Definition::Harness => 1,
            Definition::LlamaCpp => self.window,
        };
        if segments.is_empty() { Err(Error::ShortText { found: tokens.len(), needed }) } else { Ok(segments) }
    }

    /// Where a text is shorter than one window, what there is; what is left after the last whole window is not scored, unless
    /// windows overlap: then the last one ends with the text.
    fn sliding<'a>(&self, tokens: &'a [u32]) -> Vec<Segment<'a>> {
        let most = self.windows.unwrap_or(usize::MAX);
        let segment = |begin: usize, end: usize, done: usize| Segment {
            tokens: Cow::Borrowed(&tokens[begin..end]),
            first: (done - begin).max(1),
        };
        if tokens.len() < 2 {
            return Vec::new();
        }
        if tokens.len() <= self.window {
            return vec![segment(0, tokens.len(), 0)];
        }
        let Some(stride) = self.stride.map(|stride| stride.clamp(1, self.window)) else {
            let starts = (0..=tokens.len() - self.window).step_by(self.window);
            return starts.take(most).map(|start| segment(start, start + self.window, start)).collect();
        };
        let (mut out, mut begin, mut done) = (Vec::new(), 0, 0);
        while out.len() < most && done < tokens.len() {
            let end = (begin + self.window).min(tokens.len());
            out.push(segment(begin, end, done));
            (begin, done) = (begin + stride, end);
        }
        out
    }

    fn rolling<'a>(&self, tokens: &'a [u32], bos: Option<u32>) -> Vec<Segment<'a>> {
        let mut out = Vec::new();
        let mut done = 0;
        while done < tokens.len() && self.windows.is_none_or(|most| out.len() < most) {
            let end = (done + self.window).min(tokens.len());
            // The network sees `window` tokens: all but the last of these.
            let begin = end.saturating_sub(self.window + 1);
            out.push(if done == 0 {
                Segment { tokens: bos.into_iter().chain(tokens[..end].iter().copied()).collect(), first: 1 }
            } else {
                Segment { tokens: Cow::Borrowed(&tokens[begin..end]), first: done - begin }
            });
            done = end;
        }
        out
    }

    fn halves<'a>(&self, tokens: &'a [u32], bos: Option<u32>) -> Vec<Segment<'a>> {
        // A smaller window has no token in its second half.
        if self.window < 3 {
            return Vec::new();
        }
        // What the tokenizer puts before the text is the first token of the first window.
        let all: Cow<'a, [u32]> =
            if bos.is_some() { bos.into_iter().chain(tokens.iter().copied()).collect() } else { Cow::Borrowed(tokens) };
        let chunk = |window: &[u32]| {
            let mut window = window.to_vec();
            window[0] = bos.unwrap_or(window[0]);
            Segment { tokens: Cow::Owned(window), first: self.window / 2 + 1 }
        };
        all.chunks_exact(self.window).take(self.windows.unwrap_or(usize::MAX)).map(chunk).collect()
    }
}

/// Scores a text.
///
/// # Errors
/// [`Error::ShortText`], [`Error::NoPrefix`], [`Error::Positions`] if windows are longer than the network was loaded for,
/// [`Error::Logits`].
pub fn perplexity(network: &Network, sub: &SubNetwork, passage: &Passage, protocol: Protocol) -> Result<Perplexity, Error> {
    if protocol.window > network.positions() {
        return Err(Error::Positions { found: protocol.window, most: network.positions() });
    }
    let bos = passage.bos(network, protocol.definition)?;
    // With this program's definition a token that the tokenizer puts is one of the text.
    let tokens: Cow<'_, [u32]> = match (protocol.definition, bos) {
        (Definition::Edgewise, Some(_)) => bos.into_iter().chain(passage.tokens.iter().copied()).collect(),
        _ => Cow::Borrowed(&passage.tokens),
    };
    let segments = protocol.segments(&tokens, bos)?;
    let mut each = Vec::new();
    for segment in &segments {
        let (inputs, targets) = (&segment.tokens[..segment.tokens.len() - 1], &segment.tokens[segment.first..]);
        let hidden = network.hidden(sub, inputs, None)?.narrow(0, segment.first - 1, targets.len())?;
        each.extend(map_rows(network, &hidden, |row, logits| negative_log_likelihood(logits, targets[row]))?);
    }
    let total: f64 = each.iter().sum();
    let per_text = (protocol.definition == Definition::Harness).then(|| {
        let (words, bytes) = passage.size(each.len());
        PerText {
            words,
            bytes,
            word_perplexity: (total / words as f64).exp(),
            byte_perplexity: (total / bytes as f64).exp(),
            bits_per_byte: total / bytes as f64 / std::f64::consts::LN_2,
        }
    });
    let (_, nll_stderr) = mean_and_error(&each);
    Ok(Perplexity { quality: Quality::of(total, each.len())?, nll_stderr, windows: segments.len(), bos, per_text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn protocol(definition: Definition, window: usize, stride: Option<usize>, windows: Option<usize>) -> Protocol {
        Protocol { definition, window, stride, windows }
    }

    /// For each scored token its place in the text, and how many tokens of the text it sees before it.
    fn scored(protocol: Protocol, count: usize, bos: Option<u32>) -> Vec<(u32, usize)> {
        let tokens: Vec<u32> = (0..count as u32).collect();
        let segments = protocol.segments(&tokens, bos).unwrap();
        let each = |s: &Segment<'_>| (s.first..s.tokens.len()).map(|at| (s.tokens[at], at)).collect::<Vec<_>>();
        segments.iter().flat_map(each).collect()
    }

    #[test]
    fn windows_by_hand() {
        use Definition::{Edgewise, Harness, LlamaCpp};
        let plain = scored(protocol(Edgewise, 3, None, None), 7, None);
        assert_eq!(plain, [(1, 1), (2, 2), (4, 1), (5, 2)]);
        let sliding = scored(protocol(Edgewise, 4, Some(2), None), 7, None);
        assert_eq!(sliding, [(1, 1), (2, 2), (3, 3), (4, 2), (5, 3), (6, 2)]);
        assert_eq!(scored(protocol(Edgewise, 4, Some(2), Some(2)), 7, None).len(), 5);
        // The third window holds three tokens before its one new token.
        let rolling = scored(protocol(Harness, 3, None, None), 7, Some(99));
        assert_eq!(rolling, [(0, 1), (1, 2), (2, 3), (3, 1), (4, 2), (5, 3), (6, 3)]);
        let halves = scored(protocol(LlamaCpp, 4, None, None), 9, None);
        assert_eq!(halves, [(3, 3), (7, 3)]);
        // With a token before the text everything moves by one, and the first token of each window is gone.
        let begun = protocol(LlamaCpp, 4, None, None);
        assert_eq!(scored(begun, 8, Some(99)), [(2, 3), (6, 3)]);
        assert!(begun.segments(&(0..8).collect::<Vec<u32>>(), Some(99)).unwrap().iter().all(|s| s.tokens[0] == 99));
        assert!(matches!(begun.segments(&[1, 2], None), Err(Error::ShortText { found: 2, needed: 4 })));
    }

    #[test]
    fn words_and_bytes() {
        let passage = |text: &str| Passage { tokens: vec![1, 2], ends: vec![3, text.len()], begin: None, text: text.into() };
        assert_eq!(passage("an old é").size(2), (3, 9));
        assert_eq!(passage("an old é").size(1), (2, 3));
        assert_eq!(passage(" an  old\n").size(2), (4, 9));
        assert_eq!(passage("abé").size(1), (1, 4));
    }

    proptest! {
        #[test]
        fn each_token_is_scored_once(count in 2_usize..60, window in 2_usize..20, stride in 1_usize..20, kind in 0..2) {
            let (definition, first) = if kind == 0 { (Definition::Edgewise, 1) } else { (Definition::Harness, 0) };
            let stride = (kind == 0).then_some(stride.min(window - 1));
            let found = scored(protocol(definition, window, stride, None), count, Some(99));
            prop_assert_eq!(found.iter().map(|f| f.0).collect::<Vec<_>>(), (first..count as u32).collect::<Vec<_>>());
            prop_assert!(found.iter().all(|f| f.1 >= 1 && f.1 <= window));
        }
    }
}
