//! The artifact against tools that are not ours: Python's `onnx` checks it, and Python's ONNX Runtime continues a prompt with
//! it as candle does.

use edgewise_onnx::SubNetwork;
use edgewise_supernet::{
    CALIBRATION_TEXT, Calibration, Checkpoint, Method, Network, SuperNetwork, Text, Windows, prepare, write_demo,
};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

const TOKENS: usize = 24;

/// Whether a test that needs `what` must be skipped; in CI nothing may be missing.
fn skipped(what: &str) -> bool {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{what} is missing in CI");
    #[expect(clippy::print_stderr, reason = "a test that does not run must say so")]
    {
        eprintln!("SKIPPED: {what} is missing");
    }
    true
}

fn python_is_missing() -> bool {
    let ready = Command::new("python3").args(["-c", "import onnx, onnxruntime, tokenizers, numpy"]).output();
    !ready.is_ok_and(|o| o.status.success()) && skipped("python3 with onnx, onnxruntime, tokenizers and numpy")
}

fn supernet(model: &Path, folder: &Path) -> SuperNetwork {
    let checkpoint = Checkpoint::open(model).unwrap();
    let text = Text::encode(&checkpoint.tokenizer, CALIBRATION_TEXT, checkpoint.config.vocab_size).unwrap();
    let calibration = Calibration { text, windows: Windows { length: 64, count: 2 } };
    let target = folder.join("supernet");
    prepare(&checkpoint, &calibration, &[(Method::default(), target.as_path())], &mut |_| {}).unwrap();
    SuperNetwork::open(&target).unwrap()
}

fn greedy(network: &Network, sub: &SubNetwork, prompt: &[u32], stops: &[u32]) -> Vec<u32> {
    let mut tokens = prompt.to_vec();
    while tokens.len() < prompt.len() + TOKENS {
        let hidden = network.hidden(sub, &tokens, None).unwrap();
        let last = hidden.narrow(0, tokens.len() - 1, 1).unwrap();
        let logits = network.logits(&last).unwrap().squeeze(0).unwrap().to_vec1::<f32>().unwrap();
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        tokens.push(best as u32);
        if stops.contains(&(best as u32)) {
            break;
        }
    }
    tokens.split_off(prompt.len())
}

fn python_continues_like_candle(supernet: &SuperNetwork, sub: &SubNetwork, prompt: &str, folder: &Path) -> String {
    supernet.artifacts().write(sub, folder).unwrap();
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scripts/check-artifact");
    let output = Command::new(script).arg(folder).args(["--prompt", prompt, "--tokens", &TOKENS.to_string()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["checker"], "ok");
    let ids = |key: &str| -> Vec<u32> { serde_json::from_value(json[key].clone()).unwrap() };
    let encoded = supernet.tokenizer.encode(prompt, true).unwrap();
    assert_eq!(ids("prompt_ids"), encoded.get_ids());
    let network = supernet.network(128).unwrap();
    assert_eq!(ids("ids"), greedy(&network, sub, encoded.get_ids(), &supernet.config().eos_tokens));
    json["text"].as_str().unwrap().to_owned()
}

#[test]
fn demo_and_a_cut_of_it() {
    if python_is_missing() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let demo = folder.path().join("demo");
    write_demo(&demo).unwrap();
    let supernet = supernet(&demo, folder.path());
    let full = supernet.full();
    let cut = SubNetwork {
        layers: vec![0, 1, 3, 4, 6, 7],
        width: 160,
        kv_groups: vec![3, 2, 3, 1, 2, 3],
        mlp: vec![512, 384, 96, 512, 256, 320],
        pairs: None,
    };
    let narrow = SubNetwork { pairs: Some(vec![0, 1, 2, 5, 6, 7, 9, 11, 12, 15]), ..cut.clone() };
    for (name, sub) in [("full", full), ("cut", cut), ("narrow", narrow)] {
        python_continues_like_candle(&supernet, &sub, "The Rays of Light", &folder.path().join(name));
    }
}

#[test]
fn the_real_model_knows_its_capital() {
    let Some(model) = std::env::var_os("EDGEWISE_TEST_SMOLLM2") else {
        skipped("EDGEWISE_TEST_SMOLLM2");
        return;
    };
    if python_is_missing() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let supernet = supernet(Path::new(&model), folder.path());
    let prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n";
    let text = python_continues_like_candle(&supernet, &supernet.full(), prompt, &folder.path().join("artifact"));
    assert!(text.contains("Paris"), "{text}");
}
