//! The elastic forward pass: a sub-network of weights that are held once, cut by views, never copied.
//!
//! Rows of activations are tokens of one sequence, `[tokens, features]`; there is no batch, because for long sequences a
//! batch only materialises larger scores.

mod context;

pub use context::Context;

use crate::Error;
use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};
use candle_nn::rotary_emb::rope;
use edgewise_onnx::{Artifact, ArtifactWeights, ElementType, ModelConfig, SubNetwork, TensorView, Weights, names, rotary_tables};

/// Looks at activations on their way through the network.
pub trait Observer {
    /// Output of a norm `[tokens, width]`.
    ///
    /// # Errors
    /// candle's.
    fn norm(&mut self, x: &Tensor) -> candle_core::Result<()>;
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

/// A projection `[out, in]` with an optional bias `[out]`.
struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// `x [tokens, input] -> [tokens, output]` with the first `output` rows and `input` columns.
    fn forward(&self, x: &Tensor, output: usize, input: usize) -> candle_core::Result<Tensor> {
        let weight = self.weight.narrow(0, 0, output)?.narrow(1, 0, input)?;
        let y = x.matmul(&weight.t()?)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(&bias.narrow(0, 0, output)?),
            None => Ok(y),
        }
    }
}

struct Layer {
    input_norm: Tensor,
    mlp_norm: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// The weights of a network in single precision, and its forward pass at any sub-network.
pub struct Network {
    config: ModelConfig,
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    output: Option<Tensor>,
    cos: Tensor,
    sin: Tensor,
}

impl Network {
    /// Loads and checks every tensor; single-precision copies of the source.
    ///
    /// # Errors
    /// [`Error::Artifact`] for missing tensors or wrong shapes, [`Error::NotFinite`].
    pub fn load<W: Weights>(config: &ModelConfig, weights: &W, positions: usize) -> Result<Self, Error> {
        Self::build(config, &config.full(), positions, |name, shape, _| tensor(name, weights.tensor(name)?, shape))
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
        let network = Self::build(&manifest.model, &whole, positions, |name, shape, turned| {
            let view = weights.tensor(name)?;
            match shape {
                // Matrices of an artifact are `[in, out]`.
                [output, input] if turned => Ok(tensor(name, view, &[*input, *output])?.t()?),
                shape => tensor(name, view, shape),
            }
        })?;
        Ok((network, whole))
    }

