//! All tasks on rows written for this test: prompts, and the values of answers that a toy gives.

use edgewise_tasks::{Estimate, ExampleSource, Likelihood, Options, Plan, Report, Scorer, Table, Task, run};
use std::{
    convert::Infallible,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

fn fixture(task: Task) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{task}.jsonl"))
}

fn table(task: Task) -> Table {
    Table::open(&fixture(task)).unwrap()
}

/// Says of each continuation that it is as likely as it is short, by one nat for each byte, and writes one text. It keeps what
/// it was asked.
#[derive(Default)]
struct Toy {
    text: &'static str,
    asked: String,
}

impl Scorer for Toy {
    type Error = Infallible;

    fn likelihoods(&mut self, context: &str, continuations: &[String]) -> Result<Vec<Likelihood>, Infallible> {
        writeln!(self.asked, "{context}|{}|", continuations.join("|")).unwrap();
        let each = continuations.iter().map(|text| Likelihood {
            log_likelihood: -(text.len() as f64),
            greedy: text.len() % 2 == 0,
            tokens: text.split_whitespace().count(),
        });
        Ok(each.collect())
    }

    fn generate(&mut self, context: &str, stop: &[String], max_tokens: usize) -> Result<String, Infallible> {
        writeln!(self.asked, "{context}|{max_tokens} tokens to {}|", stop.join(" or ")).unwrap();
        Ok(self.text.to_owned())
    }
}

fn scored(task: Task, table: &Table, options: Options, toy: &mut Toy) -> Report {
    let plan = Plan::new(task, table, None, options).unwrap();
    let Ok(outcomes) = run(&plan, toy, |_| {});
    Report::new(&plan, &outcomes)
}

/// What is asked with one example, and what is made of the answers, to the letter.
#[test]
fn prompts_and_outcomes_of_every_task() {
    for task in Task::ALL {
        let plan = Plan::new(task, &table(task), None, Options { shots: Some(1), ..Options::default() }).unwrap();
        let mut toy = Toy { text: "That makes 7 + 3 = 10.\n#### 10", ..Toy::default() };
        let Ok(outcomes) = run(&plan, &mut toy, |_| {});
        let lines: Vec<String> = outcomes.iter().map(|o| serde_json::to_string(o).unwrap()).collect();
        let report = serde_json::to_string(&Report::new(&plan, &outcomes)).unwrap();
        insta::assert_snapshot!(task.name(), format!("{}\n{}\n\n{report}", toy.asked, lines.join("\n")));
    }
}

fn value(report: &Report, metric: &str) -> f64 {
    report.metrics[metric].value
}

#[test]
fn figures_by_hand() {
    let plain = Options { shots: Some(0), ..Options::default() };
    let score = |task: Task| scored(task, &table(task), plain, &mut Toy::default());
    // Shortest answers: `a ruler`, `a clock` is as long but later; `iron`, `salt` likewise; `the Sun`.
    let arc = score(Task::ArcChallenge);
    assert!((value(&arc, "acc") - 1.0 / 3.0).abs() < 1e-12);
    // One byte more than letters each: the longest answer has the best share.
    assert!((value(&arc, "acc_norm") - 1.0 / 3.0).abs() < 1e-12);
    // `no` is shorter than `yes`.
    assert_eq!(score(Task::BoolQ).metrics["acc"], Estimate { value: 0.5, stderr: Some(0.5) });
    // Letters are all alike: the first is taken.
    let mmlu = score(Task::Mmlu);
    assert_eq!((mmlu.n, value(&mmlu, "acc")), (4, 0.25));
    let subjects: Vec<(&str, usize, f64)> =
        mmlu.subjects.iter().map(|(name, of)| (name.as_str(), of.n, of.metrics["acc"].value)).collect();
    assert_eq!(subjects, [("solar_system", 2, 0.5), ("sums", 2, 0.0)]);
    // A space and eight letters, a space and seven.
    let lambada = score(Task::LambadaOpenAi);
    assert_eq!(lambada.metrics["acc"], Estimate { value: 0.5, stderr: Some(0.5) });
    assert!((value(&lambada, "perplexity") - 8.5f64.exp()).abs() < 1e-6, "{lambada:?}");
    // 1/(1 + e^-5 + e^-1 + e^-9) of `It sinks.` with what `It goes under.` adds, and 1/(1 + e^8) of the long truth.
    let share = |truths: [f64; 2], lies: [f64; 2]| truths.iter().sum::<f64>() / truths.iter().chain(&lies).sum::<f64>();
    let e = |n: f64| (-n).exp();
    let expected = f64::midpoint(share([1.0, e(5.0)], [e(1.0), e(9.0)]), share([e(8.0), 0.0], [1.0, 0.0]));
    assert!((value(&score(Task::TruthfulQaMc2), "mc2") - expected).abs() < 1e-12);
    let mut toy = Toy { text: "#### $1,200.", ..Toy::default() };
    let gsm8k = scored(Task::Gsm8k, &table(Task::Gsm8k), plain, &mut toy);
    assert_eq!((value(&gsm8k, "exact_match_flexible"), value(&gsm8k, "exact_match_strict")), (0.5, 0.0));
}

