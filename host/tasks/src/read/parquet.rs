//! Parquet, as the Hugging Face hub keeps data sets.
//!
//! The library reads well-formed files well, but unwraps what a damaged one says in places, and sets aside what memory it asks
//! for: see [`super::guard`] and [`super::pages`].

use super::{guard::guarded, pages, source::MOST_ROWS};
use crate::Error;
use ::parquet::{
    errors::ParquetError,
    file::reader::{FileReader, SerializedFileReader},
};
use serde_json::{Map, Value};
use std::{fs::File, path::Path};

/// The rows of a file that begins as a Parquet file does.
pub(super) fn rows(file: File, path: &Path) -> Result<Vec<Map<String, Value>>, Error> {
    let damaged = |reason: String| Error::NotATable { path: path.to_owned(), reason };
    let read = guarded(move || read(file)).map_err(|panic| damaged(format!("is a damaged Parquet file: {panic}")))?;
    match read.map_err(|e| damaged(format!("is no Parquet file that can be read: {e}")))? {
        Some(rows) => Ok(rows),
        None => Err(damaged(format!("has more than {MOST_ROWS} rows"))),
    }
}

/// `None` if there are too many.
fn read(file: File) -> Result<Option<Vec<Map<String, Value>>>, ParquetError> {
    let pages = file.try_clone()?;
    let reader = SerializedFileReader::new(file)?;
    pages::check(pages, reader.metadata(), pages::MOST)?;
    let mut out = Vec::new();
    for row in reader.get_row_iter(None)? {
        if out.len() == MOST_ROWS {
            return Ok(None);
        }
        match row?.to_json_value() {
            Value::Object(values) => out.push(values),
            other => return Err(ParquetError::General(format!("a row is {other}"))),
        }
    }
    Ok(Some(out))
}
