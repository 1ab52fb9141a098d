//! The decoder graph: standard operators of opset 17 only, in the naming of Hugging Face Optimum, with a key/value cache.
//!
//! Inputs: `input_ids [batch_size, sequence_length]`, `attention_mask [batch_size, past + sequence]`,
//! `position_ids [batch_size, sequence_length]`, and per layer `past_key_values.N.{key,value} [batch_size, kv heads, past,
//! size of a head]`. Outputs: `logits [batch_size, rows, vocabulary]` and `present.N.{key,value}`.
//!
//! `num_logits_to_keep` (rank 0) says for how many of the last rows logits are wanted: 1 unless it is fed, 0 for all. It is
//! an initializer that may be overridden, so that a caller who knows only the standard inputs gets the row it needs.
//!
//! The forms below were chosen because tract and ONNX Runtime both run them fast: every weight is `[in, out]`, used once and
//! directly as the right side of a `MatMul` (otherwise tract packs it again in every run); the total length is an expression
//! of the other two (tract unifies it); the norm is the pattern that ONNX Runtime fuses.

use crate::{
    Error, ModelConfig, SubNetwork,
    graph::{Attribute, Cut, Dim, GraphBuilder, value},
    kept::{HeadDims, Kept},
    names,
    proto::{GraphProto, ModelProto, OperatorSetIdProto, tensor_proto::DataType},
};
use std::collections::BTreeMap;

/// Name of the input for the number of logit rows.
pub const INPUT_NUM_LOGITS: &str = "num_logits_to_keep";
/// The data file of tensors that depend on the width and the size of heads alone: embedding, output projection, rotary tables.
/// They are a large part of a small model and the same for most of its candidates.
const SHARED: usize = 1;
const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;
/// "To the end" of a slice, as tract understands it.
const END: i64 = i64::MAX;
const BATCH: Dim = Dim::Named("batch_size");
const SEQUENCE: Dim = Dim::Named("sequence_length");
const PAST: Dim = Dim::Named("past_sequence_length");
const TOTAL: Dim = Dim::Named("past_sequence_length + sequence_length");

/// Name of the cache input of a layer; `part` is `key` or `value`.
pub fn input_past(layer: usize, part: &str) -> String {
    format!("past_key_values.{layer}.{part}")
}

/// Name of the cache output of a layer; `part` is `key` or `value`.
pub fn output_present(layer: usize, part: &str) -> String {
    format!("present.{layer}.{part}")
}

/// The graph of a sub-network and the plan of its data file.
pub(crate) struct Decoder<'a> {
    config: &'a ModelConfig,
    sub: &'a SubNetwork,
    g: GraphBuilder,
    width: usize,
    /// Dimensions of a head.
    head: usize,
    /// Which these are of queries and keys, and which of values, where they are not all.
    turned: Option<HeadDims>,
    values: Option<HeadDims>,
    rotary: [String; 2],
    allowed: String,
    masked: String,
    epsilon: String,
    two: String,
    scale: String,
    /// Sizes of this run, each a vector of one: batch, rows of the step, total length.
    sizes: [String; 3],
    /// Shapes of scores, by heads and how many of them are rows of one matrix.
    score_shapes: BTreeMap<(usize, usize), String>,
}

