//! From checkpoint to super-network to artifact: each step must compute what the one before computed.

use edgewise_onnx::{
    ModelConfig, RopeScaling, SubNetwork,
    testing::{tiny_config, write_checkpoint_with},
};
use edgewise_supernet::{
    CALIBRATION_TEXT, Calibration, Checkpoint, Error, Evaluation, HELD_OUT_TEXT, Importance, LayerRanking, Method, Network,
    Ranking, SuperNetwork, Text, Windows, evaluate, open_artifact, prepare,
};
use std::path::Path;

const WINDOWS: Windows = Windows { length: 64, count: 3 };

/// The tiny model with the vocabulary of the demo's tokenizer.
fn config() -> ModelConfig {
    ModelConfig { vocab_size: 2048, ..tiny_config() }
}

fn hf_config(config: &ModelConfig) -> serde_json::Value {
    let mut json = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": config.hidden_size, "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads, "num_key_value_heads": config.num_kv_heads, "head_dim": config.head_dim,
        "intermediate_size": config.mlp_size, "vocab_size": config.vocab_size, "rms_norm_eps": config.norm_eps,
        "max_position_embeddings": config.max_positions, "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied_embeddings, "attention_bias": config.attention_bias, "mlp_bias": config.mlp_bias,
        "eos_token_id": 0,
    });
    if let Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions }) = config.rope_scaling {
        json["rope_scaling"] = serde_json::json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": low_freq_factor, "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_max_positions,
        });
    }
    json
}

fn write(folder: &Path, config: &ModelConfig, change: impl Fn(&str, &[usize], &mut [f32])) {
    write_checkpoint_with(folder, config, 7, change).unwrap();
    std::fs::write(folder.join("config.json"), hf_config(config).to_string()).unwrap();
    let tokenizer = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/demo/tokenizer.json");
    std::fs::copy(tokenizer, folder.join("tokenizer.json")).unwrap();
}

fn prepared(checkpoint: &Checkpoint, folder: &Path) -> SuperNetwork {
    prepared_by(Method::default(), checkpoint, folder)
}

fn prepared_by(method: Method, checkpoint: &Checkpoint, folder: &Path) -> SuperNetwork {
    let text = Text::encode(&checkpoint.tokenizer, CALIBRATION_TEXT, checkpoint.config.vocab_size).unwrap();
    let target = folder.join("supernet");
    prepare(checkpoint, &Calibration { text, windows: WINDOWS }, &[(method, target.as_path())], &mut |_| {}).unwrap();
    SuperNetwork::open(&target).unwrap()
}

fn logits(network: &Network, sub: &SubNetwork, tokens: &[u32]) -> Vec<f32> {
    let hidden = network.hidden(sub, tokens, None).unwrap();
    network.logits(&hidden).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().any(|v| v.abs() > 0.1), "logits of nothing prove nothing");
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

const TOKENS: [u32; 9] = [5, 1999, 42, 7, 7, 300, 1024, 0, 88];

fn variants() -> [ModelConfig; 5] {
    let scaling = RopeScaling::Llama3 { factor: 4.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_positions: 64.0 };
    [
        config(),
        ModelConfig { tied_embeddings: false, attention_bias: true, ..config() },
        ModelConfig { mlp_bias: true, rope_scaling: Some(scaling), ..config() },
        ModelConfig { num_kv_heads: 6, ..config() },
        ModelConfig { num_kv_heads: 1, ..config() },
    ]
}

#[test]
fn checkpoint_super_network_and_artifact_agree_for_every_variant() {
    for config in variants() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &config, |_, _, _| {});
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        assert_eq!(checkpoint.config, config);
        let original = Network::load(&config, &checkpoint, 64).unwrap();
        let supernet = prepared(&checkpoint, folder.path());
        let sorted = supernet.network(64).unwrap();
        let full = supernet.full();
        let gap = difference(&logits(&original, &full, &TOKENS), &logits(&sorted, &full, &TOKENS));
        assert!(gap < 1e-4, "sorted differs by {gap} for {config:?}");

        let text = Text::encode(&supernet.tokenizer, HELD_OUT_TEXT, config.vocab_size).unwrap();
        let on = Evaluation { text, windows: WINDOWS };
        let (a, b) = (evaluate(&original, &full, &on).unwrap(), evaluate(&sorted, &full, &on).unwrap());
        assert_eq!(a.tokens, 3 * 63);
        assert!((a.nll - b.nll).abs() < 1e-5, "{a:?} {b:?}");

        let most = config.num_kv_heads as u32;
        let sub = SubNetwork {
            layers: vec![0, 2, 3],
            width: 32,
            kv_groups: vec![most, 1, most.div_ceil(2)],
            mlp: vec![64, 80, 33],
            pairs: None,
        };
        let artifact = supernet.artifacts().write(&sub, &folder.path().join("artifact")).unwrap();
        let (network, whole, _) = open_artifact(&artifact, 64).unwrap();
        let gap = difference(&logits(&sorted, &sub, &TOKENS), &logits(&network, &whole, &TOKENS));
        assert!(gap < 1e-5, "artifact differs by {gap} for {config:?}");
    }
}

