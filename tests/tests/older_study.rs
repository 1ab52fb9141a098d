//! A study that an older build began: what it does not hold is not missed.

use edgewise_search::{SqliteStudy, StudyStore};
use edgewise_tests::{Home, ids, measuring};
use std::fs;

#[test]
fn a_study_without_importance_scores_goes_on_and_is_reported_without() {
    let home = Home::with_demo();
    let _turn = measuring();
    let words = "search --json --budget 1 --trials 1 --runtime tract --workload prompt=8,gen=4 --study";
    let new = home.path("new.study");
    home.host(words).arg(&new).run().ok();
    let mut settings = SqliteStudy::read(&new).and_then(|study| study.settings()).expect("it was just made");
    assert!(settings.details.remove("importance_scores").is_some());
    let old = home.path("old.study");
    drop(SqliteStudy::create(&old, &settings).expect("the home can be written"));
    let found = home.host(words).arg(&old).run().checked().json();
    assert_eq!(ids(&found).len(), 1);
    for (study, shown) in [(&new, true), (&old, false)] {
        let page = home.path("report.html");
        home.host("report -o").arg(&page).arg(study).run().ok();
        let page = fs::read_to_string(page).expect("it was written");
        assert_eq!(page.contains("What matters in the full network"), shown, "{}", study.display());
    }
}
