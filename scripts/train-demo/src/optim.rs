//! `AdamW` with gradient clipping, a learning-rate schedule, and sums of gradients.

use anyhow::{Context, Result};
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.95;
const EPS: f64 = 1e-8;
const WEIGHT_DECAY: f64 = 0.1;

/// Gradients are scaled down to this norm.
const MAX_GRAD_NORM: f64 = 1.0;

/// Linear warm-up to `peak`, then half a cosine down to a tenth of it at `steps`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) peak: f64,
    pub(crate) warm_up: usize,
    pub(crate) steps: usize,
}

impl Schedule {
    pub(crate) fn rate(self, step: usize) -> f64 {
        if step < self.warm_up {
            return self.peak * (step + 1) as f64 / self.warm_up as f64;
        }
        let length = self.steps.saturating_sub(self.warm_up).max(1);
        let progress = ((step - self.warm_up) as f64 / length as f64).min(1.0);
        let floor = 0.1 * self.peak;
        floor + (self.peak - floor) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
    }
}

/// The optimiser over all variables; norms are not decayed.
pub(crate) struct Optimiser {
    vars: Vec<(String, Var)>,
    matrices: AdamW,
    vectors: AdamW,
}

impl Optimiser {
    pub(crate) fn new(vars: Vec<(String, Var)>) -> Result<Self> {
        let params = |weight_decay| ParamsAdamW { lr: 0.0, beta1: BETA1, beta2: BETA2, eps: EPS, weight_decay };
        let of_rank =
            |matrices: bool| vars.iter().filter(|(_, var)| (var.rank() > 1) == matrices).map(|(_, var)| var.clone()).collect();
        let matrices = AdamW::new(of_rank(true), params(WEIGHT_DECAY))?;
        let vectors = AdamW::new(of_rank(false), params(0.0))?;
        Ok(Self { vars, matrices, vectors })
    }

    /// Adds the gradients of another loss. One backward pass per loss keeps a single graph in
    /// memory at a time. A variable that the other loss does not reach keeps what it has.
    pub(crate) fn add(&self, into: &mut GradStore, other: &GradStore) -> Result<()> {
        for (_, var) in &self.vars {
            if let Some(more) = other.get(var) {
                let sum = match into.get(var) {
                    Some(grad) => (grad + more)?,
                    None => more.clone(),
                };
                into.insert(var, sum);
            }
        }
        Ok(())
    }

    /// One update. A variable without a gradient is an error: it means that an operation of the
    /// forward pass has no backward pass, which candle does not report.
    ///
    /// Returns the norm of the gradients before clipping.
    pub(crate) fn step(&mut self, grads: &mut GradStore, rate: f64) -> Result<f64> {
        let mut squares = 0.0;
        for (name, var) in &self.vars {
            let grad = grads.get(var).with_context(|| format!("{name} has no gradient"))?;
            squares += f64::from(grad.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        let norm = squares.sqrt();
        if norm > MAX_GRAD_NORM {
            for (_, var) in &self.vars {
                let clipped: Option<Tensor> = grads.get(var).map(|grad| grad * (MAX_GRAD_NORM / norm)).transpose()?;
                if let Some(clipped) = clipped {
                    grads.insert(var, clipped);
                }
            }
        }
        for optimiser in [&mut self.matrices, &mut self.vectors] {
            optimiser.set_learning_rate(rate);
            optimiser.step(grads)?;
        }
        Ok(norm)
    }
}
