//! Which sub-networks to try next, and the durable study of those that were tried.
//!
//! This crate sees configurations, objective values with their uncertainty, constraints, and devices by name. It knows no
//! tensor, no model and no connection, so everything here is tested without any of them.

mod candidate;
mod constraint;
mod history;
mod hypervolume;
mod objective;
mod pareto;
mod sampler;
mod space;
mod store;

pub use candidate::{Candidate, CandidateError};
pub use constraint::{Constraint, ConstraintError, Relation, violation};
pub use history::{History, Outcome, Trial};
pub use hypervolume::{hypervolume, reference_point};
pub use objective::{Objective, ObjectiveError, parse_objectives};
pub use pareto::{Interval, PointError, crowding_distances, dominates, front, front_within_noise, sort_fronts};
pub use sampler::{
    DIAGONAL_LOCAL, DiagonalLocal, NSGA2, Nsga2, ParameterCount, RANDOM, Random, SAMPLERS, Sampler, SamplerError, proposal_rng,
    propose, sampler,
};
pub use space::{Dimension, PRESETS, Shape, Space, SpaceError, SpaceKind};
pub use store::{
    Artifact, Device, Drift, Error, Estimate, Failure, MeasurementRecord, Origin, Pending, Quality, Record, SCHEMA_VERSION,
    Settings, SqliteStudy, StudyStore,
};
