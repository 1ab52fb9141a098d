//! `host evaluate` on tasks, by other definitions of perplexity, and against the full network.

use edgewise_search::{Origin, Quality, SqliteStudy, StudyStore};
use edgewise_supernet::{CALIBRATION_TEXT, Calibration, Checkpoint, Method, SuperNetwork, Text, Windows, prepare};
use edgewise_tests::{Home, MMLU, SMOLLM2, count, file_from, host, ids, list, measuring, number, skip, text};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const TASKS: [&str; 11] = [
    "arc_challenge",
    "arc_easy",
    "boolq",
    "gsm8k",
    "hellaswag",
    "lambada_openai",
    "mathqa",
    "mmlu",
    "piqa",
    "truthfulqa_mc2",
    "winogrande",
];

fn fixture(task: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../host/tasks/tests/fixtures/{task}.jsonl"))
}

#[test]
fn every_task_has_figures_with_errors() {
    let home = Home::new();
    let answers = home.path("answers.jsonl");
    let call = || {
        let call = home.host("evaluate demo --window 64 --windows 1 --fewshot 1 --json --per-question").arg(&answers);
        TASKS.iter().fold(call, |call, task| call.arg("--task").arg(format!("{task}={}", fixture(task).display())))
    };
    let found = call().run().checked().json();
    let lines = fs::read_to_string(&answers).expect("it was written");
    assert_eq!((text(&found, "/schema"), count(&found, "/tokens")), ("edgewise.evaluate/1", 63));
    let tasks = list(&found, "/tasks");
    assert_eq!(tasks.iter().map(|task| text(task, "/name")).collect::<Vec<_>>(), TASKS);
    let mut questions = 0;
    for task in tasks {
        questions += count(task, "/n");
        assert_eq!((count(task, "/shots"), text(task, "/examples")), (1, "same_file"), "{task}");
        let primary = &task["metrics"][text(task, "/primary")];
        let (value, error) = (number(primary, "/value"), number(primary, "/stderr"));
        assert!((0.0..=1.0).contains(&value) && (0.0..=0.6).contains(&error), "{task}");
    }
    assert!(number(&tasks[5], "/metrics/perplexity/value") > 1.0, "{}", tasks[5]);
    assert_eq!(count(&tasks[7], "/subjects/sums/n"), 2);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    assert_eq!(lines.len() as u64, questions);
    let first = lines.iter().find(|line| text(line, "/task") == "mmlu").expect("mmlu has questions");
    assert!(list(first, "/scores").iter().all(|score| number(score, "/log_likelihood") < 0.0), "{first}");
    // The same to the last bit, with any number of threads.
    assert_eq!(call().env("RAYON_NUM_THREADS", "1").run().checked().json(), found);
    let shown =
        home.host("evaluate demo --window 64 --windows 1 --limit 1 --task").arg(format!("piqa={}", fixture("piqa").display()));
    let shown = shown.run().checked().stdout;
    assert!(shown.contains("piqa: acc ") && shown.contains(" over 1 questions, 0 examples before each"), "{shown}");
}

