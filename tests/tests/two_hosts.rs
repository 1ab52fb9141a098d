//! Two people and one board: they take turns, and each is told of the other.

use edgewise_tests::{Home, ONCE, Rig, list, measuring, number, text, trials};
use std::{path::Path, thread};

/// Both homes reach the same board: the same account, the same store, the same lease.
fn other_home(rig: &Rig) -> Home {
    let home = Home::with_demo();
    let store = rig.server.board(&home, "board", rig.proxy.port, "");
    std::os::unix::fs::symlink(&rig.store, store).expect("the home can be written");
    home
}

/// When each trial of a study timed something, in milliseconds since 1970: what its samples took, before it was stored.
fn timed(study: &Path) -> Vec<(u64, u64)> {
    let span = |t: &edgewise_tests::Trial| {
        let samples: u64 = t.ttft_ns.iter().chain(&t.tpot_ns).chain(&t.warmup_ns).sum();
        (t.at_ms - samples / 1_000_000, t.at_ms)
    };
    trials(study).iter().map(|(_, t)| span(t)).collect()
}

#[test]
fn two_searches_on_one_board_take_turns() {
    let Some(rig) = Rig::new() else { return };
    rig.deploy();
    let other = other_home(&rig);
    let _turn = measuring();
    let start = |home: &Home, study: &Path, user: &str| {
        let call = home.host("search --json --budget 3 --device board").words(ONCE).arg("--study").arg(study);
        call.env("USER", user).start()
    };
    let (mine, theirs) = (rig.home.path("mine.study"), other.path("theirs.study"));
    let running = [start(&rig.home, &mine, "ann"), start(&other, &theirs, "bob")];
    let ended: Vec<_> = running.into_iter().map(|r| r.finish().checked()).collect();
    for run in &ended {
        let found = run.json();
        assert!(list(&found, "/candidates").iter().all(|c| text(c, "/status") == "ok"), "{found}");
    }
    for mine in timed(&mine) {
        for theirs in timed(&theirs) {
            assert!(mine.1 <= theirs.0 || theirs.1 <= mine.0, "both timed at once: {mine:?} {theirs:?}");
        }
    }
    let waited = |run: &edgewise_tests::Run, for_whom: &str| {
        run.stderr.lines().any(|l| l.contains("waiting for its turn") && l.contains(for_whom))
    };
    assert!(waited(&ended[0], "bob@") || waited(&ended[1], "ann@"), "{}\n{}", ended[0].stderr, ended[1].stderr);
}

#[test]
fn two_measurements_at_once_both_finish_and_one_waits() {
    let Some(rig) = Rig::new() else { return };
    let study = rig.home.path("one.study");
    let _turn = measuring();
    rig.search(&study, "--budget 1").run().ok();
    let artifact = rig.home.path("artifact");
    rig.home.host("export").arg(&study).words("baseline -o").arg(&artifact).run().ok();
    let other = other_home(&rig);
    let measure = |home: &Home, user: &str| {
        let call = home.host("measure --json --device board --workload prompt=16,gen=8 --runtime tract --trials 2");
        call.arg(&artifact).env("USER", user).run().checked()
    };
    let (mine, theirs) = thread::scope(|scope| {
        let theirs = scope.spawn(|| measure(&other, "bob"));
        (measure(&rig.home, "ann"), theirs.join().expect("the other one ran"))
    });
    for run in [&mine, &theirs] {
        let found = run.json();
        assert!(number(&found, "/measurements/0/trials") >= 2.0 && number(&found, "/measurements/0/tpot_ms/median") > 0.0);
    }
    let said = format!("{}{}", mine.stderr, theirs.stderr);
    assert!(said.contains("board: waiting for its turn (bob@") || said.contains("board: waiting for its turn (ann@"), "{said}");
    // Who examines a board while another one measures is told so.
    assert!(text(&mine.json(), "/devices/0/device") == "board");
}
