//! What a user and a script may rely on: the documents on stdout, the names of things, one study from search to report.

use edgewise_tests::{
    CHROMIUM, Home, Run, count, demo_folder, find, ids, list, measuring, number, object_keys, text, tool, without_intervals,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, fs, path::Path, process::Command};

const QUICK: &str = "--workload prompt=16,gen=8 --runtime tract --trials 1";
/// The same with races: several trials of whatever may be on the front.
const RACED: &str = "--workload prompt=16,gen=8 --runtime tract --trials 2";

fn has_keys(value: &Value, keys: &str) {
    let found = object_keys(value);
    for key in keys.split(' ') {
        assert!(found.contains(key), "`{key}` is missing: {value}");
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase())
}

fn check_estimate(estimate: &Value) {
    has_keys(estimate, "median ci95 n");
    let (low, median, high) = (number(estimate, "/ci95/0"), number(estimate, "/median"), number(estimate, "/ci95/1"));
    assert!(0.0 < low && low <= median && median <= high, "{estimate}");
    assert!(number(estimate, "/n") >= 15.0, "{estimate}");
}

fn check_measurement(m: &Value) {
    has_keys(
        m,
        "device runtime precision ttft_ms tpot_ms latency_ms trials peak_rss_bytes peak_rss_form energy_j_per_token energy \
         artifact_bytes bytes_sent converged flags runtime_version threads probe_max_abs_diff conditions",
    );
    check_estimate(&m["ttft_ms"]);
    check_estimate(&m["tpot_ms"]);
    check_estimate(&m["latency_ms"]);
    let samples = |name: &str| count(m, &format!("/{name}_ms/n"));
    assert_eq!(samples("ttft") + samples("tpot"), samples("latency"), "{m}");
    // Every trial gives so many of each at least.
    assert!(samples("ttft").min(samples("tpot")) >= 15 * count(m, "/trials"), "{m}");
    assert!(["memory", "files"].contains(&text(m, "/peak_rss_form")) && m["conditions"].is_object(), "{m}");
    let (ttft, tpot) = (number(m, "/ttft_ms/median"), number(m, "/tpot_ms/median"));
    // 8 tokens, the first with the prompt. Over several trials the median of sums is not the sum of medians.
    let ratio = number(m, "/latency_ms/median") / (ttft + 7.0 * tpot);
    let near = if count(m, "/trials") == 1 { 0.999..1.001 } else { 0.2..5.0 };
    assert!(near.contains(&ratio), "{ratio}: {m}");
    assert!(number(m, "/peak_rss_bytes") > 4e6 && number(m, "/artifact_bytes") > 1e6, "{m}");
    let difference = number(m, "/probe_max_abs_diff");
    assert!((0.0..1e-2).contains(&difference), "the device computed something else: {m}");
    assert_eq!((text(m, "/runtime"), text(m, "/precision")), ("tract", "fp32"));
}

