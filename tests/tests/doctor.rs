//! `host device doctor`: what it finds on devices whose sensors are the ones of a folder.

use edgewise_tests::{Home, Rig, list, number, text};
use serde_json::Value;
use std::path::PathBuf;

/// The folder that stands for the root of a kind of device.
fn sensors(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../device-agent/sensors/fixtures").join(name);
    let folder = folder.canonicalize().expect("the fixtures are in the repository");
    assert!(folder.is_dir());
    folder
}

fn local(name: &str) -> Value {
    let home = Home::new();
    let doctor = home.host("device doctor local --json").env("EDGEWISE_SENSORS_ROOT", sensors(name));
    checked(doctor.run().checked().json(), "local")
}

/// What holds of every document.
fn checked(found: Value, device: &str) -> Value {
    assert_eq!((text(&found, "/schema"), text(&found, "/device")), ("edgewise.doctor/1", device));
    let penalty: f64 = list(&found, "/findings")
        .iter()
        .map(|f| match text(f, "/severity") {
            "good" | "note" => 0.0,
            "warning" => 8.0,
            "problem" => 30.0,
            other => panic!("{other}: {f}"),
        })
        .sum();
    assert!((number(&found, "/score") - (100.0 - penalty).max(0.0)).abs() < 1e-9, "{found}");
    assert!(!text(&found, "/verdict").is_empty());
    // Even a pipe takes some microseconds there and back, with a process at its other end.
    assert!((0.002..5_000.0).contains(&number(&found, "/round_trip_ms")), "{}", found["round_trip_ms"]);
    for finding in list(&found, "/findings") {
        let good = text(finding, "/severity") == "good";
        assert!(!text(finding, "/observed").is_empty() && (good || !text(finding, "/meaning").is_empty()), "{finding}");
    }
    // The worst comes first.
    let rank = |f: &Value| ["problem", "warning", "note", "good"].iter().position(|s| *s == text(f, "/severity"));
    assert!(list(&found, "/findings").is_sorted_by_key(rank), "{found}");
    found
}

/// Demands a finding of this severity whose observation has these words.
fn finds(found: &Value, check: &str, severity: &str, words: &[&str]) {
    let of_check: Vec<&Value> = list(found, "/findings").iter().filter(|f| text(f, "/check") == check).collect();
    let fits = |f: &&Value| text(f, "/severity") == severity && words.iter().all(|word| text(f, "/observed").contains(word));
    assert!(of_check.iter().any(fits), "no {severity} `{check}` with {words:?}: {of_check:?}");
}

fn finds_no(found: &Value, check: &str) {
    assert!(list(found, "/findings").iter().all(|f| text(f, "/check") != check), "{check}: {found}");
}

#[test]
fn boards_from_the_pi_4_to_the_jetson() {
    let pi4 = local("raspberry-pi-4");
    finds(&pi4, "governor", "warning", &["processors 0-3", "ondemand"]);
    finds(&pi4, "firmware_throttling", "good", &["never"]);
    finds(&pi4, "temperature", "good", &["48.2"]);
    finds(&pi4, "power_meter", "note", &["none"]);
    finds(&pi4, "memory", "good", &["3613 of 3978 MB"]);
    // This system does not count pressure.
    finds_no(&pi4, "cpu_pressure");

    let jetson = local("jetson-orin");
    finds(&jetson, "governor", "warning", &["processors 0-3: schedutil", "processors 4-5: schedutil"]);
    finds(&jetson, "power_mode", "note", &["15W"]);
    finds(&jetson, "power_meter", "good", &["INA3221", "carrier board"]);
    finds(&jetson, "temperature", "good", &["slowed down from 99"]);
    finds_no(&jetson, "firmware_throttling");
}

#[test]
fn a_phone_on_its_battery_and_a_laptop() {
    let phone = local("android-phone");
    finds(&phone, "battery", "warning", &["on battery, 63 %"]);
    finds(&phone, "swap", "warning", &["MB are swapped out"]);
    finds(&phone, "thermal_status", "good", &["thermal status is 0"]);
    finds(&phone, "governor", "warning", &["processors 7", "processors 0-3"]);

    let pc = local("pc");
    finds(&pc, "governor", "warning", &["powersave"]);
    finds(&pc, "power_meter", "good", &["RAPL"]);
    // It is plugged in, and the battery of its mouse is nobody's business.
    finds_no(&pc, "battery");
    finds_no(&pc, "thermal_status");
}

#[test]
fn over_ssh_the_board_is_looked_at_and_not_the_host() {
    let config = format!("SetEnv EDGEWISE_SENSORS_ROOT={}", sensors("raspberry-pi-5").display());
    let Some(rig) = Rig::with(&config) else { return };
    let found = checked(rig.home.host("device doctor board --json").run().checked().json(), "board");
    assert_eq!(text(&found, "/target"), "linux-x86_64");
    finds(&found, "firmware_throttling", "warning", &["under-voltage, throttled, since the last start"]);
    finds(&found, "power_meter", "good", &["PMIC"]);
    finds(&found, "memory", "good", &["of 8443 MB"]);
    // A look changes nothing: for people it says the same.
    let people = rig.home.host("device doctor board").run().checked().stdout;
    assert!(people.starts_with("board: ") && people.contains("firmware throttling"), "{people}");
    rig.nothing_runs();

    rig.proxy.refuse(true);
    rig.home.host("device doctor board --json").run().fails(10).says(&["127.0.0.1"]);
}

/// Without a folder it is this machine, whatever that is like.
#[test]
fn this_machine_can_be_looked_at() {
    let home = Home::new();
    let found = checked(home.host("device doctor local --json").run().checked().json(), "local");
    finds(&found, "runtime", "good", &["tract"]);
    assert!(list(&found, "/findings").iter().any(|f| text(f, "/check") == "jitter"), "{found}");
    home.host("device doctor nobody").run().fails_unhinted(2).says(&["nobody", "local"]);
}
