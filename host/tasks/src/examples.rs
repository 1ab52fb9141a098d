//! Which worked examples stand before a question.
//!
//! Contract: examples are of the question's subject, never the question itself, and depend on the seed alone. All questions of a
//! subject get the same ones, but for one that is among them itself: it gets the next. A fixed beginning is what makes scoring
//! cheap, for a scorer keeps what two prompts have in common.

use crate::{
    Error, Item, Table, Task,
    draw::{Draw, Stream},
};
use std::{collections::BTreeMap, path::Path};

/// Stands between examples.
const SEPARATOR: &str = "\n\n";

/// Examples by subject, in the order in which they are taken.
pub(crate) struct Examples<'a> {
    path: &'a Path,
    by_subject: BTreeMap<Option<&'a str>, Vec<(usize, &'a Item)>>,
    /// They are the questions themselves.
    same_file: bool,
}

impl<'a> Examples<'a> {
    /// Of a file of their own, or of the questions' file. Those of a file that was written for the purpose are taken in its
    /// order, others in a random one.
    pub(crate) fn new(task: Task, table: &'a Table, items: &'a [(usize, Item)], same_file: bool, seed: u64) -> Self {
        let mut by_subject: BTreeMap<Option<&str>, Vec<(usize, &Item)>> = BTreeMap::new();
        for (row, item) in items {
            by_subject.entry(item.subject.as_deref()).or_default().push((*row, item));
        }
        if same_file || !task.takes_first_examples() {
            let mut draw = Draw::new(seed, Stream::Examples);
            for pool in by_subject.values_mut() {
                draw.shuffle(pool);
            }
        }
        Self { path: table.path(), by_subject, same_file }
    }

    /// The text before a question: `shots` examples, each followed by an empty line.
    pub(crate) fn before(&self, row: usize, question: &Item, shots: usize) -> Result<String, Error> {
        let pool = self.by_subject.get(&question.subject.as_deref()).map(Vec::as_slice).unwrap_or_default();
        // Data sets repeat questions; a copy would give the answer away.
        let others = pool.iter().filter(|(at, item)| !(self.same_file && *at == row) && item.form != question.form);
        let taken: Vec<String> = others.take(shots).map(|(_, item)| item.form.worked() + SEPARATOR).collect();
        if taken.len() < shots {
            let (path, subject) = (self.path.to_owned(), question.subject.clone());
            return Err(Error::Shots { path, subject, wanted: shots, found: taken.len() });
        }
        Ok(taken.concat())
    }
}
