//! Training data as people have them: plain text, lines of JSON, and the layouts that instructions come in.
//!
//! Contract: a file is what its name ends in. `.json` is one list of objects, `.jsonl` an object per line, anything else plain
//! UTF-8 text, one document. An object with the key `text` is plain text; one with `instruction` (and, as the well-known sets
//! have it, `input`, `output`, `answer`) is a prompt and its answer. Everything else is an error that names file and place.

use crate::Error;
use serde_json::Value;
use std::path::Path;

/// A text to learn from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What comes before the answer; empty for plain text.
    pub prompt: String,
    /// What is answered, or all of a plain text.
    pub answer: String,
}

/// Between the parts of a prompt, and before the answer.
const BREAK: &str = "\n\n";

/// Reads one file, and gives its bytes as well, so that they can be hashed.
///
/// # Errors
/// [`Error::Io`], and [`Error::Data`] for what is no text or no layout that is known.
pub fn read_documents(path: &Path) -> Result<(Vec<Document>, Vec<u8>), Error> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let documents = parse(path, &bytes)?;
    Ok((documents, bytes))
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Document>, Error> {
    let bad = |place: String, reason: String| Error::Data { path: path.to_owned(), place, reason };
    let text =
        std::str::from_utf8(bytes).map_err(|e| bad(format!(", byte {}", e.valid_up_to()), "it is not UTF-8 text".into()))?;
    // Some editors begin a file with it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let kind = path.extension().map(std::ffi::OsStr::to_ascii_lowercase);
    let documents = match kind.as_ref().and_then(|x| x.to_str()) {
        Some("jsonl" | "ndjson") => text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(number, line)| {
                let place = || format!(", line {}", number + 1);
                let value: Value = serde_json::from_str(line).map_err(|e| bad(place(), e.to_string()))?;
                document(&value).map_err(|reason| bad(place(), reason))
            })
            .collect::<Result<Vec<_>, _>>()?,
        Some("json") => {
            let value: Value = serde_json::from_str(text).map_err(|e| bad(String::new(), e.to_string()))?;
            let list = value.as_array().ok_or_else(|| bad(String::new(), "it holds no list of objects".into()))?;
            let each = list.iter().enumerate();
            each.map(|(number, value)| document(value).map_err(|reason| bad(format!(", entry {}", number + 1), reason)))
                .collect::<Result<Vec<_>, _>>()?
        }
        _ => vec![Document { prompt: String::new(), answer: text.to_owned() }],
    };
    let documents: Vec<Document> = documents.into_iter().filter(|d| !d.answer.trim().is_empty()).collect();
    if documents.is_empty() { Err(bad(String::new(), "it holds no text".into())) } else { Ok(documents) }
}

/// One object of a file.
fn document(value: &Value) -> Result<Document, String> {
    let object = value.as_object().ok_or("it is no object")?;
    let part = |key: &str| match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("`{key}` is no text")),
    };
    if let Some(text) = part("text")? {
        return Ok(Document { prompt: String::new(), answer: text.to_owned() });
    }
    let Some(instruction) = part("instruction")? else {
        return Err("it has neither `text` nor `instruction`".into());
    };
    let answer = match part("output")? {
        Some(output) if !output.trim().is_empty() => output,
        _ => part("answer")?.ok_or("it has neither `output` nor `answer`")?,
    };
    let parts = [instruction, part("input")?.unwrap_or_default()];
    let parts: Vec<&str> = parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect();
    Ok(Document { prompt: format!("{}{BREAK}", parts.join(BREAK)), answer: answer.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(name: &str, text: &str) -> Result<Vec<Document>, String> {
        parse(Path::new(name), text.as_bytes()).map_err(|e| e.to_string())
    }

    fn plain(text: &str) -> Document {
        Document { prompt: String::new(), answer: text.into() }
    }

    #[test]
    fn every_layout_is_read() {
        assert_eq!(read("a.txt", "\u{feff}To be\n").unwrap(), [plain("To be\n")]);
        assert_eq!(read("a.jsonl", "{\"text\":\"a\"}\n\n{\"text\":\"b\",\"id\":3}\n").unwrap(), [plain("a"), plain("b")]);
        let alpaca =
            r#"[{"instruction":"Add.","input":"1 and 2","output":"3"},{"instruction":"Sing.","input":"","output":"La"}]"#;
        let expected = [
            Document { prompt: "Add.\n\n1 and 2\n\n".into(), answer: "3".into() },
            Document { prompt: "Sing.\n\n".into(), answer: "La".into() },
        ];
        assert_eq!(read("alpaca.JSON", alpaca).unwrap(), expected);
        let commonsense = r#"{"instruction":"True or false?","input":"","output":"the correct answer is true","answer":"true"}"#;
        let document = Document { prompt: "True or false?\n\n".into(), answer: "the correct answer is true".into() };
        assert_eq!(read("c.jsonl", commonsense).unwrap(), [document]);
        let short = read("c.jsonl", r#"{"instruction":"True?","output":"","answer":"true"}"#).unwrap();
        assert_eq!(short[0].answer, "true");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (name, text, words) in [
            ("a.txt", " \n", "it holds no text"),
            ("a.jsonl", "{\"text\":\"a\"}\n{\"text\":", "line 2"),
            ("a.jsonl", "{\"text\":\"a\"}\n{\"txt\":\"b\"}", "line 2: it has neither `text` nor `instruction`"),
            ("a.jsonl", "{\"text\":7}", "line 1: `text` is no text"),
            ("a.json", "{\"text\":\"a\"}", "no list"),
            ("a.json", "[{\"instruction\":\"x\"}]", "entry 1: it has neither `output` nor `answer`"),
            ("a.json", "[]", "it holds no text"),
        ] {
            let error = read(name, text).unwrap_err();
            assert!(error.contains(words) && error.contains(name), "{error}");
        }
        let error = parse(Path::new("a.txt"), b"ab\xff").unwrap_err().to_string();
        assert!(error.contains("byte 2") && error.contains("UTF-8"), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), name in prop_oneof![Just("x.json"), Just("x.jsonl"), Just("x")]) {
            let _ = parse(Path::new(name), &bytes);
        }

        #[test]
        fn no_object_panics(key in "(text|instruction|input|output|answer|x)", other in "(text|instruction|output)", value in ".{0,8}", number in any::<i32>()) {
            let line = serde_json::json!({ key: value, other: number }).to_string();
            let _ = parse(Path::new("x.jsonl"), line.as_bytes());
            let _ = parse(Path::new("x.json"), format!("[{line}]").as_bytes());
        }
    }
}
