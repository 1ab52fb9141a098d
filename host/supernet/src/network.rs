//! The elastic forward pass: a sub-network of weights that are held once, cut by views, and copied only where heads are cut.
//! Evaluation and training run the same one.
//!
//! Rows of activations are tokens of one sequence, `[tokens, features]`; there is no batch, because for long sequences a
//! batch only materialises larger scores.

mod context;
mod heads;
mod magnitude;

pub use context::Context;
use heads::Heads;

use crate::{
    Error, Projection,
    linear::{Linear, Part, Pass, matmul},
    load,
    ops::{self, mix},
};
use candle_core::{D, DType, Device, Tensor, Var};
use edgewise_onnx::{Artifact, ArtifactWeights, ModelConfig, SubNetwork, Weights, names, rotary_tables};

/// Looks at activations on their way through the network.
pub trait Observer {
    /// Output of a norm `[tokens, width]`.
    ///
    /// # Errors
    /// candle's.
    fn norm(&mut self, x: &Tensor) -> candle_core::Result<()>;
    /// Turned queries `[heads, tokens, head_dim]` and keys `[groups, tokens, head_dim]` of a layer. Not looked at unless an
    /// observer says otherwise.
    ///
    /// # Errors
    /// candle's.
    fn turned(&mut self, _layer: usize, _queries: &Tensor, _keys: &Tensor) -> candle_core::Result<()> {
        Ok(())
    }
    /// Input of a layer's attention output projection `[tokens, heads * head_dim]`.
    ///
    /// # Errors
    /// candle's.
    fn attention(&mut self, layer: usize, x: &Tensor) -> candle_core::Result<()>;
    /// Input of a layer's down projection `[tokens, neurons]`.
    ///
    /// # Errors
    /// candle's.
    fn neurons(&mut self, layer: usize, x: &Tensor) -> candle_core::Result<()>;
    /// Input and output of a layer `[tokens, width]`.
    ///
    /// # Errors
    /// candle's.
    fn block(&mut self, layer: usize, before: &Tensor, after: &Tensor) -> candle_core::Result<()>;
}

/// Where a network's weights lie and in which precision.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The processor or an accelerator.
    pub device: Device,
    /// Element type of weights and activations; losses, adapters and their gradients are in single precision all the same.
    pub precision: DType,
}

impl Placement {
    /// Single precision in the processor's memory.
    pub const CPU: Self = Self { device: Device::Cpu, precision: DType::F32 };

    /// Whether weights are held as exactly as they are written after training.
    pub fn is_exact(&self) -> bool {
        self.precision == DType::F32
    }

    /// The place with this name: `cpu`, or `cuda` and `metal` where the program was built for them, in `fp32`, or in `bf16` or
    /// `fp16` on an accelerator.
    ///
    /// # Errors
    /// [`Error::Trainable`] for a name that is unknown and for what this build or machine does not have.
    pub fn named(device: &str, precision: &str) -> Result<Self, Error> {
        let missing = |e: candle_core::Error| {
            let reason = e.to_string();
            Error::Trainable(format!("`{device}` cannot be used: {}", reason.lines().next().unwrap_or_default()))
        };
        let unknown = |what: &str, name: &str| Error::Trainable(format!("unknown {what} `{name}`"));
        let found = match device {
            "cpu" => Device::Cpu,
            "cuda" => Device::new_cuda(0).map_err(missing)?,
            "metal" => Device::new_metal(0).map_err(missing)?,
            name => return Err(unknown("device", name)),
        };
        let precision = match precision {
            "fp32" => DType::F32,
            name @ ("bf16" | "fp16") if found.is_cpu() => {
                return Err(Error::Trainable(format!("the processor computes in single precision, not in {name}")));
            }
            "bf16" => DType::BF16,
            "fp16" => DType::F16,
            name => return Err(unknown("precision", name)),
        };
        Ok(Self { device: found, precision })
    }
}