    /// `load` gives the tensor of a name and shape; the flag says that it is a matrix that activations are multiplied with.
    fn build(
        config: &ModelConfig,
        sizes: &SubNetwork,
        positions: usize,
        load: impl Fn(&str, &[usize], bool) -> Result<Tensor, Error>,
    ) -> Result<Self, Error> {
        let (h, v, head) = (sizes.width as usize, config.vocab_size, config.head_dim);
        let norm = |layer: usize, part: usize| load(&names::weight(layer, names::NORMS[part]), &[h], false);
        let linear = |layer: usize, part: &str, shape: [usize; 2], bias: bool| -> Result<Linear, Error> {
            let weight = load(&names::weight(layer, part), &shape, true)?;
            let bias = if bias { Some(load(&names::bias(layer, part), &shape[..1], false)?) } else { None };
            Ok(Linear { weight, bias })
        };
        let layers = (0..sizes.layers.len())
            .map(|l| {
                let kv = sizes.kv_groups[l] as usize * head;
                let (q, m) = (kv * config.heads_per_group(), sizes.mlp[l] as usize);
                let attention = |i: usize, shape| linear(l, names::ATTENTION[i], shape, config.attention_bias);
                let mlp = |i: usize, shape| linear(l, names::MLP[i], shape, config.mlp_bias);
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
        let table = |values: Vec<f32>| Tensor::from_vec(values, (positions, head / 2), &Device::Cpu);
        Ok(Self {
            embedding: load(names::EMBEDDING, &[v, h], false)?,
            norm: load(names::FINAL_NORM, &[h], false)?,
            output: if config.tied_embeddings { None } else { Some(load(names::OUTPUT, &[v, h], true)?) },
            layers,
            cos: table(cos)?,
            sin: table(sin)?,
            config: config.clone(),
        })
    }

    /// The architecture.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Weight matrices that importance scores multiply activations with: a layer's output and down projections `[out, in]`.
    pub(crate) fn contracting(&self, layer: usize) -> (&Tensor, &Tensor) {
        (&self.layers[layer].output.weight, &self.layers[layer].down.weight)
    }

    /// Hidden states after the last norm, `[tokens, width]`.
    ///
    /// # Errors
    /// [`Error::Artifact`] if `sub` does not fit, candle's errors.
    pub fn hidden(&self, sub: &SubNetwork, tokens: &[u32], mut observer: Option<&mut dyn Observer>) -> Result<Tensor, Error> {
        self.config.check(sub)?;
        let (width, eps) = (sub.width as usize, self.config.norm_eps as f32);
        let ids = Tensor::new(tokens, &Device::Cpu)?;
        let mut x = self.embedding.index_select(&ids, 0)?.narrow(1, 0, width)?.contiguous()?;
        let mask = causal_mask(tokens.len())?;
        for (kept, &id) in sub.layers.iter().enumerate() {
            let id = id as usize;
            let layer = &self.layers[id];
            let before = x.clone();
            let y = rms_norm(&x, &layer.input_norm.narrow(0, 0, width)?, eps)?;
            let mixed = self.attention(layer, &y, sub.kv_groups[kept] as usize, width, mask.as_ref())?;
            let heads = mixed.dim(1)?;
            x = (x + layer.output.forward(&mixed, width, heads)?)?;
            let z = rms_norm(&x, &layer.mlp_norm.narrow(0, 0, width)?, eps)?;
            let neurons = sub.mlp[kept] as usize;
            let gated = (silu(&layer.gate.forward(&z, neurons, width)?)? * layer.up.forward(&z, neurons, width)?)?;
            x = (x + layer.down.forward(&gated, width, neurons)?)?;
            if let Some(observer) = observer.as_deref_mut() {
                observer.norm(&y)?;
                observer.attention(id, &mixed)?;
                observer.norm(&z)?;
                observer.neurons(id, &gated)?;
                observer.block(id, &before, &x)?;
            }
        }
        let out = rms_norm(&x, &self.norm.narrow(0, 0, width)?, eps)?;
        if let Some(observer) = observer {
            observer.norm(&out)?;
        }
        Ok(out)
    }

    /// Logits of hidden states, `[tokens, width] -> [tokens, vocabulary]`.
    ///
    /// # Errors
    /// candle's.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor, Error> {
        let matrix = self.output.as_ref().unwrap_or(&self.embedding);
        Ok(hidden.matmul(&matrix.narrow(1, 0, hidden.dim(D::Minus1)?)?.t()?)?)
    }

    /// Causal attention up to the output projection, `[tokens, width] -> [tokens, heads * head_dim]`.
    fn attention(
        &self,
        layer: &Layer,
        x: &Tensor,
        groups: usize,
        width: usize,
        mask: Option<&Tensor>,
    ) -> candle_core::Result<Tensor> {
        let (tokens, head) = (x.dim(0)?, self.config.head_dim);
        let heads = groups * self.config.heads_per_group();
        let (cos, sin) = (self.cos.narrow(0, 0, tokens)?, self.sin.narrow(0, 0, tokens)?);
        let split = |y: Tensor, n: usize| y.reshape((tokens, n, head))?.transpose(0, 1)?.contiguous();
        let rotate = |y: Tensor| rope(&y.unsqueeze(0)?, &cos, &sin)?.squeeze(0);
        let query = rotate(split(layer.query.forward(x, heads * head, width)?, heads)?)?;
        let key = rotate(split(layer.key.forward(x, groups * head, width)?, groups)?)?;
        let value = split(layer.value.forward(x, groups * head, width)?, groups)?;
        // The query heads of a group are rows of one matrix; keys and values are not repeated.
        let rows = heads / groups * tokens;
        let query = (query * (1.0 / (head as f64).sqrt()))?.reshape((groups, rows, head))?;
        let scores = query.matmul(&key.t()?)?.reshape((heads, tokens, tokens))?;
        let scores = match mask {
            Some(mask) => scores.broadcast_add(mask)?,
            None => scores,
        };
        let shares = softmax_last_dim(&scores)?.reshape((groups, rows, tokens))?;
        shares.matmul(&value)?.reshape((heads, tokens, head))?.transpose(0, 1)?.reshape((tokens, heads * head))
    }
}

/// Zero where a row may look, minus infinity where it may not; nothing for a single token.
fn causal_mask(tokens: usize) -> candle_core::Result<Option<Tensor>> {
    if tokens == 1 {
        return Ok(None);
    }
    let cells = (0..tokens).flat_map(|row| (0..tokens).map(move |column| if column > row { f32::NEG_INFINITY } else { 0.0 }));
    Tensor::from_iter(cells, &Device::Cpu)?.reshape((tokens, tokens)).map(Some)
}

fn tensor(name: &str, view: TensorView<'_>, shape: &[usize]) -> Result<Tensor, Error> {
    if view.shape != shape {
        let problem = format!("has shape {:?}, the configuration says {shape:?}", view.shape);
        return Err(edgewise_onnx::Error::BadTensor { name: name.to_owned(), problem }.into());
    }
    let element = match view.element {
        ElementType::F32 => DType::F32,
        ElementType::F16 => DType::F16,
        ElementType::Bf16 => DType::BF16,
    };
    let tensor = Tensor::from_raw_buffer(view.bytes, element, shape, &Device::Cpu)?.to_dtype(DType::F32)?;
    let count = {
        let (storage, _) = tensor.storage_and_layout();
        match &*storage {
            candle_core::Storage::Cpu(cpu) => cpu.as_slice::<f32>()?.iter().filter(|v| !v.is_finite()).count(),
            _ => 0,
        }
    };
    if count > 0 {
        return Err(Error::NotFinite { name: name.to_owned(), count });
    }
    Ok(tensor)
}
