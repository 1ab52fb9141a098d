//! Which reader a file needs.

use super::{json, parquet};
use crate::Error;
use serde_json::{Map, Value};
use std::{
    fs::File,
    io::{Read, Seek},
    path::Path,
};

/// Longest JSON file that is read, in bytes: all of it is held in memory. The data sets of the tasks have below 100 MB.
const LONGEST: u64 = 1 << 30;
/// Most rows of a file. The largest training split of the tasks has 40 thousand.
pub(super) const MOST_ROWS: usize = 2_000_000;
/// How a Parquet file begins.
const PARQUET: &[u8; 4] = b"PAR1";

/// The rows of a file.
pub(crate) fn rows(path: &Path) -> Result<Vec<Map<String, Value>>, Error> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let metadata = file.metadata().map_err(Error::io(path))?;
    let not = |reason: String| Error::NotATable { path: path.to_owned(), reason };
    if metadata.is_dir() {
        return Err(not("is a folder; give one of its files".into()));
    }
    let mut first = Vec::with_capacity(PARQUET.len());
    Read::by_ref(&mut file).take(PARQUET.len() as u64).read_to_end(&mut first).map_err(Error::io(path))?;
    if first == PARQUET {
        file.rewind().map_err(Error::io(path))?;
        return parquet::rows(file, path);
    }
    // What is no regular file has no length: reading stops at the limit.
    let mut bytes = first;
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    if bytes.len() as u64 > LONGEST {
        return Err(not(format!("has more than {} MB", LONGEST >> 20)));
    }
    json::rows(&bytes, path)
}
