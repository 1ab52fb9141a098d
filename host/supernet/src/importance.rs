//! How much each part of a network matters, from one pass over calibration text.
//!
//! Neurons are scored on the down projection's input (the gated product, which is what a cut removes): root mean square times
//! the norm of the column it meets. Key/value groups likewise on the output projection's input, summed over the group.
//! Width by the mean absolute output of every norm. Layers by block importance, one minus the mean cosine between input and
//! output (ShortGPT, arXiv 2403.03853). Statistics are sums, so memory does not grow with the text.

use crate::{Error, Network, Observer};
use candle_core::{D, Tensor};
use edgewise_onnx::ModelConfig;
use serde::{Deserialize, Serialize};

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
    }
}

/// Runs the full network over `windows` and scores it; `progress` is told how many windows are done.
///
/// # Errors
/// candle's; [`Error::Logits`] if an activation is not finite.
pub(crate) fn measure(network: &Network, windows: &[&[u32]], progress: &mut dyn FnMut(usize)) -> Result<Importance, Error> {
    let config = network.config();
    let mut sums = Sums::new(config.num_layers, config.hidden_size);
    let full = config.full();
    for (done, window) in windows.iter().enumerate() {
        network.hidden(&full, window, Some(&mut sums))?;
        sums.tokens += window.len();
        progress(done + 1);
    }
    let group = config.heads_per_group() * config.head_dim;
    let mut out = Importance {
        layers: sums.blocks.iter().map(|cosines| 1.0 - cosines / sums.tokens as f64).collect(),
        kv_groups: Vec::new(),
        neurons: Vec::new(),
        width: sums.norms.clone(),
        tokens: sums.tokens,
    };
    for layer in 0..config.num_layers {
        let (output, down) = network.contracting(layer);
        // Energy of each input's contribution: mean square of the activation times square of the column's norm.
        let energy = |squares: &[f64], matrix: &Tensor| -> Result<Vec<f64>, Error> {
            let columns = matrix.sqr()?.sum(0)?.to_vec1::<f32>()?;
            Ok(squares.iter().zip(columns).map(|(s, c)| s / sums.tokens as f64 * f64::from(c)).collect())
        };
        out.neurons.push(energy(&sums.neurons[layer], down)?.into_iter().map(f64::sqrt).collect());
        let heads = energy(&sums.attention[layer], output)?;
        out.kv_groups.push(heads.chunks(group).map(|dims| dims.iter().sum::<f64>().sqrt()).collect());
    }
    let scores = out.layers.iter().chain(&out.width).chain(out.kv_groups.iter().flatten()).chain(out.neurons.iter().flatten());
    if scores.copied().all(f64::is_finite) { Ok(out) } else { Err(Error::Logits) }
}

struct Sums {
    blocks: Vec<f64>,
    attention: Vec<Vec<f64>>,
    neurons: Vec<Vec<f64>>,
    norms: Vec<f64>,
    tokens: usize,
}

impl Sums {
    fn new(layers: usize, width: usize) -> Self {
        let empty = vec![Vec::new(); layers];
        Self { blocks: vec![0.0; layers], attention: empty.clone(), neurons: empty, norms: vec![0.0; width], tokens: 0 }
    }
}

fn add(sums: &mut Vec<f64>, more: &Tensor) -> candle_core::Result<()> {
    let more = more.to_vec1::<f32>()?;
    sums.resize(more.len(), 0.0);
    sums.iter_mut().zip(more).for_each(|(sum, value)| *sum += f64::from(value));
    Ok(())
}

impl Observer for Sums {
    fn norm(&mut self, x: &Tensor) -> candle_core::Result<()> {
        add(&mut self.norms, &x.abs()?.sum(0)?)
    }

    fn attention(&mut self, layer: usize, x: &Tensor) -> candle_core::Result<()> {
        add(&mut self.attention[layer], &x.sqr()?.sum(0)?)
    }

    fn neurons(&mut self, layer: usize, x: &Tensor) -> candle_core::Result<()> {
        add(&mut self.neurons[layer], &x.sqr()?.sum(0)?)
    }

    fn block(&mut self, layer: usize, before: &Tensor, after: &Tensor) -> candle_core::Result<()> {
        let dot = (before * after)?.sum(D::Minus1)?;
        let norms = (before.sqr()?.sum(D::Minus1)?.sqrt()? * after.sqr()?.sum(D::Minus1)?.sqrt()?)?;
        let cosines = (dot / (norms + 1e-12)?)?;
        self.blocks[layer] += f64::from(cosines.sum_all()?.to_scalar::<f32>()?);
        Ok(())
    }
}
