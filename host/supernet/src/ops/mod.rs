//! Differentiable operations, each one pass over its rows in both directions.
//!
//! candle's fused kernels (`rms_norm`, `softmax_last_dim`, `rope`) have no backward pass, and say so only by leaving a variable
//! without a gradient; its primitives have one, but keep every intermediate. Contract: each function here has a gradient with
//! respect to every tracked input; where nothing is tracked candle records nothing, so that evaluation and training share one
//! forward pass. Single precision on the CPU runs the kernels of this module. Other devices and element types run the same
//! functions made of candle's primitives, which are also what the tests compare the kernels with.
//!
//! Rows are shared among threads, but no sum depends on how: results do not change with the number of threads. Loops over a row are
//! functions of their own (`multiversion`), compiled for several widths of vectors; sums have lanes of their own, and results do not
//! change with the width either.

#![allow(clippy::inline_always, reason = "what is not part of a function compiled for wide vectors is compiled for narrow ones")]

mod attention;
mod dropout;
mod exp;
mod gate;
mod linear;
mod losses;
mod norm;
mod product;
mod rope;
mod rows;
#[cfg(test)]
mod tests;
mod tiles;

pub use attention::{causal_attention, causal_softmax};
pub(crate) use dropout::uniform;
pub use dropout::{Dropout, mix};
pub use gate::swiglu;
pub(crate) use linear::frozen_matmul_into;
pub use linear::{adapted_matmul, frozen_matmul};
pub(crate) use losses::log_sum_exp;
pub use losses::{Divergence, cross_entropy, divergence};
pub use norm::rms_norm;
pub use rope::rope;
