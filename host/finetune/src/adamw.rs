//! `AdamW` (Loshchilov and Hutter, arXiv 1711.05101) whose state can be saved.
//!
//! Moments are in single precision in the processor's memory, wherever the variables are: adapters are small, and of full
//! weights an accelerator's memory holds the more.

use candle_core::{DType, Device, Result, Tensor, Var};
use rayon::prelude::*;

const BETA_1: f64 = 0.9;
/// The second moment's; a shorter memory than the usual 0.999, as training of language models has it.
const BETA_2: f64 = 0.95;
const EPSILON: f64 = 1e-8;
/// Elements of a task.
const PART: usize = 1 << 14;

/// The state of one variable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Moments {
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
}

/// The optimiser over all variables.
#[derive(Debug)]
pub(crate) struct AdamW {
    /// In the order of the variables.
    pub(crate) moments: Vec<Moments>,
    /// Updates so far.
    pub(crate) updates: u64,
    /// Of matrices; norms and biases do not decay.
    weight_decay: f64,
}

impl AdamW {
    pub(crate) fn new(variables: &[(String, Var)], weight_decay: f64) -> Self {
        let moments = variables.iter().map(|(_, var)| var.elem_count());
        let moments = moments.map(|n| Moments { first: vec![0.0; n], second: vec![0.0; n] }).collect();
        Self { moments, updates: 0, weight_decay }
    }

    /// One update with these gradients, each multiplied by `scale`.
    pub(crate) fn update(&mut self, variables: &[(String, Var)], gradients: &[Tensor], rate: f64, scale: f64) -> Result<()> {
        self.updates += 1;
        let steps = self.updates as f64;
        // The corrections of both moments' bias towards zero, folded into rate and epsilon.
        let root = (1.0 - BETA_2.powf(steps)).sqrt();
        let step_size = (rate * root / (1.0 - BETA_1.powf(steps))) as f32;
        let epsilon = (EPSILON * root) as f32;
        let (keep_1, keep_2, scale) = (BETA_1 as f32, BETA_2 as f32, scale as f32);
        for (((_, var), gradient), moments) in variables.iter().zip(gradients).zip(&mut self.moments) {
            let decay = if var.rank() > 1 { (1.0 - rate * self.weight_decay) as f32 } else { 1.0 };
            let mut values = host_values(var)?;
            let gradient = host_values(gradient)?;
            let state = moments.first.par_chunks_mut(PART).zip(moments.second.par_chunks_mut(PART));
            values.par_chunks_mut(PART).zip(gradient.par_chunks(PART)).zip(state).for_each(|((values, gradient), state)| {
                let (first, second) = state;
                for ((value, gradient), (first, second)) in values.iter_mut().zip(gradient).zip(first.iter_mut().zip(second)) {
                    let gradient = gradient * scale;
                    *first = keep_1 * *first + (1.0 - keep_1) * gradient;
                    *second = keep_2 * *second + (1.0 - keep_2) * gradient * gradient;
                    *value = *value * decay - step_size * *first / (second.sqrt() + epsilon);
                }
            });
            var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu)?.to_device(var.device())?)?;
        }
        Ok(())
    }
}

/// The elements of a tensor, in the processor's memory.
pub(crate) fn host_values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The textbook's update in double precision.
    fn textbook(value: f64, gradients: &[f64], rate: f64, decay: f64) -> f64 {
        let (mut value, mut first, mut second) = (value, 0.0, 0.0);
        for (step, g) in gradients.iter().enumerate() {
            let t = step as i32 + 1;
            first = BETA_1 * first + (1.0 - BETA_1) * g;
            second = BETA_2 * second + (1.0 - BETA_2) * g * g;
            let (corrected, square) = (first / (1.0 - BETA_1.powi(t)), second / (1.0 - BETA_2.powi(t)));
            value -= rate * (corrected / (square.sqrt() + EPSILON) + decay * value);
        }
        value
    }

    #[test]
    fn it_is_the_textbooks() {
        let device = Device::Cpu;
        let matrix = Var::from_vec(vec![1f32, -2.0], (1, 2), &device).unwrap();
        let norm = Var::from_vec(vec![0.5f32], 1, &device).unwrap();
        let variables = [("matrix".to_owned(), matrix.clone()), ("norm".to_owned(), norm.clone())];
        let mut optimiser = AdamW::new(&variables, 0.1);
        let gradients = [[0.3, -1.0, 0.5], [0.1, 0.2, -0.4], [2.0, 0.0, 0.25]];
        for [a, b, c] in gradients {
            let of_matrix = Tensor::new(&[[a as f32 * 2.0, b as f32 * 2.0]], &device).unwrap();
            let of_norm = Tensor::new(&[c as f32 * 2.0], &device).unwrap();
            optimiser.update(&variables, &[of_matrix, of_norm], 0.01, 0.5).unwrap();
        }
        let of = |at: usize| gradients.map(|g| g[at]);
        let found = [host_values(&matrix).unwrap(), host_values(&norm).unwrap()].concat();
        let expected = [textbook(1.0, &of(0), 0.01, 0.1), textbook(-2.0, &of(1), 0.01, 0.1), textbook(0.5, &of(2), 0.01, 0.0)];
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} {expected}");
        }
    }
}
