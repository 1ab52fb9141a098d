//! A task's file that somebody downloaded: JSON Lines, a JSON list or Parquet.
#![no_main]

use edgewise_fuzz::{folder, seed};
use edgewise_tasks::{Options, Plan, Table, Task};
use libfuzzer_sys::fuzz_target;
use std::{fs, path::Path};

fuzz_target!(init: seed(fixtures()), |data: &[u8]| {
    let path = folder().join("task");
    fs::write(&path, data).expect("the temporary folder can be written");
    let Ok(table) = Table::open(&path) else { return };
    assert!(table.count() > 0);
    for task in Task::ALL {
        let options = Options { shots: Some(1), limit: Some(8), seed: 1 };
        if let Ok(plan) = Plan::new(task, &table, None, options) {
            assert!(!plan.questions.is_empty() && plan.questions.iter().all(|question| !question.requests().is_empty()));
        }
    }
});

fn fixtures() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../host/tasks/tests/fixtures");
    let files = fs::read_dir(folder).expect("there are fixtures");
    files.map(|entry| fs::read(entry.expect("it is listed").path()).expect("it can be read")).collect()
}
