//! Which configurations a search may propose.

use crate::{candidate::Candidate, head_sizes::HeadSizes};
use serde::{Deserialize, Serialize};

/// Names of the ready-made spaces, for `--space`.
pub const PRESETS: [&str; 4] = ["default", "per-layer", "uniform", "depth"];

/// Sizes that one dimension may take: the multiples of `step` from `min` on, and `max` itself, multiple or not (the full model
/// must always be in its own space).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawDimension")]
pub struct Dimension {
    min: u32,
    max: u32,
    step: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDimension {
    min: u32,
    max: u32,
    step: u32,
}

impl TryFrom<RawDimension> for Dimension {
    type Error = SpaceError;

    fn try_from(raw: RawDimension) -> Result<Self, SpaceError> {
        Self::new(raw.min, raw.max, raw.step)
    }
}

/// Why a space is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpaceError {
    /// No preset has this name.
    #[error("unknown space `{name}`: known are `default`, `per-layer`, `uniform`, `depth`")]
    UnknownPreset {
        /// What was asked for.
        name: String,
    },
    /// A dimension's numbers contradict each other.
    #[error("no sizes from {min} to {max} in steps of {step}")]
    Dimension {
        /// Smallest size.
        min: u32,
        /// Largest size.
        max: u32,
        /// Step.
        step: u32,
    },
    /// Heads cannot have this size.
    #[error("heads of {size} dimensions: sizes are even, from 2 to the full network's {full}")]
    HeadSize {
        /// What was asked for.
        size: u32,
        /// The full network's.
        full: u32,
    },
    /// Only the full size of heads was named.
    #[error("no size of heads is below the full network's {full}")]
    NoHeadSize {
        /// The full network's.
        full: u32,
    },
    /// The least number of layers is zero or more than there are.
    #[error("at least {min} of {layers} layers cannot be kept")]
    MinLayers {
        /// The least number of layers.
        min: u32,
        /// All layers.
        layers: u32,
    },
    /// The order of layers does not name each layer once.
    #[error("the order of layers does not name each of {layers} layers once")]
    LayerOrder {
        /// All layers.
        layers: u32,
    },
}

impl Dimension {
    /// Sizes from `min` (taken up to the next multiple of `step`) to `max`.
    ///
    /// # Errors
    /// [`SpaceError::Dimension`] if `step` or `max` is 0 or `min` is above `max`.
    pub fn new(min: u32, max: u32, step: u32) -> Result<Self, SpaceError> {
        if step == 0 || max == 0 || min > max {
            Err(SpaceError::Dimension { min, max, step })
        } else {
            Ok(Self { min, max, step })
        }
    }

    /// A dimension that is not searched.
    ///
    /// # Errors
    /// [`SpaceError::Dimension`] if `value` is 0.
    pub fn fixed(value: u32) -> Result<Self, SpaceError> {
        Self::new(value, value, 1)
    }

    fn lowest_multiple(self) -> u64 {
        u64::from(self.min.max(1)).div_ceil(u64::from(self.step)) * u64::from(self.step)
    }

    /// How many sizes there are, at least 1.
    pub fn count(self) -> u32 {
        let (low, max) = (self.lowest_multiple(), u64::from(self.max));
        if low >= max { 1 } else { ((max - 1 - low) / u64::from(self.step)) as u32 + 2 }
    }

    /// The size number `index`, from the smallest; past the end it is the largest.
    pub fn at(self, index: u32) -> u32 {
        if index.saturating_add(1) >= self.count() {
            return self.max;
        }
        (self.lowest_multiple() + u64::from(index) * u64::from(self.step)) as u32
    }

    /// The number of the largest size that is at most `value`, or 0.
    pub fn index(self, value: u32) -> u32 {
        if value >= self.max {
            return self.count() - 1;
        }
        let above = u64::from(value).saturating_sub(self.lowest_multiple());
        ((above / u64::from(self.step)) as u32).min(self.count() - 1)
    }

    /// The size nearest to the share `level` (0 smallest, 1 largest) of the range.
    pub fn at_level(self, level: f64) -> u32 {
        self.at((level.clamp(0.0, 1.0) * f64::from(self.count() - 1)).round() as u32)
    }

    /// Whether `value` is one of the sizes.
    pub fn contains(self, value: u32) -> bool {
        self.at(self.index(value)) == value
    }

