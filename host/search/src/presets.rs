//! Spaces by name: our own, and those of the authors of sub-network search.

use crate::{
    dimension::Dimension,
    space::{Shape, Space, SpaceError},
};
use std::num::NonZeroU32;

/// Names of the ready-made spaces, for `--space`.
pub const PRESETS: [&str; 8] = ["default", "per-layer", "uniform", "depth", "small", "medium", "hw-gpt-bench", "llama-joint"];

/// The narrowest residual stream of the authors' `small` and `medium`.
const NARROWEST: u32 = 64;
/// The narrowest of their `llama-joint`.
const NARROWEST_JOINT: u32 = 32;
/// Steps between neurons per dimension of the residual stream, as shares of the most: 1 of 4, ...
const HW_GPT_BENCH: (u32, u32) = (1, 4);
/// ... and 1 of 3.5.
const LLAMA_JOINT: (u32, u32) = (2, 7);

/// The names for people.
pub(crate) fn names() -> String {
    PRESETS.map(|name| format!("`{name}`")).join(", ")
}

impl Space {
    /// A ready-made space for a network of this shape; `step` is the multiple that widths and neurons snap to.
    ///
    /// - `default`: any layers (at least half), groups from one, neurons from a quarter and width from half, layer by layer.
    ///   Without fine-tuning a narrower residual stream costs the most quality, so samplers change the width rarely.
    /// - `per-layer`: the same at full width.
    /// - `uniform`: the sizes of `default` equal in all layers, and how many layers, as in the paper's joint space.
    /// - `depth`: which layers, down to a quarter of them, and nothing else.
    ///
    /// The others are those of the authors' code (arXiv 2410.06479), with key/value groups for heads, which the full network
    /// must not split, and with sizes that snap to `step`. In all of them one layer may be left, and the most important ones
    /// are kept. Head sizes are not cut.
    /// - `small`: sizes equal in all layers; width from 64, groups and neurons from the least.
    /// - `medium`: the same ranges, groups and neurons layer by layer.
    /// - `hw-gpt-bench`: sizes equal in all layers; width and groups from the least; neurons 1, 2, 3 or 4 times the width.
    /// - `llama-joint`: sizes equal in all layers; width, its half, its quarter and so on down to 32; all groups, half or a
    ///   quarter of them; neurons 1, 2, 3 or 3.5 times the width.
    ///
    /// The authors' ratios are for networks with 4 or 3.5 neurons per dimension. Of another network they are the same shares of
    /// its own ratio: a quarter, a half, three quarters and all of it; 2, 4, 6 and 7 sevenths.
    ///
    /// # Errors
    /// [`SpaceError`] for an unknown name, a shape with a zero in it, or a wrong `layer_order`.
    pub fn preset(name: &str, shape: Shape, step: u32, layer_order: Vec<u32>) -> Result<Self, SpaceError> {
        let Shape { layers, width, kv_groups, mlp } = shape;
        if layer_order.len() != layers as usize {
            return Err(SpaceError::LayerOrder { layers });
        }
        let full = (Dimension::fixed(width)?, Dimension::fixed(kv_groups)?, Dimension::fixed(mlp)?);
        let widths = Dimension::new(width.div_ceil(2), width, step)?;
        let groups = Dimension::new(1, kv_groups, 1)?;
        let neurons = Dimension::new(mlp.div_ceil(4), mlp, step)?;
        let half = layers.div_ceil(2);
        let snap = NonZeroU32::new(step).ok_or(SpaceError::Dimension { min: 1, max: width, step })?;
        match name {
            "default" => Self::per_layer(half, widths, groups, neurons, layer_order),
            "per-layer" => Self::per_layer(half, full.0, groups, neurons, layer_order),
            "uniform" => Ok(Self::per_layer(half, widths, groups, neurons, layer_order)?.into_uniform()),
            "depth" => Self::per_layer(layers.div_ceil(4), full.0, full.1, full.2, layer_order),
            "small" | "medium" => {
                let widths = Dimension::new(NARROWEST.min(width), width, step)?;
                let space = Self::per_layer(1, widths, groups, Dimension::new(1, mlp, step)?, layer_order)?;
                Ok(if name == "small" { space.into_uniform() } else { space.into_ranked() })
            }
            "hw-gpt-bench" => {
                let widths = Dimension::new(1, width, step)?;
                let neurons = Dimension::shares(HW_GPT_BENCH, mlp, step)?;
                let space = Self::per_layer(1, widths, groups, neurons, layer_order)?.into_uniform();
                Ok(space.with_mlp_following_width(snap))
            }
            "llama-joint" => {
                let widths = Dimension::halved(NARROWEST_JOINT.min(width), width, step)?;
                let groups = Dimension::halved(kv_groups.div_ceil(4), kv_groups, 1)?;
                let neurons = Dimension::shares(LLAMA_JOINT, mlp, step)?;
                let space = Self::per_layer(1, widths, groups, neurons, layer_order)?.into_uniform();
                Ok(space.with_mlp_following_width(snap))
            }
            _ => Err(SpaceError::UnknownPreset { name: name.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{candidate::Candidate, space::SpaceKind};

    /// SmolLM2-135M.
    const SHAPE: Shape = Shape { layers: 30, width: 576, kv_groups: 3, mlp: 1536 };

    fn sizes(dimension: Dimension) -> Vec<u32> {
        (0..dimension.count()).map(|i| dimension.at(i)).collect()
    }

    #[test]
    fn every_space_holds_the_full_network() {
        for name in PRESETS {
            let space = Space::preset(name, SHAPE, 32, (0..30).collect()).unwrap();
            let full = space.full();
            assert_eq!((full.layers.len(), full.width, full.kv_groups[0], full.mlp[0]), (30, 576, 3, 1536), "{name}");
            assert!(space.contains(&full) && space.contains(&space.smallest()), "{name}");
        }
        let small = Space::preset("default", SHAPE, 32, (0..30).rev().collect()).unwrap().smallest();
        assert_eq!((small.layers, small.width, small.kv_groups[0], small.mlp[0]), ((0..15).collect(), 288, 1, 384));
        let error = Space::preset("wide", SHAPE, 32, (0..30).collect()).unwrap_err().to_string();
        assert!(PRESETS.iter().all(|name| error.contains(name)), "{error}");
        assert!(Space::preset("llama-joint", SHAPE, 0, (0..30).collect()).is_err());
    }

    #[test]
    fn the_joint_space_is_the_authors_for_their_model() {
        // Llama 3.1 8B.
        let shape = Shape { layers: 32, width: 4096, kv_groups: 8, mlp: 14_336 };
        let space = Space::preset("llama-joint", shape, 32, (0..32).collect()).unwrap();
        assert_eq!(space.kind(), SpaceKind::Uniform);
        assert_eq!(sizes(space.width()), [32, 64, 128, 256, 512, 1024, 2048, 4096]);
        // Of 32 heads 8, 16 and all.
        assert_eq!(sizes(space.kv_groups()), [2, 4, 8]);
        assert_eq!(sizes(space.mlp()), [4096, 8192, 12_288, 14_336]);
        for width in sizes(space.width()) {
            for (mlp, halves) in sizes(space.mlp()).into_iter().zip([2, 4, 6, 7]) {
                let exact = halves * width / 2;
                let found = space.mlp_at(mlp, width);
                assert_eq!(found, exact.next_multiple_of(32), "{width}");
                let mut candidate =
                    Candidate { layers: vec![31], width, kv_groups: vec![4], mlp: vec![found], head_size: None, order: None };
                assert!(space.contains(&candidate));
                candidate.mlp = vec![found + 1];
                assert!(!space.contains(&candidate), "{candidate:?}");
            }
        }
    }

    #[test]
    fn other_models_have_the_same_shares_of_their_own_ratio() {
        let joint = Space::preset("llama-joint", SHAPE, 32, (0..30).collect()).unwrap();
        assert_eq!((sizes(joint.width()), sizes(joint.kv_groups())), (vec![64, 96, 160, 288, 576], vec![1, 2, 3]));
        // 438.9, 877.7 and 1316.6, up to a multiple of 32.
        assert_eq!(sizes(joint.mlp()), [448, 896, 1344, 1536]);
        assert_eq!(joint.smallest().mlp, [64], "448 * 64 / 576 is 49.8");
        let bench = Space::preset("hw-gpt-bench", SHAPE, 32, (0..30).collect()).unwrap();
        assert_eq!((bench.width().smallest(), sizes(bench.mlp())), (32, vec![384, 768, 1152, 1536]));
        assert_eq!(bench.mlp_at(1536, 288), 768);
    }

    #[test]
    fn medium_keeps_the_most_important_layers_and_small_cuts_them_alike() {
        let order: Vec<u32> = (0..30).rev().collect();
        let [small, medium] = ["small", "medium"].map(|name| Space::preset(name, SHAPE, 32, order.clone()).unwrap());
        assert_eq!((small.kind(), medium.kind()), (SpaceKind::Uniform, SpaceKind::Ranked));
        for space in [&small, &medium] {
            let least = space.smallest();
            assert_eq!((least.layers, least.width, least.kv_groups, least.mlp), (vec![0], 64, vec![1], vec![32]));
        }
        let mixed =
            Candidate { layers: vec![0, 1], width: 96, kv_groups: vec![1, 3], mlp: vec![32, 64], head_size: None, order: None };
        assert!(medium.contains(&mixed) && !small.contains(&mixed));
        assert!(!medium.contains(&Candidate { layers: vec![0, 2], ..mixed }), "layer 1 is more important than layer 2");
    }
}
