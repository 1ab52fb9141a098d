//! A task made ready: which questions are asked, and what stands before each.

use crate::{
    Error, Item, Request, Table, Task,
    draw::{Draw, Stream},
    examples::Examples,
};
use serde::Serialize;
use std::sync::Arc;

/// What the user may choose.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Worked examples before each question; unset: [`Task::shots`].
    pub shots: Option<usize>,
    /// Most questions; they are drawn from all of them. Unset: all.
    pub limit: Option<usize>,
    /// Seed of the draws of questions and examples.
    pub seed: u64,
}

/// Where examples come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExampleSource {
    /// There are none.
    None,
    /// Other rows of the questions' file.
    SameFile,
    /// A file of their own.
    OwnFile,
}

/// A question with all that is asked about it.
#[derive(Debug, Clone)]
pub struct Question {
    /// Its row in the file, from 0.
    pub row: usize,
    /// The question.
    pub item: Item,
    before: Arc<str>,
}

impl Question {
    /// What is asked of a model.
    pub fn requests(&self) -> Vec<Request> {
        self.item.form.requests(&self.before)
    }
}

/// Questions in the order of their file.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The task.
    pub task: Task,
    /// Worked examples before each question.
    pub shots: usize,
    /// Where they come from.
    pub examples: ExampleSource,
    /// Rows of the questions' file that are none: headings between the rows of joined CSV files.
    pub skipped: usize,
    /// The questions.
    pub questions: Vec<Question>,
}

impl Plan {
    /// Draws questions from `table`, and examples for them from `examples` or else from `table` as well.
    ///
    /// # Errors
    /// [`Error::Column`] for a row that is none of the task, whether it is drawn or not; [`Error::Shots`]; [`Error::NotATable`] for
    /// nothing but headings.
    pub fn new(task: Task, table: &Table, examples: Option<&Table>, options: Options) -> Result<Self, Error> {
        let shots = options.shots.unwrap_or_else(|| task.shots());
        let read = |table: &Table| {
            let rows = table.rows().filter(|row| !row.is_heading());
            rows.map(|row| Ok((row.index(), task.item(row)?))).collect::<Result<Vec<(usize, Item)>, Error>>()
        };
        let items = read(table)?;
        if items.is_empty() {
            return Err(Error::NotATable { path: table.path().to_owned(), reason: "has no rows but headings".into() });
        }
        let own = match examples {
            Some(table) if shots > 0 => Some((table, read(table)?)),
            _ => None,
        };
        let pool = match &own {
            Some((table, items)) => Examples::new(task, table, items, false, options.seed),
            None => Examples::new(task, table, &items, true, options.seed),
        };
        let drawn = Draw::new(options.seed, Stream::Questions).sample(items.len(), options.limit.unwrap_or(items.len()));
        let mut last: Arc<str> = "".into();
        let questions = drawn.into_iter().map(|place| {
            let (row, item) = &items[place];
            let before = task.preface(item.subject.as_deref()) + &pool.before(*row, item, shots)?;
            // Most questions share theirs.
            if *last != *before {
                last = before.into();
            }
            Ok(Question { row: *row, item: item.clone(), before: Arc::clone(&last) })
        });
        let questions = questions.collect::<Result<Vec<_>, Error>>()?;
        let examples = match (shots, &own) {
            (0, _) => ExampleSource::None,
            (_, Some(_)) => ExampleSource::OwnFile,
            (_, None) => ExampleSource::SameFile,
        };
        Ok(Self { task, shots, examples, skipped: table.count() - items.len(), questions })
    }
}