#[test]
fn artifacts_and_candidates_answer_as_the_model_does() {
    let home = Home::with_demo();
    let cut = r#"{"layers":[0,1,3,4,6,7],"width":160,"kv_groups":[3,2,3,1,2,3],"mlp":[512,384,96,512,256,320]}"#;
    let (mmlu, from) = (format!("mmlu={}", fixture("mmlu").display()), "--window 64 --windows 1 --fewshot 1 --json --task");
    let candidate = home.host("evaluate demo --kl --candidate").arg(cut).words(from).arg(&mmlu).run().checked().json();
    assert!(number(&candidate, "/kl/value") > 0.0 && number(&candidate, "/kl/stderr") > 0.0, "{candidate}");
    assert_eq!(count(&candidate, "/kl/tokens"), 63);
    let supernet = supernet(&edgewise_tests::demo_folder(), home.folder());
    let sub = serde_json::from_str(cut).expect("it is a sub-network");
    let _ = supernet.artifacts().write(&sub, &home.path("artifact")).expect("it can be written");
    let artifact = home.host("evaluate").arg(home.path("artifact")).words(from).arg(&mmlu).run().checked().json();
    // Scores of a super-network that was calibrated otherwise: as many questions, prompts and figures, not the same numbers.
    for key in ["n", "shots", "examples", "primary"] {
        assert_eq!(artifact["tasks"][0][key], candidate["tasks"][0][key]);
    }
    let full =
        r#"{"layers":[0,1,2,3,4,5,6,7],"width":192,"kv_groups":[3,3,3,3,3,3,3,3],"mlp":[512,512,512,512,512,512,512,512]}"#;
    let whole = home.host("evaluate demo --kl --candidate").arg(full).words(from).arg(&mmlu).run().checked().json();
    assert!(number(&whole, "/kl/value") < 1e-6, "{whole}");
    let model = home.host("evaluate demo").words(from).arg(&mmlu).run().checked().json();
    assert_eq!(model["tasks"][0]["metrics"], whole["tasks"][0]["metrics"]);
}

#[test]
fn other_definitions_say_what_they_are() {
    let home = Home::new();
    let score = |words: &str| home.host("evaluate demo --json --window 64").words(words).run().checked().json();
    let plain = score("--windows 2");
    assert_eq!((text(&plain, "/definition"), count(&plain, "/stride"), count(&plain, "/windows")), ("edgewise", 64, 2));
    assert!(number(&plain, "/nll_stderr") > 0.0 && plain["word_perplexity"].is_null(), "{plain}");
    let sliding = score("--windows 2 --stride 16");
    assert_eq!((count(&sliding, "/tokens"), count(&sliding, "/stride")), (63 + 16, 16));
    let harness = score("--windows 2 --definition harness");
    assert_eq!((count(&harness, "/tokens"), text(&harness, "/definition")), (128, "harness"));
    let (nll, bytes) = (number(&harness, "/nll"), number(&harness, "/bytes"));
    assert!((number(&harness, "/bits_per_byte") - nll * 128.0 / bytes / 2f64.ln()).abs() < 1e-9, "{harness}");
    let halves = score("--windows 2 --definition llama.cpp");
    assert_eq!(count(&halves, "/tokens"), 2 * 31);
    home.host("evaluate demo --window 64 --stride 65").run().fails(2).says(&["--stride"]);
    home.host("evaluate demo --kl").run().fails_unhinted(2).says(&["--candidate"]);
}

#[test]
fn mistakes_in_tasks_are_told_before_the_model_is_read() {
    let home = Home::new();
    let run = |words: &str| home.host("evaluate no-such-model").words(words).run();
    run("--task squad=x").fails_unhinted(2).says(&["unknown task `squad`", "`winogrande`"]);
    run("--task mmlu=missing.jsonl").fails(2).says(&["missing.jsonl", "check the path"]);
    run("--task mmlu").fails(2).says(&["--task mmlu=FILE"]);
    let file = home.file("x.jsonl", "{\"question\":\"q\",\"choices\":[\"a\"],\"answer\":0}\n");
    run(&format!("--task mmlu={}", file.display())).fails(2).says(&["x.jsonl`, row 0: column `choices`"]);
    let few = format!("--task mmlu={} --fewshot 2", fixture("mmlu").display());
    run(&few).fails(2).says(&["has 1 examples of the subject `solar_system`, 2 are needed", "--fewshot-file"]);
    let file = home.file("y.parquet", "PAR1 and nothing else");
    run(&format!("--task piqa={}", file.display())).fails(2).says(&["y.parquet` is", "Parquet"]);
    let unwritable = format!("--task piqa={} --per-question {}/no/folder", fixture("piqa").display(), home.folder().display());
    run(&unwritable).fails(2).says(&["cannot write", "no/folder"]);
}

