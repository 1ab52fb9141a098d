//! A whole run on a small text: it learns, it repeats, and what it writes can be read.

use std::path::PathBuf;

use serde_json::Value;

use super::*;

/// Every byte, the end of text, and the few merges that the text below has.
const VOCAB: usize = 264;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("train-demo-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn options(steps: usize) -> Options {
    Options {
        seed: 7,
        budget: Budget::Steps(steps),
        batch: 2,
        sequence: 32,
        learning_rate: 3e-3,
        warm_up: PILOT_STEPS + 1,
        report_every: 20,
    }
}

fn run(directory: &Path, steps: usize) -> Quality {
    let lines: Vec<String> = (0..400).map(|i| format!("The {} of the {} is {}.\n", i % 7, i % 3, i % 5)).collect();
    let text = lines.concat();
    let tokenizer = data::train_tokenizer(&text, VOCAB).unwrap();
    let ids = data::encode(&tokenizer, &text).unwrap();
    let config = Config { width: 24, layers: 3, mlp: 32, head_dim: 8, ..Config::demo(VOCAB) };
    let texts = Texts { tokenizer: &tokenizer, train: &ids, held_out: &ids[..512], sources: Value::Null };
    train(config, options(steps), &texts, directory, &mut std::io::sink()).unwrap()
}

#[test]
fn training_lowers_the_loss_and_writes_a_readable_checkpoint() {
    let scratch = Scratch::new("learns");
    let (early, late) = (run(&scratch.0, 4), run(&scratch.0, 120));
    assert!(late.per_token() < 0.6 * early.per_token(), "{} is not well below {}", late.per_token(), early.per_token());

    let tensors = candle_core::safetensors::load(scratch.0.join("model.safetensors"), &candle_core::Device::Cpu).unwrap();
    assert_eq!(tensors.len(), 2 + 9 * 3);
    assert!(tokenizers::Tokenizer::from_file(scratch.0.join("tokenizer.json")).is_ok());
    let json = |name: &str| -> Value { serde_json::from_str(&std::fs::read_to_string(scratch.0.join(name)).unwrap()).unwrap() };
    assert_eq!(json("config.json")["num_hidden_layers"], 3);
    assert_eq!(json("training.json")["steps"], 120);
    assert!(json("training.json")["by_size"]["drop_2_layers"]["perplexity"].is_f64());
    assert!(std::fs::read_dir(&scratch.0).unwrap().all(|e| !e.unwrap().file_name().to_string_lossy().contains("partial")));
}

#[test]
fn the_same_seed_gives_the_same_weights() {
    let (a, b) = (Scratch::new("first"), Scratch::new("second"));
    run(&a.0, 12);
    run(&b.0, 12);
    let bytes = |scratch: &Scratch| std::fs::read(scratch.0.join("model.safetensors")).unwrap();
    assert_eq!(bytes(&a), bytes(&b));
}
