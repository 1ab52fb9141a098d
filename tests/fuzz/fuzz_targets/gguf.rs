//! A GGUF file that somebody downloaded. Its header is read from memory first, by the code that the reader of files uses: what is
//! refused there never costs a file.
#![no_main]

// The reader's own check of headers, which the crate keeps to itself.
#[path = "../../../host/supernet/src/gguf_header.rs"]
mod gguf_header;

use candle_core::quantized::gguf_file::Content;
use edgewise_fuzz::{Dice, Gguf, folder, seed};
use edgewise_onnx::{Weights, names};
use edgewise_supernet::Checkpoint;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use std::io::Cursor;

fuzz_target!(
    init: {
        // A seed that is refused would leave most of the reader untried.
        let path = folder().join("seed.gguf");
        for bytes in Gguf::models() {
            std::fs::write(&path, &bytes).expect("the temporary folder can be written");
            Checkpoint::open(&path).expect("the seed is valid");
            assert_eq!(Gguf::parse(&bytes).map(|file| file.bytes()), Some(bytes));
        }
        seed(Gguf::models());
    },
    |data: &[u8]| {
        if gguf_header::has_zero_alignment(Cursor::new(data)) {
            return;
        }
        let Ok(content) = Content::read(&mut Cursor::new(data)) else { return };
        if gguf_header::impossible_shape(&content.tensor_infos).is_some() {
            return;
        }
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

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut dice = Dice::new(seed);
    if dice.below(4) > 0
        && let Some(mut file) = Gguf::parse(&data[..size])
    {
        for _ in 0..=dice.below(3) {
            file.change(&mut dice);
        }
        let bytes = file.bytes();
        if bytes.len() <= max_size {
            data[..bytes.len()].copy_from_slice(&bytes);
            return bytes.len();
        }
    }
    libfuzzer_sys::fuzzer_mutate(data, size, max_size)
});
