//! Samplers: what to try next, given what is known.
//!
//! A sampler has no state. Proposal n depends on the space, the seed, n, and the history it is shown, so that a study resumes with
//! exactly the proposals it would have made had it never stopped.

mod api;
mod genome;
mod guided;
mod local;
mod nsga2;
mod random;
mod sensitivity;
mod strata;

pub use api::{DIAGONAL_LOCAL, NSGA2, ParameterCount, RANDOM, SAMPLERS, Sampler, SamplerError, proposal_rng, propose, sampler};
pub use guided::Guided;
pub use local::DiagonalLocal;
pub use nsga2::Nsga2;
pub use random::Random;
pub use strata::Strata;
