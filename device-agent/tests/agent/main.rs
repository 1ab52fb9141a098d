//! The real agent, spoken to through its pipes.

mod blobs;
mod measuring;
mod serving;
mod support;
