//! The model: a small Llama whose sub-networks can be run in place.
//!
//! Weights are kept as `[in, out]`, the layout the products want; [`Model::tensors`] gives them
//! back as Hugging Face names and stores them, `[out, in]`. A [`SubNet`] is a prefix of every
//! elastic dimension and a set of kept layers: it runs on views of the full weights, so that one
//! optimiser trains all of them.

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor, Var};
use edgewise_supernet::ops;
use rand::Rng;
use serde_json::{Value, json};

/// The sizes of a model.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) vocab: usize,
    pub(crate) width: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) kv_groups: usize,
    pub(crate) head_dim: usize,
    pub(crate) mlp: usize,
    pub(crate) rope_theta: f64,
    pub(crate) eps: f64,
    pub(crate) max_positions: usize,
}

impl Config {
    /// The bundled demo model: about 3.6 million parameters.
    pub(crate) fn demo(vocab: usize) -> Self {
        Self {
            vocab,
            width: 192,
            layers: 8,
            heads: 6,
            kv_groups: 3,
            head_dim: 32,
            mlp: 512,
            rope_theta: 10_000.0,
            eps: 1e-5,
            max_positions: 1024,
        }
    }

    /// Query heads that share one key and value head.
    fn heads_per_group(&self) -> usize {
        self.heads / self.kv_groups
    }

    /// `config.json` as Hugging Face readers expect it; `end_of_text` is both first and last token.
    pub(crate) fn to_json(&self, end_of_text: u32) -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": false,
            "attention_dropout": 0.0,
            "bos_token_id": end_of_text,
            "eos_token_id": end_of_text,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.width,
            "initializer_range": INIT_STD,
            "intermediate_size": self.mlp,
            "max_position_embeddings": self.max_positions,
            "mlp_bias": false,
            "model_type": "llama",
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_groups,
            "pretraining_tp": 1,
            "rms_norm_eps": self.eps,
            "rope_scaling": null,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": true,
            "torch_dtype": "float16",
            "use_cache": true,
            "vocab_size": self.vocab,
        })
    }
}

/// A part of the model: the first neurons, groups and dimensions, and some of the layers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SubNet {
    /// Dimensions of the residual stream.
    pub(crate) width: usize,
    /// The layers that run, in order, each with its own sizes.
    pub(crate) layers: Vec<SubLayer>,
}

/// One kept layer of a [`SubNet`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SubLayer {
    /// Its place in the full model.
    pub(crate) index: usize,
    /// KV groups; each brings its query heads.
    pub(crate) groups: usize,
    /// MLP neurons.
    pub(crate) neurons: usize,
}

impl SubNet {
    /// The whole model.
    pub(crate) fn full(config: &Config) -> Self {
        let layer = |index| SubLayer { index, groups: config.kv_groups, neurons: config.mlp };
        Self { width: config.width, layers: (0..config.layers).map(layer).collect() }
    }

    /// The same with this many neurons in every layer.
    pub(crate) fn with_neurons(mut self, neurons: usize) -> Self {
        for layer in &mut self.layers {
            layer.neurons = neurons;
        }
        self
    }

    /// The same with this many KV groups in every layer.
    pub(crate) fn with_groups(mut self, groups: usize) -> Self {
        for layer in &mut self.layers {
            layer.groups = groups;
        }
        self
    }

    /// The same without one layer of the full model.
    pub(crate) fn without_layer(mut self, index: usize) -> Self {
        self.layers.retain(|layer| layer.index != index);
        self
    }

    /// The same with a narrower residual stream.
    pub(crate) fn with_width(mut self, width: usize) -> Self {
        self.width = width;
        self
    }

    /// A random part for one training step. Every dimension is cut only some of the time, so that
    /// each is also trained alone; the first and the last layer, which translate from and to the
    /// embedding, always run.
    pub(crate) fn random(config: &Config, rng: &mut impl Rng) -> Self {
        let mut sub = Self::full(config);
        if rng.random_bool(0.6) {
            for layer in &mut sub.layers {
                layer.neurons = config.mlp * rng.random_range(2..=8) / 8;
            }
        }
        if rng.random_bool(0.5) {
            for layer in &mut sub.layers {
                layer.groups = rng.random_range(1..=config.kv_groups);
            }
        }
        if rng.random_bool(0.5) {
            for _ in 0..rng.random_range(1..=config.layers.div_ceil(3)) {
                if sub.layers.len() > 2 {
                    sub.layers.remove(rng.random_range(1..sub.layers.len() - 1));
                }
            }
        }
        if rng.random_bool(0.25) {
            sub.width = config.width * rng.random_range(4..=5) / 6;
        }
        sub
    }
}

const INIT_STD: f64 = 0.04;

