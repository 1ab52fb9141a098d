//! How much the dimensions of heads matter: rotary pairs of queries and keys, and dimensions of values.
//!
//! Rotary positions turn two dimensions of a head together, by an angle of the pair's own frequency, so that pairs are scored,
//! and for the whole network at once: heads that keep different frequencies in each layer would need tables for each. Dimensions
//! of values are not turned. Each layer and key/value group has an order of its own, by which they are sorted.

use crate::{Error, Network, moments::Moments};
use candle_core::{Result, Tensor};
use edgewise_onnx::ModelConfig;
use serde::{Deserialize, Serialize};

/// Scores of the dimensions of heads; larger matters more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadImportance {
    /// Per rotary pair, dimension `i` of a head with `i + head_dim / 2`: what it adds to scores of the attention, beyond its mean
    /// over the keys, which the softmax does not see. Its mean square is added up over all heads of the network; of that the root.
    pub pairs: Vec<f64>,
    /// Per layer, and dimension of each key/value group: the root mean square of what the group's heads pass on of it, times the
    /// norm of the output projection's column.
    pub values: Vec<Vec<f64>>,
}

impl HeadImportance {
    /// Whether there is one score for each part of such a network.
    pub(crate) fn fits(&self, config: &ModelConfig) -> bool {
        let dims = config.num_kv_heads * config.head_dim;
        self.pairs.len() == config.head_dim / 2
            && self.values.len() == config.num_layers
            && self.values.iter().all(|scores| scores.len() == dims)
    }

    /// Every score.
    pub(crate) fn all(&self) -> impl Iterator<Item = &f64> {
        self.pairs.iter().chain(self.values.iter().flatten())
    }
}

/// What pairs add to scores, window by window.
pub(crate) struct PairMoments {
    /// Per layer, head and pair: the sum over queries of the mean square, over keys, of what is added.
    energies: Vec<Vec<f64>>,
    queries: usize,
}

impl PairMoments {
    pub(crate) fn new(layers: usize) -> Self {
        Self { energies: vec![Vec::new(); layers], queries: 0 }
    }

    /// Takes up a window's turned `queries [heads, tokens, head_dim]` and `keys [groups, tokens, head_dim]` of a layer.
    ///
    /// What pair `p` adds to the score of a query with a key is the product of their two components; its mean square over all
    /// pairs of them is the trace of the product of two matrices of second moments, so that no score need be computed.
    pub(crate) fn add(&mut self, layer: usize, queries: &Tensor, keys: &Tensor) -> Result<()> {
        let (heads, tokens, head) = queries.dims3()?;
        let keys = keys.broadcast_sub(&keys.mean_keepdim(1)?)?;
        let (of_queries, of_keys) = (SecondMoments::of(queries)?, SecondMoments::of(&keys)?);
        let (half, shared) = (head / 2, heads / keys.dim(0)?);
        let energies = &mut self.energies[layer];
        energies.resize(heads * half, 0.0);
        for (at, energy) in energies.iter_mut().enumerate() {
            let group = at / half / shared;
            *energy += tokens as f64 * of_queries.product(at, &of_keys, group * half + at % half);
        }
        if layer == 0 {
            self.queries += tokens;
        }
        Ok(())
    }

    /// The scores of all pairs.
    fn scores(&self, config: &ModelConfig) -> Vec<f64> {
        let half = config.head_dim / 2;
        let mut scores = vec![0.0; half];
        for (at, energy) in self.energies.iter().flat_map(|layer| layer.iter().enumerate()) {
            // Squares that are added up: what rounding leaves below zero is zero.
            scores[at % half] += energy.max(0.0) / self.queries as f64 / config.head_dim as f64;
        }
        scores.into_iter().map(f64::sqrt).collect()
    }

    /// All scores of heads; `attention` are the moments of each layer's heads' outputs.
    ///
    /// # Errors
    /// candle's.
    pub(crate) fn importance(&self, network: &Network, attention: &[Moments]) -> std::result::Result<HeadImportance, Error> {
        let config = network.config();
        let mut values = Vec::with_capacity(config.num_layers);
        for (layer, moments) in attention.iter().enumerate() {
            let columns = network.matrices(layer)[3].sqr()?.sum(0)?.to_vec1::<f32>()?;
            let energies = moments.mean_square().into_iter().zip(columns).map(|(moment, column)| moment * f64::from(column));
            let mut scores = vec![0.0; config.num_kv_heads * config.head_dim];
            for (at, energy) in energies.enumerate() {
                let (head, dim) = (at / config.head_dim, at % config.head_dim);
                scores[head / config.heads_per_group() * config.head_dim + dim] += energy;
            }
            values.push(scores.into_iter().map(f64::sqrt).collect());
        }
        Ok(HeadImportance { pairs: self.scores(config), values })
    }
}

/// Per head and pair: the means, over tokens, of the squares of both components and of their product.
struct SecondMoments {
    low: Vec<f32>,
    high: Vec<f32>,
    cross: Vec<f32>,
}

impl SecondMoments {
    fn of(x: &Tensor) -> Result<Self> {
        let half = x.dim(2)? / 2;
        let (low, high) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
        let mean = |y: Tensor| y.mean(1)?.flatten_all()?.to_vec1::<f32>();
        Ok(Self { low: mean(low.sqr()?)?, high: mean(high.sqr()?)?, cross: mean((&low * &high)?)? })
    }

    /// The trace of the product of two of the matrices.
    fn product(&self, at: usize, other: &Self, there: usize) -> f64 {
        let times = |a: &[f32], b: &[f32]| f64::from(a[at]) * f64::from(b[there]);
        times(&self.low, &other.low) + 2.0 * times(&self.cross, &other.cross) + times(&self.high, &other.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_pair_is_worth_what_it_adds_to_scores() {
        // Two query heads share a key; heads have two pairs: dimensions 0 and 2, 1 and 3.
        let queries = [[[1.0f32, 2.0, -1.0, 0.5], [0.0, 1.0, 3.0, 2.0]], [[2.0, -1.0, 0.0, 1.0], [1.0, 1.0, 1.0, -2.0]]];
        let keys = [[[1.0f32, 3.0, 2.0, 3.0], [-1.0, 3.0, 4.0, 3.0]]];
        let mut moments = PairMoments::new(1);
        let (q, k) = (Tensor::new(&queries, &Device::Cpu).unwrap(), Tensor::new(&keys, &Device::Cpu).unwrap());
        moments.add(0, &q, &k).unwrap();
        moments.add(0, &q, &k).unwrap();
        // By the definition: all products, less their mean over the keys of each query.
        let expected = |head: usize, pair: usize| {
            let mut energy = 0.0;
            for query in &queries[head] {
                let parts = keys[0].map(|key| f64::from(query[pair] * key[pair] + query[pair + 2] * key[pair + 2]));
                let mean = f64::midpoint(parts[0], parts[1]);
                energy += parts.iter().map(|part| (part - mean).powi(2)).sum::<f64>() / 2.0;
            }
            (energy / 2.0 / 4.0).sqrt()
        };
        let config = ModelConfig { num_heads: 2, num_kv_heads: 1, head_dim: 4, ..edgewise_onnx::testing::tiny_config() };
        let scores = moments.scores(&config);
        assert!((scores[0] - expected(0, 0).hypot(expected(1, 0))).abs() < 1e-6, "{scores:?}");
        // A key that is always the same decides nothing.
        assert!(scores[1].abs() < 1e-6 && expected(0, 1).abs() < 1e-9, "{scores:?}");
    }
}
