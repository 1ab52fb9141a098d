//! `host finetune`, as a user sees it: it helps, it resumes, it says what is wrong, and what it writes can be searched.

use edgewise_tests::{Call, Checkpoint, Home, count, eventually, list, measuring, number, text, variant_config};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The training folder of an output.
fn training(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".training");
    name.into()
}

fn finetune(home: &Home, model: &str, output: &Path, words: &str) -> Call {
    home.host("finetune").arg(model).arg("-o").arg(output).words(words)
}

/// A model that takes milliseconds, prepared.
fn small(home: &Home) -> String {
    let model = home.path("small");
    Checkpoint::new(variant_config()).write(&model);
    let prepared = home.path("prepared");
    home.host("prepare -o").arg(&prepared).arg(&model).run().ok();
    prepared.display().to_string()
}

fn perplexity(look: &Value, name: &str) -> f64 {
    let point = list(look, "/validation").iter().find(|point| text(point, "/name") == name);
    number(point.unwrap_or_else(|| panic!("no {name}: {look}")), "/perplexity")
}

#[test]
fn thirty_steps_help_the_smallest_and_spare_the_full_network() {
    let home = Home::with_demo();
    let output = home.path("tuned");
    let words = "--json --steps 30 --sequence 128 --validate-every 10 --lr 2e-3";
    let found = finetune(&home, "demo", &output, words).run().checked().json();
    assert_eq!((text(&found, "/schema"), text(&found, "/model")), ("edgewise.finetune/1", "demo"));
    assert_eq!((count(&found, "/steps"), count(&found, "/tokens")), (30, 30 * 128));
    let curve = list(&found, "/curve");
    assert_eq!(curve.iter().map(|look| count(look, "/step")).collect::<Vec<_>>(), [0, 10, 20, 30]);
    let (before, after) = (&curve[0], &curve[3]);
    let ratio = |name: &str| perplexity(after, name) / perplexity(before, name);
    assert!(ratio("smallest") < 0.8, "the smallest learned nothing: {found}");
    assert!(ratio("full") < 1.1, "the full network was hurt: {found}");
    assert!(!training(&output).exists(), "nothing is left over");

    // What was written is what was trained.
    let whole = home.host("evaluate --json").arg(&output).run().checked().json();
    assert!((number(&whole, "/perplexity") / perplexity(after, "full") - 1.0).abs() < 1e-3, "{whole} {after}");
    let record: Value = serde_json::from_slice(&fs::read(output.join("supernet.json")).expect("it was written")).expect("JSON");
    assert_eq!(text(&record, "/finetuned/parent_sha256"), text(&found, "/parent_sha256"));
    assert_eq!(count(&record, "/finetuned/settings/settings/trainable/lora/rank"), 32);
    assert_eq!(text(&record, "/source/sha256"), text(&found, "/model_sha256"));
    assert_ne!(text(&found, "/model_sha256"), text(&found, "/parent_sha256"));
    let log = fs::read_to_string(output.join("finetune.jsonl")).expect("the log is kept");
    assert_eq!(log.lines().count(), 30 + 4);

    let _turn = measuring();
    let search = home.host("search --json --budget 3 --trials 1 --workload prompt=16,gen=8 --runtime tract --model").arg(&output);
    let search = search.run().checked().json();
    assert_eq!(text(&search, "/model/sha256"), text(&found, "/model_sha256"));
    assert!(list(&search, "/candidates").iter().all(|c| text(c, "/status") == "ok"), "{search}");
}

#[test]
fn what_a_search_found_is_trained_and_looked_at_first() {
    let home = Home::with_demo();
    let _turn = measuring();
    let search = |study: &str, words: &str| {
        let common = "search --json --trials 1 --workload prompt=8,gen=4 --runtime tract --budget 2";
        home.host(common).words(words).arg("--study").arg(home.path(study)).run().checked().json()
    };
    let before = search("before.study", "--explore 10");
    let trained = |name: &str, words: &str| -> (PathBuf, Vec<Value>) {
        let output = home.path(name);
        finetune(&home, "demo", &output, words).arg("--study").arg(home.path("before.study")).run().ok();
        let record = fs::read(output.join("supernet.json")).expect("it was written");
        let record: Value = serde_json::from_slice(&record).expect("JSON");
        (output, list(&record, "/finetuned/trained").to_vec())
    };
    let (tuned, found) = trained("tuned", "--steps 2 --sequence 64");
    let sizes: Vec<u64> = found.iter().map(|sub| list(sub, "/mlp").iter().map(|m| m.as_u64().unwrap()).sum()).collect();
    assert!(found.len() >= 2 && sizes.first() < sizes.last(), "the front, from the smallest on: {found:?}");

    // With as many looks as networks were trained, nothing else can be found, though the sampler would propose others.
    let looks = format!("--sampler random --seed 9 --explore {} --model {}", found.len(), tuned.display());
    let after = search("after.study", &looks);
    assert!(found.contains(&list(&after, "/candidates")[1]["config"]), "{after}");

    // One alone.
    let second = &list(&before, "/candidates")[1];
    let (_, alone) = trained("alone", &format!("--steps 1 --sequence 64 --candidate {}", text(second, "/id")));
    assert_eq!(alone, [second["config"].clone()]);

    let other = finetune(&home, "demo", &home.path("other"), "--steps 1 --study").arg(home.path("after.study")).run();
    other.fails(2).says(&["is of another model"]);
    let whole = finetune(&home, "demo", &home.path("whole"), "--steps 1 --candidate baseline --study");
    whole.arg(home.path("before.study")).run().fails_unhinted(2).says(&["is the full network"]);
}

