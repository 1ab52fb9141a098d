//! From a checkpoint to a sorted super-network, the quality of its sub-networks, and what training them needs.
//!
//! Contract: [`Checkpoint::open`] reads what users have (a Hugging Face folder or a GGUF file); [`prepare`] ranks layers,
//! key/value groups, neurons and width on calibration text and writes the weights sorted, so that every sub-network is a
//! prefix; [`SuperNetwork`] opens that folder, evaluates sub-networks with candle and gives the weights to the artifact
//! writer. [`Network::make_trainable`] gives a network variables, [`ops`] are its differentiable operations and the losses,
//! and [`SuperNetwork::write_finetuned`] writes what came of training. Nothing here knows a device or a search.

mod bundled;
mod checkpoint;
mod error;
mod finetuned;
mod gguf;
mod gguf_header;
mod hf_config;
mod importance;
mod linear;
mod load;
mod method;
mod moments;
mod network;
pub mod ops;
mod prepare;
mod probe;
mod quality;
mod sort;
mod supernet;
mod text;
mod tokenizer;
mod trainable;

pub use bundled::{CALIBRATION_TEXT, HELD_OUT_TEXT, write_demo};
pub use checkpoint::{Checkpoint, checkpoint_sha256};
pub use error::Error;
pub use finetuned::{FINETUNE_LOG, Finetuned};
pub use importance::Importance;
pub use method::{Aggregate, LayerRanking, Method, Ranking, UnknownRanking};
pub use network::{Network, Observer, Placement};
pub use prepare::{Calibration, Prepared, Step, cache_key, prepare};
pub use quality::{Evaluation, Quality, evaluate};
pub use supernet::{SUPERNET_FILE, SUPERNET_SCHEMA, SuperNetwork, SuperNetworkFile, open_artifact};
pub use text::{Text, TextStream, Windows};
pub use tokenizer::open_tokenizer;
pub use tokenizers::Tokenizer;
pub use trainable::{Lora, Projection, Trainable};
