//! Artifacts and studies that are not, or no longer: exit codes 31 and 40, and nothing of them is touched.

use edgewise_tests::{Home, measuring};
use std::{fs, path::Path};

const QUICK: &str = "--workload prompt=16,gen=8 --runtime tract --trials 1";

#[test]
fn what_is_no_artifact_is_refused() {
    let home = Home::with_demo();
    let study = home.path("one.study");
    {
        let _turn = measuring();
        home.host("search --budget 1 --study").arg(&study).words(QUICK).run().ok();
    }
    let artifact = home.path("artifact");
    let made = || home.host("export").arg(&study).words("baseline -o").arg(&artifact).run().ok();
    let refused = |folder: &Path, words: &[&str]| {
        home.host("measure").words(QUICK).arg(folder).run().fails(31).says(words);
    };
    refused(&home.path("nowhere"), &["nowhere"]);
    refused(&home.file("a-file", "text"), &["a-file"]);
    fs::create_dir(home.path("empty")).expect("the home can be written");
    refused(&home.path("empty"), &["empty", "manifest.json"]);

    for name in ["model.onnx", "model.onnx_data", "tokenizer.json"] {
        made();
        let path = artifact.join(name);
        let mut bytes = fs::read(&path).expect("it was exported");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).expect("the home can be written");
        refused(&artifact, &[name, "changed"]);
        home.host("evaluate").arg(&artifact).run().fails(31).says(&[name]);
        bytes.pop();
        fs::write(&path, &bytes).expect("the home can be written");
        refused(&artifact, &[name, "bytes"]);
        fs::remove_file(&path).expect("it is there");
        refused(&artifact, &[name]);
    }
    made();
    fs::write(artifact.join("manifest.json"), "{}").expect("the home can be written");
    refused(&artifact, &["manifest.json"]);
    made();
    fs::write(artifact.join("probe.json"), "{}").expect("the home can be written");
    refused(&artifact, &["probe.json"]);
    // The exported artifact replaces whatever of one was there.
    made();
    home.host("evaluate --window 32 --windows 1").arg(&artifact).run().ok();
}

#[test]
fn what_is_no_study_is_refused_and_left_alone() {
    let home = Home::with_demo();
    let study = home.path("one.study");
    {
        let _turn = measuring();
        home.host("search --budget 1 --study").arg(&study).words(QUICK).run().ok();
    }
    let whole = fs::read(&study).expect("it was made");
    let half = home.file("half.study", &whole[..whole.len() / 2]);
    let stub = home.file("stub.study", &whole[..150]);
    let empty = home.file("empty.study", "");
    let notes = home.file("notes.txt", "Buy milk.\n");
    for path in [&half, &stub, &empty, &notes] {
        let before = fs::read(path).expect("it was made");
        let name = path.file_name().and_then(|n| n.to_str()).expect("a plain name");
        for command in ["search --study", "front", "report", "export"] {
            let call = home.host(command).arg(path);
            let call = if command == "export" { call.words("baseline -o").arg(home.path("out")) } else { call };
            call.run().fails(40).says(&[name]);
        }
        assert_eq!(fs::read(path).expect("it is there"), before, "{name} was touched");
    }
    assert!(!home.path("out").exists());
    home.host("front").arg(home.path("nowhere.study")).run().fails_unhinted(40).silent().says(&["nowhere.study"]);
    Home::new().host("front").run().fails(40).says(&["no study"]);
    home.host("search --study").arg(home.path("no/folder/x.study")).run().fails_unhinted(40).silent().says(&["x.study"]);
}

#[test]
fn a_study_resumes_only_as_it_was_begun() {
    let home = Home::with_demo();
    let study = home.path("one.study");
    let _turn = measuring();
    home.host("search --budget 1 --seed 3 --study").arg(&study).words(QUICK).run().ok();
    let before = fs::read(&study).expect("it was made");
    for (words, name) in [
        ("--seed 4", "seed"),
        ("--sampler random", "sampler"),
        ("--objective perplexity,ttft_ms", "objectives"),
        ("--constraint tpot_ms<=20", "constraints"),
        ("--space depth", "space"),
        ("--workload prompt=8,gen=8", "workload"),
    ] {
        let run = home.host("search --study").arg(&study).words(words).run();
        run.fails(40).says(&["one.study", name]);
        assert_eq!(fs::read(&study).expect("it is there"), before, "{words} changed the study");
    }
    // Without flags it goes on as it was, and has nothing left to do.
    let again = home.host("search --json --trials 1 --study").arg(&study).run().checked().json();
    assert_eq!((again["seed"].as_u64(), again["candidates"].as_array().map(Vec::len)), (Some(3), Some(1)));
}
