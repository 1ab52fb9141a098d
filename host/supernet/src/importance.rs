//! How much each part of a network matters, from one pass over calibration text.
//!
//! Neurons are scored on the down projection's input (the gated product, which is what a cut removes), key/value groups on the
//! output projection's input, by the [`Method`]. Width by the mean absolute output of every norm. What is kept of the text are
//! sums, so memory does not grow with it, and every ranking comes from the same pass.

use crate::{
    Error, Evaluation, HeadImportance, Network, Observer, Text, Windows, evaluate,
    head_importance::PairMoments,
    method::{LayerRanking, Method, Ranking},
    moments::Moments,
};
use candle_core::{D, Tensor};
use edgewise_onnx::{ModelConfig, SubNetwork};
use serde::{Deserialize, Serialize};

/// Windows of the calibration text on which layers are dropped one by one.
const LOSS_WINDOWS: usize = 4;

/// Scores of the parts of a network; larger matters more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Importance {
    /// Per layer.
    pub layers: Vec<f64>,
    /// Per layer and key/value group.
    pub kv_groups: Vec<Vec<f64>>,
    /// Per layer and neuron.
    pub neurons: Vec<Vec<f64>>,
    /// Per dimension of the residual stream.
    pub width: Vec<f64>,
    /// Of the dimensions of heads, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads: Option<HeadImportance>,
    /// Tokens that were looked at.
    pub tokens: usize,
}

impl Importance {
    /// Whether there is one score for each part of such a network.
    pub(crate) fn fits(&self, config: &ModelConfig) -> bool {
        let is_of_layers = |scores: &[Vec<f64>], parts: usize| {
            scores.len() == config.num_layers && scores.iter().all(|scores| scores.len() == parts)
        };
        self.layers.len() == config.num_layers
            && is_of_layers(&self.kv_groups, config.num_kv_heads)
            && is_of_layers(&self.neurons, config.mlp_size)
            && self.width.len() == config.hidden_size
            && self.heads.as_ref().is_none_or(|heads| heads.fits(config))
    }
}

/// What one pass of the full network over a text leaves behind.
pub(crate) struct Statistics {
    /// Per layer: the sum over tokens of the cosine between input and output.
    cosines: Vec<f64>,
    /// Per layer: the dimensions of the heads.
    attention: Vec<Moments>,
    /// Per layer: the norms of the groups' outputs.
    groups: Vec<Moments>,
    /// Per layer: the neurons.
    neurons: Vec<Moments>,
    /// The sum of absolute outputs of norms.
    width: Vec<f64>,
    /// What rotary pairs add to scores, where it is asked for.
    pairs: Option<PairMoments>,
    tokens: usize,
    /// Dimensions of a group.
    group: usize,
}

