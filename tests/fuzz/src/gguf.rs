//! GGUF files as lists of what is in them: valid ones to begin with, and changes that keep the form.

use crate::Dice;

const ALIGNMENT: usize = 32;
const U32: u32 = 4;
const F32: u32 = 6;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
/// Texts that a reader knows, as keys, names of tensors or values.
const KNOWN: [&str; 34] = [
    "general.architecture",
    "general.alignment",
    "general.name",
    "llama.context_length",
    "llama.embedding_length",
    "llama.block_count",
    "llama.feed_forward_length",
    "llama.attention.head_count",
    "llama.attention.head_count_kv",
    "llama.attention.key_length",
    "llama.attention.layer_norm_rms_epsilon",
    "llama.rope.freq_base",
    "llama.expert_count",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.unk_token_id",
    "tokenizer.ggml.byte_fallback",
    "tokenizer.ggml.ignore_merges",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_eos_token",
    "rope_freqs.weight",
    "output.weight",
    "token_embd.weight",
    "blk.0.attn_q.weight",
    "blk.0.attn_q.bias",
    "blk.0.ffn_gate.bias",
    "llama",
    "none",
    "gpt2",
    "llama-bpe",
    "qwen2",
    "llama3",
    "smollm",
];

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Gguf {
    version: u32,
    /// Key, type, value as it is written.
    metadata: Vec<(Vec<u8>, u32, Vec<u8>)>,
    tensors: Vec<Tensor>,
    /// From the end of the header on.
    data: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq)]
struct Tensor {
    name: Vec<u8>,
    /// The dimension that varies fastest comes first.
    shape: Vec<u64>,
    kind: u32,
    offset: u64,
}

/// Types of a tensor's elements: number, elements of a block, bytes of it.
const KINDS: [(u32, usize, usize); 6] = [(0, 1, 4), (1, 1, 2), (30, 1, 2), (8, 32, 34), (2, 32, 18), (12, 256, 144)];

impl Gguf {
    /// One small layer for each type of elements that models come in; what is too narrow for a type is single precision.
    pub fn models() -> Vec<Vec<u8>> {
        KINDS.iter().map(|&kind| Self::model(kind).bytes()).collect()
    }

    fn model((kind, block, bytes): (u32, usize, usize)) -> Self {
        let model = super::tiny_model();
        let hidden = model.hidden_size.max(block);
        let mut file = Self { version: 3, metadata: Vec::new(), tensors: Vec::new(), data: Vec::new() };
        file.add("general.architecture", STRING, text("llama"));
        file.add("general.alignment", U32, number(ALIGNMENT));
        for (name, value) in [
            ("context_length", model.max_positions),
            ("embedding_length", hidden),
            ("block_count", model.num_layers),
            ("feed_forward_length", model.mlp_size),
            ("attention.head_count", model.num_heads),
            ("attention.head_count_kv", model.num_kv_heads),
            ("attention.key_length", model.head_dim),
        ] {
            file.add(&format!("llama.{name}"), U32, number(value));
        }
        file.add("llama.rope.freq_base", F32, 10_000f32.to_le_bytes().to_vec());
        file.add("llama.rope.scaling.type", STRING, text("linear"));
        file.add("llama.rope.scaling.factor", F32, 2f32.to_le_bytes().to_vec());
        file.add("tokenizer.ggml.model", STRING, text("gpt2"));
        file.add("tokenizer.ggml.pre", STRING, text("smollm"));
        file.add("tokenizer.ggml.tokens", ARRAY, texts(&["<s>", "a", "b", "ab", "1", "\u{120}"]));
        file.add("tokenizer.ggml.merges", ARRAY, texts(&["a b"]));
        file.add("tokenizer.ggml.eos_token_id", U32, number(0));

        let (queries, keys, mlp) = (model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim, model.mlp_size);
        for (name, shape) in [
            ("token_embd", vec![model.vocab_size, hidden]),
            ("output_norm", vec![hidden]),
            ("blk.0.attn_norm", vec![hidden]),
            ("blk.0.attn_q", vec![queries, hidden]),
            ("blk.0.attn_k", vec![keys, hidden]),
            ("blk.0.attn_v", vec![keys, hidden]),
            ("blk.0.attn_output", vec![hidden, queries]),
            ("blk.0.ffn_norm", vec![hidden]),
            ("blk.0.ffn_gate", vec![mlp, hidden]),
            ("blk.0.ffn_up", vec![mlp, hidden]),
            ("blk.0.ffn_down", vec![hidden, mlp]),
        ] {
            let fits = shape.last().is_some_and(|row| row.is_multiple_of(block));
            let (kind, block, bytes) = if fits { (kind, block, bytes) } else { KINDS[0] };
            let offset = file.data.len() as u64;
            let end = file.data.len() + shape.iter().product::<usize>() / block * bytes;
            file.data.resize(end.next_multiple_of(ALIGNMENT), 0x3d);
            let shape = shape.iter().rev().map(|&size| size as u64).collect();
            file.tensors.push(Tensor { name: format!("{name}.weight").into_bytes(), shape, kind, offset });
        }
        let header = file.header().len();
        file.data.splice(..0, vec![0; header.next_multiple_of(ALIGNMENT) - header]);
        file
    }