/// Sums of absolute weights: of everything what is in the file, of a cut what is in its artifact.
#[test]
fn a_magnitude_is_that_of_what_is_kept() {
    for config in variants() {
        let folder = tempfile::tempdir().unwrap();
        let in_file = std::cell::Cell::new(0.0);
        write(folder.path(), &config, |_, _, values| {
            in_file.set(in_file.get() + values.iter().map(|v| f64::from(v.abs())).sum::<f64>());
        });
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let supernet = prepared_by(HEADS, &checkpoint, folder.path());
        let (network, full) = (supernet.network(64).unwrap(), supernet.full());
        let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-5, "{found} {expected} {config:?}");
        close(network.weight_magnitude(&full).unwrap(), in_file.get());
        let most = config.num_kv_heads as u32;
        let layers = SubNetwork {
            layers: vec![0, 2, 3],
            kv_groups: vec![most, 1, most.div_ceil(2)],
            mlp: vec![64, 80, 33],
            width: 32,
            pairs: supernet.pairs(4).unwrap(),
        };
        for sub in [SubNetwork { pairs: None, ..layers.clone() }, layers] {
            let artifact = supernet.artifacts().write(&sub, &folder.path().join("artifact")).unwrap();
            let (of_artifact, whole, _) = open_artifact(&artifact, 64).unwrap();
            let kept = network.weight_magnitude(&sub).unwrap();
            close(kept, of_artifact.weight_magnitude(&whole).unwrap());
            assert!(kept < 0.7 * in_file.get());
        }
    }
}

/// With heads that can be cut.
const HEADS: Method = Method { parts: Ranking::Contribution, layers: LayerRanking::Block, heads: true };

#[test]
fn smaller_heads_agree_for_every_variant() {
    for config in variants() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &config, |_, _, _| {});
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let supernet = prepared_by(HEADS, &checkpoint, folder.path());
        let network = supernet.network(64).unwrap();
        let (original, full) = (Network::load(&config, &checkpoint, 64).unwrap(), supernet.full());
        let gap = difference(&logits(&original, &full, &TOKENS), &logits(&network, &full, &TOKENS));
        assert!(gap < 1e-4, "sorted differs by {gap} for {config:?}");

        let most = config.num_kv_heads as u32;
        for size in [2, 4, 6] {
            let pairs = supernet.pairs(size).unwrap();
            let uneven = SubNetwork {
                layers: vec![0, 2, 3],
                width: 32,
                kv_groups: vec![most, 1, most.div_ceil(2)],
                mlp: vec![64, 80, 33],
                pairs: pairs.clone(),
            };
            for sub in [uneven, SubNetwork { pairs, ..full.clone() }] {
                let cut = logits(&network, &sub, &TOKENS);
                let artifact = supernet.artifacts().write(&sub, &folder.path().join("artifact")).unwrap();
                let (of_artifact, whole, _) = open_artifact(&artifact, 64).unwrap();
                let gap = difference(&cut, &logits(&of_artifact, &whole, &TOKENS));
                assert!(gap < 1e-5, "the artifact with heads of {size} differs by {gap} for {config:?}");
                let other = SubNetwork { pairs: None, ..whole };
                assert!(of_artifact.hidden(&other, &TOKENS, None).is_err(), "an artifact has no other heads");
            }
        }
    }
}