fn check_search(search: &Value, budget: usize) {
    has_keys(
        search,
        "schema study seed sampler model workload devices baseline candidates front ties hypervolume portability drift missing \
         timing objectives",
    );
    assert_eq!(text(search, "/schema"), "edgewise.search/1");
    has_keys(&search["model"], "name sha256 parameters");
    assert!(is_hash(text(search, "/model/sha256")) && text(search, "/model/name") == "demo");
    assert_eq!(search["workload"], serde_json::json!({ "prompt_tokens": 16, "generated_tokens": 8, "batch": 1 }));
    has_keys(&search["devices"][0], "name target fingerprint flags health");
    assert_eq!(text(search, "/devices/0/name"), "local");
    assert!(!object_keys(&search["devices"][0]["fingerprint"]).is_empty());
    assert!(number(search, "/devices/0/health/spin_spread") >= 0.0, "{}", search["devices"]);
    assert!(list(search, "/devices/0/flags").iter().all(Value::is_string) && list(search, "/missing").is_empty());

    let ids = ids(search);
    let distinct: BTreeSet<&str> = ids.iter().copied().collect();
    assert!(ids.len() == budget && distinct.len() == budget && ids.iter().all(|id| id.starts_with("c-")), "{ids:?}");
    for candidate in list(search, "/candidates") {
        has_keys(candidate, "id config parameters artifact_sha256 status error quality measurements series");
        has_keys(&candidate["config"], "layers width kv_groups mlp");
        assert_eq!((text(candidate, "/status"), &candidate["error"]), ("ok", &Value::Null), "{candidate}");
        assert!(is_hash(text(candidate, "/artifact_sha256")));
        has_keys(&candidate["quality"], "perplexity nll tokens");
        let (perplexity, nll) = (number(candidate, "/quality/perplexity"), number(candidate, "/quality/nll"));
        assert!((nll.exp() / perplexity - 1.0).abs() < 1e-9 && count(candidate, "/quality/tokens") == 4 * 511);
        let measurements = list(candidate, "/measurements");
        assert_eq!(measurements.len(), 1, "{candidate}");
        check_measurement(&measurements[0]);
    }
    let baseline = find(search, text(search, "/baseline"));
    assert_eq!(baseline["parameters"], search["model"]["parameters"]);
    assert_eq!(baseline["config"]["layers"].as_array().map(Vec::len), Some(8));

    let front = list(search, "/front/local");
    assert!(!front.is_empty() && front.iter().all(|id| distinct.contains(id.as_str().expect("ids are texts"))), "{front:?}");
    assert!(number(search, "/hypervolume/local/value") >= 0.0 && list(search, "/hypervolume/local/reference").len() == 2);
    has_keys(&search["timing"], "wall_s prepare_s evaluate_s measure_s export_s transfer_s overhead_s overhead_share");
    let (share, overhead) = (number(search, "/timing/overhead_share"), number(search, "/timing/overhead_s"));
    assert!((0.0..1.0).contains(&share) && (share * number(search, "/timing/wall_s") - overhead).abs() < 1e-6);
    for (at, drift) in list(search, "/drift").iter().enumerate() {
        has_keys(drift, "device block ttft_ratio tpot_ratio moved");
        let ratios = [number(drift, "/ttft_ratio"), number(drift, "/tpot_ratio")];
        assert!(ratios.iter().all(|r| (0.1..10.0).contains(r)) && drift["moved"].is_boolean(), "{drift}");
        // All are over the first.
        assert!(at > 0 || (count(drift, "/block"), ratios) == (0, [1.0, 1.0]), "{drift}");
    }
    assert!(!list(search, "/drift").is_empty());
    let ties = object_keys(&search["ties"]["local"]);
    assert!(ties.iter().all(|id| front.contains(&Value::from(*id))), "{ties:?} {front:?}");
    let compared: Vec<&str> = list(search, "/portability").iter().map(|a| text(a, "/a")).collect();
    assert_eq!(compared, ["parameters", "artifact_bytes"], "one device: only what is cheap to know is compared with it");
}

