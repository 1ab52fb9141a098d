//! The tokenizer and the windows.

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;

const TEXT: &str = "To be, or not to be: that is the question.\nWhether 'tis nobler in the mind to suffer\n\
    The slings and arrows of outrageous fortune,\n\n\nÆther \u{1F600}\n";

#[test]
fn encoding_loses_nothing_and_adds_nothing() {
    let tokenizer = train_tokenizer(TEXT, 280).unwrap();
    let text = "  a naïve test,\n\n with unseen words\t\u{2603}";
    let ids = encode(&tokenizer, text).unwrap();
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
    let bytes = token_bytes(&tokenizer).unwrap();
    assert_eq!(ids.iter().map(|&id| bytes[id as usize]).sum::<usize>(), text.len());
}

#[test]
fn training_is_deterministic() {
    let train = || train_tokenizer(TEXT, 280).unwrap().to_string(false).unwrap();
    assert_eq!(train(), train());
}

#[test]
fn a_text_too_short_for_the_vocabulary_is_an_error() {
    assert!(train_tokenizer("ab", 300).is_err());
}

#[test]
fn works_are_separated() {
    let tokenizer = train_tokenizer(TEXT, 280).unwrap();
    let ids = encode_works(&tokenizer, TEXT).unwrap();
    let ends: Vec<usize> = ids.iter().enumerate().filter(|(_, id)| **id == END_OF_TEXT_ID).map(|(at, _)| at).collect();
    assert_eq!(ends.len(), 3);
    assert_eq!((ends[0], ends[2]), (0, ids.len() - 1));
}

#[test]
fn an_epoch_visits_every_window_once() {
    let ids: Vec<u32> = (0..1000).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut windows = Windows::new(&ids, 100).unwrap();
    // At any offset, nine windows fit for certain.
    let starts: BTreeSet<u32> = windows.batch(9, &mut rng).iter().map(|window| window[0]).collect();
    assert_eq!(starts.len(), 9);
    assert_eq!(starts.iter().map(|start| start % 100).collect::<BTreeSet<_>>().len(), 1);
    assert!(windows.batch(50, &mut rng).iter().all(|window| window.len() == 100));
}

#[test]
fn too_few_tokens_are_an_error() {
    assert!(Windows::new(&[1, 2, 3], 2).is_err());
}
