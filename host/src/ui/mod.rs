//! What the user sees: data on stdout, everything else on stderr.

mod errors;
mod printer;
mod progress;

pub(crate) use errors::render;
pub(crate) use printer::Printer;
pub(crate) use progress::Progress;
