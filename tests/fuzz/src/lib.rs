//! What the fuzz targets share: inputs to begin with, changes that keep an input's form, and files for readers that want a path.

mod dice;
mod gguf;
mod json;
mod seed;

pub use dice::Dice;
pub use gguf::Gguf;
pub use json::{change_json, mutate_json};
pub use seed::{folder, seed, tiny_model};