    fn add(&mut self, key: &str, kind: u32, value: Vec<u8>) {
        self.metadata.push((key.as_bytes().to_vec(), kind, value));
    }

    fn header(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        let length = |out: &mut Vec<u8>, length: usize| {
            if self.version == 1 { out.extend((length as u32).to_le_bytes()) } else { out.extend((length as u64).to_le_bytes()) }
        };
        out.extend(self.version.to_le_bytes());
        length(&mut out, self.tensors.len());
        length(&mut out, self.metadata.len());
        for (key, kind, value) in &self.metadata {
            length(&mut out, key.len());
            out.extend(key);
            out.extend(kind.to_le_bytes());
            out.extend(value);
        }
        for Tensor { name, shape, kind, offset } in &self.tensors {
            length(&mut out, name.len());
            out.extend(name);
            out.extend((shape.len() as u32).to_le_bytes());
            out.extend(shape.iter().flat_map(|size| size.to_le_bytes()));
            out.extend(kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
        }
        out
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        [self.header(), self.data.clone()].concat()
    }

    /// Reads a file of version 2 or 3 whose form is right, whatever it says.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(b"GGUF")?;
        let version = u32::from_le_bytes(*take(&mut rest)?);
        if version == 1 {
            return None;
        }
        let (tensors, entries) = (size(&mut rest)?, size(&mut rest)?);
        let mut file = Self { version, metadata: Vec::new(), tensors: Vec::new(), data: Vec::new() };
        for _ in 0..entries {
            let key = string(&mut rest)?.to_vec();
            let kind = u32::from_le_bytes(*take(&mut rest)?);
            let before = rest;
            skip(&mut rest, kind, 8)?;
            file.metadata.push((key, kind, before[..before.len() - rest.len()].to_vec()));
        }
        for _ in 0..tensors {
            let name = string(&mut rest)?.to_vec();
            let dimensions = u32::from_le_bytes(*take(&mut rest)?).min(1 << 10);
            let shape = (0..dimensions).map(|_| take(&mut rest).map(|size| u64::from_le_bytes(*size))).collect::<Option<_>>()?;
            let kind = u32::from_le_bytes(*take(&mut rest)?);
            file.tensors.push(Tensor { name, shape, kind, offset: u64::from_le_bytes(*take(&mut rest)?) });
        }
        file.data = rest.to_vec();
        Some(file)
    }

