//! A task's file in memory.

use crate::{Error, Row, read};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// The rows of a file, whatever form it has.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    path: PathBuf,
    rows: Vec<Map<String, Value>>,
}

impl Table {
    /// Reads a file; its first bytes say what it is: JSON Lines, one JSON list of objects, or Parquet.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NotATable`], [`Error::Line`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let rows = read::rows(path)?;
        if rows.is_empty() {
            return Err(Error::NotATable { path: path.to_owned(), reason: "has no rows".into() });
        }
        Ok(Self { path: path.to_owned(), rows })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of rows, at least one.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// The row with this index, which must be below [`Self::count`].
    pub fn row(&self, index: usize) -> Row<'_> {
        Row::new(&self.path, index, &self.rows[index])
    }

    /// All rows in the file's order.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.count()).map(|index| self.row(index))
    }
}