impl<'a> Decoder<'a> {
    /// Builds the graph.
    ///
    /// # Errors
    /// [`Error::BadConfig`], [`Error::BadSubNetwork`].
    pub(crate) fn build(
        config: &'a ModelConfig,
        sub: &'a SubNetwork,
        data_files: [&'static str; 2],
    ) -> Result<(ModelProto, GraphBuilder), Error> {
        config.validate()?;
        config.check(sub)?;
        let (head, whole) = (config.head_size(sub), config.head_dim);
        let mut decoder = Self {
            config,
            sub,
            g: GraphBuilder::new(data_files),
            width: sub.width as usize,
            head,
            turned: sub.pairs.as_ref().map(|pairs| HeadDims::of_pairs(pairs, whole)),
            values: sub.pairs.as_ref().map(|_| HeadDims::first(head, whole)),
            rotary: Default::default(),
            allowed: String::new(),
            masked: String::new(),
            epsilon: String::new(),
            two: String::new(),
            scale: String::new(),
            sizes: Default::default(),
            score_shapes: BTreeMap::new(),
        };
        decoder.shared();
        let mut stream = decoder.embed();
        for layer in 0..sub.layers.len() {
            stream = decoder.attention(layer, &stream);
            stream = decoder.mlp(layer, &stream);
        }
        decoder.logits(&stream);
        Ok(decoder.finish())
    }

    fn cut_vector(&mut self, name: &str, source: String, kept: Kept) -> String {
        self.g.weight(name, &[kept.count], Cut::Vector { source, kept })
    }

    /// The kept part of the residual stream.
    fn stream(&self) -> Kept {
        Kept::first(self.width, self.config.hidden_size)
    }

    /// What every layer uses: numbers, rotary tables for the positions asked, and who may look at whom.
    fn shared(&mut self) {
        let half = self.head / 2;
        self.epsilon = self.g.float("constant/norm_epsilon", self.config.norm_eps as f32);
        self.two = self.g.float("constant/two", 2.0);
        self.masked = self.g.float("constant/masked", -1e9);
        // What is cut of heads are summands of scores: their scale stays that of whole heads.
        self.scale = self.g.float("constant/attention_scale", (1.0 / (self.config.head_dim as f64).sqrt()) as f32);
        let heads_axis = self.g.ints(&[1]);
        let sub = self.sub;
        let pairs = || sub.pairs.clone();
        for (slot, (name, cut)) in [("cos", Cut::Cosines(pairs())), ("sin", Cut::Sines(pairs()))].into_iter().enumerate() {
            let table = self.g.weight_in(SHARED, &format!("rotary.{name}"), &[self.config.max_positions, half], cut);
            let rows = self.g.node("Gather", &format!("rotary/{name}_half"), &[&table, "position_ids"], vec![axis(0)]);
            let wide = self.g.node("Concat", &format!("rotary/{name}_wide"), &[&rows, &rows], vec![axis(-1)]);
            self.rotary[slot] = self.g.node("Unsqueeze", &format!("rotary/{name}"), &[&wide, &heads_axis], vec![]);
        }
        // Row r of the step is position past + r: it sees the columns up to itself, except those of padding.
        let (zero, one) = (self.g.int(0), self.g.int(1));
        let mask_shape = self.g.node("Shape", "mask/shape", &["attention_mask"], vec![]);
        let total = self.g.node("Gather", "mask/total", &[&mask_shape, &one], vec![axis(0)]);
        let past_shape = self.g.node("Shape", "mask/past_shape", &[&input_past(0, "key")], vec![]);
        let second = self.g.ints(&[2]);
        let past = self.g.node("Gather", "mask/past", &[&past_shape, &second], vec![axis(0)]);
        let columns = self.g.node("Range", "mask/columns", &[&zero, &total, &one], vec![]);
        let (axis_0, axis_1) = (self.g.ints(&[0]), self.g.ints(&[1]));
        let total_1 = self.g.node("Unsqueeze", "mask/total_1", &[&total, &axis_0], vec![]);
        let rows = self.g.node("Slice", "mask/rows", &[&columns, &past, &total_1, &axis_0], vec![]);
        let columns = self.g.node("Unsqueeze", "mask/columns_2", &[&columns, &axis_0], vec![]);
        let rows = self.g.node("Unsqueeze", "mask/rows_2", &[&rows, &axis_1], vec![]);
        let causal = self.g.node("LessOrEqual", "mask/causal_2", &[&columns, &rows], vec![]);
        let axes = self.g.ints(&[0, 1]);
        let causal = self.g.node("Unsqueeze", "mask/causal", &[&causal, &axes], vec![]);
        let real = self.g.node("Cast", "mask/real_2", &["attention_mask"], vec![Attribute::Int("to", DataType::Bool as i64)]);
        let axes = self.g.ints(&[1, 2]);
        let real = self.g.node("Unsqueeze", "mask/real", &[&real, &axes], vec![]);
        self.allowed = self.g.node("And", "mask/allowed", &[&causal, &real], vec![]);
        let ids_shape = self.g.node("Shape", "sizes/ids", &["input_ids"], vec![]);
        let one = self.g.ints(&[1]);
        let batch = self.g.node("Gather", "sizes/batch", &[&ids_shape, &axis_0], vec![axis(0)]);
        let step = self.g.node("Gather", "sizes/step", &[&ids_shape, &one], vec![axis(0)]);
        self.sizes = [batch, step, total_1];
    }

    /// `[batch, heads, folded * step, total]`. Written out, because tract cannot infer a size from a product of sums.
    fn score_shape(&mut self, heads: usize, folded: usize) -> String {
        if let Some(known) = self.score_shapes.get(&(heads, folded)) {
            return known.clone();
        }
        let name = format!("sizes/scores_{heads}_{folded}");
        let [batch, step, total] = self.sizes.clone();
        let (count, factor) = (self.g.ints(&[heads as i64]), self.g.ints(&[folded as i64]));
        let rows = self.g.node("Mul", &format!("{name}/rows"), &[&step, &factor], vec![]);
        let shape = self.g.node("Concat", &name, &[&batch, &count, &rows, &total], vec![axis(0)]);
        self.score_shapes.insert((heads, folded), shape.clone());
        shape
    }

    fn embed(&mut self) -> String {
        let vocab = self.config.vocab_size;
        let (rows, columns) = (Kept::first(vocab, vocab), self.stream());
        let cut = Cut::Matrix { source: names::EMBEDDING.into(), rows, columns, transposed: false };
        let table = self.g.weight_in(SHARED, names::EMBEDDING, &[vocab, self.width], cut);
        self.g.node("Gather", "embedding", &[&table, "input_ids"], vec![axis(0)])
    }

    fn norm(&mut self, at: &str, x: &str, name: &str, source: String) -> String {
        let gain = self.cut_vector(name, source, self.stream());
        let (two, epsilon) = (self.two.clone(), self.epsilon.clone());
        let square = self.g.node("Pow", &format!("{at}/square"), &[x, &two], vec![]);
        let attributes = vec![Attribute::Ints("axes", vec![-1]), Attribute::Int("keepdims", 1)];
        let mean = self.g.node("ReduceMean", &format!("{at}/mean"), &[&square], attributes);
        let shifted = self.g.node("Add", &format!("{at}/shifted"), &[&mean, &epsilon], vec![]);
        let root = self.g.node("Sqrt", &format!("{at}/root"), &[&shifted], vec![]);
        let unit = self.g.node("Div", &format!("{at}/unit"), &[x, &root], vec![]);
        self.g.node("Mul", &format!("{at}/out"), &[&unit, &gain], vec![])
    }

    /// `x [.., input] -> [.., output]`.
    fn project(&mut self, at: &str, x: &str, part: (usize, &str), output: Kept, input: Kept, bias: bool) -> String {
        let (layer, part) = part;
        let (kept, original) = (layer, self.sub.layers[layer] as usize);
        let source = names::weight(original, part);
        let shape = [input.count, output.count];
        let cut = Cut::Matrix { source, rows: output.clone(), columns: input, transposed: true };
        let weight = self.g.weight(&names::weight(kept, part), &shape, cut);
        let y = self.g.node("MatMul", &format!("{at}/product"), &[x, &weight], vec![]);
        if !bias {
            return y;
        }
        let bias = self.cut_vector(&names::bias(kept, part), names::bias(original, part), output);
        self.g.node("Add", &format!("{at}/biased"), &[&y, &bias], vec![])
    }

    /// `[batch, sequence, heads * size] -> [batch, heads, sequence, size]`.
    fn split_heads(&mut self, at: &str, x: &str, heads: usize) -> String {
        let shape = self.g.ints(&[0, 0, heads as i64, self.head as i64]);
        let split = self.g.node("Reshape", &format!("{at}/split"), &[x, &shape], vec![]);
        self.g.node("Transpose", &format!("{at}/heads"), &[&split], vec![Attribute::Ints("perm", vec![0, 2, 1, 3])])
    }

    /// Half-split rotation, as in Hugging Face's Llama.
    fn rotate(&mut self, at: &str, x: &str) -> String {
        let half = (self.head / 2) as i64;
        let [cos, sin] = self.rotary.clone();
        let (start, middle, end, last) = (self.g.ints(&[0]), self.g.ints(&[half]), self.g.ints(&[END]), self.g.ints(&[3]));
        let low = self.g.node("Slice", &format!("{at}/low"), &[x, &start, &middle, &last], vec![]);
        let high = self.g.node("Slice", &format!("{at}/high"), &[x, &middle, &end, &last], vec![]);
        let negative = self.g.node("Neg", &format!("{at}/negative"), &[&high], vec![]);
        let turned = self.g.node("Concat", &format!("{at}/turned"), &[&negative, &low], vec![axis(-1)]);
        let straight = self.g.node("Mul", &format!("{at}/straight"), &[x, &cos], vec![]);
        let across = self.g.node("Mul", &format!("{at}/across"), &[&turned, &sin], vec![]);
        self.g.node("Add", &format!("{at}/rotated"), &[&straight, &across], vec![])
    }

    fn attention(&mut self, layer: usize, stream: &str) -> String {
        let at = format!("layers.{layer}/attention");
        let (config, original) = (self.config, self.sub.layers[layer] as usize);
        let (head, bias) = (self.head, config.attention_bias);
        let groups = self.sub.kv_groups[layer] as usize;
        let heads = groups * config.heads_per_group();
        let of_heads = |dims: &Option<HeadDims>| Kept::heads(heads, config.num_heads, config.head_dim, dims.as_ref());
        let of_groups = |dims: &Option<HeadDims>| Kept::heads(groups, config.num_kv_heads, config.head_dim, dims.as_ref());
        let [queries, mixes] = [&self.turned, &self.values].map(of_heads);
        let [keys, values] = [&self.turned, &self.values].map(of_groups);
        let norm_name = names::weight(layer, names::NORMS[0]);
        let x = self.norm(&format!("layers.{layer}/input_norm"), stream, &norm_name, names::weight(original, names::NORMS[0]));
        let [q, k, v, o] = names::ATTENTION;

        let query = self.project(&format!("{at}/query"), &x, (layer, q), queries, self.stream(), bias);
        let query = self.split_heads(&format!("{at}/query"), &query, heads);
        let query = self.rotate(&format!("{at}/query"), &query);
        let scale = self.scale.clone();
        let query = self.g.node("Mul", &format!("{at}/query/scaled"), &[&query, &scale], vec![]);

        let key = self.project(&format!("{at}/key"), &x, (layer, k), keys, self.stream(), bias);
        let key = self.split_heads(&format!("{at}/key"), &key, groups);
        let key = self.rotate(&format!("{at}/key"), &key);
        let key = self.g.node("Concat", &output_present(layer, "key"), &[&input_past(layer, "key"), &key], vec![axis(2)]);

        let value = self.project(&format!("{at}/value"), &x, (layer, v), values, self.stream(), bias);
        let value = self.split_heads(&format!("{at}/value"), &value, groups);
        let past = input_past(layer, "value");
        let value = self.g.node("Concat", &output_present(layer, "value"), &[&past, &value], vec![axis(2)]);

        // The query heads of a group become rows of one matrix, so that keys and values are never repeated in memory.
        let grouped = heads != groups;
        let fold = |g: &mut GraphBuilder, what: &str, x: &str, shape: [i64; 4]| {
            let shape = g.ints(&shape);
            g.node("Reshape", &format!("{at}/{what}"), &[x, &shape], vec![])
        };
        let (heads_i, groups_i, head_i) = (heads as i64, groups as i64, head as i64);
        let query = if grouped { fold(&mut self.g, "query/folded", &query, [0, groups_i, -1, head_i]) } else { query };
        let turned = vec![Attribute::Ints("perm", vec![0, 1, 3, 2])];
        let key = self.g.node("Transpose", &format!("{at}/key/transposed"), &[&key], turned);
        let mut scores = self.g.node("MatMul", &format!("{at}/scores"), &[&query, &key], vec![]);
        if grouped {
            let shape = self.score_shape(heads, 1);
            scores = self.g.node("Reshape", &format!("{at}/scores/unfolded"), &[&scores, &shape], vec![]);
        }
        let (allowed, masked) = (self.allowed.clone(), self.masked.clone());
        let scores = self.g.node("Where", &format!("{at}/scores/masked"), &[&allowed, &scores, &masked], vec![]);
        let mut shares = self.g.node("Softmax", &format!("{at}/shares"), &[&scores], vec![axis(-1)]);
        if grouped {
            let shape = self.score_shape(groups, heads / groups);
            shares = self.g.node("Reshape", &format!("{at}/shares/folded"), &[&shares, &shape], vec![]);
        }
        let mut mixed = self.g.node("MatMul", &format!("{at}/mixed"), &[&shares, &value], vec![]);
        if grouped {
            mixed = fold(&mut self.g, "mixed/unfolded", &mixed, [0, heads_i, -1, head_i]);
        }
        let perm = vec![Attribute::Ints("perm", vec![0, 2, 1, 3])];
        let mixed = self.g.node("Transpose", &format!("{at}/mixed/rows"), &[&mixed], perm);
        let flat = self.g.ints(&[0, 0, (heads * head) as i64]);
        let mixed = self.g.node("Reshape", &format!("{at}/mixed/flat"), &[&mixed, &flat], vec![]);
        let out = self.project(&format!("{at}/output"), &mixed, (layer, o), self.stream(), mixes, bias);
        self.g.node("Add", &format!("{at}/residual"), &[stream, &out], vec![])
    }

    fn mlp(&mut self, layer: usize, stream: &str) -> String {
        let at = format!("layers.{layer}/mlp");
        let (config, sub) = (self.config, self.sub);
        let (original, bias) = (sub.layers[layer] as usize, config.mlp_bias);
        let neurons = || Kept::first(sub.mlp[layer] as usize, config.mlp_size);
        let norm_name = names::weight(layer, names::NORMS[1]);
        let x = self.norm(&format!("layers.{layer}/mlp_norm"), stream, &norm_name, names::weight(original, names::NORMS[1]));
        let [gate, up, down] = names::MLP;
        let gate = self.project(&format!("{at}/gate"), &x, (layer, gate), neurons(), self.stream(), bias);
        let up = self.project(&format!("{at}/up"), &x, (layer, up), neurons(), self.stream(), bias);
        let sigmoid = self.g.node("Sigmoid", &format!("{at}/sigmoid"), &[&gate], vec![]);
        let silu = self.g.node("Mul", &format!("{at}/silu"), &[&gate, &sigmoid], vec![]);
        let gated = self.g.node("Mul", &format!("{at}/gated"), &[&silu, &up], vec![]);
        let out = self.project(&format!("{at}/down"), &gated, (layer, down), self.stream(), neurons(), bias);
        self.g.node("Add", &format!("{at}/residual"), &[stream, &out], vec![])
    }

    fn logits(&mut self, stream: &str) {
        let vocab = self.config.vocab_size;
        self.g.add_integers(INPUT_NUM_LOGITS, &[1], true);
        let (axis_0, axis_1, end) = (self.g.ints(&[0]), self.g.ints(&[1]), self.g.ints(&[END]));
        let back = self.g.node("Neg", "logits/from_end", &[INPUT_NUM_LOGITS], vec![]);
        let start = self.g.node("Unsqueeze", "logits/start", &[&back, &axis_0], vec![]);
        let rows = self.g.node("Slice", "logits/rows", &[stream, &start, &end, &axis_1], vec![]);
        let rows = self.norm("logits/norm", &rows, names::FINAL_NORM, names::FINAL_NORM.into());
        let source = if self.config.tied_embeddings { names::EMBEDDING } else { names::OUTPUT };
        let (entries, columns) = (Kept::first(vocab, vocab), self.stream());
        let cut = Cut::Matrix { source: source.into(), rows: entries, columns, transposed: true };
        let weight = self.g.weight_in(SHARED, names::OUTPUT, &[self.width, vocab], cut);
        self.g.node("MatMul", "logits", &[&rows, &weight], vec![]);
    }

    fn finish(mut self) -> (ModelProto, GraphBuilder) {
        let (layers, head) = (self.sub.layers.len(), self.head);
        let mut inputs = vec![
            value("input_ids", DataType::Int64, &[BATCH, SEQUENCE]),
            value("attention_mask", DataType::Int64, &[BATCH, TOTAL]),
            value("position_ids", DataType::Int64, &[BATCH, SEQUENCE]),
        ];
        let vocab = Dim::Known(self.config.vocab_size);
        let mut outputs = vec![value("logits", DataType::Float, &[BATCH, Dim::Named("logits_length"), vocab])];
        for layer in 0..layers {
            let groups = Dim::Known(self.sub.kv_groups[layer] as usize);
            for part in ["key", "value"] {
                let shape = |length: Dim| [BATCH, groups.clone(), length, Dim::Known(head)];
                inputs.push(value(&input_past(layer, part), DataType::Float, &shape(PAST)));
                outputs.push(value(&output_present(layer, part), DataType::Float, &shape(TOTAL)));
            }
        }
        inputs.push(value(INPUT_NUM_LOGITS, DataType::Int64, &[]));
        let graph = GraphProto {
            name: Some("decoder".into()),
            node: std::mem::take(&mut self.g.nodes),
            initializer: std::mem::take(&mut self.g.initializers),
            input: inputs,
            output: outputs,
            ..GraphProto::default()
        };
        let model = ModelProto {
            ir_version: Some(IR_VERSION),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
            producer_name: Some("edgewise".into()),
            producer_version: Some(env!("CARGO_PKG_VERSION").into()),
            graph: Some(graph),
            ..ModelProto::default()
        };
        (model, self.g)
    }
}

fn axis(axis: i64) -> Attribute {
    Attribute::Int("axis", axis)
}
