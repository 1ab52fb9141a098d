//! From a checkpoint to a sorted super-network, the quality of its sub-networks, and what training them needs.
//!
//! Contract: [`Checkpoint::open`] reads what users have (a Hugging Face folder or a GGUF file); [`prepare`] ranks layers,
//! key/value groups, neurons and width on calibration text and writes the weights sorted, so that every sub-network is a
//! prefix (of the rotary pairs of smaller heads a set); [`SuperNetwork`] opens that folder, evaluates sub-networks with candle
//! and gives the weights to the artifact writer; [`Scorer`] says how likely texts are and writes them.
//! [`Network::make_trainable`] gives a network variables, [`ops`] are its differentiable operations and the losses, and
//! [`SuperNetwork::write_finetuned`] writes what came of training. Nothing here knows a device or a search.

mod bundled;
mod checkpoint;
mod divergence;
mod error;
mod finetuned;
mod gguf;
mod gguf_header;
mod head_importance;
mod hf_config;
mod importance;
mod linear;
mod load;
mod method;
mod moments;
mod network;
pub mod ops;
mod perplexity;
mod prepare;
mod probe;
mod quality;
mod rows;
mod scorer;
mod sort;
mod supernet;
mod text;
mod tokenizer;
mod trainable;
mod written;

pub use bundled::{CALIBRATION_TEXT, HELD_OUT_TEXT, write_demo};
pub use checkpoint::{Checkpoint, checkpoint_sha256};
pub use divergence::{Divergence, Reference, evaluate_against};
pub use error::Error;
pub use finetuned::{FINETUNE_LOG, Finetuned};
pub use head_importance::HeadImportance;
pub use importance::Importance;
pub use method::{Aggregate, LayerRanking, Method, Ranking, UnknownRanking};
pub use network::{Context, Network, Observer, Placement};
pub use perplexity::{Definition, Passage, PerText, Perplexity, Protocol, perplexity};
pub use prepare::{Calibration, Prepared, Step, cache_key, prepare};
pub use quality::{Evaluation, Quality, evaluate};
pub use scorer::{LogLikelihood, Scorer};
pub use supernet::{SUPERNET_FILE, SUPERNET_SCHEMA, SuperNetwork, SuperNetworkFile, open_artifact};
pub use text::{Text, TextStream, Windows, encode_bare};
pub use tokenizer::open_tokenizer;
pub use tokenizers::Tokenizer;
pub use trainable::{Lora, Projection, Trainable};