fn supernet(model: &Path, folder: &Path) -> SuperNetwork {
    let checkpoint = Checkpoint::open(model).expect("it is a model");
    let text = Text::encode(&checkpoint.tokenizer, CALIBRATION_TEXT, checkpoint.config.vocab_size).expect("it is a text");
    let calibration = Calibration { text, windows: Windows { length: 64, count: 2 } };
    let target = folder.join("supernet");
    prepare(&checkpoint, &calibration, &[(Method::default(), target.as_path())], &mut |_| {}).expect("it can be prepared");
    SuperNetwork::open(&target).expect("it was just written")
}

/// Python writes its own prompts and runs them whole with ONNX Runtime, on the very artifact.
#[test]
fn mmlu_is_answered_as_python_answers_it() {
    let (Some(model), Some(mmlu)) = (file_from(SMOLLM2), file_from(MMLU)) else { return };
    let ready = Command::new("python3").args(["-c", "import onnxruntime, tokenizers, numpy"]).output();
    if !ready.is_ok_and(|o| o.status.success()) {
        skip("there is no python3 with onnxruntime, tokenizers and numpy");
        return;
    }
    let home = Home::new();
    let supernet = supernet(&model, home.folder());
    let artifact = home.path("artifact");
    let _ = supernet.artifacts().write(&supernet.full(), &artifact).expect("it can be written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/bench-mmlu");
    let mut command = Command::new(script);
    command.arg(&artifact).arg(mmlu).args(["--questions", "20", "--threads", "2", "--whole", "--host"]).arg(host());
    let output = command.output().expect("the script can be started");
    let errors = String::from_utf8_lossy(&output.stderr);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {errors}"));
    assert_eq!(count(&found, "/agree"), 20, "{found}");
    assert!(number(&found, "/largest_difference") < 1e-2, "{found}");
}

#[test]
fn a_search_can_minimise_the_divergence() {
    let home = Home::with_demo();
    let _turn = measuring();
    let words = "search --model demo --json --budget 3 --trials 1 --runtime tract --objective kl,tpot_ms";
    let found = home.host(words).run().checked().json();
    let baseline = text(&found, "/baseline");
    for candidate in list(&found, "/candidates") {
        let (kl, full) = (number(candidate, "/quality/kl"), text(candidate, "/id") == baseline);
        assert!(if full { kl < 1e-9 } else { kl > 1e-4 }, "{candidate}");
    }
    assert!((number(&found, "/hypervolume/local/reference/0") - 4f64.ln()).abs() < 1e-9, "{found}");
    assert!(list(&found, "/front/local").iter().any(|id| id == baseline), "{found}");
}

