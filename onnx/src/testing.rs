//! Tiny models with random weights, for the tests of every crate that handles artifacts. Nothing here is used at run time.

use crate::{Artifact, ArtifactWriter, Error, Extras, MappedWeights, ModelConfig, Source, SubNetwork, tensors};
use safetensors::{Dtype, tensor::TensorView as SafeView};
use std::path::Path;

/// A Llama with 4 layers, 3 key/value groups of 2 heads, and widths that are no powers of two.
pub fn tiny_config() -> ModelConfig {
    ModelConfig {
        vocab_size: 97,
        hidden_size: 48,
        num_layers: 4,
        num_heads: 6,
        num_kv_heads: 3,
        head_dim: 8,
        mlp_size: 80,
        max_positions: 256,
        rope_theta: 10_000.0,
        rope_scaling: None,
        norm_eps: 1e-5,
        tied_embeddings: true,
        attention_bias: false,
        mlp_bias: false,
        bos_token: None,
        eos_tokens: vec![0],
    }
}

/// A sub-network of [`tiny_config`] that cuts every dimension, unevenly.
pub fn tiny_sub_network() -> SubNetwork {
    SubNetwork { layers: vec![0, 2, 3], width: 40, kv_groups: vec![3, 1, 2], mlp: vec![64, 80, 33], pairs: None }
}

/// As [`tiny_sub_network`], with heads of six of their eight dimensions.
pub fn tiny_narrow_heads() -> SubNetwork {
    SubNetwork { pairs: Some(vec![0, 2, 3]), ..tiny_sub_network() }
}

/// Uniform numbers in [-1, 1) from a counter; the same on every machine.
fn noise(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// Writes random weights of `config` as `model.safetensors`.
///
/// # Errors
/// [`Error::Io`].
pub fn write_checkpoint(folder: &Path, config: &ModelConfig, seed: u64) -> Result<(), Error> {
    write_checkpoint_with(folder, config, seed, |_, _, _| {})
}

/// As [`write_checkpoint`], with a last word on each tensor: its name, shape and values.
///
/// # Errors
/// [`Error::Io`].
pub fn write_checkpoint_with(
    folder: &Path,
    config: &ModelConfig,
    seed: u64,
    change: impl Fn(&str, &[usize], &mut [f32]),
) -> Result<(), Error> {
    let path = folder.join("model.safetensors");
    let mut state = seed;
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = tensors(config)
        .map(|(name, shape)| {
            // Scaled like trained weights: norms near one, projections that keep the variance.
            let norm = name.contains("norm");
            let gain = 1.7 / (shape.last().copied().unwrap_or(1) as f32).sqrt();
            let values = (0..shape.iter().product::<usize>()).map(|_| {
                let x = noise(&mut state);
                if norm { 1.0 + 0.3 * x } else { gain * x }
            });
            let mut values: Vec<f32> = values.collect();
            change(&name, &shape, &mut values);
            let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
            (name, shape, bytes)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = SafeView::new(Dtype::F32, shape.clone(), bytes).expect("the size follows from the shape");
        (name.clone(), view)
    });
    let bytes = safetensors::serialize(views, None).expect("views are valid");
    std::fs::write(&path, bytes).map_err(Error::io("write", &path))
}

/// Writes random weights of [`tiny_config`].
///
/// # Errors
/// [`Error::Io`].
pub fn write_tiny_checkpoint(folder: &Path, seed: u64) -> Result<(), Error> {
    write_checkpoint(folder, &tiny_config(), seed)
}

/// Writes an artifact of the full tiny model into `folder`. See [`crate`] for the graph's inputs and outputs;
/// `num_logits_to_keep` is an optional input (an initializer of 1 that may be overridden).
///
/// # Errors
/// [`Error::Io`].
pub fn write_tiny(folder: &Path) -> Result<Artifact, Error> {
    write_artifact(folder, &tiny_config(), &tiny_config().full())
}

/// Writes an artifact of a sub-network of random weights of `config` into `folder`.
///
/// # Errors
/// [`Error::Io`], [`Error::BadSubNetwork`].
pub fn write_artifact(folder: &Path, config: &ModelConfig, sub: &SubNetwork) -> Result<Artifact, Error> {
    let checkpoint = tempfile::tempdir().map_err(Error::io("make", Path::new("temporary folder")))?;
    write_checkpoint(checkpoint.path(), config, 1)?;
    let weights = MappedWeights::open(checkpoint.path())?;
    let source = Source { name: "tiny".into(), sha256: "0".repeat(64) };
    let extras = Extras { tokenizer: None, model_type: "llama".into() };
    ArtifactWriter::new(config, &weights, source, extras).write(sub, folder)
}
