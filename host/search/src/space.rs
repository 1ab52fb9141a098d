//! Which configurations a search may propose.

pub use crate::dimension::Dimension;
use crate::{candidate::Candidate, dimension::snapped, head_sizes::HeadSizes, presets};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;

/// Why a space is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpaceError {
    /// No preset has this name.
    #[error("unknown space `{name}`: known are {}", presets::names())]
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
    /// The sizes of a dimension are no list of sizes.
    #[error("sizes must go up from at least 1, and there are 1 to 32 of them")]
    Sizes,
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

/// How layers may differ from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpaceKind {
    /// Any set of layers, each with its own sizes.
    PerLayer,
    /// Each layer has its own sizes, but only the number of layers is searched: the least important go first.
    Ranked,
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
    /// Where neurons follow the width: the multiple that they snap to.
    #[serde(skip_serializing_if = "Option::is_none")]
    mlp_step: Option<NonZeroU32>,
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
    #[serde(default)]
    mlp_step: Option<NonZeroU32>,
    layer_order: Vec<u32>,
    #[serde(default)]
    head_sizes: Option<HeadSizes>,
}

impl TryFrom<RawSpace> for Space {
    type Error = SpaceError;

    fn try_from(raw: RawSpace) -> Result<Self, SpaceError> {
        let RawSpace { kind, layers, min_layers, width, kv_groups, mlp, mlp_step, layer_order, head_sizes } = raw;
        Self { kind, layers, min_layers, width, kv_groups, mlp, mlp_step, layer_order, head_sizes }.checked()
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
        Self { kind, layers, min_layers, width, kv_groups, mlp, mlp_step: None, layer_order, head_sizes: None }.checked()
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

    /// The same ranges, with the most important layers kept, however many.
    #[must_use]
    pub fn into_ranked(self) -> Self {
        Self { kind: SpaceKind::Ranked, ..self }
    }

    /// The same space with neurons that follow the width, as where they are given as a ratio to it: what [`Space::mlp`] says then
    /// holds at full width, and a narrower network has as many fewer, taken up to a multiple of `step`.
    #[must_use]
    pub fn with_mlp_following_width(self, step: NonZeroU32) -> Self {
        Self { mlp_step: Some(step), ..self }
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

    /// Neurons of a layer; where they follow the width, at full width. See [`Space::mlp_at`].
    pub const fn mlp(&self) -> Dimension {
        self.mlp
    }

    /// Neurons of a layer at this width, where it has `full` of them at full width.
    pub fn mlp_at(&self, full: u32, width: u32) -> u32 {
        let Some(step) = self.mlp_step else { return full };
        let exact = (u64::from(full) * u64::from(width)).div_ceil(u64::from(self.width.largest()));
        snapped(exact, step.get(), full)
    }

    /// The reverse of [`Space::mlp_at`]: the smallest of [`Space::mlp`] that gives so many neurons, or more, at this width.
    pub fn mlp_at_full_width(&self, neurons: u32, width: u32) -> u32 {
        if self.mlp_step.is_none() {
            return neurons;
        }
        // More at full width is never fewer at another.
        let (mut low, mut high) = (0, self.mlp.count() - 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.mlp_at(self.mlp.at(middle), width) < neurons {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.mlp.at(low)
    }

    /// Sizes of heads, where they are searched.
    pub const fn head_sizes(&self) -> Option<&HeadSizes> {
        self.head_sizes.as_ref()
    }

    /// All layers, from the least to the most important: a prior in a space per layer, a rule in the others.
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

    /// The `keep` most important layers, ascending.
    pub(crate) fn most_important(&self, keep: u32) -> Vec<u32> {
        let keep = keep.clamp(self.min_layers, self.layers) as usize;
        let mut layers = self.layer_order[self.layer_order.len() - keep..].to_vec();
        layers.sort_unstable();
        layers
    }

    /// The `keep` most important layers with the same sizes each, and whole heads; `mlp` is one of [`Space::mlp`].
    pub(crate) fn even(&self, keep: u32, width: u32, groups: u32, mlp: u32) -> Candidate {
        let layers = self.most_important(keep);
        let (keep, mlp) = (layers.len(), self.mlp_at(mlp, width));
        Candidate { layers, width, kv_groups: vec![groups; keep], mlp: vec![mlp; keep], head_size: None, order: None }
    }

    /// Whether the space holds this configuration, in the study's own order.
    pub fn contains(&self, candidate: &Candidate) -> bool {
        let (kept, width) = (candidate.layers.len() as u32, candidate.width);
        let at_full_width = |neurons| self.mlp_at_full_width(neurons, width);
        let has_mlp = |neurons| {
            let full = at_full_width(neurons);
            self.mlp.contains(full) && self.mlp_at(full, width) == neurons
        };
        let sizes = candidate.order.is_none()
            && candidate.check().is_ok()
            && kept >= self.min_layers
            && candidate.layers.last().is_some_and(|&last| last < self.layers)
            && self.width.contains(width)
            && self.head_sizes.as_ref().map_or(candidate.head_size.is_none(), |sizes| sizes.contains(candidate.head_size))
            && candidate.kv_groups.iter().all(|&g| self.kv_groups.contains(g))
            && candidate.mlp.iter().all(|&m| has_mlp(m));
        sizes
            && match self.kind {
                SpaceKind::PerLayer => true,
                SpaceKind::Ranked => candidate.layers == self.most_important(kept),
                SpaceKind::Uniform => {
                    let even = self.even(kept, width, candidate.kv_groups[0], at_full_width(candidate.mlp[0]));
                    *candidate == Candidate { head_size: candidate.head_size, ..even }
                }
            }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::dimension::tests::dimension;
    use proptest::prelude::*;

    /// These sizes and 64, the full one.
    pub(crate) fn heads(sizes: &[u32]) -> HeadSizes {
        HeadSizes::new(sizes.to_vec(), 64).unwrap()
    }

    /// Any space of any kind, degenerate ones included.
    pub(crate) fn spaces() -> impl Strategy<Value = Space> {
        let order = (1u32..=12).prop_flat_map(|n| Just((0..n).collect::<Vec<u32>>()).prop_shuffle());
        let follows = prop_oneof![2 => Just(None), 1 => (1u32..80).prop_map(NonZeroU32::new)];
        let kind = prop_oneof![Just(SpaceKind::PerLayer), Just(SpaceKind::Ranked), Just(SpaceKind::Uniform)];
        let sizes = proptest::option::of(proptest::collection::vec((1u32..32).prop_map(|half| 2 * half), 1..4));
        (order, any::<proptest::sample::Index>(), dimension(200), dimension(4), dimension(300), kind, follows, sizes).prop_map(
            |(order, min, width, groups, mlp, kind, follows, sizes)| {
                let min_layers = min.index(order.len()) as u32 + 1;
                let space = Space::per_layer(min_layers, width, groups, mlp, order).unwrap();
                let space = match kind {
                    SpaceKind::PerLayer => space,
                    SpaceKind::Ranked => space.into_ranked(),
                    SpaceKind::Uniform => space.into_uniform(),
                };
                let space = match sizes {
                    Some(sizes) => space.with_head_sizes(heads(&sizes)),
                    None => space,
                };
                match follows {
                    None => space,
                    Some(step) => space.with_mlp_following_width(step),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn ends_are_inside_and_spaces_survive_json(space in spaces()) {
            prop_assert!(space.contains(&space.full()));
            prop_assert!(space.contains(&space.smallest()));
            let json = serde_json::to_string(&space).unwrap();
            prop_assert_eq!(serde_json::from_str::<Space>(&json).unwrap(), space);
        }

        #[test]
        fn neurons_that_follow_the_width_lead_back(space in spaces(), width in any::<proptest::sample::Index>()) {
            let width = space.width().at(width.index(space.width().count() as usize) as u32);
            for full in (0..space.mlp().count()).map(|i| space.mlp().at(i)) {
                let found = space.mlp_at(full, width);
                prop_assert!((1..=full).contains(&found));
                prop_assert_eq!(space.mlp_at(space.mlp_at_full_width(found, width), width), found);
                prop_assert_eq!(space.mlp_at(full, space.width().largest()), full);
            }
        }
    }

    #[test]
    fn studies_of_before_say_nothing_of_what_is_new() {
        let one = Dimension::fixed(1).unwrap();
        let space = Space::per_layer(1, one, one, one, vec![1, 0]).unwrap();
        let json = serde_json::to_string(&space).unwrap();
        let one = r#"{"min":1,"max":1,"step":1}"#;
        assert_eq!(
            json,
            format!(
                r#"{{"kind":"per-layer","layers":2,"min_layers":1,"width":{one},"kv_groups":{one},"mlp":{one},"layer_order":[1,0]}}"#
            )
        );
        assert!(serde_json::from_str::<Space>(&json.replace("\"layer_order", "\"mlp_step\":0,\"layer_order")).is_err());
    }

    #[test]
    fn the_full_size_of_heads_is_not_named() {
        let shape = Shape { layers: 30, width: 576, kv_groups: 3, mlp: 1536 };
        let space = Space::preset("default", shape, 32, (0..30).collect()).unwrap();
        assert_eq!(space.smallest().head_size, None);
        let space = space.with_head_sizes(heads(&[32, 48]));
        assert_eq!((space.full().head_size, space.smallest().head_size), (None, Some(32)));
        assert!(!space.contains(&Candidate { head_size: Some(64), ..space.full() }));
    }

    #[test]
    fn contradictions_are_refused() {
        let one = Dimension::fixed(1).unwrap();
        assert_eq!(Space::per_layer(3, one, one, one, vec![0, 1]), Err(SpaceError::MinLayers { min: 3, layers: 2 }));
        assert_eq!(Space::per_layer(1, one, one, one, vec![0, 2]), Err(SpaceError::LayerOrder { layers: 2 }));
        assert_eq!(Space::per_layer(1, one, one, one, vec![]), Err(SpaceError::MinLayers { min: 1, layers: 0 }));
    }
}
