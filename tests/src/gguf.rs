//! Writes GGUF files by hand, after the format's specification, so that reading is tested against something else than itself.

use crate::{Checkpoint, checkpoint::demo_folder};
use serde_json::Value;
use std::{fs, path::Path};

const ALIGNMENT: usize = 32;
/// GGUF's numbers of value types.
const U32: u32 = 4;
const F32: u32 = 6;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// The nine weights of a layer: Hugging Face's name and GGUF's.
const LAYER: [(&str, &str); 9] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

#[derive(Default)]
struct Header {
    bytes: Vec<u8>,
    entries: u64,
}

impl Header {
    fn text(&mut self, text: &str) {
        self.bytes.extend((text.len() as u64).to_le_bytes());
        self.bytes.extend(text.as_bytes());
    }

    fn key(&mut self, key: &str, kind: u32) {
        self.entries += 1;
        self.text(key);
        self.bytes.extend(kind.to_le_bytes());
    }

    fn put_text(&mut self, key: &str, value: &str) {
        self.key(key, STRING);
        self.text(value);
    }

    fn put_u32(&mut self, key: &str, value: usize) {
        self.key(key, U32);
        self.bytes.extend((value as u32).to_le_bytes());
    }

    fn put_f32(&mut self, key: &str, value: f64) {
        self.key(key, F32);
        self.bytes.extend((value as f32).to_le_bytes());
    }

    fn put_texts(&mut self, key: &str, values: &[String]) {
        self.key(key, ARRAY);
        self.bytes.extend(STRING.to_le_bytes());
        self.bytes.extend((values.len() as u64).to_le_bytes());
        for value in values {
            self.text(value);
        }
    }
}

/// Writes the model that `checkpoint` describes as a GGUF file of single precision; gives the size of its header, in bytes.
/// A real file says `llama` as its architecture, and as its pre-tokenizer what splits the text before bytes are merged: `gpt-2`
/// is that of the demo's tokenizer.
pub fn write_gguf(checkpoint: &Checkpoint, architecture: &str, pre_tokenizer: &str, path: &Path) -> usize {
    write(checkpoint, architecture, pre_tokenizer, None, path)
}

/// A sound file but for one more merge: of the longest token with itself, into what is no token.
pub fn write_gguf_with_a_bad_merge(checkpoint: &Checkpoint, path: &Path) {
    let (tokens, _) = vocabulary();
    let longest = tokens.iter().max_by_key(|token| token.len()).expect("there are tokens");
    write(checkpoint, "llama", "gpt-2", Some(format!("{longest} {longest}")), path);
}

fn write(checkpoint: &Checkpoint, architecture: &str, pre_tokenizer: &str, merge: Option<String>, path: &Path) -> usize {
    let c = &checkpoint.config;
    let mut header = Header::default();
    header.put_text("general.architecture", architecture);
    header.put_text("general.name", "Tiny");
    for (key, value) in [
        ("context_length", c.max_positions),
        ("embedding_length", c.hidden_size),
        ("block_count", c.num_layers),
        ("feed_forward_length", c.mlp_size),
        ("attention.head_count", c.num_heads),
        ("attention.head_count_kv", c.num_kv_heads),
        ("rope.dimension_count", c.head_dim),
    ] {
        header.put_u32(&format!("{architecture}.{key}"), value);
    }
    header.put_f32(&format!("{architecture}.rope.freq_base"), c.rope_theta);
    header.put_f32(&format!("{architecture}.attention.layer_norm_rms_epsilon"), c.norm_eps);
    let (tokens, mut merges) = vocabulary();
    merges.extend(merge);
    header.put_text("tokenizer.ggml.model", "gpt2");
    header.put_text("tokenizer.ggml.pre", pre_tokenizer);
    header.put_texts("tokenizer.ggml.tokens", &tokens);
    header.put_texts("tokenizer.ggml.merges", &merges);
    header.put_u32("tokenizer.ggml.bos_token_id", 0);
    header.put_u32("tokenizer.ggml.eos_token_id", 0);

    let (mut infos, mut data) = (Header::default(), Vec::new());
    let tensors = checkpoint.tensors(&|_, _| {});
    for (name, shape, values) in &tensors {
        let name = gguf_name(name);
        let heads = match name.rsplit('.').nth(1) {
            Some("attn_q") => Some(c.num_heads),
            Some("attn_k") => Some(c.num_kv_heads),
            _ => None,
        };
        let values = heads.map_or_else(|| values.clone(), |heads| interleave(values, heads, c.head_dim));
        infos.text(&name);
        infos.bytes.extend((shape.len() as u32).to_le_bytes());
        // Fastest dimension first.
        shape.iter().rev().for_each(|&d| infos.bytes.extend((d as u64).to_le_bytes()));
        infos.bytes.extend(0u32.to_le_bytes());
        infos.bytes.extend((data.len() as u64).to_le_bytes());
        data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        data.resize(data.len().next_multiple_of(ALIGNMENT), 0);
    }
    let mut file = b"GGUF".to_vec();
    file.extend(3u32.to_le_bytes());
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend(header.entries.to_le_bytes());
    file.extend(header.bytes);
    file.extend(infos.bytes);
    let end = file.len();
    file.resize(end.next_multiple_of(ALIGNMENT), 0);
    file.extend(data);
    fs::write(path, file).expect("the file can be written");
    end
}

/// The demo tokenizer's tokens by number, and its merges.
fn vocabulary() -> (Vec<String>, Vec<String>) {
    let text = fs::read_to_string(demo_folder().join("tokenizer.json")).expect("the demo has a tokenizer");
    let json: Value = serde_json::from_str(&text).expect("it is JSON");
    let vocab = json["model"]["vocab"].as_object().expect("it is a BPE tokenizer");
    let mut tokens = vec![String::new(); vocab.len()];
    for (token, number) in vocab {
        tokens[number.as_u64().expect("tokens are numbers") as usize].clone_from(token);
    }
    let merge = |m: &Value| match m {
        Value::String(pair) => pair.clone(),
        other => {
            let part = |i: usize| other[i].as_str().expect("a merge has two parts");
            format!("{} {}", part(0), part(1))
        }
    };
    (tokens, json["model"]["merges"].as_array().expect("it has merges").iter().map(merge).collect())
}

fn gguf_name(name: &str) -> String {
    match name {
        "model.embed_tokens.weight" => return "token_embd.weight".into(),
        "model.norm.weight" => return "output_norm.weight".into(),
        "lm_head.weight" => return "output.weight".into(),
        _ => {}
    }
    let rest = name.strip_prefix("model.layers.").expect("a weight of a layer");
    let (layer, part) = rest.split_once('.').expect("a layer's number");
    let (part, kind) = part.rsplit_once('.').expect("weight or bias");
    let (_, theirs) = LAYER.iter().find(|(ours, _)| *ours == part).expect("a known part");
    format!("blk.{layer}.{theirs}.{kind}")
}

/// Rows of each head from halves to pairs, as converters store them for the rotation of neighbours.
fn interleave(values: &[f32], heads: usize, head_dim: usize) -> Vec<f32> {
    let row = values.len() / (heads * head_dim);
    let half = head_dim / 2;
    let from = |head: usize, pair: usize, parity: usize| (head * head_dim + parity * half + pair) * row;
    let mut out = Vec::with_capacity(values.len());
    for head in 0..heads {
        for pair in 0..half {
            for parity in 0..2 {
                let start = from(head, pair, parity);
                out.extend_from_slice(&values[start..start + row]);
            }
        }
    }
    out
}
