//! The heads of a sub-network: which of their dimensions it keeps, and how they turn with the position.
//!
//! Queries and keys keep rotary pairs, which are a set, so their rows are gathered; values keep their first dimensions. Where
//! heads are whole, everything is a view. Cut, the attention's weights of a layer are copied for the pass through it: little
//! beside the products of a text, and a [`Context`](super::Context), which computes token by token, copies once.

use super::{Layer, Network};
use crate::{
    Error,
    linear::{Linear, Part},
};
use candle_core::Tensor;
use edgewise_onnx::SubNetwork;

/// The heads of a sub-network.
pub(super) struct Heads {
    /// Dimensions of a head.
    pub(super) size: usize,
    /// `[positions, size / 2]`.
    pub(super) cos: Tensor,
    pub(super) sin: Tensor,
    /// Scores are multiplied by this: what is cut are summands of a score, so that it is that of whole heads.
    pub(super) scale: f64,
    cut: Option<Cut>,
}

/// What of heads that are larger in the weights is kept.
struct Cut {
    /// Dimensions of a head in the weights.
    of: usize,
    /// The kept pairs.
    pairs: Tensor,
}

impl Heads {
    /// Rows of the first `count` heads of queries or keys.
    pub(super) fn turned(&self, count: usize) -> Part<'_> {
        match &self.cut {
            None => Part::First(count * self.size),
            Some(Cut { of, pairs }) => Part::Pairs { heads: count, of: *of, kept: pairs },
        }
    }

    /// Rows of the first `count` heads of values, or columns of what is made of them.
    pub(super) fn values(&self, count: usize) -> Part<'_> {
        match &self.cut {
            None => Part::First(count * self.size),
            Some(Cut { of, .. }) => Part::Heads { heads: count, of: *of, kept: self.size },
        }
    }
}

impl Network {
    /// The heads of `sub`, which fits the configuration.
    ///
    /// # Errors
    /// [`Error::Artifact`] where the weights are those of smaller heads, candle's.
    pub(super) fn heads(&self, sub: &SubNetwork) -> Result<Heads, Error> {
        let (size, scale) = (self.config.head_size(sub), 1.0 / (self.config.head_dim as f64).sqrt());
        if sub.pairs == self.pairs {
            return Ok(Heads { size, cos: self.cos.clone(), sin: self.sin.clone(), scale, cut: None });
        }
        let (None, Some(pairs)) = (&self.pairs, &sub.pairs) else {
            let message = "the heads of an artifact are what they are".to_owned();
            return Err(edgewise_onnx::Error::BadSubNetwork(message).into());
        };
        let pairs = Tensor::new(&pairs[..], self.cos.device())?;
        let turns = |table: &Tensor| table.index_select(&pairs, 1);
        let (cos, sin) = (turns(&self.cos)?, turns(&self.sin)?);
        Ok(Heads { size, cos, sin, scale, cut: Some(Cut { of: self.config.head_dim, pairs }) })
    }

    /// Query, key, value and output projections of each kept layer of `sub` with nothing but what its heads keep; `None` where
    /// heads are whole.
    ///
    /// # Errors
    /// candle's.
    pub(super) fn cut_attention(&self, sub: &SubNetwork, heads: &Heads) -> candle_core::Result<Option<Vec<[Linear; 4]>>> {
        if heads.cut.is_none() {
            return Ok(None);
        }
        let width = Part::First(sub.width as usize);
        let cut = |(&layer, &groups): (&u32, &u32)| {
            let [query, key, value, output] = self.layers[layer as usize].attention();
            let (groups, all) = (groups as usize, groups as usize * self.config.heads_per_group());
            Ok([
                query.cut(heads.turned(all), width)?,
                key.cut(heads.turned(groups), width)?,
                value.cut(heads.values(groups), width)?,
                output.cut(width, heads.values(all))?,
            ])
        };
        sub.layers.iter().zip(&sub.kv_groups).map(cut).collect::<candle_core::Result<_>>().map(Some)
    }
}

impl Layer {
    /// Query, key, value and output projections.
    pub(super) fn attention(&self) -> [&Linear; 4] {
        [&self.query, &self.key, &self.value, &self.output]
    }
}
