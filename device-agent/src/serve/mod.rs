//! The agent's side of the protocol.
//!
//! Contract: one thread dispatches and owns all state. Bytes come from a reader thread and go out through one [`output`];
//! whatever may take long (hashing, describing, measuring) runs on a thread of its own and ends in an event for the dispatcher.

mod dispatch;
mod input;
mod output;
mod requests;
mod settle;
mod start;

pub use start::{ServeOptions, serve};