fn front_agrees(home: &Home, search: &Value) {
    let named = home.host("front --json").arg(text(search, "/study")).run().checked();
    let newest = home.host("front --json").run().checked();
    assert_eq!(named.json(), newest.json(), "the only study is the newest");
    let front = named.json();
    assert_eq!(text(&front, "/schema"), "edgewise.front/1");
    let points = list(&front, "/front/local");
    let listed: Vec<&str> = points.iter().map(|p| text(p, "/id")).collect();
    let expected: Vec<&str> = list(search, "/front/local").iter().filter_map(Value::as_str).collect();
    assert_eq!(listed, expected);
    for point in points {
        let candidate = find(search, text(point, "/id"));
        assert_eq!(point["config"], candidate["config"]);
        assert_eq!(point["objectives"]["perplexity"], candidate["quality"]["perplexity"]);
        assert_eq!(point["objectives"]["tpot_ms"], candidate["measurements"][0]["tpot_ms"]["median"]);
    }

    let table = home.host("front --csv").run().checked().stdout;
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("device,id,perplexity,tpot_ms"));
    for (line, point) in lines.zip(points) {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells[..2], ["local", text(point, "/id")]);
        let perplexity: f64 = cells[2].parse().expect("a number");
        assert!((perplexity - number(point, "/objectives/perplexity")).abs() < 1e-12);
    }
    assert_eq!(table.lines().count(), 1 + points.len());

    // Only what keeps the limit may be picked, and then it need not be on the whole front.
    let limit = points.iter().map(|p| number(p, "/objectives/perplexity")).fold(f64::INFINITY, f64::min);
    let picked = home.host("front --json --pick").arg(format!("perplexity<={limit}")).run().checked().json();
    let picked = list(&picked, "/front/local");
    assert!(!picked.is_empty() && picked.iter().all(|p| number(p, "/objectives/perplexity") <= limit), "{picked:?}");
    let none = home.host("front --json --pick tpot_ms<0.0000001").run().checked().json();
    assert!(list(&none, "/front/local").is_empty());
    home.host("front --pick speed<=3").run().fails_unhinted(2).says(&["speed", "tpot_ms"]);
    home.host("front --device jetson").run().fails_unhinted(2).says(&["jetson", "local"]);
    let people = home.host("front").run().checked().stdout;
    assert!(people.contains("Pareto front on local") && people.contains(listed[0]), "{people}");
}

fn sha256(path: &Path) -> String {
    hex::encode(Sha256::digest(fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))))
}

fn export(home: &Home, name: &str, id: &str, candidate: &Value) {
    let folder = home.path(name);
    let done = home.host("export --json").arg(id).arg("-o").arg(&folder).run().checked().json();
    assert_eq!(text(&done, "/schema"), "edgewise.export/1");
    assert_eq!((&done["id"], &done["artifact_sha256"]), (&candidate["id"], &candidate["artifact_sha256"]));
    assert_eq!(sha256(&folder.join("manifest.json")), text(candidate, "/artifact_sha256"), "the manifest's hash is the name");
    let manifest: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json")).expect("it was written")).expect("JSON");
    let files = object_keys(&manifest["files"]);
    for needed in ["model.onnx", "model.onnx_data", "tokenizer.json", "config.json"] {
        assert!(files.contains(needed), "{needed}");
    }
    for file in files {
        assert_eq!(sha256(&folder.join(file)), text(&manifest["files"][file], "/sha256"), "{file}");
    }
    assert_eq!(manifest["candidate"], candidate["config"]);
}

fn evaluations_agree(home: &Home, search: &Value, cut: &Value) {
    let windows = "--window 128 --windows 2 --json";
    let score = |of: &dyn Fn() -> Run| {
        let found = of().checked().json();
        has_keys(&found, "schema perplexity nll tokens parameters");
        assert_eq!((text(&found, "/schema"), count(&found, "/tokens")), ("edgewise.evaluate/1", 2 * 127));
        (number(&found, "/nll"), count(&found, "/parameters"))
    };
    let evaluate = |what: &Path| score(&|| home.host("evaluate").arg(what).words(windows).run());
    let model = score(&|| home.host("evaluate demo").words(windows).run());
    let folder = evaluate(&demo_folder());
    let artifact = evaluate(&home.path("whole"));
    let baseline = &find(search, text(search, "/baseline"))["config"];
    let config = |config: &Value| score(&|| home.host("evaluate demo --candidate").arg(config.to_string()).words(windows).run());
    for (what, found) in [("folder", folder), ("artifact", artifact), ("candidate", config(baseline))] {
        assert!((found.0 - model.0).abs() < 1e-4 && found.1 == model.1, "{what}: {found:?} {model:?}");
    }
    let cut = &cut["config"];
    let (from_config, from_artifact) = (config(cut), evaluate(&home.path("cut")));
    assert!((from_config.0 - from_artifact.0).abs() < 1e-4 && from_config.0 > model.0, "{from_config:?} {from_artifact:?}");
    let file = home.file("cut.json", cut.to_string());
    let from_file = score(&|| home.host("evaluate demo --candidate").arg(&file).words(windows).run());
    assert_eq!(from_file.0.to_bits(), from_config.0.to_bits());
    home.host("evaluate demo --candidate {}").run().fails(2).says(&["layers"]);
    let huge = r#"{"layers":[0,1],"width":999,"kv_groups":[1,1],"mlp":[32,32]}"#;
    home.host("evaluate demo --candidate").arg(huge).run().fails_unhinted(2).says(&["999"]);
}