struct Layer {
    input_norm: Var,
    q: Var,
    k: Var,
    v: Var,
    o: Var,
    post_norm: Var,
    gate: Var,
    up: Var,
    down: Var,
}

impl Layer {
    /// Names below `model.layers.N.`, in file order, and whether the tensor is a matrix.
    fn parts(&self) -> [(&'static str, &Var); 9] {
        [
            ("input_layernorm", &self.input_norm),
            ("self_attn.q_proj", &self.q),
            ("self_attn.k_proj", &self.k),
            ("self_attn.v_proj", &self.v),
            ("self_attn.o_proj", &self.o),
            ("post_attention_layernorm", &self.post_norm),
            ("mlp.gate_proj", &self.gate),
            ("mlp.up_proj", &self.up),
            ("mlp.down_proj", &self.down),
        ]
    }
}

/// The trainable model.
pub(crate) struct Model {
    config: Config,
    embedding: Var,
    layers: Vec<Layer>,
    norm: Var,
    /// Rotary tables, each `[positions, head_dim / 2]`.
    cos: Tensor,
    sin: Tensor,
}

/// Normal values by Box and Muller's method, from the run's own generator.
fn normal(rng: &mut impl Rng, shape: (usize, usize), std: f64) -> Result<Var> {
    let count = shape.0 * shape.1;
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt() * std;
        let (sin, cos) = (std::f64::consts::TAU * rng.random::<f64>()).sin_cos();
        values.extend([(radius * cos) as f32, (radius * sin) as f32]);
    }
    values.truncate(count);
    Ok(Var::from_vec(values, shape, &Device::Cpu)?)
}

fn ones(size: usize) -> Result<Var> {
    Ok(Var::ones(size, DType::F32, &Device::Cpu)?)
}

/// The first `rows` and `columns` of a matrix, as a view.
fn prefix(weight: &Var, rows: usize, columns: usize) -> Result<Tensor> {
    Ok(weight.narrow(0, 0, rows)?.narrow(1, 0, columns)?)
}