pub(crate) struct Layer {
    pub(crate) input_norm: Tensor,
    pub(crate) mlp_norm: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Layer {
    pub(crate) fn linear_mut(&mut self, projection: Projection) -> &mut Linear {
        match projection {
            Projection::Q => &mut self.query,
            Projection::K => &mut self.key,
            Projection::V => &mut self.value,
            Projection::O => &mut self.output,
            Projection::Gate => &mut self.gate,
            Projection::Up => &mut self.up,
            Projection::Down => &mut self.down,
        }
    }
}

/// The weights of a network, and its forward pass at any sub-network.
pub struct Network {
    config: ModelConfig,
    pub(crate) embedding: Tensor,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Tensor,
    pub(crate) output: Option<Tensor>,
    cos: Tensor,
    sin: Tensor,
    /// The rotary pairs that the weights have, where they lack some.
    pairs: Option<Vec<u32>>,
    pub(crate) variables: Vec<(String, Var)>,
}

impl Network {
    /// Loads and checks every tensor; single-precision copies of the source.
    ///
    /// # Errors
    /// [`Error::Artifact`] for missing tensors or wrong shapes, [`Error::NotFinite`].
    pub fn load<W: Weights>(config: &ModelConfig, weights: &W, positions: usize) -> Result<Self, Error> {
        Self::load_to(config, weights, positions, &Placement::CPU)
    }

    /// As [`Network::load`], to a place of the caller's choice.
    ///
    /// # Errors
    /// As [`Network::load`], and candle's where the place has no room.
    pub fn load_to<W: Weights>(config: &ModelConfig, weights: &W, positions: usize, to: &Placement) -> Result<Self, Error> {
        Self::build(config, &config.full(), positions, to, |name, shape, _| load::tensor(name, weights.tensor(name)?, shape))
    }

    /// Loads an artifact, and says which sub-network of the result it is: all of it.
    ///
    /// # Errors
    /// As [`Network::load`].
    pub(crate) fn load_artifact(artifact: &Artifact, positions: usize) -> Result<(Self, SubNetwork), Error> {
        let weights = ArtifactWeights::open(artifact)?;
        let manifest = &artifact.manifest;
        let layers = (0..manifest.candidate.layers.len() as u32).collect();
        let whole = SubNetwork { layers, ..manifest.candidate.clone() };
        let network = Self::build(&manifest.model, &whole, positions, &Placement::CPU, |name, shape, turned| {
            let view = weights.tensor(name)?;
            match shape {
                // Matrices of an artifact are `[in, out]`.
                [output, input] if turned => Ok(load::tensor(name, view, &[*input, *output])?.t()?),
                shape => load::tensor(name, view, shape),
            }
        })?;
        Ok((network, whole))
    }

    /// `load` gives the tensor of a name and shape; the flag says that it is a matrix that activations are multiplied with.
    fn build(
        config: &ModelConfig,
        sizes: &SubNetwork,
        positions: usize,
        to: &Placement,
        load: impl Fn(&str, &[usize], bool) -> Result<Tensor, Error>,
    ) -> Result<Self, Error> {
        let load = |name: &str, shape: &[usize], turned: bool| -> Result<Tensor, Error> {
            Ok(load(name, shape, turned)?.to_dtype(to.precision)?.to_device(&to.device)?)
        };
        let (h, v, head) = (sizes.width as usize, config.vocab_size, config.head_size(sizes));
        let norm = |layer: usize, part: usize| load(&names::weight(layer, names::NORMS[part]), &[h], false);
        let linear = |layer: usize, part: &str, shape: [usize; 2], bias: bool| -> Result<Linear, Error> {
            let weight = load(&names::weight(layer, part), &shape, true)?;
            let bias = if bias { Some(load(&names::bias(layer, part), &shape[..1], false)?) } else { None };
            Ok(Linear::new(weight, bias))
        };
        let layers = (0..sizes.layers.len())
            .map(|l| {
                let kv = sizes.kv_groups[l] as usize * head;
                let (q, m) = (kv * config.heads_per_group(), sizes.mlp[l] as usize);
                let attention = |i: usize, shape| linear(l, names::ATTENTION[i], shape, config.attention_bias);
                let mlp = |i: usize, shape| -> Result<Linear, Error> {
                    let Linear { weight, bias, .. } = linear(l, names::MLP[i], shape, config.mlp_bias)?;
                    // Those of the attention are cut by heads, which is cheap in rows alone.
                    Ok(Linear::new(load::by_columns(&weight)?, bias))
                };
                Ok(Layer {
                    input_norm: norm(l, 0)?,
                    mlp_norm: norm(l, 1)?,
                    query: attention(0, [q, h])?,
                    key: attention(1, [kv, h])?,
                    value: attention(2, [kv, h])?,
                    output: attention(3, [h, q])?,
                    gate: mlp(0, [m, h])?,
                    up: mlp(1, [m, h])?,
                    down: mlp(2, [h, m])?,
                })
            })
            .collect::<Result<_, Error>>()?;
        let (cos, sin) = rotary_tables(config, positions);
        let table = |values: Vec<f32>| -> Result<Tensor, Error> {
            let all = Tensor::from_vec(values, (positions, config.head_dim / 2), &to.device)?.to_dtype(to.precision)?;
            match &sizes.pairs {
                None => Ok(all),
                Some(pairs) => Ok(all.index_select(&Tensor::new(&pairs[..], &to.device)?, 1)?),
            }
        };
        Ok(Self {
            embedding: load(names::EMBEDDING, &[v, h], false)?,
            norm: load(names::FINAL_NORM, &[h], false)?,
            output: if config.tied_embeddings { None } else { Some(load(names::OUTPUT, &[v, h], true)?) },
            layers,
            cos: table(cos)?,
            sin: table(sin)?,
            pairs: sizes.pairs.clone(),
            config: config.clone(),
            variables: Vec::new(),
        })
    }

