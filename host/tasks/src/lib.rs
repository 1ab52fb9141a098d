//! Tasks that a language model is scored on: the files people have them in, the prompts, what is asked of a model, the metrics.
//!
//! Contract: [`Table`] reads JSON Lines, JSON and Parquet; [`Task`] knows how a row of the usual layouts becomes an [`Item`];
//! [`Plan`] puts worked examples in front of it; [`run`] asks a [`Scorer`] and judges its answers; [`Report`] has the metrics with
//! standard errors. Prompts have the format of EleutherAI's lm-evaluation-harness, so that figures can be compared; where
//! something differs, the task's documentation says so. Nothing here knows a tensor, a tokenizer or a device.

mod draw;
mod error;
mod examples;
mod families;
mod item;
mod judge;
mod metric;
mod number;
mod plan;
mod read;
mod report;
mod row;
mod run;
mod table;
mod task;

pub use error::Error;
pub use item::{Form, Item, Request};
pub use judge::{Answer, Detail, Likelihood, Outcome, Score};
pub use metric::{Estimate, Metric};
pub use plan::{ExampleSource, Options, Plan, Question};
pub use report::{Report, SubjectReport};
pub use row::Row;
pub use run::{Scorer, run};
pub use table::Table;
pub use task::Task;
