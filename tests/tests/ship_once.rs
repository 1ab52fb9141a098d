//! Recipes: the super-network travels once, and what a board makes of it is what the host would have sent.

use edgewise_tests::{ONCE, Rig, Towards, count, find, ids, list, measuring, number, text};
use serde_json::Value;

/// Most that a candidate may cost once the super-network is there: a recipe, a probe, and the words around them.
const RECIPE_BYTES: u64 = 64 << 10;

fn same_artifacts(a: &Value, b: &Value) {
    assert_eq!(ids(a), ids(b));
    for (a, b) in list(a, "/candidates").iter().zip(list(b, "/candidates")) {
        assert_eq!((text(a, "/status"), text(b, "/status")), ("ok", "ok"), "{a} {b}");
        for key in ["artifact_sha256", "quality", "parameters"] {
            assert_eq!(a[key], b[key], "{key}");
        }
        assert_eq!(a["measurements"][0]["artifact_bytes"], b["measurements"][0]["artifact_bytes"]);
    }
}

#[test]
fn after_the_first_candidate_only_recipes_travel() {
    let Some(rig) = Rig::new() else { return };
    let study = rig.home.path("recipes.study");
    let _turn = measuring();
    rig.deploy();
    // With races, in which candidates run from files that the board makes.
    let call = rig.host("search --json --budget 3 --seed 11 --workload prompt=16,gen=8 --runtime tract --trials 2");
    let before = rig.proxy.forwarded(Towards::Device);
    let recipes = call.arg("--study").arg(&study).run().checked().json();
    let on_the_line = rig.proxy.forwarded(Towards::Device) - before;
    let candidates = list(&recipes, "/candidates");
    let sent = |c: &Value| count(c, "/measurements/0/bytes_sent");
    let first = sent(&candidates[0]);
    assert!(first > count(&recipes, "/model/parameters"), "the super-network travelled: {first} bytes");
    let mut trials = 0;
    for candidate in candidates {
        let made = count(candidate, "/measurements/0/trials");
        trials += made;
        if candidate["id"] != candidates[0]["id"] {
            assert!(sent(candidate) < RECIPE_BYTES * made, "{} bytes for {made} trials: {candidate}", sent(candidate));
        }
        let difference = number(candidate, "/measurements/0/probe_max_abs_diff");
        assert!((0.0..1e-2).contains(&difference), "what the board made computes something else: {candidate}");
    }
    assert!(on_the_line < first + RECIPE_BYTES * (trials + 2), "{on_the_line} bytes, of them {first} for the super-network");

    let call = rig.home.host("search --json --budget 3 --seed 11 --ship artifact").words(ONCE);
    let whole = call.run().checked().json();
    same_artifacts(&recipes, &whole);

    // What is exported is what was measured: the board says so.
    let member = text(&recipes, "/front/board/0");
    let folder = rig.home.path("exported");
    rig.home.host("export").arg(&study).arg(member).arg("-o").arg(&folder).run().ok();
    let call = rig.host("measure --json").words(ONCE).arg(&folder);
    let measured = call.run().checked().json();
    assert_eq!(measured["artifact_sha256"], find(&recipes, member)["artifact_sha256"]);
    let difference = number(&measured, "/measurements/0/probe_max_abs_diff");
    assert!((0.0..1e-2).contains(&difference), "{measured}");
}

/// A store that lost a part of the super-network gets that part again, not all of it.
#[test]
fn what_is_missing_of_it_is_sent_again() {
    let Some(rig) = Rig::new() else { return };
    let study = rig.home.path("gap.study");
    rig.search(&study, "--budget 1").run().ok();
    let blobs = std::fs::read_dir(rig.store.join("store/blobs")).expect("the agent's store is there").flatten();
    let mut blobs: Vec<_> = blobs.map(|e| (e.metadata().map_or(0, |m| m.len()), e.path())).collect();
    blobs.sort();
    let (size, largest) = blobs.pop().expect("the super-network is there");
    let rest: u64 = blobs.iter().map(|(size, _)| size).sum();
    std::fs::remove_file(largest).expect("the store can be written");
    let before = rig.proxy.forwarded(Towards::Device);
    let found = rig.search(&study, "--budget 2").run().checked().json();
    assert_eq!(text(&found, "/candidates/1/status"), "ok", "{found}");
    let sent = rig.proxy.forwarded(Towards::Device) - before;
    assert!(sent >= size && sent < size + size / 20 + 300_000, "{sent} bytes for a part of {size}; the rest has {rest}");
}