    /// The architecture.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// A layer's matrices `[out, in]`: query, key, value, output, gate, up, down.
    pub(crate) fn matrices(&self, layer: usize) -> [&Tensor; 7] {
        let Layer { query, key, value, output, gate, up, down, .. } = &self.layers[layer];
        [query, key, value, output, gate, up, down].map(|linear| &linear.weight)
    }

    /// Hidden states after the last norm, `[tokens, width]`.
    ///
    /// # Errors
    /// [`Error::Artifact`] if `sub` does not fit, candle's errors.
    pub fn hidden(&self, sub: &SubNetwork, tokens: &[u32], observer: Option<&mut dyn Observer>) -> Result<Tensor, Error> {
        self.forward(sub, tokens, observer, Pass::Evaluation)
    }

    /// As [`Network::hidden`], with the dropout of adapters; the seed names its masks.
    ///
    /// # Errors
    /// As [`Network::hidden`].
    pub fn hidden_in_training(&self, sub: &SubNetwork, tokens: &[u32], seed: u64) -> Result<Tensor, Error> {
        self.forward(sub, tokens, None, Pass::Training { seed })
    }

    fn forward(
        &self,
        sub: &SubNetwork,
        tokens: &[u32],
        mut observer: Option<&mut dyn Observer>,
        pass: Pass,
    ) -> Result<Tensor, Error> {
        self.config.check(sub)?;
        let (width, eps) = (sub.width as usize, self.config.norm_eps as f32);
        let heads = self.heads(sub)?;
        let ids = Tensor::new(tokens, self.embedding.device())?;
        let mut x = pass.weight(&self.embedding).index_select(&ids, 0)?.narrow(1, 0, width)?.contiguous()?;
        for (kept, &id) in sub.layers.iter().enumerate() {
            let id = id as usize;
            let layer = &self.layers[id];
            let pass_of = |part: Projection| match pass {
                Pass::Evaluation => Pass::Evaluation,
                Pass::Training { seed } => {
                    Pass::Training { seed: mix(seed, (id * Projection::ALL.len() + part as usize) as u64) }
                }
            };
            let before = x.clone();
            let y = ops::rms_norm(&x, &pass.weight(&layer.input_norm).narrow(0, 0, width)?, eps)?;
            let groups = sub.kv_groups[kept] as usize;
            let mixed = {
                let [query, key, value] = self.attention_inputs(layer, &heads, &y, groups, &pass_of)?;
                if let Some(observer) = observer.as_deref_mut() {
                    observer.turned(id, &query, &key)?;
                }
                mix_values(&query, &key, &value, heads.scale)?
            };
            let mixes = heads.values(groups * self.config.heads_per_group());
            x = (x + layer.output.forward_part(&mixed, Part::First(width), mixes, pass_of(Projection::O))?)?;
            let z = ops::rms_norm(&x, &pass.weight(&layer.mlp_norm).narrow(0, 0, width)?, eps)?;
            let neurons = sub.mlp[kept] as usize;
            let gate = layer.gate.forward(&z, neurons, width, pass_of(Projection::Gate))?;
            let gated = ops::swiglu(&gate, &layer.up.forward(&z, neurons, width, pass_of(Projection::Up))?)?;
            x = (x + layer.down.forward(&gated, width, neurons, pass_of(Projection::Down))?)?;
            if let Some(observer) = observer.as_deref_mut() {
                observer.norm(&y)?;
                observer.attention(id, &mixed)?;
                observer.norm(&z)?;
                observer.neurons(id, &gated)?;
                observer.block(id, &before, &x)?;
            }
        }
        let out = ops::rms_norm(&x, &pass.weight(&self.norm).narrow(0, 0, width)?, eps)?;
        if let Some(observer) = observer {
            observer.norm(&out)?;
        }
        Ok(out)
    }

