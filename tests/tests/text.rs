//! `host run`: text that a device writes, as a user sees it.

use edgewise_tests::{
    Home, ONNX_RUNTIME, Rig, SMOLLM2, agents_of, children, count, eventually, file_from, measuring, number, text,
};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The artifact of a small candidate of the demo model.
fn artifact(home: &Home) -> PathBuf {
    let study = home.path("one.study");
    let folder = home.path("artifact");
    let _turn = measuring();
    home.host("search --budget 1 --workload prompt=16,gen=8 --runtime tract --trials 1 --study").arg(&study).run().ok();
    home.host("export").arg(&study).arg("baseline").arg("-o").arg(&folder).run().ok();
    folder
}

fn run(home: &Home, artifact: &Path, prompt: &str, words: &str) -> edgewise_tests::Call {
    home.host("run --runtime tract").words(words).arg(artifact).arg(prompt)
}

#[test]
fn a_text_is_written_on_this_machine_and_on_a_board_alike() {
    let Some(rig) = Rig::new() else { return };
    let home = &rig.home;
    let artifact = artifact(home);
    let prompt = "But soft, what light";
    let here: Value = run(home, &artifact, prompt, "--json --max-tokens 24").run().checked().json();
    assert_eq!(text(&here, "/schema"), "edgewise.run/1");
    assert_eq!((text(&here, "/device"), text(&here, "/runtime"), text(&here, "/ended")), ("local", "tract", "length"));
    assert_eq!(count(&here, "/tokens"), 24);
    assert!(count(&here, "/prompt_tokens") > 0 && !text(&here, "/text").is_empty(), "{here}");
    for positive in ["/ttft_ms", "/tpot_ms", "/tokens_per_second", "/load_ms"] {
        assert!(number(&here, positive) > 0.0, "{positive}: {here}");
    }
    assert!((number(&here, "/tokens_per_second") * number(&here, "/tpot_ms") - 1e3).abs() < 1e-6, "{here}");

    let streamed = run(home, &artifact, prompt, "--max-tokens 24").run().checked();
    assert_eq!(streamed.stdout, format!("{}\n", text(&here, "/text")));
    streamed.says(&["local: 24 tokens", "tokens/s", "tract"]);

    let there: Value = rig.host("run --runtime tract --json --max-tokens 24").arg(&artifact).arg(prompt).run().checked().json();
    assert_eq!((text(&there, "/device"), text(&there, "/text")), ("board", text(&here, "/text")));
    assert!(count(&there, "/bytes_sent") > 1 << 20, "the artifact was sent: {there}");
    let again: Value = rig.host("run --runtime tract --json --max-tokens 24").arg(&artifact).arg(prompt).run().checked().json();
    assert!(count(&again, "/bytes_sent") < 100_000, "once: {again}");
    rig.nothing_runs();

    let drawn = |seed: u32| -> String {
        let words = format!("--json --max-tokens 24 --temperature 1.2 --seed {seed}");
        text(&run(home, &artifact, prompt, &words).run().checked().json(), "/text").to_owned()
    };
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
}

#[test]
fn what_cannot_be_written_is_said() {
    let home = Home::with_demo();
    let artifact = artifact(&home);
    run(&home, &artifact, "", "").run().fails(2).says(&["0 tokens"]);
    run(&home, &artifact, &"long ".repeat(4000), "").run().fails(2).says(&["positions"]);
    run(&home, &artifact, "x", "--device nowhere").run().fails_unhinted(2).says(&["nowhere"]);
    run(&home, &artifact, "x", "--temperature -1").run().fails_unhinted(2);
    run(&home, &home.path("none"), "x", "").run().fails_unhinted(31);
    std::fs::remove_file(artifact.join("tokenizer.json")).expect("the artifact has one");
    run(&home, &artifact, "x", "").run().fails_unhinted(31).says(&["tokenizer.json"]);
}

/// While it waits for its turn, so that no text ends before it is stopped.
#[test]
fn ctrl_c_stops_it_in_order() {
    let Some(rig) = Rig::new() else { return };
    let artifact = artifact(&rig.home);
    let _turn = measuring();
    let call = rig.host("measure --trials 64 --runtime tract --workload prompt=16,gen=8").arg(&artifact);
    let measuring = call.start();
    eventually("the board measures", || children(*agents_of(&rig.store).first()?).first().copied());
    let text = rig.host("run --runtime tract").arg(&artifact).arg("To be").start();
    eventually("another agent serves it", || (agents_of(&rig.store).len() == 2).then_some(()));
    text.signal(libc::SIGINT);
    let ended = text.finish();
    ended.fails_unhinted(130).says(&["stopping", "stopped by the user"]);
    drop(measuring);
    rig.nothing_runs();
}

/// The real model with the real runtime.
#[test]
fn smollm2_knows_the_capital_of_france() {
    let (Some(model), Some(library)) = (file_from(SMOLLM2), file_from(ONNX_RUNTIME)) else { return };
    let home = Home::new();
    let study = home.path("smol.study");
    let folder = home.path("artifact");
    let _turn = measuring();
    let search = home.host("search --budget 1 --workload prompt=8,gen=4 --runtime ort --trials 1 --model").arg(&model);
    search.arg("--ort-library").arg(&library).arg("--study").arg(&study).run().ok();
    home.host("export").arg(&study).arg("baseline").arg("-o").arg(&folder).run().ok();
    let call = home.host("run --runtime ort --json --max-tokens 8 --ort-library").arg(&library);
    let found = call.arg(&folder).arg("The capital of France is").run().checked().json();
    assert!(text(&found, "/text").starts_with(" Paris"), "{found}");
    let cpu = edgewise_tests::list(&found, "/providers").iter().find(|p| text(p, "/name") == "CPUExecutionProvider");
    assert!(cpu.is_some_and(|p| count(p, "/nodes") > 100), "{found}");
}