    /// Changes one thing. Where the header grows, the data moves: alignment is kept by its first bytes as far as they last.
    pub fn change(&mut self, dice: &mut Dice) {
        let header = self.header().len();
        let (entry, tensor) = (dice.below(self.metadata.len()), dice.below(self.tensors.len()));
        match dice.below(16) {
            0 => self.version = dice.below(5) as u32,
            1 => drop((entry < self.metadata.len()).then(|| self.metadata.remove(entry))),
            2 => self.metadata.extend(self.metadata.get(entry).cloned()),
            3 => drop((tensor < self.tensors.len()).then(|| self.tensors.remove(tensor))),
            4 => self.tensors.extend(self.tensors.get(tensor).cloned()),
            5 => self.data.truncate(dice.below(self.data.len())),
            6 => self.data.iter_mut().skip(dice.below(4096)).step_by(1 + dice.below(9)).for_each(|byte| *byte = !*byte),
            7..=11 => self.metadata.get_mut(entry).into_iter().for_each(|entry| change_entry(entry, dice)),
            _ => self.tensors.get_mut(tensor).into_iter().for_each(|tensor| change_tensor(tensor, dice)),
        }
        let moved = self.header().len() as isize - header as isize;
        let padding = moved.rem_euclid(ALIGNMENT as isize) as usize;
        if dice.below(8) > 0 && padding > 0 {
            if self.data.len() >= padding && self.data[..padding].iter().all(|byte| *byte == 0) {
                self.data.drain(..padding);
            } else {
                self.data.splice(..0, vec![0; ALIGNMENT - padding]);
            }
        }
    }
}

fn change_entry((key, kind, value): &mut (Vec<u8>, u32, Vec<u8>), dice: &mut Dice) {
    let known = KNOWN[dice.below(KNOWN.len())];
    match (dice.below(6), *kind) {
        (0, _) => *key = known.into(),
        (1, _) => {
            *kind = dice.below(14) as u32;
            let values = [number(dice.below(4)), text(known), texts(&[known, "a", "a"]), vec![1; 8], vec![]];
            value.clone_from(&values[dice.below(5)]);
        }
        (2, STRING) => *value = text(known),
        (_, STRING | ARRAY) => {
            let at = dice.below(value.len());
            value.get_mut(at).into_iter().for_each(|byte| *byte = dice.below(256) as u8);
        }
        (2, _) => value.iter_mut().for_each(|byte| *byte = 0),
        (3, _) => value.iter_mut().for_each(|byte| *byte = 0xff),
        _ => value.iter_mut().take(1 + dice.below(2)).for_each(|byte| *byte = byte.wrapping_add(dice.below(7) as u8)),
    }
}

fn change_tensor(tensor: &mut Tensor, dice: &mut Dice) {
    let at = dice.below(tensor.shape.len());
    match (dice.below(6), tensor.shape.get_mut(at)) {
        (0, _) => tensor.name = KNOWN[dice.below(KNOWN.len())].into(),
        (1, _) => tensor.kind = dice.below(32) as u32,
        (2, _) => {
            tensor.offset = [0, tensor.offset.wrapping_add(32), tensor.offset ^ 1, 1 << dice.below(64), u64::MAX][dice.below(5)];
        }
        (3, _) => tensor.shape.insert(at, [1, 1, 0, 2, u64::MAX][dice.below(5)]),
        (4, Some(_)) => drop(tensor.shape.remove(at)),
        (_, Some(size)) => *size = [*size ^ 1, *size % 99, 32, 256, 0, 1 << dice.below(64)][dice.below(6)],
        (_, None) => tensor.shape.push(4),
    }
}

fn number(value: usize) -> Vec<u8> {
    (value as u32).to_le_bytes().to_vec()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn texts(texts: &[&str]) -> Vec<u8> {
    let all: Vec<u8> = texts.iter().flat_map(|each| text(each)).collect();
    [&STRING.to_le_bytes()[..], &(texts.len() as u64).to_le_bytes(), &all].concat()
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(taken)
}

fn size(rest: &mut &[u8]) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(*take(rest)?)).ok()
}

fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = size(rest)?;
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

fn skip(rest: &mut &[u8], kind: u32, depth: u32) -> Option<()> {
    let fixed = |kind| Some([1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8][kind as usize]).filter(|bytes| *bytes > 0usize);
    match kind {
        STRING => string(rest).map(drop),
        ARRAY if depth > 0 => {
            let inner = u32::from_le_bytes(*take(rest)?);
            let count = size(rest)?;
            (0..count).try_for_each(|_| skip(rest, inner, depth - 1))
        }
        0..=12 => rest.split_at_checked(fixed(kind)?).map(|(_, after)| *rest = after),
        _ => None,
    }
}