    /// Logits of hidden states, `[tokens, width] -> [tokens, vocabulary]`; recorded for a gradient if those are.
    ///
    /// # Errors
    /// candle's.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor, Error> {
        let matrix = self.output_matrix(hidden)?;
        Ok(matmul(hidden, &if hidden.track_op() { matrix } else { matrix.detach() })?)
    }

    /// Likewise without a gradient, in single precision in the processor's memory: `out` gets them row after row, for what it held.
    pub(crate) fn logits_into(&self, hidden: &Tensor, out: &mut Vec<f32>) -> Result<(), Error> {
        Ok(ops::frozen_matmul_into(hidden, &self.output_matrix(hidden)?, out)?)
    }

    /// What of the output matrix meets hidden states of this width.
    fn output_matrix(&self, hidden: &Tensor) -> candle_core::Result<Tensor> {
        Part::First(hidden.dim(D::Minus1)?).of(self.output.as_ref().unwrap_or(&self.embedding), 1)
    }

    /// Turned queries, turned keys, and values of `x [tokens, width]`, each `[heads or groups, tokens, head size]`.
    fn attention_inputs(
        &self,
        layer: &Layer,
        heads: &Heads,
        x: &Tensor,
        groups: usize,
        pass_of: &dyn Fn(Projection) -> Pass,
    ) -> candle_core::Result<[Tensor; 3]> {
        let (tokens, width) = x.dims2()?;
        let (cos, sin) = (heads.cos.narrow(0, 0, tokens)?, heads.sin.narrow(0, 0, tokens)?);
        let split = |linear: &Linear, n: usize, rows: Part<'_>, part: Projection| {
            let y = linear.forward_part(x, rows, Part::First(width), pass_of(part))?;
            y.reshape((tokens, n, heads.size))?.transpose(0, 1)
        };
        let all = groups * self.config.heads_per_group();
        Ok([
            ops::rope(&split(&layer.query, all, heads.turned(all), Projection::Q)?, &cos, &sin)?,
            ops::rope(&split(&layer.key, groups, heads.turned(groups), Projection::K)?, &cos, &sin)?,
            split(&layer.value, groups, heads.values(groups), Projection::V)?.contiguous()?,
        ])
    }
}

/// Causal attention up to the output projection, from queries `[heads, tokens, size]`, keys and values `[groups, tokens, size]` to
/// `[tokens, heads * size]`.
fn mix_values(query: &Tensor, key: &Tensor, value: &Tensor, scale: f64) -> candle_core::Result<Tensor> {
    if let Some(mixed) = ops::causal_attention(query, key, value, scale)? {
        return Ok(mixed);
    }
    let ((heads, tokens, size), groups) = (query.dims3()?, key.dim(0)?);
    // The query heads of a group are rows of one matrix; keys and values are not repeated.
    let query = query.reshape((groups, heads / groups * tokens, size))?;
    let mixed = ops::causal_softmax(&query.matmul(&key.t()?)?, scale)?.matmul(value)?;
    mixed.reshape((heads, tokens, size))?.transpose(0, 1)?.reshape((tokens, heads * size))
}
