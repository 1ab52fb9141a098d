//! The graph of an artifact that somebody sent, and the weights that it points to.
#![no_main]

use edgewise_fuzz::{folder, seed, tiny_model};
use edgewise_onnx::{Artifact, ArtifactWeights, MODEL_FILE, Weights, names, testing::write_artifact};
use libfuzzer_sys::fuzz_target;
use std::{fs, sync::OnceLock};

fn artifact() -> &'static Artifact {
    static ARTIFACT: OnceLock<Artifact> = OnceLock::new();
    ARTIFACT.get_or_init(|| write_artifact(folder(), &tiny_model(), &tiny_model().full()).expect("it can be written"))
}

fuzz_target!(
    init: seed([fs::read(artifact().folder.join(MODEL_FILE)).expect("it was just written")]),
    |data: &[u8]| {
        let artifact = artifact();
        fs::write(artifact.folder.join(MODEL_FILE), data).expect("the temporary folder can be written");
        let Ok(weights) = ArtifactWeights::open(artifact) else { return };
        let parts = names::ATTENTION.into_iter().chain(names::MLP).chain(names::NORMS);
        for name in parts.map(|part| names::weight(0, part)).chain([names::EMBEDDING.to_owned(), names::FINAL_NORM.to_owned()]) {
            let Ok(tensor) = weights.tensor(&name) else { continue };
            assert_eq!(tensor.bytes.len(), tensor.shape.iter().product::<usize>() * tensor.element.size());
            std::hint::black_box(tensor.bytes.iter().fold(0u8, |sum, byte| sum ^ byte));
        }
    }
);
