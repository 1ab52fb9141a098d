//! A network that is trained: every variable has the right gradient, sub-networks included, and what was trained is written.

use candle_core::Tensor;
use edgewise_onnx::{
    ElementType, MappedWeights, ModelConfig, SubNetwork, Weights,
    testing::{tiny_config, tiny_narrow_heads, tiny_sub_network, write_checkpoint},
};
use edgewise_supernet::{
    CALIBRATION_TEXT, Calibration, Checkpoint, Error, Finetuned, Lora, Method, Network, Projection, SuperNetwork, Text,
    Trainable, Windows, checkpoint_sha256,
    ops::{cross_entropy, mix},
    prepare,
};
use std::{fs, path::Path};

const TOKENS: [u32; 12] = [5, 90, 42, 7, 7, 30, 12, 0, 88, 61, 3, 5];
const TARGETS: [u32; 12] = [90, 42, 7, 7, 30, 12, 0, 88, 61, 3, 5, 19];

fn network(config: &ModelConfig) -> Network {
    let folder = tempfile::tempdir().unwrap();
    write_checkpoint(folder.path(), config, 11).unwrap();
    Network::load(config, &MappedWeights::open(folder.path()).unwrap(), 64).unwrap()
}

fn lora() -> Lora {
    Lora { rank: 3, alpha: 6.0, dropout: 0.0, targets: Projection::ALL.to_vec() }
}

fn loss(network: &Network, sub: &SubNetwork) -> Tensor {
    let hidden = network.hidden_in_training(sub, &TOKENS, 9).unwrap();
    cross_entropy(&network.logits(&hidden).unwrap(), &TARGETS).unwrap()
}

/// Gives every variable other values, so that no gradient is zero.
fn disturb(network: &Network, by: f32) {
    for (number, (_, var)) in network.variables().iter().enumerate() {
        let noise = (0..var.elem_count() as u64).map(|i| ((mix(number as u64, i) >> 40) as f32 / 8_388_608.0 - 1.0) * by);
        let noise = Tensor::from_vec(noise.collect::<Vec<f32>>(), var.shape(), var.device()).unwrap();
        var.set(&(var.as_detached_tensor() + noise).unwrap()).unwrap();
    }
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// Every variable's gradient along itself is the slope of the loss there.
fn check_gradients(network: &Network, sub: &SubNetwork, all: bool) {
    let grads = loss(network, sub).backward().unwrap();
    let mut without = 0;
    for (name, var) in network.variables() {
        let Some(gradient) = grads.get(var) else {
            without += 1;
            continue;
        };
        let (gradient, before) = (values(gradient), values(var));
        let square: f64 = gradient.iter().map(|g| f64::from(*g) * f64::from(*g)).sum();
        assert!(square > 0.0, "{name}: its gradient is zero");
        // A step along the gradient that changes the loss by about two hundredths of a nat.
        let step = 0.02 / square;
        let at = |factor: f64| {
            let moved = before.iter().zip(&gradient).map(|(v, g)| v + (factor * step) as f32 * g).collect::<Vec<f32>>();
            var.set(&Tensor::from_vec(moved, var.shape(), var.device()).unwrap()).unwrap();
            f64::from(loss(network, sub).to_scalar::<f32>().unwrap())
        };
        let slope = (8.0 * (at(0.5) - at(-0.5)) - (at(1.0) - at(-1.0))) / (6.0 * step);
        at(0.0);
        assert!((slope / square - 1.0).abs() < 0.02, "{name}: slope {slope}, gradient {square}");
    }
    assert_eq!(without == 0, all, "{without} variables have no gradient");
}

#[test]
fn adapters_have_the_slope_of_the_loss() {
    let config = ModelConfig { tied_embeddings: false, attention_bias: true, ..tiny_config() };
    let mut network = network(&config);
    let before = values(&network.logits(&network.hidden(&config.full(), &TOKENS, None).unwrap()).unwrap());
    network.make_trainable(&Trainable::Lora(lora()), 3).unwrap();
    assert_eq!(network.variables().len(), 4 * 7 * 2);
    let after = values(&network.logits(&network.hidden(&config.full(), &TOKENS, None).unwrap()).unwrap());
    assert_eq!(before, after, "new adapters change nothing");
    disturb(&network, 0.1);
    check_gradients(&network, &config.full(), true);
    // Layer 1 is left out.
    check_gradients(&network, &tiny_sub_network(), false);
    check_gradients(&network, &tiny_narrow_heads(), false);
}

#[test]
fn full_weights_have_the_slope_of_the_loss() {
    let config = ModelConfig { mlp_bias: true, ..tiny_config() };
    let mut network = network(&config);
    network.make_trainable(&Trainable::Full, 3).unwrap();
    assert_eq!(network.variables().len(), edgewise_onnx::tensors(&config).count());
    check_gradients(&network, &config.full(), true);
    check_gradients(&network, &tiny_sub_network(), false);
    check_gradients(&network, &tiny_narrow_heads(), false);
}

#[test]
fn evaluation_records_nothing() {
    let config = tiny_config();
    for what in [Trainable::Full, Trainable::Lora(lora())] {
        let mut network = network(&config);
        network.make_trainable(&what, 3).unwrap();
        let logits = network.logits(&network.hidden(&config.full(), &TOKENS, None).unwrap()).unwrap();
        assert!(!logits.track_op(), "{what:?}");
    }
}

/// What is evaluated in blocks of queries is what is trained as a whole.
#[test]
fn a_long_text_is_the_same_in_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_config();
    write_checkpoint(folder.path(), &config, 11).unwrap();
    let mut network = Network::load(&config, &MappedWeights::open(folder.path()).unwrap(), 256).unwrap();
    network.make_trainable(&Trainable::Lora(lora()), 3).unwrap();
    disturb(&network, 0.1);
    for (sub, length) in [(config.full(), 256), (tiny_sub_network(), 129), (tiny_narrow_heads(), 200)] {
        let tokens: Vec<u32> = (0..length).map(|i| (mix(5, i) % 97) as u32).collect();
        let blocks = values(&network.hidden(&sub, &tokens, None).unwrap());
        let whole = values(&network.hidden_in_training(&sub, &tokens, 9).unwrap());
        let gap = blocks.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(gap < 1e-5, "{gap} at {length} tokens");
        assert!(blocks.iter().any(|v| v.abs() > 0.1) && blocks.len() == whole.len());
    }
}

