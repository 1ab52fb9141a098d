//! Fixed pruning recipes beside a search: measured the same way, in series of their own, and compared at equal latency.

use edgewise_tests::{Home, find, list, number, object_keys, text};
use serde_json::Value;
use std::collections::BTreeMap;

const SEARCH: &str = "search --workload prompt=8,gen=4 --runtime tract --trials 1 --json";

/// Ids by series.
fn series(search: &Value) -> BTreeMap<&str, Vec<&str>> {
    let mut out: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for candidate in list(search, "/candidates") {
        out.entry(text(candidate, "/series")).or_default().push(text(candidate, "/id"));
    }
    out
}

#[test]
fn recipes_are_series_of_their_own_that_a_resumed_study_goes_on_with() {
    let home = Home::with_demo();
    let study = home.path("s.study");
    let run = |more: &str| home.host(SEARCH).arg("--study").arg(&study).words(more).run().checked().json();
    let search = run("--budget 2 --baselines=depth,width-magnitude");
    let found = series(&search);
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), ["baseline:depth", "baseline:width-magnitude", "search"]);
    assert_eq!(found["search"].len(), 2, "recipes do not count against the budget");
    let (depth, width) = (&found["baseline:depth"], &found["baseline:width-magnitude"]);
    assert!(depth.len() >= 4 && width.len() >= 4, "{found:?}");
    for id in depth.iter().chain(width) {
        let candidate = find(&search, id);
        assert_eq!(text(candidate, "/status"), "ok", "{candidate}");
        assert!(number(candidate, "/measurements/0/tpot_ms/median") > 0.0);
        assert!(!list(&search, "/front/local").contains(&Value::from(*id)), "a recipe is on the search's front");
    }
    // Depth keeps whole layers of the own order; width keeps all layers, of another order.
    let config = |id: &str| &find(&search, id)["config"];
    assert!(depth.iter().all(|id| !object_keys(config(id)).contains("order") && list(config(id), "/layers").len() < 8));
    assert!(width.iter().all(|id| text(config(id), "/order") == "magnitude" && list(config(id), "/layers").len() == 8));
    let rows = list(&search, "/comparison/local");
    assert_eq!(
        rows.iter().map(|r| text(r, "/series")).collect::<Vec<_>>(),
        ["search", "baseline:depth", "baseline:width-magnitude"]
    );
    assert!(rows.iter().all(|r| list(r, "/cuts").len() == 2), "{rows:?}");

    // Resumed without the flag, nothing is measured again, and the search's budget may grow.
    let resumed = run("--budget 3");
    let again = series(&resumed);
    assert_eq!((again["search"].len(), &again["baseline:depth"], &again["baseline:width-magnitude"]), (3, depth, width));

    // What a recipe cut can be exported and evaluated as what was measured.
    let magnitude = find(&search, width[0]);
    let artifact = home.path("artifact");
    let made = home.host("export --json").arg(&study).arg(width[0]).arg("-o").arg(&artifact).run().checked().json();
    assert_eq!(made["artifact_sha256"], magnitude["artifact_sha256"]);
    let evaluated = |call: edgewise_tests::Call| number(&call.run().checked().json(), "/perplexity");
    let perplexity = number(magnitude, "/quality/perplexity");
    let near = |found: f64| assert!((found / perplexity - 1.0).abs() < 1e-5, "{found} {perplexity}");
    near(evaluated(home.host("evaluate --json").arg(&artifact)));
    near(evaluated(home.host("evaluate --json demo --candidate").arg(magnitude["config"].to_string())));

    let table = home.host("front").arg(&study).run().checked().stdout;
    assert!(table.contains("Search and fixed recipes on local at equal latency") && table.contains("width-magnitude"), "{table}");
}

#[test]
fn a_prepared_super_network_is_sorted_again_for_recipes_of_another_order() {
    let home = Home::with_demo();
    let prepared = home.path("prepared");
    home.host("prepare demo -o").arg(&prepared).run().ok();
    let search = home.host(SEARCH).words("--budget 1 --baselines=width-magnitude --model").arg(&prepared).run().checked().json();
    let found = series(&search);
    assert!(found["baseline:width-magnitude"].len() >= 4, "{found:?}");
    assert!(list(&search, "/candidates").iter().all(|c| text(c, "/status") == "ok"), "{search}");
}

#[test]
fn unknown_recipes_and_rankings_are_named_with_those_that_exist() {
    let home = Home::new();
    home.host("search --baselines=depth,best").run().fails_unhinted(2).says(&["unknown recipe `best` (known: depth,"]);
    let prepared = home.host("prepare demo --importance loudness -o x").run();
    assert_eq!(prepared.status.code(), Some(2), "{}", prepared.stderr);
    prepared.silent().says(&["unknown ranking `loudness` (known: contribution,"]);
}
