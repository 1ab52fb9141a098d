//! Weights in Hugging Face's format: the file, or, where the input looks like JSON, the index beside it.
#![no_main]

use edgewise_fuzz::{folder, seed, tiny_model};
use edgewise_onnx::{MappedWeights, Weights, testing::write_checkpoint};
use libfuzzer_sys::fuzz_target;
use std::{fs, path::PathBuf, sync::OnceLock};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &[u8] = br#"{"metadata":{},"weight_map":{"model.norm.weight":"model.safetensors"}}"#;

/// Two folders: of the file that changes, and of a whole one whose index changes.
fn folders() -> &'static [PathBuf; 2] {
    static FOLDERS: OnceLock<[PathBuf; 2]> = OnceLock::new();
    FOLDERS.get_or_init(|| {
        ["single", "indexed"].map(|name| {
            let folder = folder().join(name);
            fs::create_dir_all(&folder).expect("the temporary folder can be written");
            write_checkpoint(&folder, &tiny_model(), 1).expect("the temporary folder can be written");
            folder
        })
    })
}

fuzz_target!(
    init: {
        let whole = fs::read(folders()[1].join(WEIGHTS)).expect("it was just written");
        seed([whole, INDEX.to_vec()]);
    },
    |data: &[u8]| {
        let [single, indexed] = folders();
        let (folder, name) =
            if data.starts_with(b"{") { (indexed, "model.safetensors.index.json") } else { (single, WEIGHTS) };
        fs::write(folder.join(name), data).expect("the temporary folder can be written");
        let Ok(weights) = MappedWeights::open(folder) else { return };
        for name in weights.names() {
            let tensor = weights.tensor(name).expect("it is listed");
            assert_eq!(tensor.bytes.len(), tensor.shape.iter().product::<usize>() * tensor.element.size());
            // Every byte can be read.
            std::hint::black_box(tensor.bytes.iter().fold(0u8, |sum, byte| sum ^ byte));
        }
    }
);