#[test]
fn a_smaller_head_is_one_whose_other_dimensions_are_silent() {
    let config = ModelConfig { attention_bias: true, ..config() };
    let pairs = [0, 2, 3];
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    // In one of them pair 1 of every query and dimensions 6 and 7 of every value are zero.
    for (folder, silent) in folders.iter().zip([false, true]) {
        write(folder.path(), &config, |name, shape, values| {
            let row = shape.get(1).copied().unwrap_or(1);
            let gone: &[usize] = if name.contains("q_proj") {
                &[1, 5]
            } else if name.contains("v_proj") {
                &[6, 7]
            } else {
                &[]
            };
            for head in values.chunks_mut(8 * row).filter(|_| silent) {
                for dim in gone {
                    head[dim * row..][..row].fill(0.0);
                }
            }
        });
    }
    let load = |folder: &tempfile::TempDir| {
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        Network::load(&config, &checkpoint, 64).unwrap()
    };
    let [whole, silent] = [&folders[0], &folders[1]].map(load);
    let full = config.full();
    let cut = SubNetwork { pairs: Some(pairs.to_vec()), ..full.clone() };
    let (of_cut, of_silent) = (logits(&whole, &cut, &TOKENS), logits(&silent, &full, &TOKENS));
    assert!(difference(&of_cut, &of_silent) < 1e-5, "{}", difference(&of_cut, &of_silent));
    assert!(difference(&of_cut, &logits(&whole, &full, &TOKENS)) > 1e-3);
    let less = SubNetwork { layers: vec![0, 1, 2], width: 40, kv_groups: vec![3, 1, 2], mlp: vec![64; 3], pairs: None };
    let cut = SubNetwork { pairs: Some(pairs.to_vec()), ..less.clone() };
    assert!(difference(&logits(&whole, &cut, &TOKENS), &logits(&silent, &less, &TOKENS)) < 1e-5);
}

#[test]
fn heads_lose_first_what_matters_least() {
    let folder = tempfile::tempdir().unwrap();
    // Pair 2 of every query is zero, and nobody hears dimensions 1 and 6 of a value.
    write(folder.path(), &config(), |name, shape, values| {
        if name.contains("q_proj") {
            for head in values.chunks_mut(8 * shape[1]) {
                for dim in [2, 6] {
                    head[dim * shape[1]..][..shape[1]].fill(0.0);
                }
            }
        } else if name.contains("o_proj") {
            for (at, value) in values.iter_mut().enumerate() {
                if [1, 6].contains(&(at % shape[1] % 8)) {
                    *value = 0.0;
                }
            }
        }
    });
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let supernet = prepared_by(HEADS, &checkpoint, folder.path());
    assert_eq!(supernet.file.method, "contribution+block+heads/2");
    let heads = supernet.file.importance.heads.as_ref().unwrap();
    assert!(heads.pairs[2] == 0.0 && heads.pairs.iter().filter(|score| **score > 1e-3).count() == 3, "{:?}", heads.pairs);
    assert_eq!(supernet.pairs(6).unwrap(), Some(vec![0, 1, 3]));
    for scores in &heads.values {
        let silent: Vec<usize> = (0..24).filter(|&dim| scores[dim] == 0.0).collect();
        assert_eq!(silent, [1, 6, 9, 14, 17, 22]);
    }
    let network = supernet.network(64).unwrap();
    let full = supernet.full();
    let gap = |size: u32| {
        let cut = SubNetwork { pairs: supernet.pairs(size).unwrap(), ..full.clone() };
        difference(&logits(&network, &full, &TOKENS), &logits(&network, &cut, &TOKENS))
    };
    assert!(gap(6) < 1e-5 && gap(4) > 1e-3, "{} {}", gap(6), gap(4));

    // The sizes there are.
    assert_eq!(supernet.pairs(8).unwrap(), None);
    for size in [0, 3, 10] {
        assert!(matches!(supernet.pairs(size), Err(Error::HeadSize { of: 8, .. })), "{size}");
    }
    let other = tempfile::tempdir().unwrap();
    let plain = prepared(&checkpoint, other.path());
    assert!(plain.file.importance.heads.is_none() && plain.pairs(8).unwrap().is_none());
    assert!(matches!(plain.pairs(4), Err(Error::NoHeadScores)));
    // Everything else is as it would be.
    let scores = Importance { heads: None, ..supernet.file.importance.clone() };
    assert_eq!(scores, plain.file.importance);
}

#[test]
fn cutting_what_does_nothing_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = config();
    // Neurons 0..16 and the first group of every layer have no way out.
    write(folder.path(), &config, |name, shape, values| {
        if name.contains("down_proj") || name.contains("o_proj") {
            values.chunks_mut(shape[1]).for_each(|row| row[..16].fill(0.0));
        }
    });
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let supernet = prepared(&checkpoint, folder.path());
    let network = supernet.network(64).unwrap();
    let full = supernet.full();
    let cut = SubNetwork { kv_groups: vec![2; 4], mlp: vec![64; 4], ..full.clone() };
    let gap = difference(&logits(&network, &full, &TOKENS), &logits(&network, &cut, &TOKENS));
    assert!(gap < 1e-5, "{gap}");
    let deeper = SubNetwork { mlp: vec![48; 4], ..cut };
    assert!(difference(&logits(&network, &full, &TOKENS), &logits(&network, &deeper, &TOKENS)) > 1e-3);
}

