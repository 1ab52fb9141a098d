//! Studies as they are stored.

use edgewise_search::{Record, SqliteStudy, StudyStore, Trial};
use std::{collections::BTreeSet, path::Path};

/// The candidates of a study with everything that is stored of them.
pub fn records(study: &Path) -> Vec<Record> {
    SqliteStudy::read(study).and_then(|s| s.records()).unwrap_or_else(|e| panic!("{}: {e}", study.display()))
}

/// All trials of a study, each with its candidate, in the order of candidates.
pub fn trials(study: &Path) -> Vec<(String, Trial)> {
    records(study).into_iter().flat_map(|r| r.trials.into_iter().map(move |t| (r.id.clone(), t))).collect()
}

/// Demands that no seat of a device was measured twice, and gives the number of trials.
pub fn no_seat_twice(study: &Path) -> usize {
    let trials = trials(study);
    let seats: BTreeSet<_> = trials.iter().map(|(_, t)| (t.device.clone(), t.block, t.seat)).collect();
    assert_eq!(seats.len(), trials.len(), "a seat was measured twice: {seats:?}");
    trials.len()
}

/// Demands that everything that was measured before is there unchanged.
pub fn holds(study: &Path, before: &[(String, Trial)]) {
    let now = trials(study);
    for trial in before {
        assert!(now.contains(trial), "a trial of {} was lost or changed: {trial:?}", trial.0);
    }
}
