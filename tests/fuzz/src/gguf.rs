//! A valid GGUF file of one small layer.

const ALIGNMENT: usize = 32;
const U32: u32 = 4;
const F32: u32 = 6;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: usize) -> &mut Self {
        self.0.extend((value as u64).to_le_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.u64(text.len()).0.extend(text.as_bytes());
        self
    }

    fn texts(&mut self, texts: &[&str]) -> &mut Self {
        self.u32(STRING).u64(texts.len());
        for text in texts {
            self.text(text);
        }
        self
    }
}

#[derive(Default)]
struct Metadata {
    bytes: Bytes,
    entries: usize,
}

impl Metadata {
    /// Begins an entry; its value comes next.
    fn key(&mut self, name: &str, kind: u32) -> &mut Bytes {
        self.entries += 1;
        self.bytes.text(name).u32(kind)
    }
}

/// The file's bytes.
pub fn tiny_gguf() -> Vec<u8> {
    let model = super::tiny_model();
    let mut metadata = Metadata::default();
    metadata.key("general.architecture", STRING).text("llama");
    metadata.key("general.alignment", U32).u32(ALIGNMENT as u32);
    for (name, value) in [
        ("context_length", model.max_positions),
        ("embedding_length", model.hidden_size),
        ("block_count", model.num_layers),
        ("feed_forward_length", model.mlp_size),
        ("attention.head_count", model.num_heads),
        ("attention.head_count_kv", model.num_kv_heads),
        ("attention.key_length", model.head_dim),
    ] {
        metadata.key(&format!("llama.{name}"), U32).u32(value as u32);
    }
    metadata.key("llama.rope.freq_base", F32).u32(10_000f32.to_bits());
    metadata.key("llama.rope.scaling.type", STRING).text("linear");
    metadata.key("llama.rope.scaling.factor", F32).u32(2f32.to_bits());
    metadata.key("tokenizer.ggml.model", STRING).text("gpt2");
    metadata.key("tokenizer.ggml.pre", STRING).text("smollm");
    metadata.key("tokenizer.ggml.tokens", ARRAY).texts(&["<s>", "a", "b", "ab", "1", "\u{120}"]);
    metadata.key("tokenizer.ggml.merges", ARRAY).texts(&["a b"]);
    metadata.key("tokenizer.ggml.eos_token_id", U32).u32(0);

    let (hidden, mlp) = (model.hidden_size, model.mlp_size);
    let (queries, keys) = (model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim);
    let tensors: [(&str, Vec<usize>); 11] = [
        ("token_embd.weight", vec![model.vocab_size, hidden]),
        ("output_norm.weight", vec![hidden]),
        ("blk.0.attn_norm.weight", vec![hidden]),
        ("blk.0.attn_q.weight", vec![queries, hidden]),
        ("blk.0.attn_k.weight", vec![keys, hidden]),
        ("blk.0.attn_v.weight", vec![keys, hidden]),
        ("blk.0.attn_output.weight", vec![hidden, queries]),
        ("blk.0.ffn_norm.weight", vec![hidden]),
        ("blk.0.ffn_gate.weight", vec![mlp, hidden]),
        ("blk.0.ffn_up.weight", vec![mlp, hidden]),
        ("blk.0.ffn_down.weight", vec![hidden, mlp]),
    ];
    let mut file = Bytes(b"GGUF".to_vec());
    file.u32(3).u64(tensors.len()).u64(metadata.entries).0.extend(&metadata.bytes.0);
    let mut data = 0usize;
    for (name, shape) in &tensors {
        file.text(name).u32(shape.len() as u32);
        // The dimension that varies fastest comes first. Type 0 is single precision.
        for &size in shape.iter().rev() {
            file.u64(size);
        }
        file.u32(0).u64(data);
        data = (data + 4 * shape.iter().product::<usize>()).next_multiple_of(ALIGNMENT);
    }
    let start = file.0.len().next_multiple_of(ALIGNMENT);
    file.0.resize(start + data, 0x3d);
    file.0
}