#[test]
fn a_search_can_minimise_the_error_on_tasks() {
    let home = Home::with_demo();
    let _turn = measuring();
    let mmlu = home.path("mmlu.jsonl");
    fs::copy(fixture("mmlu"), &mmlu).expect("the home can be written");
    let tasks = format!("--task mmlu={} --task piqa={} --fewshot 1", mmlu.display(), fixture("piqa").display());
    let begin = "search --json --trials 1 --runtime tract --workload prompt=8,gen=4 --study";
    let study = home.path("s.study");
    let search = |budget: u32| home.host(begin).arg(&study).arg("--budget").arg(budget.to_string());
    let call = search(3).words("--model demo --seed 5 --objective task_error,tpot_ms --task-limit 3").words(&tasks);
    let found = call.run().checked().json();
    assert_eq!(found["objectives"], serde_json::json!(["task_error", "tpot_ms"]));
    let candidates = list(&found, "/candidates");
    assert_eq!(candidates.len(), 3);
    for candidate in candidates {
        let (error, scores) = (number(candidate, "/quality/task_error"), &candidate["quality"]["tasks"]);
        let mean = f64::midpoint(number(scores, "/mmlu/value"), number(scores, "/piqa/value"));
        assert!((0.0..=1.0).contains(&error) && (error - (1.0 - mean)).abs() < 1e-12, "{candidate}");
        assert_eq!((text(scores, "/mmlu/metric"), text(scores, "/piqa/metric")), ("acc", "acc"));
        // What the command for it finds.
        let evaluate = home.host("evaluate demo --window 64 --windows 1 --seed 5 --limit 3 --json --candidate");
        let evaluated = evaluate.arg(candidate["config"].to_string()).words(&tasks).run().checked().json();
        for (at, task) in ["mmlu", "piqa"].into_iter().enumerate() {
            let metric = &evaluated["tasks"][at]["metrics"]["acc"];
            assert_eq!((&scores[task]["value"], &scores[task]["stderr"]), (&metric["value"], &metric["stderr"]), "{task}");
        }
    }
    assert!((number(&found, "/hypervolume/local/reference/0") - 1.0).abs() < 1e-9, "{found}");
    let table = home.host("front").arg(&study).run().checked().stdout;
    assert!(table.contains("task error"), "{table}");

    // Resumed without a word about tasks, the same questions are asked.
    let more = search(4).run().checked().json();
    let qualities = |of: &Value| list(of, "/candidates")[..3].iter().map(|c| c["quality"].clone()).collect::<Vec<_>>();
    assert_eq!((&ids(&more)[..3], qualities(&more)), (&ids(&found)[..], qualities(&found)), "what is there stays as it was");
    assert!((0.0..=1.0).contains(&number(&more, "/candidates/3/quality/task_error")), "{more}");
    search(4).words("--task-limit 2").words(&tasks).run().fails(40).says(&["details.tasks"]);
    let changed = fs::read_to_string(&mmlu).expect("it was copied").replace("Venus", "Vesta");
    fs::write(&mmlu, changed).expect("the home can be written");
    search(5).run().fails(40).says(&["mmlu.jsonl` is not the file that the study was begun with", "--study"]);
    fs::remove_file(&mmlu).expect("the home can be written");
    search(5).run().fails(2).says(&["mmlu.jsonl", "check the path"]);
    home.host("search --objective task_error,tpot_ms").run().fails(2).says(&["--task mmlu=FILE"]);
}

#[test]
fn what_is_explored_is_asked_only_when_it_is_measured() {
    let home = Home::with_demo();
    let _turn = measuring();
    let study = home.path("s.study");
    let search = |study: &Path, words: &str| {
        let call = home.host("search --json --trials 1 --runtime tract --workload prompt=8,gen=4 --explore 6 --study").arg(study);
        call.words(words).run().checked().json()
    };
    let found = search(&study, &format!("--model demo --budget 3 --task piqa={}", fixture("piqa").display()));
    let more = search(&study, "--budget 4");
    assert_eq!((count(&found, "/explored"), count(&more, "/explored")), (6, 6));
    for candidate in list(&more, "/candidates") {
        assert_eq!(text(candidate, "/status"), "ok", "{candidate}");
        assert!((0.0..=1.0).contains(&number(candidate, "/quality/task_error")), "{candidate}");
    }
    // Shown, and not searched for.
    assert_eq!(more["objectives"], serde_json::json!(["perplexity", "tpot_ms"]));
    let page = home.path("report.html");
    home.host("report -o").arg(&page).arg(&study).run().ok();
    let page = fs::read_to_string(page).expect("it was written");
    assert!(page.contains("Task error") && page.contains("<dt>tasks</dt><dd>piqa</dd>"));

    // A host that was killed between taking candidates up and asking them.
    let stored = SqliteStudy::read(&study).expect("it is a study");
    let killed = home.path("killed.study");
    let mut begun = SqliteStudy::create(&killed, &stored.settings().expect("it has some")).expect("the home can be written");
    for record in stored.records().expect("they can be read") {
        for origin in &record.origins {
            begun.propose(&record.candidate, origin).expect("it is new");
        }
        let mut quality = Quality::clone(record.quality.as_ref().expect("all were evaluated"));
        if !record.origins.contains(&Origin::search(0)) {
            quality.tasks.clear();
        }
        begun.store_quality(&record.id, &quality).expect("it is new");
    }
    drop((begun, stored));
    let resumed = search(&killed, "");
    let qualities = |of: &Value| list(of, "/candidates").iter().map(|c| c["quality"].clone()).collect::<Vec<_>>();
    assert_eq!((ids(&resumed), qualities(&resumed)), (ids(&more), qualities(&more)));
}
