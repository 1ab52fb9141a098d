//! Several boards at once: chosen by name, pattern and group, measured side by side; one that fails is missing and delays nobody.

use edgewise_tests::{Fault, Home, ONCE, Proxy, Run, Sshd, Towards, count, list, measuring, no_seat_twice, number, text, trials};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    time::{Duration, Instant},
};

/// Six boards that are one machine, each with a port, a store and a lease of its own. `pi1` to `pi3` work, and so does `nano`,
/// which is behind a line that can break; nobody listens at `dead`; `strange` shows another key than the one that is trusted.
struct Boards {
    home: Home,
    line: Proxy,
    _server: Sshd,
}

impl Boards {
    fn new() -> Option<Self> {
        let server = Sshd::start_with(5, "")?;
        let home = Home::with_demo();
        let line = Proxy::to(server.ports[3]);
        server.board(&home, "pi1", server.ports[0], "groups = [\"desk\", \"all\"]");
        server.board(&home, "pi2", server.ports[1], "groups = [\"desk\"]");
        server.board(&home, "pi3", server.ports[2], "groups = [\"lab\"]");
        server.board(&home, "nano", line.port, "groups = [\"lab\"]");
        let nobody = {
            let listener = TcpListener::bind("127.0.0.1:0").expect("there is a loopback interface");
            listener.local_addr().expect("it is bound").port()
        };
        server.board(&home, "dead", nobody, "groups = [\"broken\"]");
        // Only the key that is trusted for it is another one.
        server.board(&home, "strange", server.ports[4], "groups = [\"broken\"]");
        let known = fs::read_to_string(home.path("known_hosts")).expect("it was written");
        let place = format!("[127.0.0.1]:{} ", server.ports[4]);
        let others: Vec<&str> = known.lines().filter(|line| !line.starts_with(&place)).collect();
        fs::write(home.path("known_hosts"), others.join("\n")).expect("the home can be written");
        server.trust(&home, server.ports[4], "stranger");
        Some(Self { home, line, _server: server })
    }
}

fn names<'a>(document: &'a Value, pointer: &str, key: &str) -> Vec<&'a str> {
    list(document, pointer).iter().map(|entry| text(entry, key)).collect()
}

/// What is missing, each with its exit code.
fn missing(document: &Value) -> Vec<(&str, u64)> {
    list(document, "/missing").iter().map(|m| (text(m, "/device"), count(m, "/exit_code"))).collect()
}

/// Demands this exit code with a document on stdout all the same.
fn partly(run: &Run, code: i32) -> Value {
    run.fails_unhinted(code);
    run.json()
}

#[test]
fn boards_are_chosen_by_name_pattern_group_or_all() {
    let Some(boards) = Boards::new() else { return };
    let home = &boards.home;
    let deploy = |words: &str| home.host("deploy --runtime tract --json").words(words).run();
    let begun = Instant::now();
    let run = deploy("--fleet");
    let all = partly(&run, 10);
    // One after the other the agents alone would take no longer, but a board that is looked for in vain must not add up.
    assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());
    assert_eq!(names(&all, "/devices", "/device"), ["nano", "pi1", "pi2", "pi3"]);
    assert_eq!(missing(&all), [("dead", 10), ("strange", 11)]);
    assert!(text(&all, "/missing/1/reason").contains("has changed"), "{all}");
    run.says(&["warning: dead: ", "warning: strange: "]);
    let agent = fs::metadata(edgewise_tests::agent()).expect("it was built").len();
    assert!(list(&all, "/devices").iter().all(|d| count(d, "/bytes_sent") == agent), "{all}");

    let chosen = |words: &str| {
        names(&deploy(words).checked().json(), "/devices", "/device").iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(chosen("--device pi*"), ["pi1", "pi2", "pi3"]);
    assert_eq!(chosen("--device nano --device pi?"), ["nano", "pi1", "pi2", "pi3"]);
    assert_eq!(chosen("--device pi3 --device pi*"), ["pi3", "pi1", "pi2"], "no board twice");
    assert_eq!(chosen("--group desk"), ["pi1", "pi2"]);
    assert_eq!(chosen("--group lab --device pi1"), ["pi1", "nano", "pi3"]);
    deploy("--device mega*").fails_unhinted(2).says(&["mega*"]);
    deploy("--group cellar").fails_unhinted(2).says(&["cellar", "desk"]);
    home.host("deploy --runtime tract --fleet --device pi1").run().fails_unhinted(2);
    // Alone, what is wrong with a board is the command's own failure.
    deploy("--device strange").fails(11);
    deploy("--group broken").fails_unhinted(10);
}