impl Model {
    /// A model with random weights.
    pub(crate) fn new(config: Config, rng: &mut impl Rng) -> Result<Self> {
        ensure!(config.heads.is_multiple_of(config.kv_groups), "heads must be a multiple of the KV groups");
        let (width, q_size, kv_size) = (config.width, config.heads * config.head_dim, config.kv_groups * config.head_dim);
        // Each layer adds twice to the residual stream; its sum keeps the size of one of them.
        let residual_std = INIT_STD / (2.0 * config.layers as f64).sqrt();
        let embedding = normal(rng, (config.vocab, width), INIT_STD)?;
        let mut layers = Vec::with_capacity(config.layers);
        for _ in 0..config.layers {
            layers.push(Layer {
                input_norm: ones(width)?,
                q: normal(rng, (width, q_size), INIT_STD)?,
                k: normal(rng, (width, kv_size), INIT_STD)?,
                v: normal(rng, (width, kv_size), INIT_STD)?,
                o: normal(rng, (q_size, width), residual_std)?,
                post_norm: ones(width)?,
                gate: normal(rng, (width, config.mlp), INIT_STD)?,
                up: normal(rng, (width, config.mlp), INIT_STD)?,
                down: normal(rng, (config.mlp, width), residual_std)?,
            });
        }
        let norm = ones(width)?;
        let (cos, sin) = rotary(&config)?;
        Ok(Self { config, embedding, layers, norm, cos, sin })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Every trainable variable with its Hugging Face name.
    pub(crate) fn vars(&self) -> Vec<(String, Var)> {
        let mut vars = vec![("model.embed_tokens.weight".to_owned(), self.embedding.clone())];
        for (index, layer) in self.layers.iter().enumerate() {
            for (name, var) in layer.parts() {
                vars.push((format!("model.layers.{index}.{name}.weight"), var.clone()));
            }
        }
        vars.push(("model.norm.weight".to_owned(), self.norm.clone()));
        vars
    }

    /// The tensors of a checkpoint in half precision: names and layout of Hugging Face.
    pub(crate) fn tensors(&self) -> Result<Vec<(String, Tensor)>> {
        let mut tensors = Vec::new();
        for (name, var) in self.vars() {
            // The embedding is a table of rows already; projections are stored as [out, in].
            let stored = if name.ends_with("_proj.weight") { var.t()? } else { var.as_tensor().clone() };
            tensors.push((name, stored.contiguous()?.to_dtype(DType::F16)?));
        }
        Ok(tensors)
    }

    /// The number of trainable parameters.
    pub(crate) fn parameters(&self) -> usize {
        self.vars().iter().map(|(_, var)| var.elem_count()).sum()
    }

    /// The mean loss (nats) of a predicted token: `windows` rows of `length + 1` ids, of which every
    /// id but the first of a row is predicted from those before it in the row.
    pub(crate) fn loss(&self, windows: &[&[u32]], sub: &SubNet) -> Result<Tensor> {
        let targets: Vec<u32> = windows.iter().flat_map(|window| &window[1..]).copied().collect();
        Ok(ops::cross_entropy(&self.logits(windows, sub)?, &targets)?)
    }

    /// A row of logits for every id but the last of each window.
    fn logits(&self, windows: &[&[u32]], sub: &SubNet) -> Result<Tensor> {
        let length = windows.first().map_or(0, |window| window.len().saturating_sub(1));
        ensure!(length > 0, "a window needs two tokens or more");
        ensure!(windows.iter().all(|window| window.len() == length + 1), "windows differ in length");
        let inputs: Vec<u32> = windows.iter().flat_map(|window| &window[..length]).copied().collect();
        let ids = Tensor::from_vec(inputs, windows.len() * length, &Device::Cpu)?;

        let mut x = self.embedding.index_select(&ids, 0)?.narrow(1, 0, sub.width)?.contiguous()?;
        for part in &sub.layers {
            let layer = &self.layers[part.index];
            x = (&x + self.attention(layer, part, sub.width, &x, windows.len(), length)?)?;
            x = (&x + self.mlp(layer, part, sub.width, &x)?)?;
        }
        let x = ops::rms_norm(&x, &self.norm.narrow(0, 0, sub.width)?, self.config.eps as f32)?;
        Ok(x.matmul(&self.embedding.narrow(1, 0, sub.width)?.t()?)?)
    }

    fn attention(&self, layer: &Layer, part: &SubLayer, width: usize, x: &Tensor, batch: usize, length: usize) -> Result<Tensor> {
        let (groups, head_dim) = (part.groups, self.config.head_dim);
        let heads = groups * self.config.heads_per_group();
        let x = ops::rms_norm(x, &layer.input_norm.narrow(0, 0, width)?, self.config.eps as f32)?;
        let project = |weight: &Var, heads: usize| -> Result<Tensor> {
            let y = x.matmul(&prefix(weight, width, heads * head_dim)?)?;
            Ok(y.reshape((batch, length, heads, head_dim))?.transpose(1, 2)?.contiguous()?)
        };
        let turned = |y: Tensor| -> Result<Tensor> {
            let heads = y.dim(0)? * y.dim(1)?;
            let (cos, sin) = (self.cos.narrow(0, 0, length)?, self.sin.narrow(0, 0, length)?);
            Ok(ops::rope(&y.reshape((heads, length, head_dim))?, &cos, &sin)?.reshape(y.shape())?)
        };
        let q = turned(project(&layer.q, heads)?)?;
        let k = turned(project(&layer.k, groups)?)?;
        let v = project(&layer.v, groups)?;
        // The heads of a group share keys: their rows stand under each other in one product, and
        // row r of it belongs to position r % length, as the causal softmax has it.
        let q = q.reshape((batch, groups, heads / groups * length, head_dim))?;
        let scores = q.matmul(&k.t()?)?;
        let scale = 1.0 / (head_dim as f64).sqrt();
        let y = ops::causal_softmax(&scores, scale)?.matmul(&v)?;
        let y = y.reshape((batch, heads, length, head_dim))?.transpose(1, 2)?.contiguous()?;
        let y = y.reshape((batch * length, heads * head_dim))?;
        Ok(y.matmul(&prefix(&layer.o, heads * head_dim, width)?)?)
    }

    fn mlp(&self, layer: &Layer, part: &SubLayer, width: usize, x: &Tensor) -> Result<Tensor> {
        let x = ops::rms_norm(x, &layer.post_norm.narrow(0, 0, width)?, self.config.eps as f32)?;
        let gate = x.matmul(&prefix(&layer.gate, width, part.neurons)?)?;
        let up = x.matmul(&prefix(&layer.up, width, part.neurons)?)?;
        Ok(ops::swiglu(&gate, &up)?.matmul(&prefix(&layer.down, part.neurons, width)?)?)
    }
}

/// The cosine and the sine of every position's angles: dimension `i` turns with `i + head_dim / 2`.
fn rotary(config: &Config) -> Result<(Tensor, Tensor)> {
    let (half, positions) = (config.head_dim / 2, config.max_positions);
    let angle = |at: usize| {
        let (position, i) = (at / half, at % half);
        position as f64 / config.rope_theta.powf(2.0 * i as f64 / config.head_dim as f64)
    };
    let table = |f: fn(f64) -> f64| {
        let values: Vec<f32> = (0..positions * half).map(|at| f(angle(at)) as f32).collect();
        Tensor::from_vec(values, (positions, half), &Device::Cpu)
    };
    Ok((table(f64::cos)?, table(f64::sin)?))
}

#[cfg(test)]
mod tests;
