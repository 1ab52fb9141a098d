//! The ready-made search spaces of a super-network.

use crate::failure::Failure;
use edgewise_onnx::ModelConfig;
use edgewise_search::{Shape, Space};
use edgewise_supernet::SuperNetwork;

/// Neurons and width are cut in steps of this.
pub(crate) const STEP: u32 = 32;

/// The full network's sizes.
pub(crate) fn shape(config: &ModelConfig) -> Shape {
    Shape {
        layers: config.num_layers as u32,
        width: config.hidden_size as u32,
        kv_groups: config.num_kv_heads as u32,
        mlp: config.mlp_size as u32,
    }
}

/// The space with this name.
pub(crate) fn preset(name: &str, supernet: &SuperNetwork) -> Result<Space, Failure> {
    Ok(Space::preset(name, shape(supernet.config()), STEP, supernet.layer_order())?)
}
