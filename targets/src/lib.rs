//! Target profiles: what each kind of board needs, as data.
//!
//! Contract: one TOML file per kind of board, embedded here and parsed with unknown keys refused; a user's own file of the
//! same form can stand in for any of them. Nothing here connects to a board or knows the protocol.

mod error;
mod profile;

pub use error::Error;
pub use profile::{Profile, Runtime};