fn measures(home: &Home, search: &Value) {
    let call = home.host("measure --json").words(RACED);
    let run = call.arg(home.path("whole")).arg(home.path("cut")).run().checked();
    let found = run.json();
    assert_eq!(text(&found, "/schema"), "edgewise.measure/1");
    has_keys(&found, "artifact artifact_sha256 workload measurements comparisons devices missing");
    assert_eq!(found["artifact_sha256"], find(search, text(search, "/baseline"))["artifact_sha256"]);
    assert_eq!(list(&found, "/measurements").len(), 2);
    for measurement in list(&found, "/measurements") {
        check_measurement(measurement);
        assert!(count(measurement, "/trials") >= 2);
    }
    for comparison in list(&found, "/comparisons") {
        has_keys(comparison, "device artifact with quantity ratio ci95 pairs verdict");
        assert!(number(comparison, "/ratio") > 0.0 && count(comparison, "/pairs") >= 2, "{comparison}");
        assert!(["faster", "slower", "tie"].contains(&text(comparison, "/verdict")), "{comparison}");
    }
    let quantities: Vec<&str> = list(&found, "/comparisons").iter().map(|c| text(c, "/quantity")).collect();
    assert_eq!(quantities, ["ttft_ms", "tpot_ms"]);
    assert!(run.stderr.contains("local: trial 1 of 2\n") && run.stderr.contains("local: trial 2 of 2\n"), "{}", run.stderr);

    let call = home.host("measure --json --prompts 8,32 --depths 0,64").words(QUICK);
    let found = call.arg(home.path("whole")).run().checked().json();
    let measurement = &list(&found, "/measurements")[0];
    let prompts: Vec<u64> = list(measurement, "/context/prefill").iter().map(|p| count(p, "/prompt_tokens")).collect();
    let depths: Vec<u64> = list(measurement, "/context/decode").iter().map(|p| count(p, "/depth")).collect();
    assert_eq!((prompts, depths), (vec![8, 32], vec![0, 64]));
    assert!(measurement["context"]["tpot_ms_per_token_of_depth"].is_number(), "{}", measurement["context"]);

    // Of one trial the median is that of its samples; of several it is made of theirs.
    assert!(list(&found, "/comparisons").is_empty());
    for kind in ["ttft", "tpot"] {
        let mut samples: Vec<f64> = list(measurement, &format!("/samples_ms/{kind}")).iter().filter_map(Value::as_f64).collect();
        let estimate = &measurement[format!("{kind}_ms")];
        assert_eq!(samples.len() as u64, count(estimate, "/n"), "{kind}");
        samples.sort_by(f64::total_cmp);
        let (low, high) = (samples[(samples.len() - 1) / 2], samples[samples.len() / 2]);
        assert!((low..=high).contains(&number(estimate, "/median")), "{kind}: {estimate}");
    }
}

