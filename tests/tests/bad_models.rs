//! What is no model, or a broken one: exit code 30, what is wrong, what to do, and no study begun.

use edgewise_onnx::ElementType;
use edgewise_tests::{Checkpoint, Home, demo_folder, variant_config, write_gguf, write_gguf_with_a_bad_merge};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// Every command that opens a model must refuse it alike.
fn refused(home: &Home, model: &Path, words: &[&str]) {
    for command in ["evaluate", "search --runtime tract --budget 1 --model"] {
        home.host(command).arg(model).run().fails(30).says(words);
    }
    home.host("prepare -o").arg(home.path("prepared")).arg(model).run().fails(30).says(words);
    assert!(home.studies().is_empty(), "a study was begun for {}", model.display());
    assert!(!home.path("prepared").exists());
}

fn small() -> Checkpoint {
    Checkpoint::new(variant_config())
}

/// A model with one file changed.
fn damaged(home: &Home, file: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) -> std::path::PathBuf {
    let folder = home.path("model");
    small().write(&folder);
    let path = folder.join(file);
    let bytes = change(fs::read(&path).expect("the model has this file"));
    fs::write(&path, bytes).expect("the home can be written");
    folder
}

fn with_config(home: &Home, change: impl Fn(&mut Value)) -> std::path::PathBuf {
    let mut config = small().config_json("LlamaForCausalLM");
    change(&mut config);
    damaged(home, "config.json", |_| config.to_string().into_bytes())
}

#[test]
fn a_path_that_does_not_exist() {
    let home = Home::new();
    refused(&home, &home.path("nowhere"), &["nowhere"]);
}

#[test]
fn a_folder_without_a_model() {
    let home = Home::new();
    let folder = home.path("empty");
    fs::create_dir_all(&folder).expect("the home can be written");
    refused(&home, &folder, &["empty", "config.json"]);
}

#[test]
fn files_of_another_kind() {
    let home = Home::new();
    refused(&home, &home.file("notes.txt", "this is no model"), &["notes.txt", "GGUF"]);
    refused(&home, &home.file("empty.gguf", ""), &["empty.gguf"]);
}

#[test]
fn another_architecture_names_the_supported_ones() {
    let home = Home::new();
    let other = with_config(&home, |c| c["architectures"] = json!(["GPT2LMHeadModel"]));
    refused(&home, &other, &["GPT2LMHeadModel", "LlamaForCausalLM", "MistralForCausalLM"]);
    let file = home.path("other.gguf");
    write_gguf(&small(), "gptneox", "gpt-2", &file);
    refused(&home, &file, &["gptneox", "llama"]);
}

#[test]
fn a_configuration_that_does_not_fit() {
    for (key, value, word) in [
        ("hidden_size", json!(128), "shape"),
        ("intermediate_size", json!(160), "shape"),
        ("vocab_size", json!(4096), "shape"),
        ("num_hidden_layers", json!(4), "model.layers.3"),
        ("num_key_value_heads", json!(3), "key/value heads"),
        ("hidden_size", json!("wide"), "hidden_size"),
        ("intermediate_size", Value::Null, "intermediate_size"),
        ("hidden_act", json!("gelu"), "gelu"),
        ("rope_scaling", json!({ "rope_type": "yarn", "factor": 2.0 }), "yarn"),
    ] {
        let home = Home::new();
        let folder = with_config(&home, |c| c[key] = value.clone());
        refused(&home, &folder, &[word]);
    }
    let home = Home::new();
    let folder = damaged(&home, "config.json", |_| b"{".to_vec());
    refused(&home, &folder, &["config.json", "not JSON"]);
}

#[test]
fn truncated_weights() {
    let home = Home::new();
    let folder = damaged(&home, "model.safetensors", |bytes| bytes[..bytes.len() - 1000].to_vec());
    refused(&home, &folder, &["model.safetensors"]);
    let folder = damaged(&home, "model.safetensors", |bytes| bytes[..100].to_vec());
    refused(&home, &folder, &["model.safetensors"]);
}

#[test]
fn missing_weights() {
    let home = Home::new();
    let folder = home.path("model");
    small().write(&folder);
    fs::remove_file(folder.join("model.safetensors")).expect("it was written");
    refused(&home, &folder, &["model.safetensors"]);

    let sharded = Checkpoint { shards: 3, ..small() };
    let folder = home.path("sharded");
    sharded.write(&folder);
    fs::remove_file(folder.join("model-00002-of-00003.safetensors")).expect("it was written");
    refused(&home, &folder, &["model-00002-of-00003.safetensors"]);
}

