//! Small models with random weights, in every form that a user may have one.

use edgewise_onnx::{ElementType, MappedWeights, ModelConfig, RopeScaling, TensorView, Weights, testing::write_checkpoint};
use half::{bf16, f16};
use safetensors::{Dtype, tensor::TensorView as SafeView};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The bundled demo model.
pub fn demo_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/assets/demo")
}

/// A model small enough to be measured in a moment, with the demo's vocabulary.
pub fn variant_config() -> ModelConfig {
    ModelConfig {
        vocab_size: 2048,
        hidden_size: 64,
        num_layers: 3,
        num_heads: 4,
        num_kv_heads: 2,
        head_dim: 16,
        mlp_size: 96,
        max_positions: 256,
        rope_theta: 10_000.0,
        rope_scaling: None,
        norm_eps: 1e-5,
        tied_embeddings: true,
        attention_bias: false,
        mlp_bias: false,
        bos_token: Some(0),
        eos_tokens: vec![0],
    }
}

/// A change of one tensor's values before it is stored.
pub type Edit<'a> = &'a dyn Fn(&str, &mut Vec<f32>);

/// A folder in Hugging Face layout that is being made.
pub struct Checkpoint {
    /// The architecture.
    pub config: ModelConfig,
    /// Type of the stored elements. Values are such that all types hold the same ones.
    pub element: ElementType,
    /// Number of files.
    pub shards: usize,
}

impl Checkpoint {
    /// A model of this architecture in one file of single precision.
    pub fn new(config: ModelConfig) -> Self {
        Self { config, element: ElementType::F32, shards: 1 }
    }

    /// The weights, exact in every element type.
    pub(crate) fn tensors(&self, edit: Edit<'_>) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        write_checkpoint(folder.path(), &self.config, 5).expect("the weights can be written");
        let weights = MappedWeights::open(folder.path()).expect("they are valid");
        let each = weights.names().map(|name| {
            let view = weights.tensor(name).expect("it is listed");
            let mut values = floats(view);
            edit(name, &mut values);
            (name.to_owned(), view.shape.to_vec(), values)
        });
        each.collect()
    }

    /// Writes it.
    pub fn write(&self, folder: &Path) {
        self.write_edited(folder, &|_, _| {});
    }

    /// Writes it with changed values.
    pub fn write_edited(&self, folder: &Path, edit: Edit<'_>) {
        fs::create_dir_all(folder).expect("the folder can be made");
        let tensors = self.tensors(edit);
        let stored: Vec<(String, Vec<usize>, Vec<u8>)> =
            tensors.into_iter().map(|(name, shape, values)| (name, shape, encode(&values, self.element))).collect();
        let kind = match self.element {
            ElementType::F32 => Dtype::F32,
            ElementType::F16 => Dtype::F16,
            ElementType::Bf16 => Dtype::BF16,
        };
        let mut index = BTreeMap::new();
        for shard in 0..self.shards {
            let name = if self.shards == 1 {
                "model.safetensors".to_owned()
            } else {
                format!("model-{:05}-of-{:05}.safetensors", shard + 1, self.shards)
            };
            let part = stored.iter().skip(shard).step_by(self.shards);
            let views: Vec<(String, SafeView<'_>)> = part
                .map(|(tensor, shape, bytes)| {
                    index.insert(tensor.clone(), name.clone());
                    (tensor.clone(), SafeView::new(kind, shape.clone(), bytes).expect("the size follows from the shape"))
                })
                .collect();
            let bytes = safetensors::serialize(views, None).expect("views are valid");
            fs::write(folder.join(name), bytes).expect("the folder can be written");
        }
        if self.shards > 1 {
            let text = json!({ "metadata": {}, "weight_map": index }).to_string();
            fs::write(folder.join("model.safetensors.index.json"), text).expect("the folder can be written");
        }
        fs::write(folder.join("config.json"), self.config_json("LlamaForCausalLM").to_string()).expect("it can be written");
        fs::copy(demo_folder().join("tokenizer.json"), folder.join("tokenizer.json")).expect("the demo has a tokenizer");
    }

    /// The content of `config.json`.
    pub fn config_json(&self, architecture: &str) -> Value {
        let c = &self.config;
        let mut out = Map::new();
        let Value::Object(plain) = json!({
            "architectures": [architecture],
            "hidden_act": "silu",
            "vocab_size": c.vocab_size,
            "hidden_size": c.hidden_size,
            "num_hidden_layers": c.num_layers,
            "num_attention_heads": c.num_heads,
            "num_key_value_heads": c.num_kv_heads,
            "head_dim": c.head_dim,
            "intermediate_size": c.mlp_size,
            "max_position_embeddings": c.max_positions,
            "rope_theta": c.rope_theta,
            "rms_norm_eps": c.norm_eps,
            "tie_word_embeddings": c.tied_embeddings,
            "attention_bias": c.attention_bias,
            "mlp_bias": c.mlp_bias,
            "bos_token_id": c.bos_token,
            "eos_token_id": c.eos_tokens,
        }) else {
            unreachable!("an object was written")
        };
        out.extend(plain);
        let scaling = match &c.rope_scaling {
            None => Value::Null,
            Some(RopeScaling::Linear { factor }) => json!({ "rope_type": "linear", "factor": factor }),
            Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions }) => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_max_positions,
            }),
            Some(RopeScaling::Divisors { .. }) => panic!("Hugging Face's files have no divisors"),
        };
        out.insert("rope_scaling".into(), scaling);
        Value::Object(out)
    }
}

/// Values rounded so that single, half and brain floats hold them alike.
fn floats(view: TensorView<'_>) -> Vec<f32> {
    let single = view.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes")));
    single
        .map(|x| {
            let short = bf16::from_f32(x).to_f32();
            // Below this, half floats lose digits.
            if short.abs() < 2f32.powi(-14) { 0.0 } else { short }
        })
        .collect()
}

fn encode(values: &[f32], element: ElementType) -> Vec<u8> {
    match element {
        ElementType::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ElementType::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
        ElementType::Bf16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
    }
}
