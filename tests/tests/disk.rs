//! A device whose disk is full.

use edgewise_tests::{Home, Sshd, Tmpfs, list, measuring, text, without_intervals};
use std::fs;

const QUICK: &str = "--workload prompt=16,gen=8 --runtime tract --trials 1";

#[test]
fn an_agent_that_does_not_fit_is_said() {
    let Some(disk) = Tmpfs::mount(4) else { return };
    let Some(server) = Sshd::start() else { return };
    let home = Home::with_demo();
    server.register(&home, "board", Some("user"), disk.folder());
    home.host("device trust board --yes").run().ok();
    for words in ["deploy --device board", "search --budget 1 --device board"] {
        home.host(words).run().fails(12).says(&["no space", "bytes", "`store` in devices.toml"]);
    }
    let left: u64 = walk(disk.folder());
    assert_eq!(left, 0, "half an agent stays behind");
}

/// Bytes of the files in a folder.
fn walk(folder: &std::path::Path) -> u64 {
    let size = |entry: fs::DirEntry| {
        let meta = entry.metadata().ok()?;
        Some(if meta.is_dir() { walk(&entry.path()) } else { meta.len() })
    };
    fs::read_dir(folder).into_iter().flatten().flatten().filter_map(size).sum()
}

#[test]
fn a_disk_that_fills_up_ends_the_search_and_not_the_study() {
    let agent = fs::metadata(edgewise_tests::agent()).expect("it was built").len();
    // Room for the agent and a few artifacts.
    let Some(disk) = Tmpfs::mount((agent >> 20) as u32 + 70) else { return };
    let Some(server) = Sshd::start() else { return };
    let home = Home::with_demo();
    server.register(&home, "board", Some("user"), disk.folder());
    home.host("device trust board --yes").run().ok();
    let study = home.path("full.study");
    let _turn = measuring();
    let call = home.host("search --json-lines --budget 3 --device board --study").arg(&study).words(QUICK);
    let mut running = call.start();
    let mut stored = vec![running.json_line()];
    // Somebody else's data takes the place of all that was sent: the agent has nothing left to make room with.
    for blob in fs::read_dir(disk.folder().join("store/blobs")).expect("the agent's store is there").flatten() {
        fs::remove_file(blob.path()).expect("the disk can be written");
    }
    let filler = disk.fill();
    let run = running.finish();
    run.fails_after_output(12).says(&["bytes are needed", "free", "`store` in devices.toml", "--study", "full.study"]);
    stored.extend(run.stdout.lines().skip(1).map(|line| serde_json::from_str(line).expect("a line is a document")));
    assert!(stored.iter().all(|c| text(c, "/status") == "ok"), "{stored:?}");

    let front = home.host("front --json").arg(&study).run().checked().json();
    assert!(!list(&front, "/front/board").is_empty());
    fs::remove_file(filler).expect("it was written");
    let whole = home.host("search --json --trials 1 --study").arg(&study).run().checked().json();
    let candidates = list(&whole, "/candidates");
    assert_eq!((candidates.len(), without_intervals(&candidates[..stored.len()])), (3, without_intervals(&stored)));
    assert!(candidates.iter().all(|c| text(c, "/status") == "ok"));
}