#[test]
fn a_context_sees_adapters_whatever_heads_are_kept() {
    let config = ModelConfig { attention_bias: true, ..tiny_config() };
    let mut network = network(&config);
    network.make_trainable(&Trainable::Lora(lora()), 3).unwrap();
    disturb(&network, 0.1);
    for sub in [tiny_sub_network(), tiny_narrow_heads()] {
        let whole = values(&network.hidden(&sub, &TOKENS, None).unwrap());
        let pieces = values(&network.context(&sub).unwrap().advance(&TOKENS, &[]).unwrap());
        assert!(whole.iter().zip(&pieces).all(|(a, b)| (a - b).abs() < 1e-4), "{whole:?} {pieces:?}");
    }
}

#[test]
fn dropout_is_of_training_alone_and_named_by_its_seed() {
    let config = tiny_config();
    let mut network = network(&config);
    network.make_trainable(&Trainable::Lora(Lora { dropout: 0.3, ..lora() }), 3).unwrap();
    disturb(&network, 0.1);
    let trained = |seed| values(&network.hidden_in_training(&config.full(), &TOKENS, seed).unwrap());
    assert_eq!(trained(1), trained(1));
    assert_ne!(trained(1), trained(2));
    assert_ne!(trained(1), values(&network.hidden(&config.full(), &TOKENS, None).unwrap()));
}

#[test]
fn what_makes_no_adapter_is_refused() {
    let config = tiny_config();
    for (lora, words) in [
        (Lora { rank: 0, ..lora() }, "rank 0"),
        (Lora { rank: 25, ..lora() }, "rank 25"),
        (Lora { alpha: f64::NAN, ..lora() }, "alpha"),
        (Lora { dropout: 1.0, ..lora() }, "dropout 1"),
        (Lora { targets: vec![], ..lora() }, "no projection"),
        (Lora { targets: vec![Projection::Q, Projection::Q], ..lora() }, "`q` is named twice"),
    ] {
        let error = network(&config).make_trainable(&Trainable::Lora(lora), 1).unwrap_err();
        assert!(matches!(error, Error::Trainable(_)) && error.to_string().contains(words), "{error}");
    }
}

#[test]
fn what_another_network_learned_is_taken_over() {
    let config = tiny_config();
    let trained_as = |targets: Vec<Projection>| {
        let mut network = network(&config);
        network.make_trainable(&Trainable::Lora(Lora { targets, ..lora() }), 3).unwrap();
        network
    };
    let hidden = |network: &Network| values(&network.hidden(&config.full(), &TOKENS, None).unwrap());
    let (trained, mut other) = (trained_as(vec![Projection::Q]), trained_as(vec![Projection::Q]));
    disturb(&trained, 0.1);
    assert_ne!(hidden(&trained), hidden(&other));
    other.take_over(&trained).unwrap();
    assert_eq!(hidden(&trained), hidden(&other));
    let error = trained_as(vec![Projection::V]).take_over(&trained).unwrap_err();
    assert!(error.to_string().contains("not trained alike"), "{error}");
}

