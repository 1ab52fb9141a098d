//! A GGUF file that somebody downloaded.
#![no_main]

use edgewise_fuzz::{folder, seed, tiny_gguf};
use edgewise_onnx::{Weights, names};
use edgewise_supernet::Checkpoint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: {
        // A seed that is refused would leave most of the reader untried.
        let path = folder().join("seed.gguf");
        std::fs::write(&path, tiny_gguf()).expect("the temporary folder can be written");
        Checkpoint::open(&path).expect("the seed is valid");
        seed([tiny_gguf()]);
    },
    |data: &[u8]| {
        let path = folder().join("model.gguf");
        std::fs::write(&path, data).expect("the temporary folder can be written");
        let Ok(checkpoint) = Checkpoint::open(&path) else { return };
        checkpoint.config.validate().expect("it was validated");
        let parts = names::ATTENTION.into_iter().chain(names::MLP);
        for name in parts.map(|part| names::weight(0, part)).chain([names::EMBEDDING.to_owned()]) {
            let tensor = checkpoint.tensor(&name).expect("every tensor was read");
            assert_eq!(tensor.bytes.len(), tensor.shape.iter().product::<usize>() * tensor.element.size());
        }
        // Either is fine; both must end.
        let _ = checkpoint.tokenizer.encode("a ab <s> 12", false).map(|text| checkpoint.tokenizer.decode(text.get_ids(), false));
    }
);
