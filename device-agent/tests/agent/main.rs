//! The real agent, spoken to through its pipes.

mod blobs;
mod conditions;
mod examining;
mod generating;
mod lease;
mod measuring;
mod recipes;
mod serving;
mod support;
