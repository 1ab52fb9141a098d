//! Boards that fail while something is asked of them: servers that restart, lines that fall silent, memory and disks that are
//! too small, clocks that jump.

use edgewise_tests::{
    FAKE_CLOCK, Fault, MemoryLimit, ONCE, Rig, Running, Sshd, Tmpfs, Towards, agents_of, children, count, eventually, find,
    holds, ids, kill, list, measuring, no_seat_twice, number, records, text, tool, trials, workers_of,
};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

fn lines(rig: &Rig, study: &Path, words: &str) -> Running {
    rig.host("search --json-lines").words(ONCE).words(words).arg("--study").arg(study).start()
}

/// The agent of the board and its worker, once that measures.
fn measuring_worker(rig: &Rig) -> (u32, u32) {
    eventually("the board measures", || {
        let agent = *agents_of(&rig.store).first()?;
        // A candidate that is made of its recipe leaves no trace on the disk; the worker that lives is one that measures, for
        // the runtimes were looked at before.
        Some((agent, *children(agent).first()?))
    })
}

#[test]
fn a_server_that_restarts_is_found_again() {
    let Some(mut rig) = Rig::new() else { return };
    let study = rig.home.path("restart.study");
    let _turn = measuring();
    let mut running = lines(&rig, &study, "--budget 3");
    let baseline = running.json_line();
    let before = trials(&study);
    measuring_worker(&rig);
    rig.server.stop();
    rig.nothing_runs();
    // Longer than the first rest before it is looked for again: a board takes its time to start.
    thread::sleep(Duration::from_secs(15));
    rig.server.resume();
    let run = running.finish().checked();
    run.says(&["was out of reach", "it is back"]);
    let document: Value = serde_json::from_str(run.stdout.lines().last().expect("there is a document")).expect("JSON");
    assert_eq!(ids(&document)[0], text(&baseline, "/id"));
    assert!(list(&document, "/candidates").iter().all(|c| text(c, "/status") == "ok"), "{document}");
    assert!(list(&document, "/missing").is_empty(), "{document}");
    holds(&study, &before);
    assert_eq!(no_seat_twice(&study), 3);
}