#[test]
fn examples_are_never_the_question() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mmlu.jsonl");
    let line = |n: usize, subject: &str| serde_json::json!({ "question": format!("number {n}?"), "choices": ["a", "b", "c", "d"], "answer": n % 4, "subject": subject });
    let mut lines: Vec<String> = (0..40).map(|n| line(n, if n % 2 == 0 { "even" } else { "odd" }).to_string()).collect();
    // The same question once more.
    lines.push(line(4, "even").to_string());
    // What joining CSV files leaves.
    lines.insert(3, r#"{"question":"question","choices":"choices","answer":"answer","subject":"odd"}"#.to_owned());
    fs::write(&path, lines.join("\n")).unwrap();
    let questions = Table::open(&path).unwrap();
    let plan = |examples: Option<&Table>, shots, limit, seed| {
        Plan::new(Task::Mmlu, &questions, examples, Options { shots: Some(shots), limit, seed })
    };
    let contexts = |plan: &Plan| -> Vec<String> {
        let mut toy = Toy::default();
        let Ok(_) = run(plan, &mut toy, |_| {});
        toy.asked.split("Answer:| A| B| C| D|\n").map(str::to_owned).filter(|c| !c.is_empty()).collect()
    };
    let same = plan(None, 5, None, 0).unwrap();
    assert_eq!((same.examples, same.questions.len(), same.skipped), (ExampleSource::SameFile, 41, 1));
    assert!(same.questions.iter().all(|q| q.row != 3));
    for context in contexts(&same) {
        let asked: Vec<&str> = context.split("number ").skip(1).map(|part| part.split_once('?').unwrap().0).collect();
        assert_eq!(asked.len(), 6, "{context}");
        let question = asked[5];
        assert!(!asked[..5].contains(&question), "{context}");
        let parity = |n: &&str| n.parse::<usize>().unwrap() % 2;
        assert!(asked.iter().all(|n| parity(n) == parity(&question)), "{context}");
    }
    assert_eq!(contexts(&same), contexts(&plan(None, 5, None, 0).unwrap()));
    assert_ne!(contexts(&same), contexts(&plan(None, 5, None, 1).unwrap()));

    let own = folder.path().join("dev.jsonl");
    fs::write(
        &own,
        (100..110).map(|n| line(n, if n % 2 == 0 { "even" } else { "odd" }).to_string() + "\n").collect::<Vec<_>>().concat(),
    )
    .unwrap();
    let own = Table::open(&own).unwrap();
    let first = plan(Some(&own), 2, Some(7), 0).unwrap();
    assert_eq!((first.examples, first.questions.len()), (ExampleSource::OwnFile, 7));
    assert!(first.questions.is_sorted_by_key(|q| q.row));
    for context in contexts(&first) {
        let found = context.contains("number 100?") && context.contains("number 102?");
        assert!(found || context.contains("number 101?") && context.contains("number 103?"), "{context}");
    }
    let drawn = |seed| plan(None, 0, Some(7), seed).unwrap().questions.iter().map(|q| q.row).collect::<Vec<_>>();
    assert_eq!(drawn(3), drawn(3));
    assert_ne!(drawn(3), drawn(4));
    let error = plan(Some(&own), 6, None, 0).unwrap_err().to_string();
    assert!(error.contains("dev.jsonl` has 5 examples of the subject `even`, 6 are needed"), "{error}");
}

#[test]
fn rows_of_another_task_are_named() {
    for (task, line, words) in [
        (Task::Mmlu, r#"{"question":"q","choices":["a","b","c"],"answer":0}"#, "column `choices` has 3 texts instead of 4"),
        (
            Task::Mmlu,
            r#"{"question":"q","choices":["a","b","c","d"],"answer":4}"#,
            "column `answer` is 4, an answer is from 0 to 3",
        ),
        (Task::Mmlu, r#"{"question":"q","answer":4}"#, "column `choices` is missing; the row has answer, question"),
        (
            Task::ArcEasy,
            r#"{"question":"q","choices":{"text":["a"],"label":["A"]},"answerKey":"E"}"#,
            "`answerKey` is `E`, the choices are A",
        ),
        (Task::BoolQ, r#"{"question":"q","passage":"p","answer":"yes"}"#, "column `answer` is neither true nor false"),
        (Task::Gsm8k, r#"{"question":"q","answer":"5"}"#, "has no `#### ` with a number"),
        (
            Task::HellaSwag,
            r#"{"activity_label":"a","ctx_a":"b","ctx_b":"c","endings":["d"],"label":""}"#,
            "column `label` is not a whole number",
        ),
        (Task::LambadaOpenAi, r#"{"text":"word"}"#, "column `text` has no last word"),
        (
            Task::MathQa,
            r#"{"Problem":"p","options":"a ) 1 , b ) 2 , ","correct":"c"}"#,
            "has 2 options, and `c` is the right one",
        ),
        (Task::Piqa, r#"{"goal":"g","sol1":"a","sol2":"b","label":-1}"#, "column `label` is -1, an answer is from 0 to 1"),
        (Task::TruthfulQaMc2, r#"{"question":"q","mc2_targets":{"choices":["a"],"labels":[0]}}"#, "has no true choice"),
        (Task::TruthfulQaMc2, r#"{"question":"q","mc2_targets":{"choices":["a"],"labels":[1,0]}}"#, "has not one label"),
        (Task::Winogrande, r#"{"sentence":"s","option1":"a","option2":"b","answer":"1"}"#, "column `sentence` has no blank"),
        (Task::Winogrande, r#"{"sentence":"the _","option1":"a","option2":"b","answer":"1"}"#, "ends with its blank"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        let good = fs::read_to_string(fixture(task)).unwrap();
        let good = good.lines().next().unwrap();
        fs::write(&path, format!("{good}\n{line}\n")).unwrap();
        let error = Plan::new(task, &Table::open(&path).unwrap(), None, Options { shots: Some(0), ..Options::default() });
        let error = error.unwrap_err().to_string();
        assert!(error.contains("x.jsonl`, row 1: column `") && error.contains(words), "{task} {line}: {error}");
    }
}
