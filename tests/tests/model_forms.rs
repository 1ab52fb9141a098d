//! A model may come in many forms; each must compute the same, on the host and on the device.

use edgewise_onnx::{ElementType, ModelConfig, RopeScaling};
use edgewise_tests::{
    Checkpoint, Home, ONNX_RUNTIME, file_from, list, measuring, number, object_keys, text, variant_config, write_gguf,
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};

fn nll(home: &Home, model: &Path) -> f64 {
    number(&home.host("evaluate --json --window 128 --windows 2").arg(model).run().checked().json(), "/nll")
}

fn folder(home: &Home, name: &str, checkpoint: &Checkpoint) -> PathBuf {
    let folder = home.path(name);
    checkpoint.write(&folder);
    folder
}

#[test]
fn number_formats_and_shards_do_not_change_the_model() {
    let home = Home::new();
    let single = nll(&home, &folder(&home, "single", &Checkpoint::new(variant_config())));
    assert!((6.0..12.0).contains(&single), "random weights guess among 2048 tokens: {single}");
    for (name, element, shards) in [
        ("half", ElementType::F16, 1),
        ("brain", ElementType::Bf16, 1),
        ("sharded", ElementType::F32, 4),
        ("sharded brain", ElementType::Bf16, 3),
    ] {
        let other = nll(&home, &folder(&home, name, &Checkpoint { config: variant_config(), element, shards }));
        assert!((other - single).abs() < 1e-6, "{name}: {other} instead of {single}");
    }
}

#[test]
fn a_gguf_file_computes_what_its_source_computes() {
    let home = Home::new();
    for (name, tied) in [("tied", true), ("untied", false)] {
        let checkpoint = Checkpoint::new(ModelConfig { tied_embeddings: tied, ..variant_config() });
        let source = nll(&home, &folder(&home, name, &checkpoint));
        let file = home.path(&format!("{name}.gguf"));
        write_gguf(&checkpoint, "llama", "gpt-2", &file);
        let converted = nll(&home, &file);
        assert!((converted - source).abs() < 1e-5, "{name}: {converted} instead of {source}");
    }
}

/// How the tokenizers behind GGUF's names split a text, as their models' own `tokenizer.json` say it.
fn pre_tokenizers() -> [(&'static str, Value, bool); 3] {
    let bytes = |whole: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": whole });
    let sequence = |first: Value, bytes: Value| json!({ "type": "Sequence", "pretokenizers": [first, bytes] });
    let digits = json!({ "type": "Digits", "individual_digits": true });
    let words =
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let split = json!({ "type": "Split", "pattern": { "Regex": words }, "behavior": "Isolated", "invert": false });
    [
        ("gpt-2", bytes(true), false),
        ("smollm", sequence(digits, bytes(true)), false),
        ("llama-bpe", sequence(split, bytes(false)), true),
    ]
}

#[test]
fn a_gguf_file_splits_texts_as_its_source_does() {
    let home = Home::new();
    // Numbers, spaces in rows, contractions, words that touch signs: where the ways to split differ.
    let text = home.file(
        "text.txt",
        "In 1984 I'LL pay 1234567 for\n\n  3.14159 (or so)\tmy  dear; don't\n say \"no\" 2024-01-01.\n".repeat(40),
    );
    let checkpoint = Checkpoint::new(variant_config());
    let mut found = Vec::new();
    for (name, pre_tokenizer, ignore_merges) in pre_tokenizers() {
        let model = folder(&home, name, &checkpoint);
        let path = model.join("tokenizer.json");
        let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path).expect("it was written")).expect("it is JSON");
        tokenizer["pre_tokenizer"] = pre_tokenizer;
        tokenizer["model"]["ignore_merges"] = json!(ignore_merges);
        fs::write(&path, tokenizer.to_string()).expect("the home can be written");
        let file = home.path(&format!("{name}.gguf"));
        write_gguf(&checkpoint, "llama", name, &file);
        let score = |model: &Path| {
            let call = home.host("evaluate --json --window 128 --windows 4").arg(model).arg("--text").arg(&text);
            number(&call.run().checked().json(), "/nll")
        };
        let (source, converted) = (score(&model), score(&file));
        assert!((converted - source).abs() < 1e-5, "{name}: {converted} instead of {source}");
        found.push(source);
    }
    assert!((found[0] - found[1]).abs() > 1e-3 && (found[0] - found[2]).abs() > 1e-3, "the text tells nothing: {found:?}");
}

