//! GGUF files of the `llama` architecture: dequantised to single precision in Hugging Face's layout.
//!
//! Two things differ from Hugging Face and give wrong numbers without any error if they are missed: the rows of the query and
//! key projections are stored for interleaved rotation, and the tokenizer's pre-tokenizer is only named, not described.

use crate::{
    Error,
    gguf_header::{has_zero_alignment, impossible_shape},
    tokenizer,
};
use candle_core::{Device, quantized::gguf_file, quantized::tokenizer::TokenizerFromGguf};
use edgewise_onnx::{ElementType, ModelConfig, RopeScaling, TensorView, Weights, names};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Seek},
    path::{Path, PathBuf},
};
use tokenizers::{
    ModelWrapper, SplitDelimiterBehavior, Tokenizer,
    pre_tokenizers::{
        byte_level::ByteLevel,
        digits::Digits,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

/// Tensors of a layer: GGUF's name and Hugging Face's.
const LAYER: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Metadata that names the pre-tokenizer.
const PRE: &str = "tokenizer.ggml.pre";
/// How Llama 3 splits a text before bytes are merged.
const LLAMA3: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What a pre-tokenizer's name stands for. A name that is not known is an error: tokens of another splitting give wrong numbers
/// and no sign of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Splitting {
    /// Words, as GPT-2.
    Words,
    /// Single digits, then words.
    Digits,
    /// [`LLAMA3`].
    Llama3,
    /// As the library reads it.
    AsRead,
}

impl Splitting {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "gpt-2" | "gpt2" | "phi-2" | "olmo" | "mellum" => Self::Words,
            "smollm" | "starcoder" | "refact" | "command-r" => Self::Digits,
            "llama-bpe" | "llama-v3" | "llama3" => Self::Llama3,
            "qwen2" | "smaug-bpe" | "lfm2" => Self::AsRead,
            _ => return None,
        })
    }
}

/// A GGUF file's header, and the open file.
pub(crate) struct Gguf {
    path: PathBuf,
    content: gguf_file::Content,
}

/// Dequantised tensors.
#[derive(Debug, Default)]
pub(crate) struct DenseWeights(BTreeMap<String, (Vec<usize>, Vec<u8>)>);

impl Weights for DenseWeights {
    fn tensor(&self, name: &str) -> Result<TensorView<'_>, edgewise_onnx::Error> {
        let (shape, bytes) = self.0.get(name).ok_or_else(|| edgewise_onnx::Error::MissingTensor(name.to_owned()))?;
        Ok(TensorView { element: ElementType::F32, shape, bytes })
    }
}

