//! What the fuzz targets share: inputs to begin with, and files for readers that want a path.

mod gguf;
mod seed;

pub use gguf::tiny_gguf;
pub use seed::{folder, seed, tiny_model};
