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

/// What is kept along a dimension of a matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'a> {
    /// The first of it: a view.
    First(usize),
    /// Of the first `heads` heads of `of` dimensions the first `kept` dimensions each.
    Heads {
        /// How many heads.
        heads: usize,
        /// Dimensions of a head.
        of: usize,
        /// Kept ones.
        kept: usize,
    },
    /// Of the first `heads` heads of `of` dimensions these rotary pairs: dimension `i` of a head with `i + of / 2`.
    Pairs {
        /// How many heads.
        heads: usize,
        /// Dimensions of a head.
        of: usize,
        /// Numbers of the pairs.
        kept: &'a Tensor,
    },
}

impl Part<'_> {
    /// The part of `x` along dimension `dim`; tracked where `x` is. What is no view is a copy.
    pub(crate) fn of(self, x: &Tensor, dim: usize) -> Result<Tensor> {
        let mut dims = x.dims().to_vec();
        let (before, after) = (dims[..dim].iter().product::<usize>(), dims[dim + 1..].iter().product::<usize>());
        let along = dims[dim];
        let cut = match self {
            Self::First(count) => {
                let view = x.narrow(dim, 0, count)?;
                // The processor multiplies any view; other devices' products want rows without gaps.
                return if view.device().is_cpu() { Ok(view) } else { view.contiguous() };
            }
            Self::Heads { heads, of, kept } => {
                dims[dim] = heads * kept;
                x.reshape((before, along / of, of, after))?.narrow(1, 0, heads)?.narrow(2, 0, kept)?
            }
            Self::Pairs { heads, of, kept } => {
                dims[dim] = heads * 2 * kept.dim(0)?;
                let halves = x.reshape((before, along / of * 2, of / 2, after))?.narrow(1, 0, heads * 2)?;
                halves.contiguous()?.index_select(kept, 2)?
            }
        };
        cut.reshape(dims)
    }
}

impl Linear {
    pub(crate) fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias, adapter: None }
    }

    /// `x [tokens, input] -> [tokens, output]` with the first `output` rows and `input` columns; the pass has a seed for this
    /// projection alone.
    pub(crate) fn forward(&self, x: &Tensor, output: usize, input: usize, pass: Pass) -> Result<Tensor> {
        self.forward_part(x, Part::First(output), Part::First(input), pass)
    }

    /// As [`Linear::forward`], with rows and columns that need not be the first.
    pub(crate) fn forward_part(&self, x: &Tensor, output: Part<'_>, input: Part<'_>, pass: Pass) -> Result<Tensor> {
        let weight = input.of(&output.of(&pass.weight(&self.weight), 0)?, 1)?;
        let y = match &self.adapter {
            Some(adapter) => {
                let (a, b) = (input.of(&pass.weight(&adapter.a), 1)?, output.of(&pass.weight(&adapter.b), 0)?);
                let dropout = match pass {
                    Pass::Evaluation => None,
                    Pass::Training { seed } => Some(Dropout { probability: adapter.dropout, seed }),
                };
                ops::adapted_matmul(x, &weight, &a, &b, adapter.scale, dropout)?
            }
            None => matmul(x, &weight)?,
        };
        match &self.bias {
            Some(bias) => y.broadcast_add(&output.of(&pass.weight(bias), 0)?),
            None => Ok(y),
        }
    }

    /// These rows and columns as a projection of its own, which is not trained: an adapter is part of its weight.
    pub(crate) fn cut(&self, output: Part<'_>, input: Part<'_>) -> Result<Self> {
        let part = |weight: &Tensor| input.of(&output.of(&weight.detach(), 0)?, 1)?.contiguous();
        let mut weight = part(&self.weight)?;
        if let Some(Adapter { a, b, scale, .. }) = &self.adapter {
            let added = output.of(&b.detach(), 0)?.matmul(&input.of(&a.detach(), 1)?.contiguous()?)?;
            weight = (&weight + (added * *scale)?.to_dtype(weight.dtype())?)?;
        }
        let bias = self.bias.as_ref().map(|bias| output.of(&bias.detach(), 0)).transpose()?;
        Ok(Self::new(weight, bias))
    }

    /// Adds the adapter to the weight; whether there was one.
    pub(crate) fn merge(&mut self) -> Result<bool> {
        let Some(Adapter { a, b, scale, .. }) = self.adapter.take() else { return Ok(false) };
        let added = (b.detach().matmul(&a.detach())? * scale)?;
        self.weight = (&self.weight + added.to_dtype(self.weight.dtype())?)?;
        Ok(true)
    }
}

/// `x` times the transposed `weight`; the gradient of the weight is computed where somebody wants it.
pub(crate) fn matmul(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if weight.track_op() { x.matmul(&weight.t()?) } else { ops::frozen_matmul(x, weight) }
}