#[test]
fn a_missing_tensor() {
    let home = Home::new();
    let folder = home.path("model");
    small().write(&folder);
    // The weights of a model with fewer layers under the configuration of one with more.
    let mut fewer = variant_config();
    fewer.num_layers = 2;
    let other = home.path("fewer");
    Checkpoint::new(fewer).write(&other);
    fs::copy(other.join("model.safetensors"), folder.join("model.safetensors")).expect("both were written");
    refused(&home, &folder, &["model.layers.2", "missing"]);
}

#[test]
fn weights_that_are_no_numbers() {
    let home = Home::new();
    for element in [ElementType::F32, ElementType::Bf16] {
        for bad in [f32::NAN, f32::INFINITY] {
            let folder = home.path("model");
            let checkpoint = Checkpoint { element, ..small() };
            checkpoint.write_edited(&folder, &|name, values| {
                if name.ends_with("layers.1.mlp.up_proj.weight") {
                    values[17] = bad;
                }
            });
            refused(&home, &folder, &["model.layers.1.mlp.up_proj.weight", "not finite in 1 of its values"]);
        }
    }
}

#[test]
fn a_missing_or_broken_tokenizer() {
    let home = Home::new();
    let folder = damaged(&home, "tokenizer.json", |_| b"no tokenizer".to_vec());
    refused(&home, &folder, &["tokenizer"]);
    fs::remove_file(folder.join("tokenizer.json")).expect("it was written");
    refused(&home, &folder, &["tokenizer"]);
}

#[test]
fn a_tokenizer_of_a_larger_vocabulary() {
    let mut config = variant_config();
    config.vocab_size = 300;
    let home = Home::new();
    let folder = home.path("model");
    Checkpoint::new(config).write(&folder);
    refused(&home, &folder, &["vocabulary", "300"]);
}

#[test]
fn truncated_gguf_files() {
    let home = Home::new();
    let whole = home.path("whole.gguf");
    let header = write_gguf(&small(), "llama", "gpt-2", &whole);
    let bytes = fs::read(&whole).expect("it was written");
    for (what, end) in [("magic", 4), ("counts", 20), ("metadata", 200), ("tensors", header - 40), ("data", header + 5000)] {
        let cut = home.file(&format!("{what}.gguf"), &bytes[..end]);
        refused(&home, &cut, &[&format!("{what}.gguf")]);
    }
    let cut = home.file("last.gguf", &bytes[..bytes.len() - 64]);
    refused(&home, &cut, &["last.gguf"]);
    // Counts that no file of this size can hold.
    let mut huge = bytes;
    huge[8..16].fill(0xff);
    let huge = home.file("huge.gguf", huge);
    refused(&home, &huge, &["huge.gguf"]);
}

#[test]
fn a_gguf_tokenizer_that_is_not_known() {
    // To guess would give wrong tokens, and so wrong numbers without any sign.
    let home = Home::new();
    let file = home.path("new.gguf");
    write_gguf(&small(), "llama", "brand-new", &file);
    refused(&home, &file, &["new.gguf", "brand-new"]);
}

#[test]
fn texts_that_cannot_be_used() {
    let home = Home::new();
    let demo = demo_folder();
    let short = home.file("short.txt", "");
    home.host("evaluate").arg(&demo).arg("--text").arg(&short).run().fails(30).says(&["tokens"]);
    let binary = home.file("binary.txt", [0xff, 0xfe, 0x00]);
    home.host("evaluate").arg(&demo).arg("--text").arg(&binary).run().fails(2).says(&["binary.txt", "UTF-8"]);
    home.host("evaluate --window 4096").arg(&demo).run().fails(2).says(&["1024"]);
}

/// Fuzzing found that the library which reads tokenizers ends the program with a panic on such a one.
#[test]
fn a_tokenizer_whose_merges_lead_to_no_token() {
    let home = Home::new();
    let file = home.path("merges.gguf");
    write_gguf_with_a_bad_merge(&small(), &file);
    refused(&home, &file, &["tokenizer of", "merge into what is no token"]);
    let folder = damaged(&home, "tokenizer.json", |bytes| {
        let mut json: Value = serde_json::from_slice(&bytes).expect("it is JSON");
        let vocabulary = json["model"]["vocab"].as_object().expect("it is a BPE tokenizer");
        let longest = vocabulary.keys().max_by_key(|token| token.len()).expect("there are tokens").clone();
        let merges = json["model"]["merges"].as_array_mut().expect("it has merges");
        merges.push(if merges[0].is_string() { json!(format!("{longest} {longest}")) } else { json!([longest, longest]) });
        serde_json::to_vec(&json).expect("it can be written")
    });
    refused(&home, &folder, &["tokenizer of", "merge into what is no token"]);
}
