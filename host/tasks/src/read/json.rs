//! JSON Lines, and one JSON list of objects.

use super::source::MOST_ROWS;
use crate::Error;
use serde_json::{Map, Value};
use std::path::Path;

/// Some editors put it before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The rows of a file's bytes.
pub(super) fn rows(bytes: &[u8], path: &Path) -> Result<Vec<Map<String, Value>>, Error> {
    let not = |reason: String| Error::NotATable { path: path.to_owned(), reason };
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let rows = match bytes.iter().find(|b| !b.is_ascii_whitespace()) {
        None => return Err(not("is empty".into())),
        Some(b'[') => serde_json::from_slice(bytes).map_err(|e| not(format!("is no list of objects: {e}")))?,
        Some(b'{') => lines(bytes, path)?,
        Some(_) => return Err(not("is neither JSON Lines, nor a JSON list, nor Parquet".into())),
    };
    if rows.len() > MOST_ROWS {
        return Err(not(format!("has more than {MOST_ROWS} rows")));
    }
    Ok(rows)
}

fn lines(bytes: &[u8], path: &Path) -> Result<Vec<Map<String, Value>>, Error> {
    let lines = bytes.split(|b| *b == b'\n').enumerate();
    let filled = lines.filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace));
    filled
        .map(|(index, line)| {
            let bad = |e: serde_json::Error| Error::Line { path: path.to_owned(), line: index + 1, reason: e.to_string() };
            serde_json::from_slice(line).map_err(bad)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Vec<Map<String, Value>>, String> {
        rows(text.as_bytes(), Path::new("x.jsonl")).map_err(|e| e.to_string())
    }

    #[test]
    fn lines_and_lists_are_the_same_rows() {
        let lines = read("\u{feff}{\"a\":1}\r\n\n  {\"a\":\"b\"}\n").unwrap();
        assert_eq!(lines, read(" [{\"a\":1},\n{\"a\":\"b\"}]").unwrap());
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, words) in [
            ("", "`x.jsonl` is empty"),
            (" \n", "is empty"),
            ("question,answer\n", "neither JSON Lines"),
            ("[1]", "is no list of objects"),
            ("[{\"a\":1}", "is no list of objects"),
            ("{\"a\":1}\n{\"a\":", "`x.jsonl`, line 2: "),
            ("{\n\"a\": 1\n}", "line 1: "),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), start in "[\\[{]?") {
            let _ = rows(&[start.as_bytes(), &bytes].concat(), Path::new("x"));
        }

        #[test]
        fn a_cut_file_is_an_error_or_fewer_rows(values in prop::collection::vec("[a-z\"\\\\é]{0,9}", 1..6), cut in 0.0..1.0f64) {
            let text = values.iter().map(|v| format!("{}\n", serde_json::json!({ "text": v }))).collect::<Vec<_>>().concat();
            prop_assert_eq!(rows(text.as_bytes(), Path::new("x")).unwrap().len(), values.len());
            if let Ok(rows) = rows(&text.as_bytes()[..(text.len() as f64 * cut) as usize], Path::new("x")) {
                prop_assert!(rows.len() < values.len() || cut > 0.9);
            }
        }
    }
}
