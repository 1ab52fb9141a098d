//! Files that are not what they should be: each is as absent as if it were missing, alone, and nothing absurd is told.

mod common;

use common::{Copy, DEVICES};
use edgewise_sensors::{Board, Integrator, PowerMeter, Reading, Root, Sensors, Snapshot, Stalls, Zone, evidence, hottest};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use std::{fs, io, os::unix::fs::symlink, process::Command};

const TEMPERATURE: &str = "sys/class/thermal/thermal_zone0/temp";

#[test]
fn what_is_no_small_file_of_text_is_absent() -> io::Result<()> {
    let copy = Copy::of("raspberry-pi-4")?;
    let sensors = Sensors::discover(&copy.root());
    let whole = sensors.snapshot();
    let is_absent = |what: &str| {
        let zone = Zone { millidegrees: None, ..whole.zones[0].clone() };
        assert_eq!(sensors.snapshot(), Snapshot { zones: vec![zone], ..whole.clone() }, "{what}");
        assert_eq!(hottest(&sensors.snapshot()), None, "{what}");
    };
    let texts: [&[u8]; 9] =
        [b"", b"\n", b"warm\n", b"48199 \xff", b"\0", b"48.2\n", b"99999999999999999999\n", b"-2147483648\n", b"0x1234\n"];
    for text in texts {
        copy.write(TEMPERATURE, text)?;
        is_absent(&String::from_utf8_lossy(text));
    }
    let mut huge = b"48199\n".to_vec();
    huge.resize(65_537, b' ');
    copy.write(TEMPERATURE, &huge)?;
    is_absent("more than 64 KiB, though it begins well");
    copy.write(TEMPERATURE, &huge[..65_536])?;
    assert_eq!(sensors.snapshot(), whole, "64 KiB are read");

    let path = copy.path(TEMPERATURE);
    fs::remove_file(&path)?;
    is_absent("missing");
    symlink("nowhere", &path)?;
    is_absent("a link to nothing");
    fs::remove_file(&path)?;
    symlink("temp", &path)?;
    is_absent("a link to itself");
    fs::remove_file(&path)?;
    assert!(Command::new("mkfifo").arg(&path).status()?.success());
    is_absent("a pipe, which must not be waited for");
    fs::remove_file(&path)?;
    symlink("/dev/zero", &path)?;
    is_absent("an endless device");
    fs::remove_file(&path)?;
    fs::create_dir(&path)?;
    is_absent("a folder");
    Ok(())
}

#[test]
fn a_file_that_may_not_be_read_is_absent() -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let copy = Copy::of("raspberry-pi-4")?;
    let path = copy.path(TEMPERATURE);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000))?;
    // Root may read anything: then it is not absent.
    let readable = fs::read(&path).is_ok();
    assert_eq!(hottest(&Snapshot::take(&copy.root())).is_some(), readable);
    Ok(())
}

#[test]
fn a_long_list_of_interrupts_hides_no_times() -> io::Result<()> {
    let copy = Copy::of("pc")?;
    let whole = Snapshot::take(&copy.root());
    let stat = fs::read_to_string(copy.path("proc/stat"))?;
    copy.write("proc/stat", format!("{stat}intr 1{}\n", " 0".repeat(100_000)))?;
    assert_eq!(Snapshot::take(&copy.root()).load, whole.load);
    copy.write("proc/stat", format!("cpu  1 2 3 4{}", " 0".repeat(100_000)))?;
    assert_eq!(Snapshot::take(&copy.root()).load.times, None, "the line has no end");
    Ok(())
}

#[test]
fn an_empty_root_tells_nothing() -> io::Result<()> {
    let copy = Copy::of("pc")?;
    for folder in ["proc", "sys"] {
        copy.remove(folder)?;
    }
    assert_eq!(Snapshot::take(&copy.root()), Snapshot::default());
    assert_eq!(Board::read(&copy.root()), Board::default());
    assert!(PowerMeter::find(&copy.root()).is_none() && Board::default().fastest().is_empty());
    Ok(())
}

