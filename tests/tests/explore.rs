//! A look around on the host before devices measure.

use edgewise_tests::{Home, count, ids, list, number};

const SEARCH: &str = "search --workload prompt=8,gen=4 --runtime tract --trials 1 --json --explore 12";

#[test]
fn what_the_host_found_is_measured_first_and_a_resumed_study_goes_on_with_it() {
    let home = Home::with_demo();
    let run = |study: &str, budget: u32| {
        let call = home.host(SEARCH).arg("--budget").arg(budget.to_string()).arg("--study").arg(home.path(study));
        call.run().checked().json()
    };
    let first = run("a.study", 4);
    assert_eq!((count(&first, "/explored"), list(&first, "/candidates").len()), (12, 4), "what was looked at is not listed");
    // What is measured are trade-offs of quality and size: sorted by size, perplexity falls.
    let mut found: Vec<(u64, f64)> =
        list(&first, "/candidates").iter().map(|c| (count(c, "/parameters"), number(c, "/quality/perplexity"))).collect();
    found.sort_unstable_by_key(|(parameters, _)| *parameters);
    assert!(found.windows(2).all(|pair| pair[0].1 >= pair[1].1), "{found:?}");

    // A larger budget goes on where the smaller one ended, and does not look again.
    let more = run("a.study", 6);
    assert_eq!((count(&more, "/explored"), &ids(&more)[..4]), (12, &ids(&first)[..]));
    assert_eq!(ids(&more).len(), 6);
    // The same from the start.
    let again = run("b.study", 6);
    assert_eq!(ids(&again), ids(&more));
}
