//! What to make of a super-network that is there: a recipe that a host sends, and the artifact that a device makes of it.
#![no_main]

use edgewise_fuzz::{folder, mutate_json, seed, tiny_model};
use edgewise_onnx::{
    ArtifactWriter, ChunkedWeights, ContentHash, Error, Extras, MappedWeights, ModelConfig, Precision, Recipe, Source,
    SuperNetworkIndex, testing::write_checkpoint,
};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use std::{fs, sync::OnceLock};

struct Device {
    index: SuperNetworkIndex,
    name: ContentHash,
    weights: ChunkedWeights,
}

/// A device that has a super-network of three layers.
fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| {
        let model = ModelConfig { num_layers: 3, num_heads: 6, num_kv_heads: 3, ..tiny_model() };
        write_checkpoint(folder(), &model, 1).expect("the temporary folder can be written");
        let weights = MappedWeights::open(folder()).expect("it was just written");
        let source = Source { name: "tiny".into(), sha256: "0".repeat(64) };
        let (index, chunks) = SuperNetworkIndex::of(&model, &weights, &source, &Extras::default()).expect("the model is valid");
        let place = |name: &ContentHash| folder().join(name.to_string());
        for source in chunks {
            fs::write(place(&source.chunk.sha256), source.pieces.concat()).expect("the temporary folder can be written");
        }
        let weights = ChunkedWeights::open(&index, place).expect("all chunks are there");
        Device { name: index.sha256(), index, weights }
    })
}

fuzz_target!(
    init: {
        let full = device().index.model().full();
        let mut less = full.clone();
        (less.width, less.layers, less.kv_groups, less.mlp) = (3, vec![0, 2], vec![1, 2], vec![2, 3]);
        let recipe = |sub| Recipe { index: device().name, artifact: device().name, precision: Precision::Fp32, sub };
        seed([full, less].map(|sub| recipe(sub).to_bytes()));
    },
    |data: &[u8]| {
        let Ok(recipe) = Recipe::parse(data) else { return };
        assert_eq!(Recipe::parse(&recipe.to_bytes()).expect("it was just written"), recipe);
        let Device { index, name, weights } = device();
        assert!(recipe.index == *name || recipe.check(index, name).is_err(), "a recipe for another super-network");
        let recipe = Recipe { index: *name, ..recipe };
        let writer = ArtifactWriter::on_device(index, weights);
        if recipe.check(index, name).is_err() {
            writer.digest(&recipe.sub).expect_err("it is no part of the network");
            return;
        }
        let digest = writer.digest(&recipe.sub).expect("it is a part of the network");
        let parameters = index.model().parameters(&recipe.sub);
        assert!(digest.manifest.parameters == parameters && parameters <= index.model().parameters(&index.model().full()));
        let made = writer.assemble_checked(&recipe.sub, &digest.sha256).expect("it is the same artifact");
        assert_eq!(made.manifest, digest.manifest);
        let other = writer.assemble_checked(&recipe.sub, &recipe.artifact);
        assert!(recipe.artifact == digest.sha256 || matches!(other, Err(Error::OtherArtifact { .. })));
    }
);

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| { mutate_json(0, data, size, max_size, seed) });
