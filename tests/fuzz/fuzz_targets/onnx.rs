//! An artifact that somebody sent: its graph, or, where the input looks like JSON, its manifest.
#![no_main]

use edgewise_fuzz::{folder, seed, tiny_model};
use edgewise_onnx::{Artifact, ArtifactWeights, MANIFEST_FILE, MODEL_FILE, Weights, names, testing::write_artifact};
use libfuzzer_sys::fuzz_target;
use std::{fs, sync::OnceLock};

/// Two artifacts: of the one the graph changes, of the other the manifest.
fn artifacts() -> &'static [Artifact; 2] {
    static ARTIFACTS: OnceLock<[Artifact; 2]> = OnceLock::new();
    ARTIFACTS.get_or_init(|| {
        ["graph", "manifest"]
            .map(|name| write_artifact(&folder().join(name), &tiny_model(), &tiny_model().full()).expect("it can be written"))
    })
}

fuzz_target!(
    init: {
        let [graph, manifest] = artifacts();
        let whole = [graph.folder.join(MODEL_FILE), manifest.folder.join(MANIFEST_FILE)];
        seed(whole.map(|path| fs::read(path).expect("it was just written")));
    },
    |data: &[u8]| {
        let [graph, manifest] = artifacts();
        if data.starts_with(b"{") {
            fs::write(manifest.folder.join(MANIFEST_FILE), data).expect("the temporary folder can be written");
            if let Ok(artifact) = Artifact::open(&manifest.folder) {
                let _ = artifact.verify();
                artifact.manifest.model.parameters(&artifact.manifest.candidate);
            }
            return;
        }
        fs::write(graph.folder.join(MODEL_FILE), data).expect("the temporary folder can be written");
        let Ok(weights) = ArtifactWeights::open(graph) else { return };
        let parts = names::ATTENTION.into_iter().chain(names::MLP).chain(names::NORMS);
        for name in parts.map(|part| names::weight(0, part)).chain([names::EMBEDDING.to_owned(), names::FINAL_NORM.to_owned()]) {
            let Ok(tensor) = weights.tensor(&name) else { continue };
            assert_eq!(tensor.bytes.len(), tensor.shape.iter().product::<usize>() * tensor.element.size());
            std::hint::black_box(tensor.bytes.iter().fold(0u8, |sum, byte| sum ^ byte));
        }
    }
);