impl Statistics {
    /// Runs the full network over `windows`; `progress` is told how many are done. `heads`: their dimensions shall be scored.
    ///
    /// # Errors
    /// candle's.
    pub(crate) fn gather(
        network: &Network,
        windows: &[&[u32]],
        heads: bool,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Self, Error> {
        let config = network.config();
        let each = vec![Moments::default(); config.num_layers];
        let mut out = Self {
            cosines: vec![0.0; config.num_layers],
            attention: each.clone(),
            groups: each.clone(),
            neurons: each,
            width: vec![0.0; config.hidden_size],
            pairs: heads.then(|| PairMoments::new(config.num_layers)),
            tokens: 0,
            group: config.heads_per_group() * config.head_dim,
        };
        let full = config.full();
        for (done, window) in windows.iter().enumerate() {
            network.hidden(&full, window, Some(&mut out))?;
            out.tokens += window.len();
            progress(done + 1);
        }
        Ok(out)
    }

    /// The scores by a method. `text` is what the statistics are of.
    ///
    /// # Errors
    /// candle's; [`Error::Logits`] if a score is not finite.
    pub(crate) fn scores(&self, network: &Network, method: Method, text: &Text, windows: Windows) -> Result<Importance, Error> {
        let config = network.config();
        let mut out = Importance {
            layers: match method.layers {
                LayerRanking::Block => self.cosines.iter().map(|sum| 1.0 - sum / self.tokens as f64).collect(),
                LayerRanking::Loss => losses(network, text, windows)?,
            },
            kv_groups: Vec::new(),
            neurons: Vec::new(),
            width: self.width.clone(),
            heads: match &self.pairs {
                Some(pairs) if method.heads => Some(pairs.importance(network, &self.attention)?),
                _ => None,
            },
            tokens: self.tokens,
        };
        for layer in 0..config.num_layers {
            let (groups, neurons) = match method.parts {
                Ranking::Contribution => self.energies(network, layer, Moments::mean_square)?,
                Ranking::Fluctuation => self.energies(network, layer, Moments::variance)?,
                Ranking::Magnitude => weight_norms(network, layer)?,
                Ranking::Activation(tokens, windows) => {
                    let of = |moments: &[Moments]| moments[layer].aggregated(tokens, windows);
                    (of(&self.groups), of(&self.neurons))
                }
            };
            out.kv_groups.push(groups);
            out.neurons.push(neurons);
        }
        let scores =
            out.layers.iter().chain(&out.width).chain(out.kv_groups.iter().flatten()).chain(out.neurons.iter().flatten());
        let scores = scores.chain(out.heads.iter().flat_map(HeadImportance::all));
        if scores.copied().all(f64::is_finite) { Ok(out) } else { Err(Error::Logits) }
    }

    /// Of groups and neurons: the root of their second moment, as `of` takes it, times the squared norm of the column it meets.
    fn energies(&self, network: &Network, layer: usize, of: fn(&Moments) -> Vec<f64>) -> Result<(Vec<f64>, Vec<f64>), Error> {
        let [.., output, _, _, down] = network.matrices(layer);
        let energy = |moments: &Moments, matrix: &Tensor| -> Result<Vec<f64>, Error> {
            let columns = matrix.sqr()?.sum(0)?.to_vec1::<f32>()?;
            Ok(of(moments).into_iter().zip(columns).map(|(moment, column)| moment * f64::from(column)).collect())
        };
        let heads = energy(&self.attention[layer], output)?;
        let groups = heads.chunks(self.group).map(|dims| dims.iter().sum::<f64>().sqrt()).collect();
        Ok((groups, energy(&self.neurons[layer], down)?.into_iter().map(f64::sqrt).collect()))
    }
}

/// Of groups and neurons: the Euclidean norm of all weights that would be cut with it.
fn weight_norms(network: &Network, layer: usize) -> Result<(Vec<f64>, Vec<f64>), Error> {
    let [query, key, value, output, gate, up, down] = network.matrices(layer);
    // A part is some neighbouring rows of these matrices and columns of those.
    let norms = |rows: &[&Tensor], columns: &Tensor, parts: usize| -> Result<Vec<f64>, Error> {
        let mut sums = vec![0.0; parts];
        let all = rows.iter().map(|m| m.sqr()?.sum(1)).chain([columns.sqr().and_then(|m| m.sum(0))]);
        for squares in all {
            let squares = squares?.to_vec1::<f32>()?;
            let size = squares.len() / parts;
            for (sum, squares) in sums.iter_mut().zip(squares.chunks(size)) {
                *sum += squares.iter().map(|&s| f64::from(s)).sum::<f64>();
            }
        }
        Ok(sums.into_iter().map(f64::sqrt).collect())
    };
    let config = network.config();
    let groups = norms(&[query, key, value], output, config.num_kv_heads)?;
    Ok((groups, norms(&[gate, up], down, config.mlp_size)?))
}

/// By how much the loss of a token rises without each layer, in nats.
fn losses(network: &Network, text: &Text, windows: Windows) -> Result<Vec<f64>, Error> {
    let on = Evaluation { text: text.clone(), windows: Windows { count: windows.count.min(LOSS_WINDOWS), ..windows } };
    let full = network.config().full();
    let whole = evaluate(network, &full, &on)?.nll;
    let without = |dropped: usize| -> Result<f64, Error> {
        let keep = |list: &[u32]| list.iter().enumerate().filter(|(i, _)| *i != dropped).map(|(_, &v)| v).collect();
        let sub =
            SubNetwork { layers: keep(&full.layers), kv_groups: keep(&full.kv_groups), mlp: keep(&full.mlp), ..full.clone() };
        Ok(evaluate(network, &sub, &on)?.nll - whole)
    };
    // A network of one layer has nothing to drop.
    if full.layers.len() == 1 { Ok(vec![0.0]) } else { (0..full.layers.len()).map(without).collect() }
}

impl Observer for Statistics {
    fn norm(&mut self, x: &Tensor) -> candle_core::Result<()> {
        let sums = x.abs()?.sum(0)?.to_vec1::<f32>()?;
        self.width.iter_mut().zip(sums).for_each(|(sum, value)| *sum += f64::from(value));
        Ok(())
    }

    fn turned(&mut self, layer: usize, queries: &Tensor, keys: &Tensor) -> candle_core::Result<()> {
        self.pairs.as_mut().map_or(Ok(()), |pairs| pairs.add(layer, queries, keys))
    }

    fn attention(&mut self, layer: usize, x: &Tensor) -> candle_core::Result<()> {
        self.attention[layer].add(x)?;
        let (tokens, dims) = x.dims2()?;
        let norms = x.reshape((tokens, dims / self.group, self.group))?.sqr()?.sum(D::Minus1)?.sqrt()?;
        self.groups[layer].add(&norms)
    }

    fn neurons(&mut self, layer: usize, x: &Tensor) -> candle_core::Result<()> {
        self.neurons[layer].add(x)
    }

    fn block(&mut self, layer: usize, before: &Tensor, after: &Tensor) -> candle_core::Result<()> {
        let dot = (before * after)?.sum(D::Minus1)?;
        let norms = (before.sqr()?.sum(D::Minus1)?.sqrt()? * after.sqr()?.sum(D::Minus1)?.sqrt()?)?;
        let cosines = (dot / (norms + 1e-12)?)?;
        self.cosines[layer] += f64::from(cosines.sum_all()?.to_scalar::<f32>()?);
        Ok(())
    }
}
