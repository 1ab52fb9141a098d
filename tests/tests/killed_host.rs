//! A host that is killed again and again: what was stored stays, nothing is measured twice, nothing is left on the board.

use edgewise_search::{Artifact, Candidate, Failure, Quality};
use edgewise_tests::{
    Rig, agents_of, count, eventually, holds, list, measuring, no_seat_twice, records, text, trials, workers_of,
};
use std::{fs, path::Path, thread, time::Instant};

/// Kills before the search may end.
const KILLS: u32 = 8;
/// Candidates of the search.
const BUDGET: usize = 4;

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        // Knuth's MMIX generator; its high bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

type Facts = Vec<(String, Candidate, Option<Artifact>, Option<Quality>, Vec<Failure>)>;

/// All that does not depend on time.
fn facts(study: &Path) -> Facts {
    records(study).into_iter().map(|r| (r.id, r.candidate, r.artifact, r.quality, r.failures)).collect()
}

#[test]
fn a_host_killed_at_any_moment_loses_nothing() {
    let Some(rig) = Rig::new() else { return };
    let words = format!("--budget {BUDGET} --seed 2");
    let _turn = measuring();
    rig.deploy();
    let clean = rig.home.path("clean.study");
    let begun = Instant::now();
    rig.search(&clean, &words).run().ok();
    let usual = begun.elapsed();
    let mut dice = Dice(2026);
    let mut kills = 0;
    for number in 0.. {
        // A study that is done, for all the kills, is followed by another one.
        let study = rig.home.path(&format!("killed-{number}.study"));
        let mut stored = Vec::new();
        let whole = loop {
            let mut running = rig.search(&study, &words).start();
            if kills == KILLS / 2 {
                // Once in the midst of the board's work for certain.
                eventually("the board is at work", || (!workers_of(&rig.store).is_empty()).then_some(()));
            } else if kills < KILLS {
                thread::sleep(usual * dice.below(700) as u32 / 1000);
            } else {
                break running.finish().checked().json();
            }
            if !running.is_running() {
                break running.finish().checked().json();
            }
            running.signal(libc::SIGKILL);
            assert!(!running.finish().status.success());
            kills += 1;
            rig.nothing_runs();
            if study.exists() {
                let now = trials(&study);
                assert!(stored.iter().all(|trial| now.contains(trial)), "kill {kills}: a trial was lost or changed");
                no_seat_twice(&study);
                stored = now;
            }
        };
        holds(&study, &stored);
        assert_eq!((no_seat_twice(&study), list(&whole, "/candidates").len()), (BUDGET, BUDGET));
        for candidate in list(&whole, "/candidates") {
            assert_eq!((text(candidate, "/status"), count(candidate, "/measurements/0/trials")), ("ok", 1), "{candidate}");
        }
        nothing_is_left(&rig);
        assert_eq!(facts(&study), facts(&clean), "the same as if nothing had happened");
        if kills == KILLS {
            return;
        }
    }
}

/// No process on the board, no half upload in its store, no half artifact, no scratch in the host's cache.
fn nothing_is_left(rig: &Rig) {
    rig.nothing_runs();
    assert!(agents_of(rig.home.folder()).is_empty());
    for folder in ["parts", "artifacts"] {
        let left: Vec<_> = fs::read_dir(rig.store.join("store").join(folder)).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "{folder}: {left:?}");
    }
    let left: Vec<_> = fs::read_dir(rig.home.path("cache")).expect("it exists").flatten().map(|e| e.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("artifacts-")), "artifacts stay behind: {left:?}");
}
