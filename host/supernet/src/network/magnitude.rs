//! The magnitude of a sub-network's weights: a guess at what it is worth that looks at no text.

use super::Network;
use crate::{
    Error,
    linear::{Linear, Part},
};
use candle_core::{DType, Result, Tensor};
use edgewise_onnx::SubNetwork;

impl Network {
    /// Sum of the absolute values of all weights that a sub-network keeps: of sub-networks with as many parameters, a larger one
    /// keeps more of the network (arXiv 2410.06479 chooses by it where perplexity is too dear). Adapters are left out: before
    /// training they add nothing.
    ///
    /// # Errors
    /// [`Error::Artifact`] if `sub` does not fit, candle's.
    pub fn weight_magnitude(&self, sub: &SubNetwork) -> std::result::Result<f64, Error> {
        self.config.check(sub)?;
        let (heads, width) = (self.heads(sub)?, Part::First(sub.width as usize));
        let tables = std::iter::once(&self.embedding).chain(&self.output);
        let mut total = magnitude(&width.of(&self.norm, 0)?)?;
        for table in tables {
            total += magnitude(&width.of(table, 1)?)?;
        }
        for (kept, &id) in sub.layers.iter().enumerate() {
            let layer = &self.layers[id as usize];
            let (groups, neurons) = (sub.kv_groups[kept] as usize, Part::First(sub.mlp[kept] as usize));
            let all = groups * self.config.heads_per_group();
            for norm in [&layer.input_norm, &layer.mlp_norm] {
                total += magnitude(&width.of(norm, 0)?)?;
            }
            for (linear, output, input) in [
                (&layer.query, heads.turned(all), width),
                (&layer.key, heads.turned(groups), width),
                (&layer.value, heads.values(groups), width),
                (&layer.output, width, heads.values(all)),
                (&layer.gate, neurons, width),
                (&layer.up, neurons, width),
                (&layer.down, width, neurons),
            ] {
                total += kept_magnitude(linear, output, input)?;
            }
        }
        Ok(total)
    }
}

fn kept_magnitude(linear: &Linear, output: Part<'_>, input: Part<'_>) -> Result<f64> {
    let weight = magnitude(&input.of(&output.of(&linear.weight, 0)?, 1)?)?;
    let bias = linear.bias.as_ref().map(|bias| magnitude(&output.of(bias, 0)?)).transpose()?;
    Ok(weight + bias.unwrap_or_default())
}

/// Rows are summed in single precision, their sums in double.
fn magnitude(x: &Tensor) -> Result<f64> {
    let rows = x.detach().to_dtype(DType::F32)?.abs()?.sum(x.rank() - 1)?.flatten_all()?.to_vec1::<f32>()?;
    Ok(rows.into_iter().map(f64::from).sum())
}
