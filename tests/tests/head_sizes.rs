//! Smaller attention heads, as a user sees them: searched, measured from recipes, exported, trained, and refused where they
//! cannot be.

use edgewise_tests::{Home, ONNX_RUNTIME, count, file_from, find, ids, list, measuring, number, object_keys, text};
use serde_json::Value;
use std::fs;

const QUICK: &str = "--workload prompt=8,gen=4 --trials 1 --json";

/// Candidates with smaller heads.
fn smaller(search: &Value) -> Vec<&Value> {
    list(search, "/candidates").iter().filter(|candidate| candidate["config"].get("head_size").is_some()).collect()
}

#[test]
fn a_search_measures_smaller_heads_and_what_it_measured_is_what_is_exported() {
    let home = Home::with_demo();
    let _turn = measuring();
    let study = home.path("heads.study");
    let search = |budget: &str, more: &str| {
        let call = home.host("search --sampler random --seed 1").words(QUICK).words(more).arg("--study").arg(&study);
        call.arg("--budget").arg(budget).run().checked().json()
    };
    let first = search("5", "--head-sizes 16,24 --runtime tract");
    // Every device verifies before it measures: the artifact that it makes of a recipe has the host's hash and computes what the
    // host computed.
    assert!(list(&first, "/candidates").iter().all(|candidate| text(candidate, "/status") == "ok"), "{first}");
    let found = smaller(&first);
    assert!(!found.is_empty() && found.len() < 5, "{first}");
    assert!(found.iter().all(|candidate| [16, 24].contains(&count(candidate, "/config/head_size"))), "{first}");
    // The study remembers what is searched.
    let more = search("8", "");
    assert_eq!(&ids(&more)[..5], ids(&first));

    let candidate = smaller(&more)[0];
    let (id, size) = (text(candidate, "/id"), count(candidate, "/config/head_size"));
    let folder = home.path("exported");
    let made = home.host("export --json").arg(&study).arg(id).arg("-o").arg(&folder).run().checked().json();
    assert_eq!(text(&made, "/artifact_sha256"), text(candidate, "/artifact_sha256"));
    assert_eq!(count(&made, "/parameters"), count(candidate, "/parameters"));
    let read =
        |name: &str| -> Value { serde_json::from_slice(&fs::read(folder.join(name)).expect("it was written")).expect("JSON") };
    assert_eq!(list(&read("manifest.json"), "/candidate/pairs").len() as u64, size / 2);
    assert_eq!(count(&read("config.json"), "/head_dim"), size);
    // The artifact and the candidate are one network.
    let config = candidate["config"].to_string();
    let score = |what: Vec<String>| {
        let call = what.into_iter().fold(home.host("evaluate --json --window 64 --windows 2"), edgewise_tests::Call::arg);
        number(&call.run().checked().json(), "/nll")
    };
    let of_artifact = score(vec![folder.display().to_string()]);
    let of_candidate = score(vec!["demo".into(), "--candidate".into(), config]);
    assert!((of_artifact - of_candidate).abs() < 1e-4, "{of_artifact} {of_candidate}");
    home.host("report").arg(&study).arg("-o").arg(home.path("report.html")).run().ok();
    let page = fs::read_to_string(home.path("report.html")).expect("it was written");
    assert!(page.contains(">Head size</button>"));

    // Whole heads need no name, and give the very network that has always been.
    let full = find(&more, text(&more, "/baseline"));
    assert_eq!(object_keys(&full["config"]), object_keys(&serde_json::json!({"layers":0,"width":0,"kv_groups":0,"mlp":0})));
    let mut named = full["config"].clone();
    named["head_size"] = 32.into();
    let words = |config: &Value| vec!["demo".to_owned(), "--candidate".to_owned(), config.to_string()];
    assert_eq!(score(words(&named)).to_bits(), {
        let prepared = home.path("prepared");
        home.host("prepare demo --heads -o").arg(&prepared).run().ok();
        score(vec![prepared.display().to_string()]).to_bits()
    });
}

#[test]
fn onnx_runtime_gets_smaller_heads_as_well() {
    let Some(library) = file_from(ONNX_RUNTIME) else { return };
    let home = Home::with_demo();
    let _turn = measuring();
    let words = "search --sampler random --seed 1 --budget 5 --head-sizes 16,24 --runtime ort";
    let found = home.host(words).words(QUICK).env(ONNX_RUNTIME, library).run().checked().json();
    assert!(list(&found, "/candidates").iter().all(|candidate| text(candidate, "/status") == "ok"), "{found}");
    assert!(!smaller(&found).is_empty(), "{found}");
}

#[test]
fn training_draws_smaller_heads() {
    let home = Home::with_demo();
    let output = home.path("tuned");
    let words = "--json --steps 30 --sequence 128 --validate-every 0 --lr 2e-3 --head-sizes 16";
    let call = home.host("finetune demo -o").arg(&output).words(words);
    let found = call.run().checked().json();
    assert_eq!(found["settings"]["head_sizes"], serde_json::json!([16]));
    let curve = list(&found, "/curve");
    let perplexity = |look: &Value, name: &str| {
        let point = list(look, "/validation").iter().find(|point| text(point, "/name") == name);
        number(point.expect("every size is looked at"), "/perplexity")
    };
    let (before, after) = (&curve[0], curve.last().expect("there is an end"));
    assert!(perplexity(after, "smallest") < 0.8 * perplexity(before, "smallest"), "smaller heads learned nothing: {found}");
    // The result can be cut the same way, since its parent could.
    let cut = r#"{"layers":[0,1,2,3,4,5,6,7],"width":192,"kv_groups":[3,3,3,3,3,3,3,3],"mlp":[512,512,512,512,512,512,512,512],"head_size":16}"#;
    home.host("evaluate --window 64 --windows 1").arg(&output).arg("--candidate").arg(cut).run().ok();
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let home = Home::with_demo();
    for (words, says) in [
        ("search --head-sizes 15", vec!["15", "even number"]),
        ("search --head-sizes 0", vec!["even number"]),
        ("search --head-sizes 16,x", vec!["even number"]),
        ("search --head-sizes 64", vec!["64", "the full network's 32"]),
        ("search --head-sizes 32", vec!["below the full network's 32"]),
    ] {
        home.host(words).run().fails_unhinted(2).says(&says);
    }
    // A super-network that was prepared for whole heads, or by an earlier version, is as good as ever without them.
    let prepared = home.path("prepared");
    home.host("prepare demo -o").arg(&prepared).run().ok();
    let says = ["without scores", "host prepare --heads"];
    home.host("search --head-sizes 16 --model").arg(&prepared).run().fails(2).says(&says);
    home.host("finetune --head-sizes 16 -o").arg(home.path("t")).arg(&prepared).run().fails(2).says(&says);
    let cut = r#"{"layers":[0],"width":192,"kv_groups":[3],"mlp":[512],"head_size":16}"#;
    home.host("evaluate --window 64 --windows 1 --candidate").arg(cut).arg(&prepared).run().fails(2).says(&says);
    let odd = cut.replace("16", "15");
    home.host("evaluate --window 64 --windows 1 demo --candidate").arg(odd).run().fails(2).says(&["keep 15", "even number"]);
    assert!(home.studies().is_empty(), "a study was begun");
}
