//! Scores against a slow reference: one pass over the whole sequence for every single token.

use candle_core::Tensor;
use edgewise_onnx::{
    MappedWeights, ModelConfig, SubNetwork,
    testing::{tiny_config, write_checkpoint},
};
use edgewise_supernet::{
    Definition, Error, Evaluation, Network, Passage, Protocol, Reference, Scorer, Text, Tokenizer, Windows, evaluate,
    evaluate_against, perplexity,
};
use proptest::prelude::*;
use std::sync::OnceLock;

/// The tiny model with the vocabulary of the demo's tokenizer, long enough for prompts that take several passes.
fn config() -> ModelConfig {
    ModelConfig { vocab_size: 2048, max_positions: 2048, bos_token: Some(1), ..tiny_config() }
}

fn load(positions: usize) -> Network {
    let folder = tempfile::tempdir().unwrap();
    write_checkpoint(folder.path(), &config(), 7).unwrap();
    Network::load(&config(), &MappedWeights::open(folder.path()).unwrap(), positions).unwrap()
}

fn network() -> &'static Network {
    static NETWORK: OnceLock<Network> = OnceLock::new();
    NETWORK.get_or_init(|| load(2048))
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_file(concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/demo/tokenizer.json")).unwrap()
}

fn cut() -> SubNetwork {
    SubNetwork { layers: vec![0, 2, 3], width: 32, kv_groups: vec![3, 1, 2], mlp: vec![64, 80, 33], pairs: None }
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, true).unwrap().get_ids().to_vec()
}

fn rows(hidden: &Tensor) -> Vec<Vec<f32>> {
    hidden.to_vec2().unwrap()
}

