//! The ready-made search spaces of a super-network.

use crate::failure::Failure;
use edgewise_onnx::ModelConfig;
use edgewise_search::{HeadSizes, Shape, Space};
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

/// The space with this name, and with heads of these sizes where any are given.
pub(crate) fn preset(name: &str, head_sizes: &[u32], supernet: &SuperNetwork) -> Result<Space, Failure> {
    let config = supernet.config();
    let space = Space::preset(name, shape(config), STEP, supernet.layer_order())?;
    if head_sizes.is_empty() {
        return Ok(space);
    }
    let sizes = HeadSizes::new(head_sizes.to_vec(), config.head_dim as u32)?;
    // Here, and not when the first of them is cut.
    sizes.sizes().iter().try_for_each(|&size| supernet.pairs(size).map(drop))?;
    Ok(space.with_head_sizes(sizes))
}

/// Reads a size of heads; whether the model's are that large is not known yet.
pub(crate) fn head_size(text: &str) -> Result<u32, String> {
    match text.trim().parse::<u32>() {
        Ok(size) if size > 0 && size.is_multiple_of(2) => Ok(size),
        _ => Err("a head keeps an even number of dimensions, 2 at least".to_owned()),
    }
}
