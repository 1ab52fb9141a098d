//! The durable study: the only state of a search that matters.

mod error;
mod rows;
mod schema;
mod sqlite;
mod study;
mod trial;
mod types;

pub use error::Error;
pub use schema::SCHEMA_VERSION;
pub use sqlite::SqliteStudy;
pub use study::StudyStore;
pub use trial::{Energy, Form, Gap, Role, SENTINEL_SEAT, Session, Trial};
pub use types::{Artifact, Device, Estimate, Failure, Origin, Pending, Quality, Record, Settings, TaskScore};
