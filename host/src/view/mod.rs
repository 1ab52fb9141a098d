//! A study in memory, and what follows from it.
//!
//! Contract: what a device measured of a candidate is several trials; a *value* is the median of their medians and costs
//! nothing to ask for, an *interval* takes a bootstrap and is made only for what is shown. What a sampler may know is the
//! screening alone, so that trials made later never change what a resumed search proposes.

mod comparison;
mod front;
mod measured;
mod study;

pub(crate) use comparison::Compared;
pub(crate) use measured::{Intervals, Measured};
pub(crate) use study::{ALLOW_EMULATED, View};

#[cfg(test)]
mod tests;
