//! ONNX Runtime is a library of the user: found, chosen, missing or broken.

use edgewise_tests::{Home, ONNX_RUNTIME, Sshd, count, file_from, list, measuring, number, text};

const QUICK: &str = "--budget 1 --workload prompt=16,gen=8 --trials 1";

#[test]
fn a_broken_library_is_a_fact_and_tract_the_way_out() {
    let home = Home::with_demo();
    let library = home.file("libonnxruntime.so", "this is no library\n");
    let demand = home.host("search --runtime ort").words(QUICK).arg("--ort-library").arg(&library);
    demand.run().fails(12).says(&["`local` cannot run ort", "--runtime tract"]);
    let _turn = measuring();
    let search = home.host("search --json --runtime auto").words(QUICK).arg("--ort-library").arg(&library);
    let run = search.run().checked();
    run.says(&["local: without ort (", "libonnxruntime.so"]);
    let found = run.json();
    assert_eq!(text(&found, "/candidates/0/measurements/0/runtime"), "tract");
    assert!(text(&found, "/devices/0/fingerprint/runtime_ort").contains("libonnxruntime.so"), "{}", found["devices"]);
}

#[test]
fn a_library_that_is_named_must_be_there() {
    let home = Home::with_demo();
    let nowhere = home.path("nowhere.so");
    let search = || home.host("search").words(QUICK);
    search().arg("--ort-library").arg(&nowhere).run().fails(2).says(&["--ort-library", "nowhere.so"]);
    search().env(ONNX_RUNTIME, &nowhere).run().fails(2).says(&[ONNX_RUNTIME, "nowhere.so"]);
    assert!(home.studies().is_empty());
}

#[test]
fn both_runtimes_are_tried_and_the_faster_is_kept() {
    let Some(library) = file_from(ONNX_RUNTIME) else { return };
    let home = Home::with_demo();
    let _turn = measuring();
    let latency = |runtime: &str| {
        let search = home.host("search --json --runtime").arg(runtime).words(QUICK).env(ONNX_RUNTIME, &library);
        let run = search.run().checked();
        assert!(!run.stderr.contains("without"), "{}", run.stderr);
        let found = run.json();
        let measurement = &list(&found, "/candidates/0/measurements")[0];
        (text(measurement, "/runtime").to_owned(), number(measurement, "/latency_ms/median"))
    };
    let (tract, ort, auto) = (latency("tract"), latency("ort"), latency("auto"));
    assert_eq!((tract.0.as_str(), ort.0.as_str()), ("tract", "ort"));
    // Only a clear difference must decide the same way twice.
    if tract.1 > 1.3 * ort.1 || ort.1 > 1.3 * tract.1 {
        assert_eq!(auto.0, if tract.1 < ort.1 { "tract" } else { "ort" }, "tract {tract:?}, ort {ort:?}");
    }
}

#[test]
fn the_library_travels_to_a_board_once() {
    let Some(library) = file_from(ONNX_RUNTIME) else { return };
    let Some(server) = Sshd::start() else { return };
    let home = Home::with_demo();
    server.register(&home, "board", Some("user"), &home.path("board"));
    home.host("device trust board --yes").run().ok();
    let deploy = || {
        let call = home.host("deploy --device board --runtime ort --json --ort-library").arg(&library);
        call.run().checked().json()
    };
    let size = std::fs::metadata(&library).expect("it is there").len();
    let first = deploy();
    assert!(count(&first, "/devices/0/bytes_sent") > size, "agent and library travelled: {first}");
    assert_eq!(list(&first, "/devices/0/runtimes"), ["ort"]);
    assert_eq!(count(&deploy(), "/devices/0/bytes_sent"), 0, "nothing travels twice");
    let _turn = measuring();
    let search = home.host("search --json --runtime ort --device board").words(QUICK).arg("--ort-library").arg(&library);
    let found = search.run().checked().json();
    assert_eq!(text(&found, "/candidates/0/measurements/0/runtime"), "ort");
    assert!(number(&found, "/candidates/0/measurements/0/probe_max_abs_diff") < 1e-2);
}