impl Gguf {
    /// Reads the header.
    ///
    /// # Errors
    /// [`Error::Gguf`] for a damaged file, [`Error::Architecture`] for another architecture.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let damaged = |reason: String| Error::Gguf { path: path.to_owned(), reason };
        let mut file = BufReader::new(File::open(path).map_err(Error::io("open", path))?);
        if has_zero_alignment(&mut file) {
            return Err(damaged("`general.alignment` is 0".to_owned()));
        }
        file.rewind().map_err(Error::io("read", path))?;
        let content = gguf_file::Content::read(&mut file).map_err(|e| damaged(first_line(&e)))?;
        if let Some(name) = impossible_shape(&content.tensor_infos) {
            return Err(damaged(format!("tensor `{name}` has a shape that is not possible")));
        }
        let gguf = Self { path: path.to_owned(), content };
        match gguf.text("general.architecture")? {
            "llama" => Ok(gguf),
            other => Err(Error::Architecture { path: path.to_owned(), found: other.to_owned() }),
        }
    }

    fn bad(&self, reason: String) -> Error {
        Error::BadConfig { path: self.path.clone(), reason }
    }

    fn find(&self, key: &str) -> Option<&gguf_file::Value> {
        self.content.metadata.get(key)
    }

    fn need(&self, key: &str) -> Result<&gguf_file::Value, Error> {
        self.find(key).ok_or_else(|| self.bad(format!("metadata `{key}` is missing")))
    }

    fn text(&self, key: &str) -> Result<&str, Error> {
        let value = self.need(key)?;
        value.to_string().map(String::as_str).map_err(|_| self.bad(format!("metadata `{key}` is no text")))
    }

    fn size(&self, key: &str) -> Result<usize, Error> {
        let value = self.need(key)?;
        let number = value.to_u64().or_else(|_| value.to_u32().map(u64::from)).ok().or(value.to_i32().ok().map(|v| v as u64));
        number.map(|v| v as usize).ok_or_else(|| self.bad(format!("metadata `{key}` is no single whole number")))
    }

    fn size_or(&self, key: &str, default: usize) -> Result<usize, Error> {
        if self.find(key).is_some() { self.size(key) } else { Ok(default) }
    }

    fn real_or(&self, key: &str, default: f64) -> Result<f64, Error> {
        match self.find(key) {
            None => Ok(default),
            Some(value) => value
                .to_f32()
                .map(f64::from)
                .or_else(|_| value.to_f64())
                .map_err(|_| self.bad(format!("metadata `{key}` is no number"))),
        }
    }

    /// Name for people, where the file has one.
    pub(crate) fn name(&self) -> Option<String> {
        self.text("general.name").ok().map(str::to_owned)
    }

    /// The architecture.
    ///
    /// # Errors
    /// [`Error::BadConfig`] naming the metadata key.
    pub(crate) fn config(&self) -> Result<ModelConfig, Error> {
        if self.size_or("llama.expert_count", 0)? > 0 {
            return Err(Error::Architecture { path: self.path.clone(), found: "llama with mixture of experts".into() });
        }
        let hidden_size = self.size("llama.embedding_length")?;
        let num_heads = self.size("llama.attention.head_count")?;
        let head = hidden_size.checked_div(num_heads).unwrap_or(0);
        let embedding = self.content.tensor_infos.get("token_embd.weight");
        let vocab_size = embedding.and_then(|t| t.shape.dims().first().copied());
        let vocab_size = vocab_size.ok_or_else(|| edgewise_onnx::Error::MissingTensor("token_embd.weight".into()))?;
        let has = |name: &str| self.content.tensor_infos.contains_key(name);
        let token = |key: &str| self.size(key).ok().map(|t| t as u32);
        let config = ModelConfig {
            vocab_size,
            hidden_size,
            num_layers: self.size("llama.block_count")?,
            num_heads,
            num_kv_heads: self.size_or("llama.attention.head_count_kv", num_heads)?,
            head_dim: self.size_or("llama.attention.key_length", head)?,
            mlp_size: self.size("llama.feed_forward_length")?,
            max_positions: self.size_or("llama.context_length", 2048)?,
            rope_theta: self.real_or("llama.rope.freq_base", 10_000.0)?,
            rope_scaling: self.scaling()?,
            norm_eps: f64::from(self.real_or("llama.attention.layer_norm_rms_epsilon", 1e-5)? as f32),
            tied_embeddings: !has("output.weight"),
            attention_bias: has("blk.0.attn_q.bias"),
            mlp_bias: has("blk.0.ffn_gate.bias"),
            bos_token: token("tokenizer.ggml.bos_token_id"),
            eos_tokens: token("tokenizer.ggml.eos_token_id").into_iter().collect(),
        };
        config.validate().map_err(|e| self.bad(e.to_string()))?;
        Ok(config)
    }

    fn scaling(&self) -> Result<Option<RopeScaling>, Error> {
        if self.content.tensor_infos.contains_key("rope_freqs.weight") {
            let (_, bytes) = self.dense("rope_freqs.weight")?;
            let divisors = bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect();
            return Ok(Some(RopeScaling::Divisors { divisors }));
        }
        match self.find("llama.rope.scaling.type").map(|_| self.text("llama.rope.scaling.type")).transpose()? {
            None | Some("none") => Ok(None),
            Some("linear") => Ok(Some(RopeScaling::Linear { factor: self.real_or("llama.rope.scaling.factor", 1.0)? })),
            Some(other) => Err(self.bad(format!("rope scaling `{other}` is not supported"))),
        }
    }

    /// One tensor as little-endian single precision.
    fn dense(&self, name: &str) -> Result<(Vec<usize>, Vec<u8>), Error> {
        let bad = |e: &candle_core::Error| Error::Gguf {
            path: self.path.clone(),
            reason: format!("tensor `{name}`: {}", first_line(e)),
        };
        if !self.content.tensor_infos.contains_key(name) {
            return Err(edgewise_onnx::Error::MissingTensor(name.to_owned()).into());
        }
        let mut file = BufReader::new(File::open(&self.path).map_err(Error::io("open", &self.path))?);
        let quantized = self.content.tensor(&mut file, name, &Device::Cpu).map_err(|e| bad(&e))?;
        let tensor = quantized.dequantize(&Device::Cpu).map_err(|e| bad(&e))?;
        let shape = tensor.dims().to_vec();
        let values = tensor.flatten_all().and_then(|t| t.to_vec1::<f32>()).map_err(|e| bad(&e))?;
        Ok((shape, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
    }

    /// Every tensor, under Hugging Face's names and in its layout.
    ///
    /// # Errors
    /// [`Error::Gguf`] for a truncated file, [`Error::Artifact`] for a missing tensor.
    pub(crate) fn weights(&self, config: &ModelConfig) -> Result<DenseWeights, Error> {
        let mut all = BTreeMap::new();
        all.insert(names::EMBEDDING.to_owned(), self.dense("token_embd.weight")?);
        all.insert(names::FINAL_NORM.to_owned(), self.dense("output_norm.weight")?);
        if !config.tied_embeddings {
            all.insert(names::OUTPUT.to_owned(), self.dense("output.weight")?);
        }
        for layer in 0..config.num_layers {
            for (theirs, ours) in LAYER {
                let heads = match theirs {
                    "attn_q" => Some(config.num_heads),
                    "attn_k" => Some(config.num_kv_heads),
                    _ => None,
                };
                let bias = match theirs {
                    "attn_norm" | "ffn_norm" => false,
                    other if other.starts_with("attn") => config.attention_bias,
                    _ => config.mlp_bias,
                };
                let kinds: &[&str] = if bias { &["weight", "bias"] } else { &["weight"] };
                for kind in kinds {
                    let (shape, bytes) = self.dense(&format!("blk.{layer}.{theirs}.{kind}"))?;
                    let bytes = match heads {
                        Some(heads) if shape[0] == heads * config.head_dim => half_split(&bytes, heads, config.head_dim),
                        _ => bytes,
                    };
                    all.insert(format!("model.layers.{layer}.{ours}.{kind}"), (shape, bytes));
                }
            }
        }
        Ok(DenseWeights(all))
    }

    /// What the library that makes the tokenizer takes for granted.
    fn check_merges(&self) -> Result<(), String> {
        let texts = |key: &str| -> Vec<&str> {
            let values = self.find(key).and_then(|value| value.to_vec().ok()).into_iter().flatten();
            values.filter_map(|value| value.to_string().ok().map(String::as_str)).collect()
        };
        let (tokens, merges) = (texts("tokenizer.ggml.tokens"), texts("tokenizer.ggml.merges"));
        tokenizer::check_merges(tokens.into_iter(), merges.into_iter().filter_map(|merge| merge.split_once(' ')), "")
    }

    /// The tokenizer that the metadata describes.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for kinds that are not byte-level BPE, and for pre-tokenizers that are not known.
    pub(crate) fn tokenizer(&self) -> Result<Tokenizer, Error> {
        let bad = |reason: String| Error::Tokenizer { path: self.path.clone(), reason };
        self.check_merges().map_err(bad)?;
        let mut tokenizer = Tokenizer::from_gguf(&self.content).map_err(|e| bad(first_line(&e)))?;
        let kind = self.text(PRE)?;
        let splitting = Splitting::of(kind).ok_or_else(|| bad(format!("pre-tokenizer `{kind}` is not supported")))?;
        let bytes = |whole: bool| ByteLevel::new(false, true, whole);
        // The library's own choice for most names puts a space before the text and keeps numbers together.
        match splitting {
            Splitting::Words => tokenizer.with_pre_tokenizer(Some(bytes(true))),
            Splitting::Digits => {
                let steps = vec![Digits::new(true).into(), bytes(true).into()];
                tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)))
            }
            Splitting::Llama3 => {
                let pattern = SplitPattern::Regex(LLAMA3.to_owned());
                let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(|e| bad(e.to_string()))?;
                if let ModelWrapper::BPE(bpe) = tokenizer.get_model() {
                    // A word that is a token is that token, whether or not merges lead to it.
                    let mut bpe = bpe.clone();
                    bpe.ignore_merges = true;
                    tokenizer.with_model(bpe);
                }
                tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![split.into(), bytes(false).into()])))
            }
            Splitting::AsRead => &mut tokenizer,
        };
        Ok(tokenizer)
    }
}

