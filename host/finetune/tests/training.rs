//! Whole trainings of a tiny network: they learn, resume bit for bit, and say what is wrong.

use edgewise_finetune::{
    Budget, Corpus, Criterion, Distillation, Document, Error, Event, LossOn, Outcome, Run, Sandwich, Schedule, Settings, Size,
    Validation, calibrate, looks, newest, train,
};
use edgewise_onnx::{
    MappedWeights, ModelConfig, SubNetwork,
    testing::{tiny_config, write_checkpoint},
};
use edgewise_supernet::{Evaluation, Lora, Network, Projection, Text, Tokenizer, Trainable, Windows, evaluate, ops::Divergence};
use serde_json::{Value, json};
use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

/// A tokenizer with a token for each letter.
fn letters() -> Tokenizer {
    let vocabulary: serde_json::Map<String, Value> =
        ('a'..='z').chain([' ', '.']).enumerate().map(|(i, c)| (c.to_string(), (i + 1).into())).collect();
    let json = json!({ "version": "1.0", "model": { "type": "BPE", "vocab": vocabulary, "merges": [] } });
    Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap()
}

fn documents() -> Vec<Document> {
    let line = "the quick brown fox jumps over the lazy dog. ";
    vec![
        Document { prompt: "say it. ".into(), answer: line.repeat(30) },
        Document { prompt: String::new(), answer: line.repeat(9) },
    ]
}

fn network(config: &ModelConfig, trainable: &Trainable) -> Network {
    let folder = tempfile::tempdir().unwrap();
    write_checkpoint(folder.path(), config, 5).unwrap();
    let mut network = Network::load(config, &MappedWeights::open(folder.path()).unwrap(), 64).unwrap();
    network.make_trainable(trainable, 1).unwrap();
    network
}

fn lora() -> Trainable {
    Trainable::Lora(Lora { rank: 4, alpha: 8.0, dropout: 0.1, targets: Projection::ALL.to_vec() })
}

fn settings(trainable: Trainable, steps: u64) -> Settings {
    Settings {
        trainable,
        distillation: Some(Distillation { kind: Divergence::ForwardKl, temperature: 1.0, weight: 1.0, ce_weight: 0.5 }),
        schedule: Schedule { peak: 1e-2, warm_up: 3, floor: 0.1 },
        weight_decay: 0.01,
        clip: 1.0,
        batch: 2,
        accumulate: 1,
        sequence: 32,
        budget: Budget::Steps(steps),
        loss_on: LossOn::All,
        seed: 1,
    }
}

fn smallest() -> SubNetwork {
    SubNetwork { layers: vec![0, 3], width: 32, kv_groups: vec![1, 1], mlp: vec![32, 32], pairs: None }
}

/// Runs a training in `folder`; it is stopped after `stop` steps.
fn run(folder: &Path, network: &Network, settings: &Settings, stop: Option<u64>) -> Result<Outcome, Error> {
    let config = network.config();
    let corpus = Corpus::new(&documents(), &letters(), config, settings.sequence, settings.loss_on, settings.seed)?;
    let draws = |group: u64| vec![SubNetwork { width: 40 + (group % 3) as u32, ..smallest() }];
    let text = Text { sha256: String::new(), tokens: corpus.first(128).to_vec() };
    let size = |name: &str, sub| Size { name: name.into(), sub };
    let validation = Validation {
        on: Evaluation { text, windows: Windows { length: 64, count: 2 } },
        sizes: vec![size("full", config.full()), size("smallest", smallest())],
        every: 0,
    };
    let (cancel, identity) = (AtomicBool::new(false), json!(settings));
    let run = Run {
        network,
        corpus: &corpus,
        sandwich: Sandwich { full: config.full(), smallest: smallest(), draws: &draws },
        settings,
        validation: &validation,
        folder,
        checkpoint_every: 4,
        identity: &identity,
        grid: &[],
        resume: newest(folder),
        cancel: &cancel,
    };
    train(&run, &mut |event| {
        if let Event::Step(report) = event
            && Some(report.step) == stop
        {
            cancel.store(true, Ordering::SeqCst);
        }
    })
}

fn weights(network: &Network) -> Vec<Vec<f32>> {
    network.variables().iter().map(|(_, var)| var.flatten_all().unwrap().to_vec1().unwrap()).collect()
}

#[test]
fn both_kinds_learn_at_every_size() {
    for trainable in [lora(), Trainable::Full] {
        let network = network(&tiny_config(), &trainable);
        let folder = tempfile::tempdir().unwrap();
        let outcome = run(folder.path(), &network, &settings(trainable.clone(), 40), None).unwrap();
        assert_eq!((outcome.steps, outcome.tokens, outcome.stopped), (40, 40 * 64, false));
        let looks = looks(&outcome.log);
        assert_eq!(looks.iter().map(|l| l.step).collect::<Vec<_>>(), [0, 40]);
        for (before, after) in looks[0].validation.iter().zip(&looks[1].validation) {
            let gain = before.nll.unwrap() - after.nll.unwrap();
            assert!(gain > 0.5, "{}: {before:?} {after:?} of {trainable:?}", before.name);
        }
    }
}

