//! Processes that are killed or interrupted: what was stored stays, and the search can go on.

use edgewise_tests::{
    Home, Running, agents_of, children, eventually, find, ids, is_alive, kill, list, measuring, text, without_intervals,
};
use serde_json::Value;
use std::{fs, path::Path};

const QUICK: &str = "--workload prompt=16,gen=8 --runtime tract --trials 1";

fn search(home: &Home, study: &Path, budget: u32) -> Running {
    let call = home.host("search --json-lines --budget").arg(budget.to_string()).arg("--study").arg(study);
    call.words(QUICK).start()
}

/// The agent of this home and its worker, once that measures for a study.
fn measuring_worker(home: &Home, study: &Path) -> (u32, u32) {
    eventually("a candidate is measured", || {
        // The study is made once the device was looked at; workers from then on are those of measurements.
        let agent = *agents_of(home.folder()).first().filter(|_| study.exists())?;
        Some((agent, *children(agent).first()?))
    })
}

fn nothing_runs(home: &Home, worker: u32) {
    eventually("the agent is gone", || agents_of(home.folder()).is_empty().then_some(()));
    eventually("the worker is gone", || (!is_alive(worker)).then_some(()));
}

/// Resumes to the end and gives the document.
fn resume(home: &Home, study: &Path) -> Value {
    home.host("search --json --trials 1 --study").arg(study).run().checked().json()
}

fn all_measured_once(search: &Value, budget: usize) {
    let ids = ids(search);
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!((ids.len(), distinct.len()), (budget, budget));
    for candidate in list(search, "/candidates") {
        assert_eq!((text(candidate, "/status"), list(candidate, "/measurements").len()), ("ok", 1), "{candidate}");
    }
}

#[test]
fn a_killed_host_loses_nothing_and_measures_nothing_twice() {
    let home = Home::with_demo();
    let study = home.path("killed.study");
    let _turn = measuring();
    let mut running = search(&home, &study, 3);
    let stored = [running.json_line(), running.json_line()];
    let (_, worker) = measuring_worker(&home, &study);
    running.signal(libc::SIGKILL);
    assert!(!running.finish().status.success());
    nothing_runs(&home, worker);

    let front = home.host("front --json").arg(&study).run().checked().json();
    assert!(!list(&front, "/front/local").is_empty());
    let whole = resume(&home, &study);
    all_measured_once(&whole, 3);
    // All of it: configuration, quality, every number of the measurement.
    assert_eq!(without_intervals(&list(&whole, "/candidates")[..2]), without_intervals(&stored));
    // The same as if nothing had happened.
    let mut undisturbed = search(&home, &home.path("undisturbed.study"), 3);
    for id in ids(&whole) {
        assert_eq!(text(&undisturbed.json_line(), "/id"), id);
    }
    undisturbed.finish().ok();
}

#[test]
fn an_agent_killed_on_the_baseline_ends_the_search_and_not_the_study() {
    let home = Home::with_demo();
    let study = home.path("agent.study");
    let _turn = measuring();
    let running = search(&home, &study, 1);
    let (agent, worker) = measuring_worker(&home, &study);
    kill(agent, libc::SIGKILL);
    let run = running.finish();
    run.fails(12).says(&["agent", "signal KILL", "--study", "agent.study"]);
    nothing_runs(&home, worker);
    all_measured_once(&resume(&home, &study), 1);
}

#[test]
fn an_agent_killed_on_a_later_candidate_is_that_candidates_result() {
    let home = Home::with_demo();
    let study = home.path("agent.study");
    let _turn = measuring();
    let mut running = search(&home, &study, 3);
    let baseline = running.json_line();
    let (agent, worker) = measuring_worker(&home, &study);
    kill(agent, libc::SIGKILL);
    let lost = running.json_line();
    assert_eq!(text(&lost, "/status"), "agent_died", "{lost}");
    assert!(text(&lost, "/error").contains("signal KILL") && list(&lost, "/measurements").is_empty(), "{lost}");
    let last = running.json_line();
    assert_eq!(text(&last, "/status"), "ok");
    let document = running.json_line();
    running.finish().ok();
    nothing_runs(&home, worker);
    assert_eq!(without_intervals(list(&document, "/candidates")), without_intervals(&[baseline, lost.clone(), last]));
    assert!(!list(&document, "/front/local").contains(&lost["id"]));
    // A failure is a result: it is not tried again.
    assert_eq!(find(&resume(&home, &study), text(&lost, "/id")), &lost);
}

#[test]
fn a_worker_killed_on_a_candidate_is_that_candidates_result() {
    let home = Home::with_demo();
    let study = home.path("worker.study");
    let _turn = measuring();
    let mut running = search(&home, &study, 3);
    running.json_line();
    let (agent, worker) = measuring_worker(&home, &study);
    kill(worker, libc::SIGKILL);
    let lost = running.json_line();
    assert_eq!(text(&lost, "/status"), "crashed", "{lost}");
    let (same, _) = measuring_worker(&home, &study);
    assert_eq!(same, agent, "the agent outlives its worker");
    assert_eq!(text(&running.json_line(), "/status"), "ok");
    running.json_line();
    running.finish().ok();
}

#[test]
fn an_interrupt_ends_in_order_and_can_be_resumed() {
    let home = Home::with_demo();
    let study = home.path("interrupted.study");
    let _turn = measuring();
    let mut running = search(&home, &study, 3);
    let baseline = running.json_line();
    let (_, worker) = measuring_worker(&home, &study);
    running.signal_group(libc::SIGINT);
    let run = running.finish();
    run.fails_after_output(130).says(&["stopped by the user", "--study", "interrupted.study"]);
    assert_eq!(run.stdout.lines().count(), 1, "no document of half a search: {}", run.stdout);
    nothing_runs(&home, worker);
    let whole = resume(&home, &study);
    all_measured_once(&whole, 3);
    assert_eq!(without_intervals(&list(&whole, "/candidates")[..1]), without_intervals(&[baseline]));
    let left: Vec<_> = fs::read_dir(home.path("cache")).expect("it exists").flatten().map(|e| e.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("artifacts-")), "artifacts stay behind: {left:?}");
}

#[test]
fn one_process_works_on_a_study_at_a_time() {
    let home = Home::with_demo();
    let study = home.path("shared.study");
    let _turn = measuring();
    let mut first = search(&home, &study, 1);
    measuring_worker(&home, &study);
    // It is not done before the second one has come, however long that takes.
    first.signal(libc::SIGSTOP);
    home.host("search --study").arg(&study).run().fails_unhinted(40).says(&["in use"]);
    first.signal(libc::SIGCONT);
    // Reading disturbs nobody.
    home.host("front").arg(&study).run().ok();
    let last = first.json_line();
    assert_eq!(text(&last, "/status"), "ok");
    first.json_line();
    first.finish().ok();
}