#[test]
fn this_machine_is_read_without_absurdities() -> Result<(), TestCaseError> {
    let root = Root::system();
    let sensors = Sensors::discover(&root);
    let before = sensors.snapshot();
    let after = sensors.snapshot();
    believable(&before)?;
    believable(&after)?;
    prop_assert!(before.memory.total_bytes.is_some());
    let _ = evidence(&before, &after);
    Ok(())
}

/// Arbitrary bytes, numbers at the ends of their types, and the original with one of those in the place of a word.
fn content(original: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let extremes = prop_oneof![
        Just("-1"),
        Just("0"),
        Just("+7"),
        Just("255"),
        Just("256"),
        Just("-40000"),
        Just("2147483647"),
        Just("-2147483648"),
        Just("4294967295"),
        Just("4294967296"),
        Just("9223372036854775807"),
        Just("-9223372036854775808"),
        Just("18446744073709551615"),
        Just("18446744073709551616"),
        Just("1e308"),
        Just("-0.0"),
        Just("NaN"),
        Just("inf"),
        Just("0xffffffff"),
        Just("policy"),
        Just(""),
    ];
    let replaced = (extremes.clone(), any::<prop::sample::Index>()).prop_map(move |(extreme, index)| {
        let text = String::from_utf8_lossy(&original).into_owned();
        let words: Vec<&str> = text.split([' ', '\n', '=', ',', '(', ':']).filter(|word| !word.is_empty()).collect();
        if words.is_empty() {
            extreme.as_bytes().to_vec()
        } else {
            text.replace(words[index.index(words.len())], extreme).into_bytes()
        }
    });
    prop_oneof![
        vec(any::<u8>(), 0..200),
        extremes.prop_map(|text| text.as_bytes().to_vec()),
        replaced.clone(),
        (replaced, 0_usize..300).prop_map(|(mut bytes, length)| {
            bytes.truncate(length);
            bytes
        }),
    ]
}

/// Whatever the files hold, what is told lies in the ranges that the documentation of each value promises.
fn believable(snapshot: &Snapshot) -> Result<(), TestCaseError> {
    let celsius = |value: i32| (-39_999..150_000).contains(&value) && value.abs() >= 1_000;
    for policy in &snapshot.policies {
        let frequencies = [policy.current_khz, policy.min_khz, policy.max_khz, policy.hardware_max_khz];
        prop_assert!(frequencies.into_iter().flatten().all(|khz| (1_000..=20_000_000).contains(&khz)), "{policy:?}");
        prop_assert!(policy.capacity.is_none_or(|capacity| (1..=1024).contains(&capacity)), "{policy:?}");
        prop_assert!(!policy.cpus.is_empty() && policy.cpus.iter().all(|cpu| *cpu < 8192), "{policy:?}");
        for (khz, _) in policy.time_in_state.iter().flat_map(|table| &table.0) {
            prop_assert!((1_000..=20_000_000).contains(khz), "{policy:?}");
        }
    }
    for zone in &snapshot.zones {
        prop_assert!(
            zone.millidegrees.is_none_or(celsius) && zone.trips.iter().all(|trip| celsius(trip.millidegrees)),
            "{zone:?}"
        );
        prop_assert!(!zone.name.is_empty() && !zone.name.chars().any(char::is_control), "{zone:?}");
    }
    for device in &snapshot.cooling {
        prop_assert!(device.state.is_none_or(|state| state <= device.max_state.unwrap_or(1_000_000)), "{device:?}");
    }
    for sensor in snapshot.android.iter().flat_map(|android| &android.temperatures) {
        prop_assert!(celsius(sensor.millidegrees), "{sensor:?}");
    }
    for Stalls { some, full } in [snapshot.pressure.cpu, snapshot.pressure.memory, snapshot.pressure.io].into_iter().flatten() {
        prop_assert!((0.0..=100.0).contains(&some.avg10_percent), "{some:?}");
        prop_assert!(full.is_none_or(|full| (0.0..=100.0).contains(&full.avg10_percent)), "{full:?}");
    }
    let memory = snapshot.memory;
    prop_assert!(memory.available_bytes.unwrap_or(0) <= memory.total_bytes.unwrap_or(0), "{memory:?}");
    prop_assert!(memory.swap_free_bytes.unwrap_or(0) <= memory.swap_total_bytes.unwrap_or(0), "{memory:?}");
    for supply in &snapshot.supplies {
        prop_assert!(supply.percent.is_none_or(|percent| percent <= 100), "{supply:?}");
        prop_assert!(supply.current_microamps.is_none_or(|current| current <= 100_000_000), "{supply:?}");
        prop_assert!(supply.microvolts.is_none_or(|volts| (1_000_000..=100_000_000).contains(&volts)), "{supply:?}");
        prop_assert!(supply.temperature_tenths.is_none_or(|tenths| (-400..=1_200).contains(&tenths)), "{supply:?}");
    }
    if let Some(average) = snapshot.load.average {
        prop_assert!([average.one, average.five, average.fifteen].iter().all(|load| (0.0..5e6).contains(load)), "{average:?}");
    }
    prop_assert!(snapshot.firmware.is_none_or(|firmware| firmware.bits.without(firmware.known).is_empty()));
    Ok(())
}

