//! The durable study: the only state of a search that matters.

mod error;
mod rows;
mod schema;
mod sqlite;
mod study;
mod types;

pub use error::Error;
pub use schema::SCHEMA_VERSION;
pub use sqlite::SqliteStudy;
pub use study::StudyStore;
pub use types::{Artifact, Device, Drift, Estimate, Failure, MeasurementRecord, Origin, Pending, Quality, Record, Settings};