#[test]
fn the_parts_of_an_architecture_matter() {
    let home = Home::new();
    let plain = nll(&home, &folder(&home, "plain", &Checkpoint::new(variant_config())));
    for (name, config) in [
        ("bias", ModelConfig { attention_bias: true, ..variant_config() }),
        ("rope", ModelConfig { rope_scaling: Some(llama3()), ..variant_config() }),
        ("theta", ModelConfig { rope_theta: 500.0, ..variant_config() }),
    ] {
        let other = nll(&home, &folder(&home, name, &Checkpoint::new(config)));
        assert!((other - plain).abs() > 1e-4, "{name} is not used");
    }
}

fn llama3() -> RopeScaling {
    RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_positions: 64.0 }
}

/// Searches a model with `runtime`; each device measurement begins with a comparison of its logits with candle's.
fn computes_the_same_on_the_device(home: &Home, model: &Path, runtime: &str, library: Option<&Path>) {
    let call = home
        .host("search --json --budget 2 --trials 1 --workload prompt=8,gen=4 --runtime")
        .arg(runtime)
        .arg("--model")
        .arg(model);
    let call = match library {
        Some(path) => call.arg("--ort-library").arg(path),
        None => call,
    };
    let run = call.run().checked();
    assert!(!run.stderr.contains("without"), "a runtime failed: {}", run.stderr);
    let found = run.json();
    assert_eq!(list(&found, "/candidates").len(), 2);
    for candidate in list(&found, "/candidates") {
        assert_eq!(text(candidate, "/status"), "ok", "{candidate}");
        let measurement = &list(candidate, "/measurements")[0];
        let difference = number(measurement, "/probe_max_abs_diff");
        assert!((0.0..1e-3).contains(&difference), "{}: {measurement}", model.display());
        assert!(runtime == "auto" || text(measurement, "/runtime") == runtime, "{measurement}");
    }
    if library.is_some() {
        let version = text(&found, "/devices/0/fingerprint/runtime_ort");
        assert!(
            version.starts_with("1."),
            "{version} is not its version: {:?}",
            object_keys(&found["devices"][0]["fingerprint"])
        );
    }
}

fn forms(home: &Home) -> Vec<PathBuf> {
    let base = variant_config;
    let all = Checkpoint {
        config: ModelConfig {
            tied_embeddings: false,
            attention_bias: true,
            mlp_bias: true,
            rope_scaling: Some(llama3()),
            num_kv_heads: 4,
            ..base()
        },
        element: ElementType::Bf16,
        shards: 2,
    };
    let linear = RopeScaling::Linear { factor: 4.0 };
    let wide_heads = ModelConfig { head_dim: 24, num_kv_heads: 1, rope_scaling: Some(linear), ..base() };
    let gguf = home.path("form.gguf");
    write_gguf(&Checkpoint::new(ModelConfig { tied_embeddings: false, ..base() }), "llama", "gpt-2", &gguf);
    vec![
        folder(home, "everything", &all),
        folder(home, "wide heads", &Checkpoint { element: ElementType::F16, ..Checkpoint::new(wide_heads) }),
        folder(home, "biased", &Checkpoint::new(ModelConfig { attention_bias: true, ..base() })),
        gguf,
    ]
}

#[test]
fn every_form_passes_the_probe_in_tract() {
    let home = Home::new();
    let _turn = measuring();
    for model in forms(&home) {
        computes_the_same_on_the_device(&home, &model, "tract", None);
    }
}

#[test]
fn every_form_passes_the_probe_in_onnx_runtime() {
    let Some(library) = file_from(ONNX_RUNTIME) else { return };
    let home = Home::new();
    let _turn = measuring();
    for model in forms(&home) {
        computes_the_same_on_the_device(&home, &model, "ort", Some(&library));
    }
}