/// Nothing is closed and nothing comes: only time tells.
#[test]
fn a_line_that_falls_silent_is_given_up_in_time() {
    let Some(rig) = Rig::new() else { return };
    rig.deploy();
    let study = rig.home.path("silent.study");
    rig.proxy.after(Towards::Device, 2 << 20, Fault::Stall);
    let begun = Instant::now();
    rig.search(&study, "--budget 1").run().ok();
    assert_eq!(rig.proxy.fired(), 1, "it fell silent in the middle of the super-network");
    assert!(begun.elapsed() < Duration::from_secs(75), "{:?}", begun.elapsed());
    assert_eq!(no_seat_twice(&study), 1);
    // Nobody home at all: what accepts and says nothing is told from what refuses.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a loopback interface");
    rig.server.board(&rig.home, "silent", silent.local_addr().expect("it is bound").port(), "");
    let begun = Instant::now();
    rig.home.host("deploy --device silent").run().fails_unhinted(10).says(&["127.0.0.1"]);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

/// The kernel kills the worker, the user the agent; a candidate is blamed for neither longer than for its own trial.
#[test]
fn what_kills_a_worker_or_an_agent_is_told_apart() {
    let Some(rig) = Rig::new() else { return };
    let Some(limit) = MemoryLimit::new(12 << 20) else { return };
    let study = rig.home.path("killed.study");
    let _turn = measuring();
    let mut running = lines(&rig, &study, "--budget 6");
    let baseline = running.json_line();
    let agent = eventually("the agent runs", || agents_of(&rig.store).first().copied());
    limit.hold(agent);
    // What was under way when the limit came may have had its memory already.
    let out_of_memory = (0..3).map(|_| running.json_line()).find(|c| text(c, "/status") != "ok");
    kill(agent, libc::SIGKILL);
    let run = running.finish().checked();
    let document: Value = serde_json::from_str(run.stdout.lines().last().expect("there is a document")).expect("JSON");
    let all = list(&document, "/candidates");
    let statuses: Vec<&str> = all.iter().map(|c| text(c, "/status")).collect();
    assert_eq!(statuses[0], "ok", "{baseline}");
    assert!(statuses.contains(&"out_of_memory"), "{statuses:?}: {out_of_memory:?}");
    assert!(statuses.iter().all(|s| ["ok", "out_of_memory", "agent_died"].contains(s)), "{statuses:?}");
    let dead = all.iter().find(|c| text(c, "/status") == "out_of_memory").expect("it was found above");
    assert!(text(dead, "/error").contains("memory"), "{dead}");
    assert_eq!(statuses[5], "ok", "the next agent has no limit: {statuses:?}");
    // A failure is a result: it is not tried again.
    let resumed = rig.search(&study, "").run().checked().json();
    assert_eq!(list(&resumed, "/candidates").iter().map(|c| text(c, "/status")).collect::<Vec<_>>(), statuses);
    rig.nothing_runs();
}

#[test]
fn a_board_without_room_for_the_super_network_gets_artifacts() {
    let agent = fs::metadata(edgewise_tests::agent()).expect("it was built").len();
    let Some(disk) = Tmpfs::mount((agent >> 20) as u32 + 60) else { return };
    let Some(server) = Sshd::start() else { return };
    let home = edgewise_tests::Home::with_demo();
    // The folder of the board is the small disk.
    let store = server.board(&home, "board", server.port, "");
    std::os::unix::fs::symlink(disk.folder(), &store).expect("the home can be written");
    let study = home.path("small.study");
    let search = |words: &str| {
        let call = home.host("search --json --sampler random --device board").words(ONCE).words(words);
        call.arg("--study").arg(&study)
    };
    search("--budget 2").run().ok();
    let before = trials(&study);
    let network = records(&study).remove(0).artifact.expect("it was measured").parameters * 2;

    // Now less room than the super-network takes, for an agent that keeps a megabyte free. The sampler's third candidate is a
    // third of the full network, and at single precision smaller than the super-network at half.
    fs::remove_dir_all(disk.folder().join("store")).expect("the agent's store is there");
    let filler = disk.leave(network + (1 << 20) - 200_000);
    let run = search("--budget 3").run().checked();
    run.says(&["has no room for the super-network; candidates travel whole"]);
    let found = run.json();
    holds(&study, &before);
    let third = &list(&found, "/candidates")[2];
    assert_eq!(text(third, "/status"), "ok", "{third}");
    let [sent, size] = ["bytes_sent", "artifact_bytes"].map(|key| count(third, &format!("/measurements/0/{key}")));
    assert!(sent > 5_000_000 && sent < network && size < network, "{sent} of {size} bytes: {third}");

    // Too small for either: an answer, and nothing lost.
    fs::remove_file(filler).expect("it was written");
    fs::remove_dir_all(disk.folder().join("store")).expect("the agent's store is there");
    disk.leave(2 << 20);
    let run = home.host("search --json --device board").words(ONCE).run();
    run.fails(12).says(&["bytes are needed", "free", "`store` in devices.toml"]);
    holds(&study, &before);
}

/// What a jump of the wall clock leaves behind are times of files in the future and the past. Nothing is decided by them.
#[test]
fn times_of_files_change_nothing() {
    let Some(rig) = Rig::new() else { return };
    let study = rig.home.path("clock.study");
    rig.search(&study, "--budget 1").run().ok();
    let before = trials(&study);
    for (time, budget) in [("2040-01-01", 2), ("1980-01-01", 3)] {
        let done = Command::new("find").arg(&rig.store).args(["-exec", "touch", "-d", time, "{}", "+"]).status();
        assert!(done.expect("find can be started").success());
        let sent = rig.proxy.forwarded(Towards::Device);
        let found = rig.search(&study, &format!("--budget {budget}")).run().checked().json();
        assert_eq!(list(&found, "/candidates").len(), budget);
        assert!(list(&found, "/candidates").iter().all(|c| text(c, "/status") == "ok"), "{found}");
        let sent = rig.proxy.forwarded(Towards::Device) - sent;
        assert!(sent < 300_000, "{sent} bytes: nothing was to be sent again");
    }
    holds(&study, &before);
    assert_eq!(no_seat_twice(&study), 3);
    assert!(workers_of(&rig.store).is_empty());
    let first = find(&rig.search(&study, "").run().checked().json(), &before[0].0).clone();
    assert_eq!(text(&first, "/status"), "ok");
}

/// The wall clock of host, agent and worker jumps by years, forwards and back, while they work. Nothing is timed by it.
#[test]
fn a_clock_that_jumps_changes_nothing() {
    let Some(library) = tool(&FAKE_CLOCK) else { return };
    let home = edgewise_tests::Home::with_demo();
    let study = home.path("clock.study");
    let offset = home.file("offset", "+0");
    // The stamps of files and the monotonic clock stay the system's, as they do when somebody sets the wall clock.
    let clock = [
        ("LD_PRELOAD", library.as_os_str()),
        ("FAKETIME_TIMESTAMP_FILE", offset.as_os_str()),
        ("FAKETIME_NO_CACHE", "1".as_ref()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".as_ref()),
        ("NO_FAKE_STAT", "1".as_ref()),
    ];
    let year = || -> i32 {
        let date = Command::new("date").arg("+%Y").envs(clock).output().expect("date can be started");
        String::from_utf8_lossy(&date.stdout).trim().parse().expect("a year")
    };
    let now = year();
    let _turn = measuring();
    let mut call = home.host("search --json-lines --budget 5 --device local").words(ONCE).arg("--study").arg(&study);
    for (name, value) in clock {
        call = call.env(name, value);
    }
    // Never a file that is being written: the library would give up.
    let jump = |to: &str| {
        let next = home.file("next", to);
        fs::rename(next, &offset).expect("the home can be written");
    };
    jump("+15y");
    assert!(year() > now + 10, "the clock does jump");
    let running = call.start();
    let over = AtomicBool::new(false);
    let run = thread::scope(|scope| {
        scope.spawn(|| {
            // Some of them fall between two readings of whatever is timed. No longer than the search may take.
            for to in ["+15y", "-20y", "+3y", "+0"].into_iter().cycle().take(20_000) {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                jump(to);
                thread::sleep(Duration::from_millis(30));
            }
        });
        let run = running.finish();
        over.store(true, Ordering::Relaxed);
        run.checked()
    });
    let document: Value = serde_json::from_str(run.stdout.lines().last().expect("there is a document")).expect("JSON");
    assert_eq!(list(&document, "/candidates").len(), 5);
    for candidate in list(&document, "/candidates") {
        assert_eq!(text(candidate, "/status"), "ok", "{candidate}");
    }
    // In every single sample years would show, and so would times that run backwards.
    for trial in records(&study).iter().flat_map(|record| &record.trials) {
        for samples in [&trial.ttft_ns, &trial.tpot_ns, &trial.warmup_ns] {
            assert!(!samples.is_empty() && samples.iter().all(|ns| (1..60_000_000_000).contains(ns)), "{samples:?}");
        }
    }
    let seconds = |name: &str| number(&document, &format!("/timing/{name}"));
    assert!(
        ["wall_s", "measure_s", "overhead_s"].iter().all(|name| (0.0..300.0).contains(&seconds(name))),
        "{}",
        document["timing"]
    );
    assert_eq!(no_seat_twice(&study), 5);
}
