//! The forward pass, its sub-networks, and what a checkpoint says.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

pub(crate) fn tiny() -> Config {
    Config { vocab: 300, width: 24, layers: 3, mlp: 32, head_dim: 8, ..Config::demo(300) }
}

fn ids(count: usize, vocab: usize) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    (0..count).map(|_| rng.random_range(0..vocab as u32)).collect()
}

/// The loss of each token.
fn losses(model: &Model, windows: &[&[u32]], sub: &SubNet) -> Vec<f32> {
    let logits = model.logits(windows, sub).unwrap();
    let targets = windows.iter().flat_map(|window| &window[1..]);
    let loss = |(row, &target)| ops::cross_entropy(&logits.narrow(0, row, 1).unwrap(), &[target]).unwrap();
    targets.enumerate().map(|at| loss(at).to_scalar().unwrap()).collect()
}

fn model() -> Model {
    Model::new(tiny(), &mut ChaCha8Rng::seed_from_u64(1)).unwrap()
}

#[test]
fn the_demo_model_has_the_size_it_claims() {
    let model = Model::new(Config::demo(2048), &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
    assert_eq!(model.parameters(), 3_640_512);
}

#[test]
fn every_variable_has_a_gradient() {
    let model = model();
    let ids = ids(17, 300);
    let grads = model.loss(&[&ids], &SubNet::full(model.config())).unwrap().backward().unwrap();
    for (name, var) in model.vars() {
        let grad = grads.get(&var).unwrap_or_else(|| panic!("{name} has no gradient"));
        assert!(grad.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap() > 0.0, "{name}");
    }
}

#[test]
fn a_token_does_not_see_what_follows_it() {
    let model = model();
    let full = SubNet::full(model.config());
    let first = ids(12, 300);
    let mut second = first.clone();
    second[8] = (second[8] + 1) % 300;
    let (a, b) = (losses(&model, &[&first], &full), losses(&model, &[&second], &full));
    // Loss i scores token i + 1 from tokens 0..=i, so token 8 first changes loss 7.
    assert_eq!(a[..7], b[..7]);
    assert!(a[7..].iter().zip(&b[7..]).all(|(a, b)| a.to_bits() != b.to_bits()));
}

#[test]
fn windows_of_a_batch_do_not_see_each_other() {
    let model = model();
    let full = SubNet::full(model.config());
    let ids = ids(20, 300);
    let (a, b) = ids.split_at(10);
    let both = losses(&model, &[a, b], &full);
    let apart = [losses(&model, &[a], &full), losses(&model, &[b], &full)].concat();
    assert!(both.iter().zip(&apart).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn a_sub_network_is_the_model_with_the_rest_silenced() {
    let model = model();
    let config = tiny();
    let ids = ids(12, 300);
    let mut sub = SubNet::full(&config).with_neurons(16).without_layer(1);
    sub.layers[0].groups = 2;
    let cut = losses(&model, &[&ids], &sub);
    // A removed neuron, group or layer is one whose way back into the residual stream is zero.
    for (index, layer) in model.layers.iter().enumerate() {
        let kept = sub.layers.iter().find(|layer| layer.index == index);
        let groups = kept.map_or(0, |layer| layer.groups) * config.heads_per_group() * config.head_dim;
        let neurons = kept.map_or(0, |layer| layer.neurons);
        for (weight, rows) in [(&layer.o, groups), (&layer.down, neurons)] {
            let (all, columns) = weight.dims2().unwrap();
            let keep: Vec<f32> = (0..all).map(|row| if row < rows { 1.0 } else { 0.0 }).collect();
            let keep = Tensor::from_vec(keep, (all, 1), weight.device()).unwrap();
            let silenced = weight.broadcast_mul(&keep.broadcast_as((all, columns)).unwrap()).unwrap();
            weight.set(&silenced).unwrap();
        }
    }
    let silenced = losses(&model, &[&ids], &SubNet::full(&config));
    assert!(cut.iter().zip(&silenced).all(|(a, b)| (a - b).abs() < 1e-5), "{cut:?} {silenced:?}");
}

#[test]
fn random_sub_networks_stay_inside_the_model() {
    let config = Config::demo(2048);
    let full = SubNet::full(&config);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut smaller = 0;
    for _ in 0..500 {
        let sub = SubNet::random(&config, &mut rng);
        assert!((128..=config.width).contains(&sub.width));
        assert!(sub.layers.is_sorted_by_key(|layer| layer.index));
        assert_eq!(sub.layers.first().unwrap().index, 0);
        assert_eq!(sub.layers.last().unwrap().index, config.layers - 1);
        assert!(sub.layers.len() >= 5);
        for layer in &sub.layers {
            assert!((1..=config.kv_groups).contains(&layer.groups));
            assert!((128..=config.mlp).contains(&layer.neurons));
        }
        smaller += usize::from(sub != full);
    }
    assert!(smaller > 400, "{smaller} of 500 are smaller than the model");
}

#[test]
fn a_checkpoint_has_hugging_face_names_and_layout() {
    let model = model();
    let tensors = model.tensors().unwrap();
    let shape = |name: &str| tensors.iter().find(|(n, _)| n == name).map(|(_, t)| t.dims().to_vec());
    assert_eq!(shape("model.embed_tokens.weight"), Some(vec![300, 24]));
    assert_eq!(shape("model.layers.2.self_attn.k_proj.weight"), Some(vec![24, 24]));
    assert_eq!(shape("model.layers.0.self_attn.q_proj.weight"), Some(vec![48, 24]));
    assert_eq!(shape("model.layers.0.mlp.down_proj.weight"), Some(vec![24, 32]));
    assert_eq!(shape("model.layers.0.input_layernorm.weight"), Some(vec![24]));
    assert_eq!(shape("model.norm.weight"), Some(vec![24]));
    assert_eq!(tensors.len(), 2 + 9 * 3);
    assert!(tensors.iter().all(|(_, tensor)| tensor.dtype() == DType::F16));
}