fn prepared(folder: &Path) -> SuperNetwork {
    let config = ModelConfig { vocab_size: 2048, ..tiny_config() };
    write_checkpoint(folder, &config, 7).unwrap();
    let json = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": config.hidden_size, "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads, "num_key_value_heads": config.num_kv_heads, "head_dim": config.head_dim,
        "intermediate_size": config.mlp_size, "vocab_size": config.vocab_size, "rms_norm_eps": config.norm_eps,
        "max_position_embeddings": config.max_positions, "rope_theta": config.rope_theta, "tie_word_embeddings": true,
        "eos_token_id": 0,
    });
    fs::write(folder.join("config.json"), json.to_string()).unwrap();
    let tokenizer = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/demo/tokenizer.json");
    fs::copy(tokenizer, folder.join("tokenizer.json")).unwrap();
    let checkpoint = Checkpoint::open(folder).unwrap();
    let text = Text::encode(&checkpoint.tokenizer, CALIBRATION_TEXT, config.vocab_size).unwrap();
    let target = folder.join("supernet");
    prepare(
        &checkpoint,
        &Calibration { text, windows: Windows { length: 64, count: 2 } },
        &[(Method::default(), target.as_path())],
        &mut |_| {},
    )
    .unwrap();
    SuperNetwork::open(&target).unwrap()
}

fn record(parent: &SuperNetwork) -> Finetuned {
    Finetuned {
        parent_sha256: parent.file.source.sha256.clone(),
        settings: serde_json::json!({ "rank": 3 }),
        data_sha256: "0".repeat(64),
        steps: 5,
        tokens: 100,
        trained: Vec::new(),
    }
}

#[test]
fn what_was_trained_is_written_and_the_rest_kept_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let parent = prepared(folder.path());
    let mut network = parent.network(64).unwrap();
    let targets = vec![Projection::Q, Projection::Down];
    network.make_trainable(&Trainable::Lora(Lora { targets, ..lora() }), 3).unwrap();
    disturb(&network, 0.05);
    let sub = tiny_sub_network();
    let logits = |network: &Network| values(&network.logits(&network.hidden(&sub, &TOKENS, None).unwrap()).unwrap());
    let (before, trained) = (logits(&parent.network(64).unwrap()), logits(&network));
    let target = folder.path().join("tuned");
    let file = parent.write_finetuned(&mut network, record(&parent), b"{}\n", &target).unwrap();
    assert!(network.variables().is_empty());

    let tuned = SuperNetwork::open(&target).unwrap();
    assert_eq!(tuned.file, file);
    assert_eq!(tuned.file.finetuned, Some(record(&parent)));
    assert_eq!((&tuned.file.importance, &tuned.file.method), (&parent.file.importance, &parent.file.method));
    assert_ne!(tuned.file.source.sha256, parent.file.source.sha256);
    assert_eq!(tuned.file.source.sha256, checkpoint_sha256(&target).unwrap());
    assert_eq!(fs::read(target.join("finetune.jsonl")).unwrap(), b"{}\n");
    let written = logits(&tuned.network(64).unwrap());
    let far = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(
        far(&written, &trained) < 1e-4 && far(&written, &before) > 0.01,
        "{} {}",
        far(&written, &trained),
        far(&written, &before)
    );

    let (old, new) = (MappedWeights::open(&folder.path().join("supernet")).unwrap(), MappedWeights::open(&target).unwrap());
    for (name, _) in edgewise_onnx::tensors(tuned.config()) {
        let (old, new) = (old.tensor(&name).unwrap(), new.tensor(&name).unwrap());
        let changed = name.contains("q_proj") || name.contains("down_proj");
        assert_eq!(old.bytes != new.bytes, changed, "{name}");
        assert_eq!(new.element, ElementType::F32);
    }
    let error = parent.write_finetuned(&mut network, record(&parent), b"", &target).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if *path == target), "{error}");
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".partial-")), "{left:?}");
}

#[test]
fn weights_that_are_no_numbers_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let parent = prepared(folder.path());
    let mut network = parent.network(64).unwrap();
    network.make_trainable(&Trainable::Full, 3).unwrap();
    let (_, var) = &network.variables()[3];
    var.set(&(var.as_detached_tensor() * f64::NAN).unwrap()).unwrap();
    let target = folder.path().join("tuned");
    let error = parent.write_finetuned(&mut network, record(&parent), b"", &target).unwrap_err();
    assert!(matches!(error, Error::Identity { .. } | Error::NotFinite { .. }), "{error}");
    assert!(!target.exists());
}