fn reports(home: &Home, search: &Value) {
    let page = home.path("report.html");
    home.host("report -o").arg(&page).run().ok();
    let html = fs::read_to_string(&page).expect("the page was written");
    for load in ["src=\"http", "src='http", "href=\"http", "href='http", "url(", "@import", "<link", "<iframe", "fetch("] {
        assert!(!html.contains(load), "the page loads something: {load}");
    }
    let layers = list(find(search, text(search, "/baseline")), "/config/layers").len();
    assert_eq!(html.matches("<g class=\"row\"").count(), layers, "importance has a row for each layer");
    let Some(browser) = tool(&CHROMIUM) else { return };
    let shown = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--virtual-time-budget=2000"])
        .arg(format!("--user-data-dir={}", home.path("browser").display()))
        .arg(format!("file://{}", page.display()))
        .env("HOME", home.folder())
        .output()
        .expect("the browser can be started");
    let dom = String::from_utf8_lossy(&shown.stdout);
    let rows = dom.split("<tbody").nth(1).and_then(|rest| rest.split("</tbody>").next()).unwrap_or_default();
    for id in ids(search) {
        assert!(rows.contains(id), "{id} is not in the table: {dom}\n{}", String::from_utf8_lossy(&shown.stderr));
    }
    let plot =
        dom.split("<svg class=\"plot importance\"").nth(1).and_then(|rest| rest.split("</svg>").next()).unwrap_or_default();
    assert_eq!(plot.matches("<g class=\"row\"").count(), layers, "{dom}");
    // The demo model has 8 layers of 3 groups; its neurons are shown by tenths.
    assert_eq!(plot.matches("class=\"cell\"").count(), layers * (10 + 3), "{plot}");
}

#[test]
fn a_study_from_search_to_report() {
    let home = Home::with_demo();
    let _turn = measuring();
    let run = home.host("search --json --budget 3 --seed 7").words(RACED).run().checked();
    let search = run.json();
    for id in list(&search, "/front/local") {
        let trials = count(find(&search, id.as_str().expect("ids are texts")), "/measurements/0/trials");
        assert!(trials >= 2, "{id} is on the front with {trials} trials");
    }
    assert_eq!(run.stdout.lines().count(), 1, "one document: {}", run.stdout);
    assert!(run.stderr.contains("study: "), "progress goes to stderr: {}", run.stderr);
    check_search(&search, 3);
    assert_eq!(count(&search, "/seed"), 7);
    assert_eq!(home.studies().len(), 1);
    assert_eq!(home.studies()[0].to_str(), Some(text(&search, "/study")));
    let left: Vec<_> = fs::read_dir(home.path("cache")).expect("it exists").flatten().map(|e| e.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("artifacts-")), "artifacts stay behind: {left:?}");

    front_agrees(&home, &search);
    let baseline = find(&search, text(&search, "/baseline"));
    // As far from the whole as the search went: what is close is measured over and over.
    let cut = list(&search, "/candidates").iter().min_by_key(|c| count(c, "/parameters")).expect("three were found");
    export(&home, "whole", "baseline", baseline);
    export(&home, "cut", text(cut, "/id"), cut);
    export(&home, "again", &text(cut, "/id")[..8], cut);
    home.host("export c-nothing -o").arg(home.path("x")).run().fails(2).says(&["c-nothing"]);
    home.host("export c- -o").arg(home.path("x")).run().fails_unhinted(2).says(&["several"]);
    evaluations_agree(&home, &search, cut);
    measures(&home, &search);
    reports(&home, &search);
}

#[test]
fn lines_of_json_come_as_candidates_finish() {
    let home = Home::with_demo();
    let _turn = measuring();
    let run = home.host("search --json-lines --budget 2 --quiet").words(QUICK).run().checked();
    assert_eq!(run.stderr, "", "--quiet prints nothing but data and errors");
    let lines: Vec<Value> = run.stdout.lines().map(|l| serde_json::from_str(l).expect("a line is a document")).collect();
    assert_eq!(lines.len(), 3, "two candidates and the whole: {}", run.stdout);
    assert_eq!(without_intervals(list(&lines[2], "/candidates")), without_intervals(&lines[..2]));
    check_search(&lines[2], 2);
}

