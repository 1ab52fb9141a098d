//! One row, and what tasks want of it.
//!
//! Contract: what is missing or of the wrong type is an [`Error::Column`] that names file, row and column. A column's name may
//! lead into nested ones: `choices.text`. Null is as good as missing, since Parquet cannot leave a column out.

use crate::Error;
use serde_json::{Map, Value};
use std::path::Path;

/// A row of a [`crate::Table`].
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    path: &'a Path,
    index: usize,
    values: &'a Map<String, Value>,
}

impl<'a> Row<'a> {
    pub(crate) fn new(path: &'a Path, index: usize, values: &'a Map<String, Value>) -> Self {
        Self { path, index, values }
    }

    /// Its place in the file, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whether it is a heading that was left between the rows of joined CSV files: most of its columns hold their own name.
    pub(crate) fn is_heading(&self) -> bool {
        let own = self.values.iter().filter(|(name, value)| value.as_str() == Some(name.as_str())).count();
        2 * own > self.values.len()
    }

    /// An error about a column of this row.
    pub(crate) fn problem(&self, column: &str, problem: impl Into<String>) -> Error {
        let (path, row, column) = (self.path.to_owned(), self.index, column.to_owned());
        Error::Column { path, row, column, problem: problem.into() }
    }

    /// A column's value, where it has one.
    pub(crate) fn find(&self, column: &str) -> Option<&'a Value> {
        let mut names = column.split('.');
        let first = self.values.get(names.next()?)?;
        names.try_fold(first, |value, name| value.get(name)).filter(|value| !value.is_null())
    }

    /// A column's value.
    pub(crate) fn get(&self, column: &str) -> Result<&'a Value, Error> {
        self.find(column).ok_or_else(|| {
            let known: Vec<&str> = self.values.keys().map(String::as_str).collect();
            self.problem(column, format!("is missing; the row has {}", known.join(", ")))
        })
    }

    /// A text.
    pub(crate) fn text(&self, column: &str) -> Result<&'a str, Error> {
        self.get(column)?.as_str().ok_or_else(|| self.problem(column, "is not a text"))
    }

    /// A list.
    pub(crate) fn list(&self, column: &str) -> Result<&'a [Value], Error> {
        self.get(column)?.as_array().map(Vec::as_slice).ok_or_else(|| self.problem(column, "is not a list"))
    }

    /// A list of texts.
    pub(crate) fn texts(&self, column: &str) -> Result<Vec<String>, Error> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let texts: Option<Vec<String>> = self.list(column)?.iter().map(text).collect();
        texts.ok_or_else(|| self.problem(column, "holds something else than texts"))
    }

    /// A whole number, which some files write as a text.
    pub(crate) fn integer(&self, column: &str) -> Result<i64, Error> {
        let value = self.get(column)?;
        let number = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
        number.ok_or_else(|| self.problem(column, "is not a whole number"))
    }

    /// Which of `count` things, counted from `first`, a whole number names.
    pub(crate) fn choice(&self, column: &str, first: i64, count: usize) -> Result<usize, Error> {
        let number = self.integer(column)?;
        let index = usize::try_from(number.saturating_sub(first)).ok().filter(|index| *index < count);
        index.ok_or_else(|| {
            let last = first + count as i64 - 1;
            self.problem(column, format!("is {number}, an answer is from {first} to {last}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_wrong_is_named() {
        let Value::Object(values) = json!({
            "text": "a", "null": null, "nested": { "list": ["b", 1], "texts": ["c"] }, "label": "2", "minus": -1,
        }) else {
            unreachable!()
        };
        let row = Row::new(Path::new("x.jsonl"), 7, &values);
        assert_eq!(row.text("text").unwrap(), "a");
        assert_eq!(row.texts("nested.texts").unwrap(), ["c"]);
        assert_eq!((row.choice("label", 1, 2).unwrap(), row.choice("label", 0, 3).unwrap()), (1, 2));
        let says = |result: Result<(), Error>, words: &str| {
            let error = result.unwrap_err().to_string();
            assert!(error.starts_with("`x.jsonl`, row 7: column `") && error.contains(words), "{error}");
        };
        says(row.text("other").map(drop), "`other` is missing; the row has label, minus, nested, null, text");
        says(row.text("null").map(drop), "`null` is missing");
        says(row.text("nested").map(drop), "is not a text");
        says(row.text("text.deeper").map(drop), "`text.deeper` is missing");
        says(row.texts("nested.list").map(drop), "`nested.list` holds something else than texts");
        says(row.list("text").map(drop), "is not a list");
        says(row.integer("text").map(drop), "is not a whole number");
        says(row.choice("minus", 0, 2).map(drop), "is -1, an answer is from 0 to 1");
        says(row.choice("label", 1, 1).map(drop), "is 2, an answer is from 1 to 1");
    }
}