#[test]
fn every_divergence_and_the_data_alone_teach() {
    let of = |distillation| {
        let settings = Settings { distillation, ..settings(lora(), 25) };
        let network = network(&tiny_config(), &settings.trainable);
        let folder = tempfile::tempdir().unwrap();
        let outcome = run(folder.path(), &network, &settings, None).unwrap();
        let looks = looks(&outcome.log);
        looks[0].validation[1].nll.unwrap() - looks[1].validation[1].nll.unwrap()
    };
    for kind in [Divergence::ReverseKl, Divergence::SymmetricKl, Divergence::JensenShannon] {
        let gain = of(Some(Distillation { kind, temperature: 1.0, weight: 2.0, ce_weight: 0.0 }));
        assert!(gain > 0.1, "{kind:?}: {gain}");
    }
    assert!(of(None) > 0.2);
}

#[test]
fn a_resumed_training_is_the_one_that_was_not_stopped() {
    let settings = Settings { accumulate: 2, batch: 1, ..settings(lora(), 11) };
    let whole = network(&tiny_config(), &settings.trainable);
    let folder = tempfile::tempdir().unwrap();
    let uninterrupted = run(folder.path(), &whole, &settings, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Stopped in order after 3 and 7 steps, each time with a new network.
    for (stop, steps) in [(3, 3), (7, 7)] {
        let outcome = run(folder.path(), &network(&tiny_config(), &settings.trainable), &settings, Some(stop)).unwrap();
        assert_eq!((outcome.steps, outcome.stopped), (steps, true));
    }
    let last = network(&tiny_config(), &settings.trainable);
    let resumed = run(folder.path(), &last, &settings, None).unwrap();
    assert_eq!((resumed.steps, resumed.tokens), (uninterrupted.steps, uninterrupted.tokens));
    assert_eq!(weights(&whole), weights(&last), "bit for bit");
    let lines = |log: &[u8]| -> Vec<Value> {
        let timeless = |line: &str| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            line.as_object_mut().unwrap().remove("elapsed_s");
            line
        };
        std::str::from_utf8(log).unwrap().lines().map(timeless).collect()
    };
    assert_eq!(lines(&uninterrupted.log), lines(&resumed.log), "and so is the log");
    let other = Settings { seed: 2, ..settings.clone() };
    let Err(error) = run(folder.path(), &last, &other, None) else { panic!("a checkpoint of another seed was taken") };
    assert!(error.to_string().contains("another `seed`: 1, not 2"), "{error}");
}

#[test]
fn a_seed_decides() {
    let of = |seed| {
        let settings = Settings { seed, ..settings(lora(), 3) };
        let network = network(&tiny_config(), &settings.trainable);
        run(tempfile::tempdir().unwrap().path(), &network, &settings, None).unwrap();
        weights(&network)
    };
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
}

#[test]
fn only_answers_are_learned_where_that_is_asked_for() {
    let settings = Settings { loss_on: LossOn::Answer, sequence: 16, ..settings(lora(), 2) };
    let network = network(&tiny_config(), &settings.trainable);
    let outcome = run(tempfile::tempdir().unwrap().path(), &network, &settings, None).unwrap();
    assert_eq!(outcome.steps, 2);
}

#[test]
fn a_training_that_diverges_says_when_and_keeps_its_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let calm = settings(Trainable::Full, 20);
    run(folder.path(), &network(&tiny_config(), &calm.trainable), &calm, Some(5)).unwrap();
    let kept = newest(folder.path()).unwrap();
    let other = tempfile::tempdir().unwrap();
    let wild = Settings { schedule: Schedule { peak: 1e15, warm_up: 0, floor: 0.1 }, ..calm };
    let error = run(other.path(), &network(&tiny_config(), &wild.trainable), &wild, None).unwrap_err();
    assert!(matches!(error, Error::NotFinite { step: 2.., .. } | Error::BrokenGradient { .. }), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("--lr")));
    assert!(kept.is_dir());
}

#[test]
fn a_grid_keeps_the_best_of_each_size() {
    let network = network(&tiny_config(), &lora());
    let corpus = Corpus::new(&documents(), &letters(), network.config(), 32, LossOn::All, 1).unwrap();
    let text = Text { sha256: String::new(), tokens: corpus.first(128).to_vec() };
    let on = Evaluation { text, windows: Windows { length: 64, count: 2 } };
    let of = |layers: [u32; 2]| SubNetwork { layers: layers.to_vec(), ..smallest() };
    let pairs = [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]];
    let bins = [pairs.map(of).to_vec(), Vec::new(), vec![of([0, 3])]];
    let grid = |criterion: Criterion<'_>| {
        let mut steps = Vec::new();
        let found =
            calibrate(&network, &bins, criterion, &mut |done| steps.push(done), &AtomicBool::new(false)).unwrap().unwrap();
        assert_eq!(steps, (1..=7).collect::<Vec<_>>());
        assert_eq!((found.len(), &found[1]), (2, &of([0, 3])));
        found[0].clone()
    };
    let perplexity = |sub: &SubNetwork| evaluate(&network, sub, &on).unwrap().nll;
    let magnitude = |sub: &SubNetwork| network.weight_magnitude(sub).unwrap();
    let ordered = |cost: &dyn Fn(&SubNetwork) -> f64| {
        let mut all = bins[0].clone();
        all.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
        all
    };
    assert_eq!(grid(Criterion::Perplexity(&on)), ordered(&perplexity)[0]);
    assert_eq!(grid(Criterion::Magnitude), *ordered(&magnitude).last().unwrap());
    assert!(calibrate(&network, &bins, Criterion::Magnitude, &mut |_| {}, &AtomicBool::new(true)).unwrap().is_none());
}
