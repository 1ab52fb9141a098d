//! Target profiles: what each kind of board needs, as data.
//!
//! Contract: one TOML file per kind of board, embedded here and parsed with unknown keys refused; a user's own file of the
//! same form can stand in for any of them. Nothing here connects to a board or knows the protocol.

mod board;
mod error;
mod kinds;
mod own;
mod profile;

pub use board::{Board, Cluster};
pub use error::Error;
pub use kinds::{Provider, Runtime, Sensor};
pub use own::{Listed, Origin};
pub use profile::{AGENT_GLIBC, Profile};
