//! Which sub-networks to try next, and the durable study of those that were tried.
//!
//! This crate sees configurations, objective values with their uncertainty, constraints, and devices by name. It knows no
//! tensor, no model and no connection, so everything here is tested without any of them.

mod candidate;
mod constraint;
mod dimension;
mod explore;
mod head_sizes;
mod history;
mod hypervolume;
mod noise;
mod objective;
mod pareto;
mod portability;
mod presets;
mod recipes;
mod sampler;
mod schedule;
mod sentinel;
mod space;
mod store;

pub use candidate::{Candidate, CandidateError};
pub use constraint::{Constraint, ConstraintError, Relation, violation};
pub use explore::spread_first;
pub use head_sizes::HeadSizes;
pub use history::{History, Outcome, Proposal};
pub use hypervolume::{hypervolume, reference_point};
pub use noise::{
    Comparison, Contender, DIFFERENCE, FrontMember, INDIFFERENCE, LEAST_TRIALS, MOST_TRIALS, Part, Reading, Rules, Spread,
    Summary, Verdict, compare, median_of_trials, race, sum_of_trials, ties,
};
pub use objective::{Objective, ObjectiveError, parse_objectives};
pub use pareto::{PointError, crowding_distances, dominates, front, sort_fronts};
pub use portability::{Agreement, Quantity, kendall, portability, spearman};
pub use presets::PRESETS;
pub use recipes::{EXPLORE, LADDER, Recipes, SEARCH, SERIES_PREFIX};
pub use sampler::{
    DIAGONAL_LOCAL, DiagonalLocal, Guided, NSGA2, Nsga2, ParameterCount, RANDOM, Random, SAMPLERS, Sampler, SamplerError, Strata,
    proposal_rng, propose, sampler,
};
pub use schedule::{Seat, seats};
pub use sentinel::{SentinelPoint, sentinel_series};
pub use space::{Dimension, Shape, Space, SpaceError, SpaceKind};
pub use store::{
    Artifact, Device, Energy, Error, Estimate, Failure, Form, Gap, Origin, Pending, Quality, Record, Role, SCHEMA_VERSION,
    SENTINEL_SEAT, Session, Settings, SqliteStudy, StudyStore, TaskScore, Trial,
};
