//! The description of a super-network that a host sends, and all that a device does with one: it finds tensors in chunks and
//! makes artifacts of them. Chunks are files of zeros, of the sizes that the description says.
#![no_main]

use edgewise_fuzz::{Dice, change_json, folder, mutate_json, seed, tiny_model};
use edgewise_onnx::{
    ArtifactWriter, ChunkedWeights, ContentHash, Error, Extras, MappedWeights, ModelConfig, Precision, Recipe, RowSource, Source,
    SuperNetworkIndex, tensors, testing::write_checkpoint,
};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use serde_json::{Value, json};
use std::{fs, fs::File, path::PathBuf};

/// Larger networks are only described, not made: time.
const MOST_BYTES: u64 = 1 << 16;

fuzz_target!(init: seed(seeds()), |data: &[u8]| {
    let Ok(index) = SuperNetworkIndex::parse(data) else { return };
    let (bytes, name) = (index.to_bytes(), index.sha256());
    assert_eq!(name, ContentHash::of(&bytes));
    let again = SuperNetworkIndex::parse(&bytes).expect("it was just written");
    assert!(again == index && again.to_bytes() == bytes, "an index is not what it was after a journey");

    let model = index.model();
    let sub = model.full();
    let recipe = Recipe { index: name, artifact: name, precision: Precision::Fp32, sub: sub.clone() };
    recipe.check(&index, &name).expect("the whole network is a part of it");
    recipe.check(&index, &ContentHash::of(b"another")).expect_err("it is another's");
    let sizes: u64 = index.tensors().iter().map(|t| t.shape.iter().product::<usize>() as u64 * t.element.size() as u64).sum();
    assert_eq!(index.bytes(), sizes, "chunks hold what tensors are");
    assert_eq!(index.tensors().len(), tensors(model).count());

    let missing = folder().join("missing");
    assert!(matches!(ChunkedWeights::open(&index, |_| missing.clone()), Err(Error::BadChunk { .. })));
    if index.bytes() > MOST_BYTES {
        return;
    }
    for chunk in index.chunks() {
        File::create(place(&chunk.sha256)).and_then(|file| file.set_len(chunk.bytes)).expect("the temporary folder can be written");
    }
    let opened = ChunkedWeights::open(&index, place);
    index.chunks().iter().for_each(|chunk| drop(fs::remove_file(place(&chunk.sha256))));
    // Chunks of one name and two sizes cannot be.
    let Ok(weights) = opened else { return };
    let _ = weights.verify();
    for tensor in index.tensors() {
        let view = weights.rows(&tensor.name).expect("every tensor has its place");
        assert_eq!((view.element(), view.shape()), (tensor.element, &tensor.shape[..]));
        let rows: usize = tensor.shape.iter().rev().skip(1).product();
        let read = (0..rows).map(|row| view.row(row));
        let bytes: usize = read.map(|row| row.iter().all(|byte| *byte == 0).then_some(row.len()).expect("it holds zeros")).sum();
        assert_eq!(bytes, tensor.shape.iter().product::<usize>() * tensor.element.size());
    }
    let writer = ArtifactWriter::on_device(&index, &weights);
    let rotary = model.max_positions as u64 * model.head_dim as u64 * 4;
    if rotary <= MOST_BYTES && index.tensors().len() < 200 {
        let digest = writer.digest(&sub).expect("every tensor is there");
        let made = writer.assemble_checked(&sub, &digest.sha256).expect("it is the same artifact");
        let [data, shared] = writer.data_bytes(&sub).expect("the sub-network is the whole");
        assert_eq!((made.data.len() as u64, made.shared.len() as u64), (data, shared));
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // Numbers that change alone contradict the rest, and would never get past the first checks.
    let rebuilt = seed.is_multiple_of(3).then(|| rebuilt(&data[..size], &mut Dice::new(seed)));
    match rebuilt.flatten().filter(|text| text.len() <= max_size) {
        Some(text) => {
            data[..text.len()].copy_from_slice(text.as_bytes());
            text.len()
        }
        None => mutate_json(0, data, size, max_size, seed),
    }
});

/// The index with another configuration, its tensors of other types, and other chunks: all three fit each other.
fn rebuilt(text: &[u8], dice: &mut Dice) -> Option<String> {
    let mut index: Value = serde_json::from_slice(text).ok()?;
    let mut changed = index.get("model")?.clone();
    change_json(&mut changed, dice);
    let model: ModelConfig = serde_json::from_value(changed).or_else(|_| serde_json::from_value(index["model"].take())).ok()?;
    if model.validate().is_err() || model.num_layers > 40 {
        return None;
    }
    let (mut described, mut chunks, mut filled) = (Vec::new(), Vec::new(), 0u64);
    for (name, shape) in tensors(&model) {
        let element = ["f32", "f32", "f16", "bf16"][dice.below(4)];
        let width = if element == "f32" { 4 } else { 2 };
        let row = *shape.last()? as u64 * width;
        let mut rows: u64 = shape.iter().rev().skip(1).map(|&size| size as u64).product();
        while rows > 0 {
            let taken = 1 + dice.below(usize::try_from(rows).ok()?) as u64;
            filled += taken * row;
            rows -= taken;
            if dice.below(8) == 0 {
                chunks.push(chunk(filled, dice));
                filled = 0;
            }
        }
        described.push(json!({ "name": name, "element": element, "shape": shape }));
    }
    chunks.extend((filled > 0).then(|| chunk(filled, dice)));
    index["model"] = serde_json::to_value(&model).ok()?;
    index["tensors"] = described.into();
    index["chunks"] = chunks.into();
    Some(index.to_string())
}

/// Seldom one that has the name of another.
fn chunk(bytes: u64, dice: &mut Dice) -> Value {
    let name = if dice.below(30) == 0 { 0 } else { bytes };
    json!({ "sha256": ContentHash::of(&name.to_le_bytes()), "bytes": bytes })
}

fn place(name: &ContentHash) -> PathBuf {
    folder().join(name.to_string())
}

/// Two networks: one of a layer, and one of two with biases and an output projection of its own.
fn seeds() -> Vec<Vec<u8>> {
    let other = ModelConfig { num_layers: 2, tied_embeddings: false, attention_bias: true, mlp_bias: true, ..tiny_model() };
    let bytes = |model: ModelConfig| {
        write_checkpoint(folder(), &model, 1).expect("the temporary folder can be written");
        let weights = MappedWeights::open(folder()).expect("it was just written");
        let source = Source { name: "tiny".into(), sha256: "0".repeat(64) };
        let extras = Extras { tokenizer: Some(b"{}".to_vec()), model_type: "llama".into() };
        SuperNetworkIndex::of(&model, &weights, &source, &extras).expect("the model is valid").0.to_bytes()
    };
    [tiny_model(), other].map(bytes).to_vec()
}
