//! Which parts of a network are trained, and what becomes of them afterwards.

use crate::{
    Error, Network,
    linear::{Adapter, Linear},
    ops::{mix, uniform},
};
use candle_core::{DType, Tensor, Var};
use edgewise_onnx::names;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// A projection of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Projection {
    /// The queries.
    Q,
    /// The keys.
    K,
    /// The values.
    V,
    /// The attention's output.
    O,
    /// The feed-forward's gate.
    Gate,
    /// The feed-forward's input.
    Up,
    /// The feed-forward's output.
    Down,
}

impl Projection {
    /// All of them, in the order of the forward pass.
    pub const ALL: [Self; 7] = [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        ["q", "k", "v", "o", "gate", "up", "down"][self as usize]
    }

    /// Its place in a layer of Hugging Face's layout.
    fn part(self) -> &'static str {
        let number = self as usize;
        names::ATTENTION.get(number).copied().unwrap_or_else(|| names::MLP[number - names::ATTENTION.len()])
    }
}

impl FromStr for Projection {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|projection| projection.name() == name);
        found.ok_or_else(|| format!("unknown projection `{name}`: known are {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// Adapters of low rank beside frozen weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Inner dimension of an adapter.
    pub rank: usize,
    /// What an adapter adds is scaled by `alpha / rank`.
    pub alpha: f64,
    /// Share of an adapter's inputs that are dropped while it is trained; at least 0, below 1.
    pub dropout: f32,
    /// Which projections have one.
    pub targets: Vec<Projection>,
}

/// What is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trainable {
    /// Every weight, norms and embedding included.
    Full,
    /// Adapters alone.
    Lora(Lora),
}

impl Network {
    /// Makes parts of the network trainable, with variables that start as what computes the same network: adapters whose `B` is
    /// zero and whose `A` is even in `±1/sqrt(in)`, drawn from `seed`, or the weights themselves.
    ///
    /// # Errors
    /// [`Error::Trainable`] for settings that make no adapter or no training in the network's precision, candle's.
    pub fn make_trainable(&mut self, what: &Trainable, seed: u64) -> Result<(), Error> {
        if !self.variables.is_empty() {
            return Err(Error::Trainable("the network is being trained already".into()));
        }
        self.variables = match what {
            Trainable::Full => self.make_weights_trainable()?,
            Trainable::Lora(lora) => self.add_adapters(lora, seed)?,
        };
        Ok(())
    }

    fn add_adapters(&mut self, lora: &Lora, seed: u64) -> Result<Vec<(String, Var)>, Error> {
        let bad = |what: String| Err(Error::Trainable(what));
        if lora.targets.is_empty() {
            return bad("no projection has an adapter".into());
        }
        if !(lora.alpha.is_finite() && lora.alpha > 0.0 && (0.0..1.0).contains(&lora.dropout)) {
            return bad(format!("alpha {} must be above 0, dropout {} at least 0 and below 1", lora.alpha, lora.dropout));
        }
        let mut variables = Vec::new();
        for (number, layer) in self.layers.iter_mut().enumerate() {
            for &target in &lora.targets {
                let linear = layer.linear_mut(target);
                let (output, input) = linear.weight.dims2()?;
                if lora.rank == 0 || lora.rank > output.min(input) {
                    return bad(format!("rank {} of a projection of {input} to {output}", lora.rank));
                }
                if linear.adapter.is_some() {
                    return bad(format!("projection `{}` is named twice", target.name()));
                }
                let bound = 1.0 / (input as f32).sqrt();
                let stream = mix(seed, (number * Projection::ALL.len() + target as usize) as u64);
                let values: Vec<f32> = uniform(stream, lora.rank * input).into_iter().map(|v| v * bound).collect();
                let device = linear.weight.device().clone();
                let a = Var::from_vec(values, (lora.rank, input), &device)?;
                let b = Var::zeros((output, lora.rank), DType::F32, &device)?;
                let part = names::weight(number, target.part());
                let stem = part.trim_end_matches(".weight");
                variables.push((format!("{stem}.lora_A.weight"), a.clone()));
                variables.push((format!("{stem}.lora_B.weight"), b.clone()));
                linear.adapter = Some(Adapter { a, b, scale: lora.alpha / lora.rank as f64, dropout: lora.dropout });
            }
        }
        Ok(variables)
    }

    fn make_weights_trainable(&mut self) -> Result<Vec<(String, Var)>, Error> {
        if self.embedding.dtype() != DType::F32 {
            return Err(Error::Trainable("full weights are trained in single precision only".into()));
        }
        let mut variables = Vec::new();
        self.for_each_tensor(&mut |name, tensor| {
            // A variable can only be set where it lies row after row.
            let var = Var::from_tensor(&tensor.contiguous()?)?;
            *tensor = var.as_tensor().clone();
            variables.push((name, var));
            Ok(())
        })?;
        Ok(variables)
    }

    /// Every variable with its name; none before [`Self::make_trainable`].
    pub fn variables(&self) -> &[(String, Var)] {
        &self.variables
    }

    /// Takes over what was trained in another network of the same weights, wherever that is and in whatever precision its other
    /// weights are: merged there, it would be rounded with them.
    ///
    /// # Errors
    /// [`Error::Trainable`] if other parts of it are trainable, and candle's.
    pub fn take_over(&mut self, trained: &Self) -> Result<(), Error> {
        if !self.variables.iter().map(|v| &v.0).eq(trained.variables.iter().map(|v| &v.0)) {
            return Err(Error::Trainable("the two networks are not trained alike".into()));
        }
        for ((_, to), (_, from)) in self.variables.iter().zip(&trained.variables) {
            to.set(&from.detach().to_device(to.device())?.to_dtype(to.dtype())?)?;
        }
        Ok(())
    }

    /// Makes what was trained part of the weights; nothing is trainable afterwards. Returns the names of the tensors that are
    /// no longer those of the source.
    ///
    /// # Errors
    /// candle's.
    pub fn merge(&mut self) -> Result<Vec<String>, Error> {
        let mut changed = Vec::new();
        for (number, layer) in self.layers.iter_mut().enumerate() {
            for target in Projection::ALL {
                if layer.linear_mut(target).merge()? {
                    changed.push(names::weight(number, target.part()));
                }
            }
        }
        self.for_each_tensor(&mut |name, tensor| {
            if tensor.is_variable() {
                *tensor = tensor.detach();
                changed.push(name);
            }
            Ok(())
        })?;
        self.variables.clear();
        Ok(changed)
    }

    /// Visits every tensor of the source with its name.
    pub(crate) fn for_each_tensor(
        &mut self,
        visit: &mut dyn FnMut(String, &mut Tensor) -> candle_core::Result<()>,
    ) -> candle_core::Result<()> {
        visit(names::EMBEDDING.into(), &mut self.embedding)?;
        visit(names::FINAL_NORM.into(), &mut self.norm)?;
        if let Some(output) = &mut self.output {
            visit(names::OUTPUT.into(), output)?;
        }
        for (number, layer) in self.layers.iter_mut().enumerate() {
            visit(names::weight(number, names::NORMS[0]), &mut layer.input_norm)?;
            visit(names::weight(number, names::NORMS[1]), &mut layer.mlp_norm)?;
            for target in Projection::ALL {
                let Linear { weight, bias, .. } = layer.linear_mut(target);
                visit(names::weight(number, target.part()), weight)?;
                if let Some(bias) = bias {
                    visit(names::bias(number, target.part()), bias)?;
                }
            }
        }
        Ok(())
    }
}
