//! ONNX artifacts of Llama-family sub-networks.
//!
//! Contract: a [`ModelConfig`], a [`SubNetwork`] and sorted [`Weights`] become a folder with `model.onnx`, its external data,
//! the tokenizer, a configuration and a manifest. The same inputs give the same bytes on every machine, which is why nothing
//! here uses the platform's mathematics library, clock or randomness, and why this crate knows no device and no transport:
//! the host and the agent must be able to build the same artifact.
//!
//! A device gets the super-network once: a [`SuperNetworkIndex`] names its chunks, a [`Recipe`] says what to make of them, and
//! [`ChunkedWeights`] are what an [`ArtifactWriter`] makes it of there.

mod artifact;
mod assembly;
mod config;
mod decoder;
mod error;
mod graph;
mod hash;
mod index;
mod kept;
mod layout;
mod manifest;
pub mod proto;
mod reading;
mod recipe;
mod rope;
mod rows;
mod slice;
mod stream;
pub mod testing;
mod weights;
mod writer;

pub use artifact::Artifact;
pub use assembly::Assembly;
pub use config::{ModelConfig, RopeScaling, SubNetwork};
pub use decoder::{INPUT_NUM_LOGITS, input_past, output_present};
pub use error::Error;
pub use hash::{ContentHash, NotAHash};
pub use index::{
    CHUNK_BYTES, Chunk, ChunkSource, ChunkedWeights, INDEX_SCHEMA, IndexedTensor, MAX_CHUNK_BYTES, MAX_CHUNKS, MAX_INDEX_BYTES,
    SuperNetworkIndex,
};
pub use layout::tensors;
pub use manifest::{FileEntry, MANIFEST_SCHEMA, Manifest, Precision, ProbeFile, ProbeStep, Source};
pub use reading::ArtifactWeights;
pub use recipe::{MAX_RECIPE_BYTES, Recipe};
pub use rope::rotary_tables;
pub use rows::{RowSource, RowView};
pub use weights::{ElementType, MappedWeights, TensorView, Weights, names};
pub use writer::{ArtifactDigest, ArtifactWriter, Extras};

/// File name of the graph inside an artifact.
pub const MODEL_FILE: &str = "model.onnx";
/// File name of the layers' weights inside an artifact.
pub const DATA_FILE: &str = "model.onnx_data";
/// File name of the weights that depend on the width and the size of heads alone inside an artifact: embedding, output
/// projection, rotary tables. It carries the name that transformers.js gives a second data file.
pub const SHARED_DATA_FILE: &str = "model.onnx_data_1";
/// File name of the manifest inside an artifact.
pub const MANIFEST_FILE: &str = "manifest.json";
/// File name of the reference logits beside the artifact's own files.
pub const PROBE_FILE: &str = "probe.json";
/// File name of the tokenizer inside an artifact.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// File name of the configuration inside an artifact.
pub const CONFIG_FILE: &str = "config.json";