#[test]
fn a_killed_training_that_is_resumed_ends_with_the_same_bytes() {
    let home = Home::with_demo();
    let words = "--steps 12 --sequence 96 --batch 2 --lora-dropout 0.1 --checkpoint-every 3 --validate-every 4";
    let whole = home.path("whole");
    finetune(&home, "demo", &whole, words).env("RAYON_NUM_THREADS", "1").run().ok();
    let killed = home.path("killed");
    let mut running = finetune(&home, "demo", &killed, words).start();
    eventually("a checkpoint is written", || training(&killed).join("step-3").exists().then_some(()));
    assert!(running.is_running(), "it was too fast to be killed");
    running.signal(libc::SIGKILL);
    assert!(!running.finish().status.success());
    assert!(!killed.exists());

    finetune(&home, "demo", &killed, words).run().fails(2).says(&["there is a checkpoint already", "--resume"]);
    let other = words.replace("0.1", "0.2");
    finetune(&home, "demo", &killed, &other).arg("--resume").run().fails(2).says(&["another `settings.trainable.lora.dropout`"]);
    finetune(&home, "demo", &killed, words).arg("--resume").run().ok();
    let bytes = |folder: &Path| fs::read(folder.join("model.safetensors")).expect("it was written");
    assert!(bytes(&whole) == bytes(&killed), "the weights differ: by the kill, or by the number of threads");
    let steps = |folder: &Path| {
        let log = fs::read_to_string(folder.join("finetune.jsonl")).expect("the log is kept");
        log.lines().map(|line| count(&serde_json::from_str(line).expect("JSON"), "/step")).collect::<Vec<_>>()
    };
    assert_eq!(steps(&whole), steps(&killed), "no step is missing from the log or twice in it");
}

#[test]
fn ctrl_c_keeps_a_checkpoint() {
    let home = Home::new();
    let (model, output) = (small(&home), home.path("tuned"));
    let words = "--minutes 30 --sequence 64 --checkpoint-every 0";
    let running = finetune(&home, &model, &output, words).start();
    eventually("steps are done", || {
        let log = fs::read_to_string(training(&output).join("log.jsonl")).ok()?;
        (log.lines().count() > 3).then_some(())
    });
    finetune(&home, &model, &output, words).run().fails(2).says(&["another training is at work"]);
    running.signal(libc::SIGINT);
    running.finish().fails_after_output(130).says(&["stopped by the user after", "--resume"]);
    assert!(!output.exists() && fs::read_dir(training(&output)).expect("it is kept").count() >= 2);
}

#[test]
fn every_kind_of_training_runs() {
    let home = Home::new();
    let model = small(&home);
    let line = |i: usize| format!("{{\"instruction\":\"Say {i}.\",\"input\":\"\",\"output\":\"It is {i}, as you said.\"}}\n");
    let alpaca = home.file("alpaca.jsonl", (0..60).map(line).collect::<String>());
    let entry = |i: usize| serde_json::json!({ "instruction": format!("Is {i} even?"), "input": "", "output": "the correct answer is true", "answer": "true" });
    let commonsense = home.file("commonsense.json", serde_json::json!((0..60).map(entry).collect::<Vec<_>>()).to_string());
    for (name, words) in [
        ("answers", "--loss-on answer --distill js"),
        ("full", "--full --distill reverse-kl --accumulate 2"),
        ("grid", "--grid 3 --draws 1 --distill symmetric-kl"),
        ("magnitude", "--grid 3 --grid-by magnitude --draws 1"),
        ("alone", "--distill none --lora-targets q,v --lora-rank 4 --space uniform --draws 3"),
        ("timed", "--minutes 0.02 --draws 0"),
    ] {
        let output = home.path(name);
        let steps = if name == "timed" { "" } else { "--steps 2" };
        let call = finetune(&home, &model, &output, words).words("--json --sequence 48 --validate-every 0").words(steps);
        let found = call.arg("--data").arg(&alpaca).arg("--data").arg(&commonsense).run().checked().json();
        assert!(name == "timed" || count(&found, "/steps") == 2, "{name}: {found}");
        assert_eq!(list(&found, "/curve").len(), 2, "{name}: {found}");
        assert_eq!(found["settings"].get("grid_by").is_some(), name == "magnitude", "{name}: {found}");
        home.host("evaluate --window 32 --windows 1").arg(&output).run().ok();
    }
    // Of the same sub-networks of three sizes, others are the best by another criterion.
    let [by_perplexity, by_magnitude] = ["grid", "magnitude"].map(|name| {
        let record = fs::read(home.path(name).join("supernet.json")).expect("it was written");
        let record: Value = serde_json::from_slice(&record).expect("JSON");
        list(&record, "/finetuned/trained").to_vec()
    });
    assert_eq!((by_perplexity.len(), by_magnitude.len()), (3, 3));
    assert_ne!(by_perplexity, by_magnitude);
}