#[test]
fn a_search_on_a_fleet_has_a_front_for_each_board() {
    let Some(boards) = Boards::new() else { return };
    let home = &boards.home;
    let study = home.path("fleet.study");
    let _turn = measuring();
    let search = |words: &str| home.host("search --json-lines").words(ONCE).words(words).arg("--study").arg(&study);
    // Its agent is on `nano`, the super-network is not; and then the line breaks for good.
    home.host("deploy --device nano --runtime tract").run().ok();
    let mut running = search("--budget 4 --fleet").start();
    running.line();
    boards.line.refuse(true);
    boards.line.cut();
    for _ in 1..4 {
        running.line();
    }
    // The others have measured everything, however long that took: nobody waits for the one that is lost.
    let begun = Instant::now();
    let run = running.finish();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    run.fails_unhinted(10).says(&["warning: dead: ", "warning: strange: ", "warning: nano: "]);
    let document: Value = serde_json::from_str(run.stdout.lines().last().expect("there is a document")).expect("JSON");
    let lost: BTreeSet<(&str, u64)> = missing(&document).into_iter().collect();
    assert_eq!(lost, BTreeSet::from([("dead", 10), ("nano", 10), ("strange", 11)]));
    let pis = ["pi1", "pi2", "pi3"];
    for pi in pis {
        assert!(!list(&document, &format!("/front/{pi}")).is_empty(), "{pi}: {document}");
        assert!(number(&document, &format!("/hypervolume/{pi}/value")) >= 0.0);
        assert!(list(&document, "/drift").iter().any(|d| text(d, "/device") == pi), "{}", document["drift"]);
    }
    assert_eq!(list(&document, "/candidates").len(), 4);
    for candidate in list(&document, "/candidates") {
        assert_eq!(text(candidate, "/status"), "ok", "{candidate}");
        let on: Vec<&str> = names(candidate, "/measurements", "/device");
        assert!(pis.iter().all(|pi| on.contains(pi)), "{on:?}");
    }
    for (a, b) in [("pi1", "pi2"), ("pi1", "pi3"), ("pi2", "pi3"), ("parameters", "pi1")] {
        let of = |entry: &&Value| text(entry, "/a") == a && text(entry, "/b") == b;
        let entry = list(&document, "/portability").iter().find(of).unwrap_or_else(|| panic!("{a} {b}: {document}"));
        assert_eq!(count(entry, "/n"), 4, "{entry}");
        assert!((-1.0..=1.0).contains(&number(entry, "/kendall_tau")), "{entry}");
    }

    // The line is mended: what is open is measured, what is measured is not measured again.
    boards.line.refuse(false);
    let before = trials(&study);
    let whole = search("--device pi* --device nano").run().checked();
    let whole: Value = serde_json::from_str(whole.stdout.lines().last().expect("there is a document")).expect("JSON");
    assert!(missing(&whole).is_empty(), "{whole}");
    assert!(!list(&whole, "/front/nano").is_empty());
    edgewise_tests::holds(&study, &before);
    assert_eq!(no_seat_twice(&study), 16, "four candidates on four boards");
    let people = home.host("front").arg(&study).run().checked().stdout;
    assert!(people.contains("Pareto front on pi2"), "{people}");
}

