//! Tokenizers from files that users have.
//!
//! Contract: the library trusts a byte-pair model in two ways: that what two tokens merge into is no longer than the longest
//! token, and that it may cut a prefix off the second of them. A file that breaks that would end the program; it is refused here
//! before the library sees it.

use crate::Error;
use edgewise_onnx::{Artifact, TOKENIZER_FILE};
use serde_json::Value;
use std::path::Path;
use tokenizers::Tokenizer;

/// The tokenizer in a `tokenizer.json`; `model` is what an error names.
///
/// # Errors
/// [`Error::Io`], [`Error::Tokenizer`].
pub(crate) fn read(path: &Path, model: &Path) -> Result<Tokenizer, Error> {
    let bad = |reason: String| Error::Tokenizer { path: model.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(|e| bad(format!("cannot read `{}`: {e}", path.display())))?;
    parse(&bytes).map_err(bad)
}

/// The tokenizer of an artifact.
///
/// # Errors
/// [`edgewise_onnx::Error::NotAnArtifact`] if it is missing or damaged.
pub fn open_tokenizer(artifact: &Artifact) -> Result<Tokenizer, edgewise_onnx::Error> {
    let bad = |reason: String| edgewise_onnx::Error::NotAnArtifact {
        path: artifact.folder.clone(),
        reason: format!("{TOKENIZER_FILE}: {reason}"),
    };
    let bytes = std::fs::read(artifact.folder.join(TOKENIZER_FILE)).map_err(|e| bad(e.to_string()))?;
    parse(&bytes).map_err(bad)
}

/// A tokenizer from the bytes of a `tokenizer.json`.
pub(crate) fn parse(bytes: &[u8]) -> Result<Tokenizer, String> {
    check_json(bytes)?;
    Tokenizer::from_bytes(bytes).map_err(|e| e.to_string())
}

/// Refuses merges that the library cannot take. What else is wrong the library says itself.
fn check_json(bytes: &[u8]) -> Result<(), String> {
    let file: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let model = &file["model"];
    let (Some(vocab), Some(merges)) = (model["vocab"].as_object(), model["merges"].as_array()) else { return Ok(()) };
    let prefix = model["continuing_subword_prefix"].as_str().unwrap_or_default();
    let pair = |merge: &'_ Value| -> Option<(String, String)> {
        let owned = |(a, b): (&str, &str)| (a.to_owned(), b.to_owned());
        match merge {
            Value::String(line) => line.split_once(' ').map(owned),
            merge => Some((merge[0].as_str()?.to_owned(), merge[1].as_str()?.to_owned())),
        }
    };
    check_merges(vocab.keys().map(String::as_str), merges.iter().filter_map(pair), prefix)
}

/// Refuses merges that the library cannot take.
pub(crate) fn check_merges<'a>(
    vocabulary: impl Iterator<Item = &'a str>,
    merges: impl Iterator<Item = (impl AsRef<str>, impl AsRef<str>)>,
    prefix: &str,
) -> Result<(), String> {
    let longest = vocabulary.map(str::len).max().unwrap_or_default();
    for (first, second) in merges {
        let (first, second) = (first.as_ref(), second.as_ref());
        let rest = second
            .get(prefix.len()..)
            .ok_or_else(|| format!("the merge of `{first}` and `{second}` has no prefix `{prefix}`"))?;
        if first.len() + rest.len() > longest {
            return Err(format!("`{first}` and `{second}` merge into what is no token"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(vocab: &str, merges: &str, prefix: &str) -> String {
        format!(
            "{{\"version\":\"1.0\",\"model\":{{\"type\":\"BPE\",\"continuing_subword_prefix\":{prefix},\"vocab\":{vocab},\
             \"merges\":{merges}}}}}"
        )
    }

    #[test]
    fn a_sound_model_is_read() {
        for merges in ["[\"a b\"]", "[[\"a\",\"b\"]]"] {
            let text = file("{\"a\":0,\"b\":1,\"ab\":2}", merges, "null");
            let tokenizer = parse(text.as_bytes()).unwrap();
            assert_eq!(tokenizer.encode("ab", false).unwrap().get_ids(), [2]);
        }
        let text = file("{\"a\":0,\"##b\":1,\"ab\":2}", "[[\"a\",\"##b\"]]", "\"##\"");
        assert_eq!(parse(text.as_bytes()).unwrap().get_vocab_size(false), 3);
    }

    /// Each of these ends the library with a panic.
    #[test]
    fn merges_that_the_library_cannot_take_are_refused() {
        for (vocab, merges, prefix, words) in [
            ("{\"aa\":0,\"bb\":1}", "[\"aa bb\"]", "null", "no token"),
            ("{\"aa\":0,\"bb\":1}", "[[\"aa\",\"bb\"]]", "null", "no token"),
            ("{\"aaaa\":0,\"b\":1}", "[\"aaaa b\"]", "\"####\"", "no prefix"),
            ("{\"aaaa\":0,\"é\":1}", "[\"aaaa é\"]", "\"#\"", "no prefix"),
        ] {
            let reason = parse(file(vocab, merges, prefix).as_bytes()).unwrap_err();
            assert!(reason.contains(words), "{words}: {reason}");
        }
    }

    #[test]
    fn what_is_no_tokenizer_is_an_error() {
        for text in ["", "{}", "[]", "{\"model\":[]}", "{\"model\":{\"type\":\"BPE\",\"vocab\":[],\"merges\":{}}}"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_vocabulary_and_merges_panic(
            tokens in prop::collection::btree_set("[a-cé#]{1,5}", 1..8), pairs in prop::collection::vec((0_usize..8, 0_usize..8), 0..6),
            prefix in prop::option::of("[a#é]{0,3}"),
        ) {
            let tokens: Vec<String> = tokens.into_iter().collect();
            let vocab = serde_json::json!(tokens.iter().enumerate().map(|(i, t)| (t.clone(), i)).collect::<std::collections::BTreeMap<_, _>>());
            let merges: Vec<[&String; 2]> = pairs.iter().map(|(a, b)| [&tokens[a % tokens.len()], &tokens[b % tokens.len()]]).collect();
            let text = file(&vocab.to_string(), &serde_json::json!(merges).to_string(), &serde_json::json!(prefix).to_string());
            let _ = parse(text.as_bytes());
        }
    }
}