fn gap(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Logarithms of the probabilities of what follows these tokens.
fn next(sub: &SubNetwork, tokens: &[u32]) -> Vec<f64> {
    let hidden = network().hidden(sub, tokens, None).unwrap().narrow(0, tokens.len() - 1, 1).unwrap();
    let logits: Vec<f32> = network().logits(&hidden).unwrap().squeeze(0).unwrap().to_vec1().unwrap();
    let sum: f64 = logits.iter().map(|v| f64::from(*v).exp()).sum();
    logits.iter().map(|v| f64::from(*v) - sum.ln()).collect()
}

fn likeliest(logs: &[f64]) -> u32 {
    (0..logs.len()).max_by(|&a, &b| logs[a].total_cmp(&logs[b])).unwrap() as u32
}

prop_compose! {
    fn sub_network()(
        kept in prop::collection::btree_set(0_u32..4, 1..=4), width in 1_u32..=48,
        groups in prop::collection::vec(1_u32..=3, 4), mlp in prop::collection::vec(1_u32..=80, 4),
        pairs in prop::option::of(prop::sample::subsequence(vec![0_u32, 1, 2, 3], 1..=3)),
    ) -> SubNetwork {
        let n = kept.len();
        SubNetwork { layers: kept.into_iter().collect(), width, kv_groups: groups[..n].to_vec(), mlp: mlp[..n].to_vec(), pairs }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_pass_in_pieces_is_the_whole_pass(
        sub in sub_network(), tokens in prop::collection::vec(0_u32..2048, 2..300),
        cuts in prop::collection::vec(0.0..1.0f64, 0..4), back in 0.0..1.0f64,
    ) {
        let whole = rows(&network().hidden(&sub, &tokens, None).unwrap());
        let mut ends: Vec<usize> = cuts.iter().map(|cut| 1 + (cut * (tokens.len() - 1) as f64) as usize).collect();
        ends.push(tokens.len());
        ends.sort_unstable();
        ends.dedup();
        let mut context = network().context(&sub).unwrap();
        let (mut begin, mut pieces) = (0, Vec::new());
        for end in ends {
            pieces.extend(rows(&context.advance(&tokens[begin..end], &[]).unwrap()));
            begin = end;
        }
        prop_assert!(gap(&whole, &pieces) < 1e-4, "{}", gap(&whole, &pieces));
        // Going back and on again leaves no trace.
        let kept = (back * (tokens.len() - 1) as f64) as usize;
        context.keep(kept);
        context.advance(&[5, 6, 7], &[]).unwrap();
        context.keep(kept);
        prop_assert_eq!(context.tokens(), &tokens[..kept]);
        let again = rows(&context.advance(&tokens[kept..], &[]).unwrap());
        prop_assert!(gap(&whole[kept..], &again) < 1e-4);
    }

    #[test]
    fn branches_do_not_see_each_other(
        sub in sub_network(), start in prop::collection::vec(0_u32..2048, 0..20),
        trunk in prop::collection::vec(0_u32..2048, 1..20),
        branches in prop::collection::vec(prop::collection::vec(0_u32..2048, 1..9), 1..5),
    ) {
        let mut context = network().context(&sub).unwrap();
        if !start.is_empty() {
            context.advance(&start, &[]).unwrap();
        }
        let refs: Vec<&[u32]> = branches.iter().map(Vec::as_slice).collect();
        let found = rows(&context.advance(&trunk, &refs).unwrap());
        let shared = [&start[..], &trunk].concat();
        prop_assert_eq!(context.tokens(), &shared[..]);
        let mut at = trunk.len();
        for branch in &branches {
            let whole = rows(&network().hidden(&sub, &[&shared[..], branch].concat(), None).unwrap());
            prop_assert!(gap(&whole[shared.len()..], &found[at..at + branch.len()]) < 1e-4);
            prop_assert!(gap(&whole[start.len()..shared.len()], &found[..trunk.len()]) < 1e-4);
            at += branch.len();
        }
        prop_assert_eq!(at, found.len());
    }
}

#[test]
fn a_context_keeps_to_its_limits() {
    let network = load(16);
    let sub = cut();
    let mut context = network.context(&sub).unwrap();
    assert!(matches!(context.advance(&[], &[]), Err(Error::ShortText { .. })));
    context.advance(&[1; 12], &[]).unwrap();
    let error = context.advance(&[2, 2], &[&[3], &[4, 4, 4]]).err().unwrap();
    assert!(matches!(error, Error::Positions { found: 17, most: 16 }), "{error}");
    assert_eq!(context.tokens(), [1; 12]);
    context.advance(&[2, 2], &[&[3, 3], &[4, 4]]).unwrap();
    assert!(network.context(&SubNetwork { width: 99, ..sub.clone() }).is_err());
}

/// What a scorer must say, token by token.
fn slow(sub: &SubNetwork, context: &[u32], continuation: &[u32]) -> (f64, bool) {
    let mut tokens = context.to_vec();
    let (mut total, mut greedy) = (0.0, true);
    for &token in continuation {
        let logs = next(sub, &tokens);
        total += logs[token as usize];
        greedy &= likeliest(&logs) == token;
        tokens.push(token);
    }
    (total, greedy)
}

#[test]
fn likelihoods_are_those_of_single_tokens() {
    let (tokenizer, sub) = (tokenizer(), cut());
    let mut scorer = Scorer::new(network(), &sub, &tokenizer, 4096).unwrap();
    let long = "The Rays of Light are refracted. ".repeat(90);
    let questions: [(&str, &[&str]); 5] = [
        ("Question: what?\nAnswer:", &[" A", " B", " C", " D"]),
        // Shares its beginning with the one before, and has answers of several tokens.
        ("Question: what is it?\nAnswer:", &[" a prism of glass", " x", " the colours of thin plates"]),
        // Spaces at the end belong to what follows.
        ("Question: what is it?  ", &["light", "dark matter"]),
        ("", &["The rays", " of light"]),
        (&long, &[" and reflected", " and so on"]),
    ];
    assert!(ids(&tokenizer, &long).len() > 600, "it must take more than one pass");
    for (context, continuations) in questions {
        let found = scorer.likelihoods(context, continuations).unwrap();
        let kept = ids(&tokenizer, context.trim_end());
        for (continuation, found) in continuations.iter().zip(found) {
            let all = ids(&tokenizer, &format!("{context}{continuation}"));
            let tokens = &all[kept.len()..];
            let before = if kept.is_empty() { vec![1] } else { kept.clone() };
            let (log_likelihood, greedy) = slow(&sub, &before, tokens);
            assert!(
                (found.log_likelihood - log_likelihood).abs() < 1e-3,
                "{context:?} {continuation:?}: {found:?} {log_likelihood}"
            );
            assert_eq!((found.greedy, found.tokens), (greedy, tokens.len()));
        }
    }
    assert_eq!(scorer.truncated(), 0);
    let error = scorer.likelihoods("a", &[""]).unwrap_err();
    assert!(matches!(&error, Error::NoContinuation { continuation } if continuation.is_empty()), "{error}");
}

#[test]
fn a_long_prompt_loses_its_beginning() {
    let (tokenizer, sub, small) = (tokenizer(), cut(), load(24));
    let mut scorer = Scorer::new(&small, &sub, &tokenizer, 4096).unwrap();
    let text = "The Rays of Light which differ in Colour differ also in Degrees of Refrangibility, and this is proved";
    let (context, both) = (ids(&tokenizer, text), ids(&tokenizer, &format!("{text} by Experiments")));
    let tokens = &both[context.len()..];
    assert!(context.len() > 24 && tokens.len() >= 2);
    let found = scorer.likelihoods(text, &[" by Experiments"]).unwrap()[0];
    // The last token is never put in.
    let (log_likelihood, _) = slow(&sub, &context[context.len() + tokens.len() - 25..], tokens);
    assert!((found.log_likelihood - log_likelihood).abs() < 1e-3, "{found:?} {log_likelihood}");
    assert_eq!(scorer.truncated(), 1);
    let error = scorer.likelihoods("a", &[text]).unwrap_err();
    assert!(matches!(error, Error::Positions { most: 24, .. }), "{error}");
}

#[test]
fn generated_texts_are_greedy_and_end_at_stops() {
    let (tokenizer, full) = (tokenizer(), config().full());
    let prompt = "Light is";
    let mut tokens = ids(&tokenizer, prompt);
    let start = tokens.len();
    while tokens.len() < start + 12 {
        let token = likeliest(&next(&full, &tokens));
        if token == 0 {
            break;
        }
        tokens.push(token);
    }
    let expected = tokenizer.decode(&tokens[start..], true).unwrap();
    let mut scorer = Scorer::new(network(), &full, &tokenizer, 4096).unwrap();
    let none: [&str; 0] = [];
    assert_eq!(scorer.generate(prompt, &none, 12).unwrap(), expected);
    let letters: Vec<char> = expected.chars().collect();
    assert!(letters.len() > 6, "{expected:?}");
    let stop: String = letters[3..5].iter().collect();
    let cut = &expected[..expected.find(&stop).unwrap()];
    assert_eq!(scorer.generate(prompt, &["no such text", &stop], 12).unwrap(), cut);
    assert!(matches!(scorer.generate(prompt, &none, 2048), Err(Error::Positions { .. })));
}

/// The three definitions, each as a loop over single tokens that only says what is scored after what.
fn slow_perplexity(sub: &SubNetwork, tokens: &[u32], protocol: Protocol) -> Vec<f64> {
    let window = protocol.window;
    let mut out = Vec::new();
    let mut score = |context: &[u32], token: u32| out.push(-next(sub, context)[token as usize]);
    match protocol.definition {
        Definition::Edgewise => {
            let stride = protocol.stride.unwrap();
            for at in 1..tokens.len() {
                // The first window that reaches the token.
                let start = (0..).step_by(stride).find(|start| at < start + window).unwrap();
                score(&tokens[start..at], tokens[at]);
            }
        }
        Definition::Harness => {
            let begun = [&[1][..], tokens].concat();
            for at in 0..tokens.len() {
                let end = (at / window * window + window).min(tokens.len());
                // The window's inputs are those before its last token, at most `window` of them.
                score(&begun[end.saturating_sub(window)..=at], tokens[at]);
            }
        }
        Definition::LlamaCpp => {
            for chunk in tokens.chunks_exact(window) {
                for at in window / 2..window - 1 {
                    score(&chunk[..=at], chunk[at + 1]);
                }
            }
        }
    }
    out
}

#[test]
fn perplexities_are_as_defined() {
    let (tokenizer, sub) = (tokenizer(), cut());
    let text = "The Rays of Light which differ in Colour differ also in Degrees of Refrangibility. \nProof by Experiments é.";
    let tokens = tokenizer.encode(text, false).unwrap().get_ids().to_vec();
    let passage = Passage::encode(&tokenizer, text, 2048).unwrap();
    for (definition, stride) in [(Definition::Edgewise, Some(5)), (Definition::Harness, None), (Definition::LlamaCpp, None)] {
        let protocol = Protocol { definition, window: 9, stride, windows: None };
        let expected = slow_perplexity(&sub, &tokens, protocol);
        let found = perplexity(network(), &sub, &passage, protocol).unwrap();
        let n = expected.len() as f64;
        let mean = expected.iter().sum::<f64>() / n;
        let variance = expected.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        assert_eq!(found.quality.tokens, expected.len(), "{definition:?}");
        assert!((found.quality.nll - mean).abs() < 1e-4, "{definition:?}: {found:?} {mean}");
        assert!((found.nll_stderr.unwrap() - (variance / n).sqrt()).abs() < 1e-4, "{definition:?}: {found:?}");
        assert_eq!(found.bos, (definition == Definition::Harness).then_some(1));
        assert_eq!(found.per_text.is_some(), definition == Definition::Harness);
        if let Some(per_text) = found.per_text {
            assert_eq!((per_text.words, per_text.bytes), (18, text.len()));
            let total = mean * n;
            assert!((per_text.word_perplexity.ln() - total / 18.0).abs() < 1e-3, "{per_text:?}");
            assert!((per_text.bits_per_byte - per_text.byte_perplexity.log2()).abs() < 1e-9, "{per_text:?}");
        }
    }
    let long = Protocol { definition: Definition::Edgewise, window: 4096, stride: None, windows: None };
    assert!(matches!(perplexity(network(), &sub, &passage, long), Err(Error::Positions { found: 4096, most: 2048 })));
}

#[test]
fn without_a_stride_the_figure_is_the_search_s() {
    let (tokenizer, sub) = (tokenizer(), cut());
    let text = edgewise_supernet::HELD_OUT_TEXT;
    let windows = Windows { length: 64, count: 3 };
    let on = Evaluation { text: Text::encode(&tokenizer, text, 2048).unwrap(), windows };
    let expected = evaluate(network(), &sub, &on).unwrap();
    let passage = Passage::encode(&tokenizer, text, 2048).unwrap();
    let protocol = Protocol { definition: Definition::Edgewise, window: 64, stride: None, windows: Some(3) };
    let found = perplexity(network(), &sub, &passage, protocol).unwrap();
    assert_eq!((found.quality.tokens, found.windows), (expected.tokens, 3));
    assert!((found.quality.nll - expected.nll).abs() < 1e-9);

    let full = config().full();
    let reference = Reference::new(network(), &full, &on).unwrap();
    let (quality, divergence) = evaluate_against(network(), &sub, &on, &reference).unwrap();
    assert_eq!(quality, expected);
    let mut each = Vec::new();
    for window in on.text.windows(windows).unwrap() {
        for end in 1..window.len() {
            let (p, q) = (next(&full, &window[..end]), next(&sub, &window[..end]));
            each.push(p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>());
        }
    }
    assert_eq!(divergence.tokens, each.len());
    let mean = each.iter().sum::<f64>() / each.len() as f64;
    assert!(mean > 0.1 && (divergence.kl - mean).abs() < 1e-3 * mean, "{divergence:?} {mean}");
    let (_, none) = evaluate_against(network(), &full, &on, &reference).unwrap();
    assert!(none.kl < 1e-6, "{none:?}");
}