#[test]
fn a_layer_that_does_nothing_is_the_least_important() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config(), |name, _, values| {
        if name.starts_with("model.layers.2.") && (name.contains("down_proj") || name.contains("o_proj")) {
            values.fill(0.0);
        }
    });
    let supernet = prepared(&Checkpoint::open(folder.path()).unwrap(), folder.path());
    assert_eq!(supernet.layer_order()[0], 2);
    assert!(supernet.file.importance.layers[2].abs() < 1e-6);
}

/// Positions of a layer's neurons, the highest score first.
fn order(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order
}

#[test]
fn every_ranking_comes_from_one_pass_and_finds_what_it_looks_for() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config(), |name, shape, values| {
        let row =
            |values: &mut [f32], row: usize, by: f32| values[row * shape[1]..][..shape[1]].iter_mut().for_each(|v| *v *= by);
        if name.contains("up_proj") {
            // Neuron 5 is loud, and neuron 9 has a large weight for what hardly comes through its gate.
            row(values, 5, 20.0);
            row(values, 9, 30.0);
        } else if name.contains("gate_proj") {
            row(values, 9, 1e-3);
        } else if name.contains("down_proj") {
            // Neuron 7 is heard by nobody.
            values.chunks_mut(shape[1]).for_each(|row| row[7] = 0.0);
        }
        if name.starts_with("model.layers.2.") && (name.contains("down_proj") || name.contains("o_proj")) {
            values.fill(0.0);
        }
    });
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let text = Text::encode(&checkpoint.tokenizer, CALIBRATION_TEXT, checkpoint.config.vocab_size).unwrap();
    let calibration = Calibration { text, windows: WINDOWS };
    let methods: Vec<Method> = Ranking::all().map(|parts| Method { parts, layers: LayerRanking::Loss, heads: false }).collect();
    let folders: Vec<_> = methods.iter().map(|m| folder.path().join(m.parts.to_string())).collect();
    let targets: Vec<(Method, &Path)> = methods.iter().copied().zip(folders.iter().map(std::path::PathBuf::as_path)).collect();
    let prepared = prepare(&checkpoint, &calibration, &targets, &mut |_| {}).unwrap();
    assert_eq!(prepared.len(), 12);
    for (made, method) in prepared.iter().zip(&methods) {
        let supernet = SuperNetwork::open(&made.folder).unwrap();
        assert_eq!((supernet.file.method.as_str(), supernet.file.ranking()), (&*method.to_string(), &*method.parts.to_string()));
        let scores = &supernet.file.importance;
        // A layer that adds nothing can be dropped at no loss; what others do to a model that knows nothing is luck.
        let weights: Vec<f64> = scores.layers.iter().map(|loss| loss.abs()).collect();
        assert_eq!(order(&weights).last(), Some(&2), "{method}");
        assert!(weights[2] < 1e-6 && weights[0] > 1e-6, "{method}: {weights:?}");
        let neurons = order(&scores.neurons[0]);
        match method.parts {
            Ranking::Contribution | Ranking::Fluctuation => {
                assert_eq!((neurons[0], neurons.last()), (5, Some(&7)), "{method}");
                assert!(scores.neurons[0][7] == 0.0, "{method}");
            }
            Ranking::Magnitude => assert_eq!(neurons[..2], [9, 5], "{method}"),
            Ranking::Activation(..) => assert_eq!(neurons[0], 5, "{method}"),
        }
    }
    // The same whether it is asked for alone or with others.
    let alone = folder.path().join("alone");
    let again = prepare(&checkpoint, &calibration, &[(methods[0], alone.as_path())], &mut |_| {}).unwrap();
    assert_eq!(again[0].file, prepared[0].file);
    // Tokens are aggregated first, windows then: nothing varies between the windows of a single one, and much within it.
    let single = Calibration { windows: Windows { count: 1, ..WINDOWS }, ..calibration };
    let method = |name: &str| Method { parts: name.parse().unwrap(), ..Method::default() };
    let (within, between) = (folder.path().join("within"), folder.path().join("between"));
    let targets = [(method("variance-mean"), &*within), (method("mean-variance"), &*between)];
    let made = prepare(&checkpoint, &single, &targets, &mut |_| {}).unwrap();
    let scores = |at: usize| &made[at].file.importance.neurons[0];
    assert!(scores(0).iter().all(|score| *score > 0.0), "{:?}", scores(0));
    assert!(scores(1).iter().all(|score| *score == 0.0), "{:?}", scores(1));
}