#[test]
fn a_seed_gives_the_same_candidates_whatever_was_measured() {
    let home = Home::with_demo();
    let _turn = measuring();
    let search = |sampler: &str, budget: u32, seed: u32| {
        let call = home.host("search --json --sampler").arg(sampler).arg("--budget").arg(budget.to_string());
        let call = call.arg("--seed").arg(seed.to_string());
        let found = call.words(QUICK).run().checked().json();
        assert_eq!(text(&found, "/sampler"), sampler);
        ids(&found).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let random = search("random", 2, 1);
    assert_eq!(random, search("random", 2, 1));
    assert_ne!(random[1..], search("random", 2, 2)[1..]);
    assert_eq!(random[0], search("nsga2", 1, 1)[0], "the full network comes first");
}

#[test]
fn a_prepared_super_network_is_a_model() {
    let home = Home::with_demo();
    let folder = home.path("prepared");
    let made = home.host("prepare demo --json -o").arg(&folder).run().checked().json();
    assert_eq!(text(&made, "/schema"), "edgewise.prepare/1");
    assert!(number(&made, "/identity_max_abs_diff") <= number(&made, "/identity_tolerance"));
    assert_eq!((list(&made, "/layers").len(), list(&made, "/kv_groups").len()), (8, 8));
    let tokens =
        |words: &str, name: &str| count(&home.host(words).arg(home.path(name)).run().checked().json(), "/calibration_tokens");
    assert_eq!(count(&made, "/calibration_tokens"), 16 * 512);
    assert_eq!(tokens("prepare demo --json --calibration-windows 3 -o", "three"), 3 * 512);
    home.host("prepare demo -o").arg(&folder).run().fails(2).says(&["exists already"]);
    home.host("prepare -o").arg(home.path("twice")).arg(&folder).run().fails_unhinted(2).says(&["already"]);

    let _turn = measuring();
    let search = |model: &Path| home.host("search --json --budget 1 --model").arg(model).words(QUICK).run().checked().json();
    let (prepared, fresh) = (search(&folder), search(Path::new("demo")));
    for key in ["id", "artifact_sha256", "quality"] {
        assert_eq!(prepared["candidates"][0][key], fresh["candidates"][0][key], "{key}");
    }
    assert_eq!(prepared["model"], fresh["model"]);
    let score = |model: &Path| {
        let cut = r#"{"layers":[0,2,5],"width":128,"kv_groups":[3,1,2],"mlp":[512,64,256]}"#;
        let call = home.host("evaluate --json --window 64 --windows 2").arg(model).arg("--candidate").arg(cut);
        call.run().checked().json()
    };
    assert_eq!(score(&folder), score(Path::new("demo")));
}

#[test]
fn wrong_names_are_answered_with_the_right_ones() {
    let home = Home::with_demo();
    for (words, known) in [
        ("search --sampler grid", vec!["grid", "diagonal-local", "random", "nsga2"]),
        (
            "search --objective perplexity,speed",
            vec!["speed", "tpot_ms", "ttft_ms", "latency_ms", "peak_rss_bytes", "parameters"],
        ),
        ("search --constraint speed<=3", vec!["speed", "tpot_ms"]),
        ("search --constraint tpot_ms", vec!["tpot_ms"]),
        ("search --space wide", vec!["wide", "default", "per-layer", "uniform", "depth", "medium", "llama-joint"]),
        ("search --runtime fast", vec!["fast", "auto", "tract", "ort"]),
        ("search --workload length=3", vec!["length", "prompt", "gen"]),
        ("search --workload prompt=4000,gen=8", vec!["4008", "1024"]),
        ("search --device jetson", vec!["jetson", "local"]),
        ("search --budget 0", vec!["budget"]),
        ("search --objective tpot_ms,parameters", vec!["perplexity"]),
        ("search --text nowhere.txt", vec!["nowhere.txt"]),
        ("search --model hf:org/name", vec!["hf:org/name"]),
        ("device add b --target toaster --address a@b", vec!["toaster", "jetson", "raspberry-pi", "linux-x86_64"]),
        ("device add B --target jetson --address a@b", vec!["lower-case"]),
        ("device add local --target jetson --address a@b", vec!["built in"]),
        ("device remove jetson", vec!["jetson", "local"]),
        ("device trust local", vec!["local"]),
        ("dance", vec!["dance"]),
    ] {
        home.host(words).run().fails_unhinted(2).says(&known);
    }
    assert!(home.studies().is_empty(), "a study was begun");
}
