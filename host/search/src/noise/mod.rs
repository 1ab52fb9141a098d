//! What noise allows to be said: intervals of results, verdicts on pairs, who deserves another trial, and ties.
//!
//! The unit is the *trial*, one fresh process: samples within a process share its memory layout and its moment, so more of them
//! do not tell how far the next process will be. Everything works on logarithms, since noise on a board is a share of the
//! time, and everything is deterministic: random numbers come from seeds of this module.

mod bootstrap;
mod compare;
mod draws;
mod race;
mod reading;
#[cfg(test)]
mod simulation;
mod spread;
mod student;
mod ties;

pub use bootstrap::{Part, Summary, median_of_trials, sum_of_trials};
pub use compare::{Comparison, DIFFERENCE, INDIFFERENCE, Verdict, compare};
pub use race::{Contender, LEAST_TRIALS, MOST_TRIALS, Rules, race};
pub use reading::Reading;
pub use spread::Spread;
pub use ties::{FrontMember, ties};