    /// The smallest size.
    pub fn smallest(self) -> u32 {
        self.at(0)
    }

    /// The largest size.
    pub const fn largest(self) -> u32 {
        self.max
    }

    /// Whether there is anything to search.
    pub fn is_fixed(self) -> bool {
        self.count() == 1
    }
}

/// How layers may differ from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpaceKind {
    /// Any set of layers, each with its own sizes.
    PerLayer,
    /// All layers have the same sizes, and only the number of layers is searched: the least important go first.
    Uniform,
}

/// The full network's sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Number of layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub width: u32,
    /// Key/value groups of a layer.
    pub kv_groups: u32,
    /// Neurons of a layer.
    pub mlp: u32,
}

/// A search space. What its methods and the samplers make of it is always inside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawSpace")]
pub struct Space {
    kind: SpaceKind,
    layers: u32,
    min_layers: u32,
    width: Dimension,
    kv_groups: Dimension,
    mlp: Dimension,
    layer_order: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    head_sizes: Option<HeadSizes>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpace {
    kind: SpaceKind,
    layers: u32,
    min_layers: u32,
    width: Dimension,
    kv_groups: Dimension,
    mlp: Dimension,
    layer_order: Vec<u32>,
    #[serde(default)]
    head_sizes: Option<HeadSizes>,
}

impl TryFrom<RawSpace> for Space {
    type Error = SpaceError;

    fn try_from(raw: RawSpace) -> Result<Self, SpaceError> {
        let RawSpace { kind, layers, min_layers, width, kv_groups, mlp, layer_order, head_sizes } = raw;
        Self { kind, layers, min_layers, width, kv_groups, mlp, layer_order, head_sizes }.checked()
    }
}

impl Space {
    /// A space of any layers with their own sizes. `layer_order` names each layer once, from the least to the most important.
    ///
    /// # Errors
    /// [`SpaceError::MinLayers`], [`SpaceError::LayerOrder`].
    pub fn per_layer(
        min_layers: u32,
        width: Dimension,
        kv_groups: Dimension,
        mlp: Dimension,
        layer_order: Vec<u32>,
    ) -> Result<Self, SpaceError> {
        let (kind, layers) = (SpaceKind::PerLayer, layer_order.len() as u32);
        Self { kind, layers, min_layers, width, kv_groups, mlp, layer_order, head_sizes: None }.checked()
    }

    /// The same with heads of these sizes, one for the whole network.
    #[must_use]
    pub fn with_head_sizes(self, sizes: HeadSizes) -> Self {
        Self { head_sizes: Some(sizes), ..self }
    }

    /// The same ranges with equal sizes in all layers.
    #[must_use]
    pub fn into_uniform(self) -> Self {
        Self { kind: SpaceKind::Uniform, ..self }
    }

    fn checked(self) -> Result<Self, SpaceError> {
        let layers = self.layers;
        if self.min_layers == 0 || self.min_layers > layers {
            return Err(SpaceError::MinLayers { min: self.min_layers, layers });
        }
        let mut sorted = self.layer_order.clone();
        sorted.sort_unstable();
        if sorted.iter().copied().eq(0..layers) { Ok(self) } else { Err(SpaceError::LayerOrder { layers }) }
    }

    /// A ready-made space for a network of this shape; `step` is the multiple that widths and neurons snap to.
    ///
    /// - `default`: any layers (at least half), groups from one, neurons from a quarter and width from half, layer by layer.
    ///   Without fine-tuning a narrower residual stream costs the most quality, so samplers change the width rarely.
    /// - `per-layer`: the same at full width.
    /// - `uniform`: the sizes of `default` equal in all layers, and how many layers, as in the paper's joint space.
    /// - `depth`: which layers, down to a quarter of them, and nothing else.
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
        match name {
            "default" => Self::per_layer(half, widths, groups, neurons, layer_order),
            "per-layer" => Self::per_layer(half, full.0, groups, neurons, layer_order),
            "uniform" => Ok(Self::per_layer(half, widths, groups, neurons, layer_order)?.into_uniform()),
            "depth" => Self::per_layer(layers.div_ceil(4), full.0, full.1, full.2, layer_order),
            _ => Err(SpaceError::UnknownPreset { name: name.to_owned() }),
        }
    }

