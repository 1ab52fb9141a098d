//! SmolLM2-135M, a real model of a real size. Slow: each test takes minutes.

use edgewise_tests::{Home, ONNX_RUNTIME, POLICY_TEXT, SMOLLM2, count, file_from, list, measuring, number, text};
use std::fs;

/// Largest memory that a waited-for descendant of this process ever held, in bytes.
fn peak_memory() -> u64 {
    // SAFETY: the structure is plain numbers, for which zero is a value, and the call only fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage), 0);
        usage
    };
    usage.ru_maxrss as u64 * 1024
}

#[test]
fn its_perplexity_is_what_another_implementation_found() {
    let (Some(model), Some(policy)) = (file_from(SMOLLM2), file_from(POLICY_TEXT)) else { return };
    let home = Home::new();
    let _turn = measuring();
    let call = home.host("evaluate --json --window 512 --windows 4").arg(&model).arg("--text").arg(&policy);
    let found = call.run().checked().json();
    assert!((number(&found, "/perplexity") - 6.143).abs() < 0.01, "{found}");
    assert!((number(&found, "/nll") - 1.815_33).abs() < 1e-3, "{found}");
    assert_eq!((count(&found, "/tokens"), count(&found, "/parameters")), (2044, 134_515_008));
    assert!(peak_memory() < 3 << 30, "{} bytes", peak_memory());
}

#[test]
fn it_is_searched_within_its_means() {
    let (Some(model), Some(library)) = (file_from(SMOLLM2), file_from(ONNX_RUNTIME)) else { return };
    let home = Home::new();
    let _turn = measuring();
    let call = home.host("search --json --budget 3 --trials 1 --model").arg(&model).arg("--ort-library").arg(&library);
    let run = call.run().checked();
    assert!(!run.stderr.contains("without"), "a runtime failed: {}", run.stderr);
    let found = run.json();
    assert_eq!(count(&found, "/model/parameters"), 134_515_008);
    let baseline = text(&found, "/baseline");
    for candidate in list(&found, "/candidates") {
        assert_eq!(text(candidate, "/status"), "ok", "{candidate}");
        assert!(number(candidate, "/measurements/0/probe_max_abs_diff") < 0.1, "{candidate}");
    }
    let tpot = |c: &serde_json::Value| number(c, "/measurements/0/tpot_ms/median");
    let (full, cut): (Vec<_>, Vec<_>) = list(&found, "/candidates").iter().partition(|c| text(c, "/id") == baseline);
    // The device says itself when somebody else used the machine while it timed; such a number proves nothing.
    let calm = |c: &serde_json::Value| list(c, "/measurements/0/flags").is_empty();
    if calm(full[0]) {
        assert!(cut.iter().filter(|c| calm(c)).all(|c| tpot(c) < tpot(full[0])), "a smaller network is faster: {found}");
    }
    assert!(cut.iter().all(|c| number(c, "/quality/perplexity") > number(full[0], "/quality/perplexity")));
    assert!(number(&found, "/timing/overhead_share") < 0.1, "{}", found["timing"]);
    assert!(peak_memory() < 3 << 30, "{} bytes", peak_memory());
}

#[test]
fn a_truncated_download_is_told() {
    let Some(model) = file_from(SMOLLM2) else { return };
    let home = Home::new();
    let bytes = fs::read(&model).expect("it is there");
    for (name, end) in [("header.gguf", 100_000), ("data.gguf", bytes.len() / 2), ("tail.gguf", bytes.len() - 4096)] {
        let cut = home.file(name, &bytes[..end]);
        home.host("evaluate").arg(&cut).run().fails(30).says(&[name, "again"]);
        home.host("search --model").arg(&cut).run().fails(30).says(&[name, "again"]);
    }
    assert!(home.studies().is_empty());
}