#[test]
fn what_never_changes_contributes_and_does_not_fluctuate() {
    let folder = tempfile::tempdir().unwrap();
    let config = ModelConfig { mlp_bias: true, ..config() };
    // Neuron 3 says the same, loudly, whatever it hears.
    write(folder.path(), &config, |name, shape, values| match shape {
        [_, input] if name.contains("gate_proj") || name.contains("up_proj") => values[3 * input..][..*input].fill(0.0),
        [_] if name.contains("gate_proj") || name.contains("up_proj") => values[3] = 5.0,
        _ => {}
    });
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let text = Text::encode(&checkpoint.tokenizer, CALIBRATION_TEXT, config.vocab_size).unwrap();
    let of = |parts: Ranking| (Method { parts, ..Method::default() }, folder.path().join(parts.to_string()));
    let targets = [of(Ranking::Contribution), of(Ranking::Fluctuation)];
    let targets: Vec<(Method, &Path)> = targets.iter().map(|(method, path)| (*method, path.as_path())).collect();
    let made = prepare(&checkpoint, &Calibration { text, windows: WINDOWS }, &targets, &mut |_| {}).unwrap();
    let places = made.iter().map(|m| order(&m.file.importance.neurons[0]).iter().position(|&n| n == 3).unwrap());
    assert_eq!(places.collect::<Vec<_>>(), [0, config.mlp_size - 1]);
}

#[test]
fn scores_of_another_model_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config(), |_, _, _| {});
    let supernet = prepared_by(HEADS, &Checkpoint::open(folder.path()).unwrap(), folder.path());
    let (target, file) = (folder.path().join("supernet"), supernet.file);
    let broken: [fn(&mut Importance); 9] = [
        |scores| scores.layers.truncate(1),
        |scores| scores.kv_groups.truncate(1),
        |scores| scores.kv_groups[1].push(1.0),
        |scores| scores.neurons.truncate(1),
        |scores| scores.neurons[3].clear(),
        |scores| scores.width.push(1.0),
        |scores| scores.heads.as_mut().unwrap().pairs.truncate(3),
        |scores| scores.heads.as_mut().unwrap().values.truncate(1),
        |scores| scores.heads.as_mut().unwrap().values[2].push(1.0),
    ];
    for (case, break_it) in broken.iter().enumerate() {
        let mut file = file.clone();
        break_it(&mut file.importance);
        std::fs::write(target.join("supernet.json"), serde_json::to_vec(&file).unwrap()).unwrap();
        let error = SuperNetwork::open(&target).unwrap_err().to_string();
        assert!(error.contains("scores are not of its model's parts"), "{case}: {error}");
    }
}

#[test]
fn broken_weights_are_named() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config(), |name, _, values| {
        if name == "model.layers.1.mlp.up_proj.weight" {
            values[3] = f32::NAN;
            values[4] = f32::INFINITY;
        }
    });
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let Err(error) = Network::load(&checkpoint.config, &checkpoint, 64) else { panic!("NaN was accepted") };
    assert!(matches!(&error, Error::NotFinite { name, count: 2 } if name == "model.layers.1.mlp.up_proj.weight"), "{error}");

    let wrong = ModelConfig { mlp_size: 96, ..config() };
    let Err(error) = Network::load(&wrong, &checkpoint, 64) else { panic!("a wrong shape was accepted") };
    assert!(error.to_string().contains("mlp.gate_proj.weight` has shape [80, 48]"), "{error}");
}

#[test]
fn a_probe_grows_token_by_token() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config(), |_, _, _| {});
    let supernet = prepared(&Checkpoint::open(folder.path()).unwrap(), folder.path());
    let network = supernet.network(64).unwrap();
    let probe = network.probe(&supernet.full()).unwrap();
    let lengths: Vec<usize> = probe.steps.iter().map(|s| s.feed.len()).collect();
    assert_eq!(lengths, [24, 1, 1, 1, 1]);
    let tokens: Vec<u32> = probe.steps.iter().flat_map(|s| s.feed.clone()).collect();
    let all = logits(&network, &supernet.full(), &tokens);
    let last = &all[27 * 2048..];
    assert!(probe.steps[4].expect.iter().all(|&(entry, value)| (last[entry as usize] - value).abs() < 1e-5));
}