/// Reads all that there is, by sensors that were looked for before the change and by new ones, and judges it.
fn survives(root: &Root, sensors: &Sensors, whole: &Snapshot) -> Result<(), TestCaseError> {
    let known = sensors.snapshot();
    let found = Snapshot::take(root);
    believable(&known)?;
    believable(&found)?;
    for found in [evidence(whole, &known), evidence(&known, whole), evidence(whole, &found)] {
        let shares = found.clocks.iter().flat_map(|clock| [clock.steady, clock.top]).flatten().map(|(_, share)| share);
        for share in shares.chain(found.steal_share).chain(found.busy_share) {
            prop_assert!((0.0..=1.0).contains(&share), "{found:?}");
        }
        for reason in found.reasons(&[]) {
            prop_assert!(!reason.to_string().is_empty());
        }
    }
    prop_assert!(Board::read(root).memory_bytes.is_none_or(|bytes| bytes > 0));
    if let Some(Ok(reading)) = PowerMeter::find(root).map(|meter| meter.read()) {
        if let Reading::Power { microwatts } = reading {
            prop_assert!(microwatts <= 10_000_000_000, "{microwatts} µW");
        }
        let mut sum = Integrator::new();
        for ns in [0, u64::MAX] {
            sum.add(ns, reading.clone()).map_err(|e| TestCaseError::fail(e.to_string()))?;
        }
        prop_assert!(sum.joules().is_some_and(|joules| joules.is_finite() && joules >= 0.0));
    }
    Ok(())
}

#[test]
fn no_bytes_panic_or_pass_as_a_reading_that_cannot_be() -> io::Result<()> {
    for device in DEVICES {
        let copy = Copy::of(device)?;
        let root = copy.root();
        let sensors = Sensors::discover(&root);
        let whole = sensors.snapshot();
        // Scripts stay as they are: bytes from a generator are not to be run.
        let is_script = |file: &String| ["vcgencmd", "nvpmodel", "dumpsys"].iter().any(|command| file.ends_with(command));
        let files: Vec<String> = copy.files()?.into_iter().filter(|file| !is_script(file)).collect();
        let originals: Vec<Vec<u8>> = files.iter().map(|file| fs::read(copy.path(file))).collect::<io::Result<_>>()?;
        let case = any::<prop::sample::Index>().prop_flat_map(|index| {
            let n = index.index(files.len());
            (Just(n), content(originals[n].clone()))
        });
        let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&case, |(n, bytes)| {
            let io = |error: io::Error| TestCaseError::fail(error.to_string());
            copy.write(&files[n], &bytes).map_err(io)?;
            let checked = survives(&root, &sensors, &whole);
            copy.write(&files[n], &originals[n]).map_err(io)?;
            checked
        });
        outcome.map_err(|error| io::Error::other(format!("{device}: {error}")))?;
    }
    Ok(())
}