    /// How layers may differ.
    pub const fn kind(&self) -> SpaceKind {
        self.kind
    }

    /// The full network's number of layers.
    pub const fn layers(&self) -> u32 {
        self.layers
    }

    /// The least number of layers that is kept.
    pub const fn min_layers(&self) -> u32 {
        self.min_layers
    }

    /// Widths of the residual stream.
    pub const fn width(&self) -> Dimension {
        self.width
    }

    /// Key/value groups of a layer.
    pub const fn kv_groups(&self) -> Dimension {
        self.kv_groups
    }

    /// Neurons of a layer.
    pub const fn mlp(&self) -> Dimension {
        self.mlp
    }

    /// Sizes of heads, where they are searched.
    pub const fn head_sizes(&self) -> Option<&HeadSizes> {
        self.head_sizes.as_ref()
    }

    /// All layers, from the least to the most important: a prior, not a rule (except in a uniform space).
    pub fn layer_order(&self) -> &[u32] {
        &self.layer_order
    }

    /// The full network.
    pub fn full(&self) -> Candidate {
        self.even(self.layers, self.width.largest(), self.kv_groups.largest(), self.mlp.largest())
    }

    /// The smallest network: every dimension at its floor, the least important layers dropped.
    pub fn smallest(&self) -> Candidate {
        let head_size = self.head_sizes.as_ref().and_then(|sizes| sizes.at(0));
        let even = self.even(self.min_layers, self.width.smallest(), self.kv_groups.smallest(), self.mlp.smallest());
        Candidate { head_size, ..even }
    }

    /// The `keep` most important layers with the same sizes each, and whole heads.
    pub(crate) fn even(&self, keep: u32, width: u32, groups: u32, mlp: u32) -> Candidate {
        let keep = keep.clamp(self.min_layers, self.layers) as usize;
        let mut layers = self.layer_order[self.layer_order.len() - keep..].to_vec();
        layers.sort_unstable();
        Candidate { layers, width, kv_groups: vec![groups; keep], mlp: vec![mlp; keep], head_size: None, order: None }
    }

