//! A projection, and the low-rank adapter that it may carry while it is trained.

use crate::ops::{self, Dropout};
use candle_core::{Result, Tensor, Var};

/// A projection `[out, in]` with an optional bias `[out]`.
pub(crate) struct Linear {
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
    pub(crate) adapter: Option<Adapter>,
}

/// What is added to a frozen weight: `scale * B A` (Hu et al., arXiv 2106.09685).
pub(crate) struct Adapter {
    /// `[rank, in]`.
    pub(crate) a: Var,
    /// `[out, rank]`.
    pub(crate) b: Var,
    /// Alpha over rank.
    pub(crate) scale: f64,
    /// Share of the adapter's inputs that are dropped while it is trained.
    pub(crate) dropout: f32,
}

/// What a forward pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Nothing is dropped, and nothing recorded.
    Evaluation,
    /// Variables are tracked; the seed names the masks of the adapters' dropout.
    Training {
        /// Names the masks.
        seed: u64,
    },
}

impl Pass {
    /// A weight as the pass sees it.
    pub(crate) fn weight(self, weight: &Tensor) -> Tensor {
        match self {
            Self::Evaluation => weight.detach(),
            Self::Training { .. } => weight.clone(),
        }
    }
}

impl Linear {
    pub(crate) fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias, adapter: None }
    }

    /// `x [tokens, input] -> [tokens, output]` with the first `output` rows and `input` columns; the pass has a seed for this
    /// projection alone.
    pub(crate) fn forward(&self, x: &Tensor, output: usize, input: usize, pass: Pass) -> Result<Tensor> {
        let weight = cut(&pass.weight(&self.weight), output, input)?;
        let y = match &self.adapter {
            Some(adapter) => {
                let (a, b) = (pass.weight(&adapter.a), pass.weight(&adapter.b));
                let (a, b) = (cut(&a, a.dim(0)?, input)?, cut(&b, output, b.dim(1)?)?);
                let dropout = match pass {
                    Pass::Evaluation => None,
                    Pass::Training { seed } => Some(Dropout { probability: adapter.dropout, seed }),
                };
                ops::adapted_matmul(x, &weight, &a, &b, adapter.scale, dropout)?
            }
            None => matmul(x, &weight)?,
        };
        match &self.bias {
            Some(bias) => y.broadcast_add(&pass.weight(bias).narrow(0, 0, output)?),
            None => Ok(y),
        }
    }

    /// Adds the adapter to the weight; whether there was one.
    pub(crate) fn merge(&mut self) -> Result<bool> {
        let Some(Adapter { a, b, scale, .. }) = self.adapter.take() else { return Ok(false) };
        let added = (b.detach().matmul(&a.detach())? * scale)?;
        self.weight = (&self.weight + added.to_dtype(self.weight.dtype())?)?;
        Ok(true)
    }
}

/// The first `rows` and `columns` of a matrix: a view where the processor multiplies it, which takes any; other devices' products
/// want rows without gaps.
pub(crate) fn cut(matrix: &Tensor, rows: usize, columns: usize) -> Result<Tensor> {
    let view = matrix.narrow(0, 0, rows)?.narrow(1, 0, columns)?;
    if view.device().is_cpu() { Ok(view) } else { view.contiguous() }
}

/// `x` times the transposed `weight`; the gradient of the weight is computed where somebody wants it.
pub(crate) fn matmul(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if weight.track_op() { x.matmul(&weight.t()?) } else { ops::frozen_matmul(x, weight) }
}