/// A board that takes long to answer is not waited for; it joins when it is there, and catches up.
#[test]
fn a_board_that_comes_late_measures_what_the_others_did() {
    let Some(boards) = Boards::new() else { return };
    let home = &boards.home;
    let study = home.path("late.study");
    let _turn = measuring();
    home.host("deploy --device nano --device pi1 --runtime tract").run().ok();
    // Two attempts fall silent, and each step of the third takes a second.
    boards.line.after(Towards::Device, 100, Fault::Stall);
    boards.line.after(Towards::Device, 200, Fault::Stall);
    boards.line.slow(Duration::from_millis(500), 0);
    let mut running =
        home.host("search --json-lines --budget 5 --device pi1 --device nano").words(ONCE).arg("--study").arg(&study).start();
    let baseline = running.json_line();
    assert_eq!(names(&baseline, "/measurements", "/device"), ["pi1"], "the search began without the other board");
    assert_eq!(boards.line.fired(), 2);
    boards.line.slow(Duration::ZERO, 0);
    let run = running.finish().checked();
    let document: Value = serde_json::from_str(run.stdout.lines().last().expect("there is a document")).expect("JSON");
    assert!(missing(&document).is_empty(), "{document}");
    for candidate in list(&document, "/candidates") {
        let mut on = names(candidate, "/measurements", "/device");
        on.sort_unstable();
        assert_eq!(on, ["nano", "pi1"], "{candidate}");
    }
    assert!(!list(&document, "/front/nano").is_empty(), "{document}");
    assert_eq!(no_seat_twice(&study), 10, "five candidates on two boards");
}

#[test]
fn artifacts_are_measured_side_by_side() {
    let Some(boards) = Boards::new() else { return };
    let home = &boards.home;
    let study = home.path("one.study");
    let _turn = measuring();
    home.host("search --budget 2 --device pi1 --study").arg(&study).words(ONCE).run().ok();
    let ids: Vec<String> = trials(&study).into_iter().map(|(id, _)| id).collect();
    let (whole, cut) = (home.path("whole"), home.path("cut"));
    home.host("export").arg(&study).words("baseline -o").arg(&whole).run().ok();
    home.host("export").arg(&study).arg(ids.last().expect("two were measured")).arg("-o").arg(&cut).run().ok();
    let measure = |words: &str| {
        let call = home.host("measure --json --workload prompt=16,gen=8 --runtime tract --trials 1").words(words);
        call.arg(&whole).arg(&cut).run()
    };
    // `nano` flaps: the line breaks in the midst of an artifact, and is there again.
    boards.line.after(Towards::Device, 50 << 20, Fault::Cut);
    let run = measure("--device nano --device pi2 --group broken");
    let found = partly(&run, 10);
    assert_eq!(missing(&found), [("dead", 10), ("strange", 11)]);
    assert_eq!(names(&found, "/measurements", "/device"), ["nano", "nano", "pi2", "pi2"]);
    for device in ["nano", "pi2"] {
        let of_device: Vec<&Value> = list(&found, "/comparisons").iter().filter(|c| text(c, "/device") == device).collect();
        let quantities: Vec<&str> = of_device.iter().map(|c| text(c, "/quantity")).collect();
        assert_eq!(quantities, ["ttft_ms", "tpot_ms"], "{found}");
        for comparison in of_device {
            assert_eq!(
                (text(comparison, "/artifact"), text(comparison, "/with")),
                (cut.to_str().expect("text"), whole.to_str().expect("text"))
            );
            let [low, ratio, high] = ["/ci95/0", "/ratio", "/ci95/1"].map(|p| number(comparison, p));
            assert!(0.0 < low && low <= ratio && ratio <= high, "{comparison}");
            assert!(["faster", "slower", "tie"].contains(&text(comparison, "/verdict")), "{comparison}");
        }
    }
    assert_eq!(boards.line.fired(), 1, "the line broke");
    let hashes: BTreeSet<&str> = names(&found, "/measurements", "/artifact_sha256").into_iter().collect();
    assert_eq!(hashes.len(), 2);
}