    /// Whether the space holds this configuration, in the study's own order.
    pub fn contains(&self, candidate: &Candidate) -> bool {
        let kept = candidate.layers.len() as u32;
        let sizes = candidate.order.is_none()
            && candidate.check().is_ok()
            && kept >= self.min_layers
            && candidate.layers.last().is_some_and(|&last| last < self.layers)
            && self.width.contains(candidate.width)
            && self.head_sizes.as_ref().map_or(candidate.head_size.is_none(), |sizes| sizes.contains(candidate.head_size))
            && candidate.kv_groups.iter().all(|&g| self.kv_groups.contains(g))
            && candidate.mlp.iter().all(|&m| self.mlp.contains(m));
        sizes
            && match self.kind {
                SpaceKind::PerLayer => true,
                SpaceKind::Uniform => {
                    let even = self.even(kept, candidate.width, candidate.kv_groups[0], candidate.mlp[0]);
                    *candidate == Candidate { head_size: candidate.head_size, ..even }
                }
            }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn dimension(most: u32) -> impl Strategy<Value = Dimension> {
        (1..=most, 0.0f64..=1.0, prop_oneof![Just(1u32), Just(32), 1u32..80])
            .prop_map(|(max, share, step)| Dimension::new((f64::from(max) * share) as u32, max, step).unwrap())
    }

    /// These sizes and 64, the full one.
    pub(crate) fn heads(sizes: &[u32]) -> HeadSizes {
        HeadSizes::new(sizes.to_vec(), 64).unwrap()
    }

    /// Any space, degenerate ones included.
    pub(crate) fn spaces() -> impl Strategy<Value = Space> {
        let order = (1u32..=12).prop_flat_map(|n| Just((0..n).collect::<Vec<u32>>()).prop_shuffle());
        let sizes = proptest::option::of(proptest::collection::vec((1u32..32).prop_map(|half| 2 * half), 1..4));
        (order, any::<proptest::sample::Index>(), dimension(200), dimension(4), dimension(300), any::<bool>(), sizes).prop_map(
            |(order, min, width, groups, mlp, uniform, sizes)| {
                let min_layers = min.index(order.len()) as u32 + 1;
                let space = Space::per_layer(min_layers, width, groups, mlp, order).unwrap();
                let space = match sizes {
                    Some(sizes) => space.with_head_sizes(heads(&sizes)),
                    None => space,
                };
                if uniform { space.into_uniform() } else { space }
            },
        )
    }

    proptest! {
        #[test]
        fn sizes_of_a_dimension_are_what_they_are_said_to_be(dimension in dimension(400)) {
            let Dimension { min, max, step } = dimension;
            let expected: Vec<u32> =
                (min.max(1)..=max).filter(|v| v.is_multiple_of(step) || *v == max).collect();
            let found: Vec<u32> = (0..dimension.count()).map(|i| dimension.at(i)).collect();
            prop_assert_eq!(&found, &expected);
            for v in 0..=max + 2 {
                prop_assert_eq!(dimension.contains(v), expected.contains(&v));
            }
            for (i, v) in found.iter().enumerate() {
                prop_assert_eq!(dimension.index(*v), i as u32);
            }
        }

        #[test]
        fn ends_are_inside_and_spaces_survive_json(space in spaces()) {
            prop_assert!(space.contains(&space.full()));
            prop_assert!(space.contains(&space.smallest()));
            let json = serde_json::to_string(&space).unwrap();
            prop_assert_eq!(serde_json::from_str::<Space>(&json).unwrap(), space);
        }
    }

    #[test]
    fn presets_of_a_real_shape() {
        let shape = Shape { layers: 30, width: 576, kv_groups: 3, mlp: 1536 };
        for name in PRESETS {
            let space = Space::preset(name, shape, 32, (0..30).collect()).unwrap();
            let full = space.full();
            assert_eq!((full.layers.len(), full.width, full.kv_groups[0], full.mlp[0]), (30, 576, 3, 1536), "{name}");
            assert!(space.contains(&full), "{name}");
        }
        let small = Space::preset("default", shape, 32, (0..30).rev().collect()).unwrap().smallest();
        assert_eq!((small.layers, small.width, small.kv_groups[0], small.mlp[0]), ((0..15).collect(), 288, 1, 384));
        assert_eq!(small.head_size, None);
        let space = Space::preset("default", shape, 32, (0..30).collect()).unwrap().with_head_sizes(heads(&[32, 48]));
        assert_eq!((space.full().head_size, space.smallest().head_size), (None, Some(32)));
        let foreign = Candidate { head_size: Some(64), ..space.full() };
        assert!(!space.contains(&foreign), "the full size is not named");
        let error = Space::preset("wide", shape, 32, (0..30).collect()).unwrap_err().to_string();
        assert!(PRESETS.iter().all(|name| error.contains(name)), "{error}");
    }

    #[test]
    fn a_space_without_sizes_of_heads_is_written_as_ever() {
        let one = Dimension::fixed(1).unwrap();
        let json = serde_json::to_string(&Space::per_layer(1, one, one, one, vec![0]).unwrap()).unwrap();
        let size = r#"{"min":1,"max":1,"step":1}"#;
        let expected = format!(
            r#"{{"kind":"per-layer","layers":1,"min_layers":1,"width":{size},"kv_groups":{size},"mlp":{size},"layer_order":[0]}}"#
        );
        assert_eq!(json, expected);
    }

    #[test]
    fn a_layer_thinner_than_the_step_has_one_size() {
        let d = Dimension::new(5, 20, 32).unwrap();
        assert_eq!((d.count(), d.smallest(), d.largest()), (1, 20, 20));
    }

    #[test]
    fn contradictions_are_refused_also_in_json() {
        assert!(Dimension::new(1, 0, 1).is_err() && Dimension::new(1, 4, 0).is_err() && Dimension::new(5, 4, 1).is_err());
        assert!(serde_json::from_str::<Dimension>(r#"{"min":9,"max":4,"step":1}"#).is_err());
        let one = Dimension::fixed(1).unwrap();
        assert_eq!(Space::per_layer(3, one, one, one, vec![0, 1]), Err(SpaceError::MinLayers { min: 3, layers: 2 }));
        assert_eq!(Space::per_layer(1, one, one, one, vec![0, 2]), Err(SpaceError::LayerOrder { layers: 2 }));
        assert_eq!(Space::per_layer(1, one, one, one, vec![]), Err(SpaceError::MinLayers { min: 1, layers: 0 }));
    }
}