#[test]
fn what_cannot_be_trained_is_said() {
    let home = Home::new();
    let (model, output) = (small(&home), home.path("tuned"));
    let quick = "--steps 3";
    let refused = |words: &str, code: i32, says: &[&str]| {
        let run = finetune(&home, &model, &output, quick).words(words).run();
        run.fails(code).says(says);
        assert!(!output.exists(), "{words}");
    };
    let data = |name: &str, content: &[u8]| format!("--data {}", home.file(name, content).display());
    refused("--data /nowhere/data.txt", 2, &["/nowhere/data.txt"]);
    refused(&data("broken.jsonl", b"{\"text\":\"a\"}\n{\"text\"\n"), 2, &["broken.jsonl", "line 2"]);
    refused(&data("other.jsonl", b"{\"title\":\"a\"}\n"), 2, &["other.jsonl", "line 1", "neither `text` nor `instruction`"]);
    refused(&data("binary.txt", b"abc\xff\xfe"), 2, &["binary.txt", "UTF-8"]);
    refused(&data("short.txt", b"too short"), 2, &["tokens", "257"]);
    refused("--sequence 100000", 2, &["100000"]);
    refused("--lora-rank 100", 2, &["rank 100"]);
    refused("--lora-dropout 1", 2, &["dropout 1"]);
    refused("--temperature 0", 2, &["temperature"]);
    refused("--ce-weight 0 --distill-weight 0", 2, &["weights"]);
    refused("--lr 0", 2, &["learning rate"]);
    refused("--resume", 2, &["no checkpoint"]);
    finetune(&home, &model, &output, quick).words("--grid-by magnitude").run().fails_unhinted(2).says(&["--grid"]);
    refused("--precision bf16", 2, &["single precision"]);
    finetune(&home, &model, &output, quick).words("--space wide").run().fails_unhinted(2).says(&["unknown space `wide`"]);
    finetune(&home, &model, &output, quick).words("--lora-targets q,x").run().fails_unhinted(2).says(&["unknown projection `x`"]);
    finetune(&home, "nowhere", &output, quick).run().fails(30).says(&["nowhere"]);
    refused("--full --lr 1e15 --warmup 0", 50, &["not finite in step", "--lr"]);
    fs::remove_dir_all(training(&output)).expect("the log was begun");
    fs::create_dir(&output).expect("the home can be written");
    finetune(&home, &model, &output, quick).run().fails(2).says(&["exists already"]);
}

/// What a checkpoint lacks is said, and the one before it serves.
#[test]
fn a_damaged_checkpoint_is_named() {
    let home = Home::new();
    let (model, output) = (small(&home), home.path("tuned"));
    let words = "--minutes 30 --sequence 48 --checkpoint-every 2";
    let mut running = finetune(&home, &model, &output, words).start();
    let checkpoints = || {
        let entries = fs::read_dir(training(&output)).into_iter().flatten().flatten();
        let mut steps: Vec<u64> = entries.filter_map(|e| e.file_name().to_str()?.strip_prefix("step-")?.parse().ok()).collect();
        steps.sort_unstable();
        steps
    };
    eventually("two checkpoints are written", || (checkpoints().len() == 2).then_some(()));
    assert!(running.is_running());
    running.signal(libc::SIGKILL);
    running.finish();
    let newest = training(&output).join(format!("step-{}", checkpoints().last().expect("there are two")));
    let tensors = newest.join("state.safetensors");
    let bytes = fs::read(&tensors).expect("it was written");
    fs::write(&tensors, &bytes[..bytes.len() / 2]).expect("the home can be written");
    let resume = || finetune(&home, &model, &output, words).arg("--resume");
    resume().run().fails(2).says(&["damaged", "state.safetensors", "remove it"]);
    fs::remove_dir_all(&newest).expect("it can be removed");
    let running = resume().start();
    let before = checkpoints();
    eventually("it goes on", || (checkpoints() > before).then_some(()));
    running.signal(libc::SIGINT);
    running.finish().fails_after_output(130);
}