/// Rows of each head from interleaved pairs `(0, 1), (2, 3), ..` to halves `0, 2, .. | 1, 3, ..`.
fn half_split(bytes: &[u8], heads: usize, head_dim: usize) -> Vec<u8> {
    let row = bytes.len() / (heads * head_dim);
    let mut out = Vec::with_capacity(bytes.len());
    for head in 0..heads {
        for parity in 0..2 {
            for pair in 0..head_dim / 2 {
                let from = (head * head_dim + 2 * pair + parity) * row;
                out.extend_from_slice(&bytes[from..from + row]);
            }
        }
    }
    out
}

fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or("unreadable").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn interleaved_pairs_become_halves() {
        let bytes: Vec<u8> = (0..8u8).flat_map(|row| [row, row]).collect();
        let rows: Vec<u8> = half_split(&bytes, 2, 4).chunks(2).map(|row| row[0]).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
    }

    proptest! {
        #[test]
        fn hostile_files_are_errors(bytes in proptest::collection::vec(any::<u8>(), 0..600), version in 1u32..4, counts in any::<(u8, u8)>()) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.gguf");
            let mut file = b"GGUF".to_vec();
            file.extend(version.to_le_bytes());
            file.extend(u64::from(counts.0).to_le_bytes());
            file.extend(u64::from(counts.1).to_le_bytes());
            file.extend(bytes);
            std::fs::write(&path, file).unwrap();
            prop_assert!(Gguf::open(&path).is_err());
        }
    }
}
