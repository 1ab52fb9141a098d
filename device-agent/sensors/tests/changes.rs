//! What happens between two snapshots: one thing is changed in a copy of a fixture, and the evidence must name it and no other.

mod common;

use common::{Copy, DEVICES};
use edgewise_sensors::{
    CoolingEvidence, CoolingKind, Evidence, OverCurrentEvidence, PressureIncrease, Sensors, ThermalStatus, Throttle,
    ThrottleBits, ThrottleBitsEvidence, ThrottleSource, evidence, hottest,
};
use std::io;

const PI_CLOCK: &str = "sys/devices/system/cpu/cpufreq/policy0/stats/time_in_state";

/// The evidence after `files` were written into a copy of `device`.
fn after(device: &str, files: &[(&str, &str)]) -> io::Result<Evidence> {
    let copy = Copy::of(device)?;
    let sensors = Sensors::discover(&copy.root());
    let before = sensors.snapshot();
    for (path, content) in files {
        assert!(copy.path(path).is_file(), "{path}");
        copy.write(path, content)?;
    }
    Ok(evidence(&before, &sensors.snapshot()))
}

/// The Pi 4's table with more time at 1.4 and 1.8 GHz.
fn pi_clock(at_1400: u64, at_1800: u64) -> String {
    let rows = [91_234, 310, 205, 150, 98, 77, 61, 40, 33 + at_1400, 21, 18, 12, 24_680 + at_1800];
    let lines: Vec<String> = rows.iter().zip((600..).step_by(100)).map(|(units, mhz)| format!("{mhz}000 {units}")).collect();
    lines.join("\n")
}

#[test]
fn where_nothing_happens_nothing_is_found() -> io::Result<()> {
    for device in DEVICES {
        let found = after(device, &[])?;
        assert_eq!(found.reasons(&[]), [], "{device}");
        assert!(found.governor_changed.is_empty() && found.power_source_changed != Some(true), "{device}: {found:?}");
        assert_eq!(found.hottest_millidegrees.0, found.hottest_millidegrees.1);
        assert!(found.hottest_millidegrees.0.is_some());
        assert_eq!((found.steal_share, found.busy_share), (None, None), "{device}: no time has passed");
    }
    Ok(())
}

#[test]
fn a_bit_since_start_proves_what_came_and_went() -> io::Result<()> {
    let found = after("raspberry-pi-4", &[("usr/bin/vcgencmd.get_throttled", "throttled=0x40000\n")])?;
    let throttled = ThrottleBits(0x40000);
    let expected = ThrottleBitsEvidence { new: throttled, now: ThrottleBits(0), blind: ThrottleBits(0) };
    assert_eq!(found.firmware, Some(expected));
    assert_eq!(found.reasons(&[0]), [Throttle::Firmware(throttled)]);
    assert_eq!(found.throttled(&[]).map(|t| t.to_string()).as_deref(), Some("firmware: throttled since start"));
    Ok(())
}

#[test]
fn old_bits_since_start_are_no_evidence_but_hide_some() -> io::Result<()> {
    // Under-voltage and throttling happened before the first snapshot; now the soft limit is reached.
    let found = after("raspberry-pi-5", &[("usr/bin/vcgencmd.get_throttled", "throttled=0xd0008\n")])?;
    let new = ThrottleBits(0x80008);
    let expected = ThrottleBitsEvidence { new, now: ThrottleBits::SOFT_LIMIT, blind: ThrottleBits(0x50000) };
    assert_eq!(found.firmware, Some(expected));
    assert_eq!(found.reasons(&[]), [Throttle::Firmware(new)]);
    Ok(())
}

#[test]
fn a_bit_that_was_set_at_the_start_only_counts() -> io::Result<()> {
    let copy = Copy::of("raspberry-pi-4")?;
    let sensors = Sensors::discover(&copy.root());
    // Bit 20 has no meaning yet.
    copy.write("usr/bin/vcgencmd.get_throttled", "throttled=0x120002\n")?;
    let before = sensors.snapshot();
    assert_eq!(before.firmware.map(|firmware| firmware.bits), Some(ThrottleBits(0x20002)));
    copy.write("usr/bin/vcgencmd.get_throttled", "throttled=0x120000\n")?;
    let found = evidence(&before, &sensors.snapshot());
    let expected = ThrottleBitsEvidence { new: ThrottleBits(0), now: ThrottleBits::CAPPED, blind: ThrottleBits(0x20000) };
    assert_eq!(found.firmware, Some(expected));
    assert_eq!(found.reasons(&[]), [Throttle::Firmware(ThrottleBits::CAPPED)]);
    Ok(())
}

#[test]
fn a_clock_is_steady_from_95_percent() -> io::Result<()> {
    let steady = after("raspberry-pi-4", &[(PI_CLOCK, &pi_clock(5, 95))])?;
    assert_eq!(steady.reasons(&[]), []);
    assert_eq!(steady.clocks.len(), 1);
    assert_eq!((steady.clocks[0].steady, steady.clocks[0].top), (Some((1_800_000, 0.95)), Some((1_800_000, 0.95))));
    assert_eq!(steady.clocks[0].covered_ms, 1_000);

    let slowed = after("raspberry-pi-4", &[(PI_CLOCK, &pi_clock(60, 40))])?;
    assert_eq!((slowed.clocks[0].steady, slowed.clocks[0].top), (Some((1_400_000, 0.6)), Some((1_800_000, 0.4))));
    assert_eq!(slowed.reasons(&[2]), [Throttle::UnsteadyClock { policy: 0, khz: 1_400_000, share: 0.6 }]);
    assert_eq!(
        slowed.throttled(&[]).map(|t| t.to_string()).as_deref(),
        Some("clock of policy 0 at 1400 MHz for only 60 % of the time")
    );
    assert_eq!(slowed.reasons(&[4]), [], "no such processor in this cluster");

    // Both 10 ms at one frequency and 180 ms at the other may be a few microseconds in truth.
    let short = after("raspberry-pi-4", &[(PI_CLOCK, &pi_clock(1, 18))])?;
    assert!(!short.clocks[0].is_unsteady() && short.reasons(&[]).is_empty(), "{short:?}");
    Ok(())
}

#[test]
fn statistics_that_were_reset_are_not_compared() -> io::Result<()> {
    let found = after("raspberry-pi-4", &[(PI_CLOCK, "600000 0\n1800000 50\n")])?;
    assert_eq!((found.clocks[0].steady, found.clocks[0].covered_ms), (None, 0));
    Ok(())
}

#[test]
fn the_clocks_of_other_clusters_say_nothing() -> io::Result<()> {
    let path = "sys/devices/system/cpu/cpufreq/policy0/stats/time_in_state";
    let text = "300000 512395\n691200 40261\n1228800 20110\n1804800 91822\n";
    let found = after("android-phone", &[(path, text)])?;
    assert_eq!(found.reasons(&[7]), []);
    assert_eq!(found.reasons(&[3, 7]).len(), 1);
    Ok(())
}

#[test]
fn limits_and_governors_that_move_are_named() -> io::Result<()> {
    let policy = "sys/devices/system/cpu/cpufreq/policy7";
    let limit = format!("{policy}/scaling_max_freq");
    let governor = format!("{policy}/scaling_governor");
    let found = after("android-phone", &[(&limit, "2035200\n"), (&governor, "powersave\n")])?;
    assert_eq!(found.reasons(&[7]), [Throttle::LimitMoved { policy: 7, before_khz: 2_841_600, after_khz: 2_035_200 }]);
    assert_eq!(found.governor_changed, [7]);
    Ok(())
}

#[test]
fn heat_is_told_and_only_slowing_down_counts() -> io::Result<()> {
    let files = [
        ("sys/class/thermal/thermal_zone0/temp", "99500\n"),
        ("sys/class/thermal/cooling_device0/cur_state", "1\n"),
        ("sys/class/thermal/cooling_device1/cur_state", "1\n"),
    ];
    let found = after("jetson-orin", &files)?;
    assert_eq!(found.hottest_millidegrees, (Some(48_125), Some(99_500)));
    let cooling = |name: &str, kind, state| CoolingEvidence { name: name.to_owned(), kind, state };
    let expected = [
        cooling("cpu-throttle-alert", CoolingKind::Processor, (Some(0), Some(1))),
        cooling("gpu-throttle-alert", CoolingKind::Other, (Some(0), Some(1))),
        cooling("pwm-fan", CoolingKind::Fan, (Some(2), Some(2))),
    ];
    assert_eq!(found.cooling, expected);
    assert_eq!(found.reasons(&[]), [Throttle::Cooling { name: "cpu-throttle-alert".to_owned(), state: 1 }]);
    Ok(())
}

#[test]
fn cooling_devices_of_one_type_are_told_apart() -> io::Result<()> {
    let copy = Copy::of("pc")?;
    let sensors = Sensors::discover(&copy.root());
    copy.write("sys/class/thermal/cooling_device0/cur_state", "2\n")?;
    let before = sensors.snapshot();
    copy.write("sys/class/thermal/cooling_device2/cur_state", "3\n")?;
    let found = evidence(&before, &sensors.snapshot());
    let processors: Vec<_> =
        found.cooling.iter().filter(|device| device.name == "Processor").map(|device| device.state).collect();
    assert_eq!(processors, [(Some(2), Some(2)), (Some(0), Some(3))]);
    Ok(())
}

#[test]
fn a_weak_supply_is_evidence_where_it_throttles() -> io::Result<()> {
    let folder = "sys/class/hwmon/hwmon3";
    let count = format!("{folder}/oc3_event_cnt");
    let found = after("jetson-orin", &[(&count, "40\n"), ("sys/class/hwmon/hwmon1/curr1_crit_alarm", "1\n")])?;
    let events = OverCurrentEvidence::Events { name: "oc3".to_owned(), count: 3, throttles: Some(true) };
    assert_eq!(found.over_current, [events, OverCurrentEvidence::Alarm { label: "VDD_IN".to_owned() }]);
    let names = ["oc3", "VDD_IN"].map(|name| Throttle::OverCurrent { name: name.to_owned() });
    assert_eq!(found.reasons(&[]), names);

    let harmless = after("jetson-orin", &[(&count, "40\n"), (&format!("{folder}/oc3_throt_en"), "0\n")])?;
    assert_eq!((harmless.over_current.len(), harmless.reasons(&[])), (1, vec![]));
    let restarted = after("jetson-orin", &[(&count, "0\n")])?;
    assert_eq!(restarted.over_current, []);
    Ok(())
}

#[test]
fn androids_word_counts() -> io::Result<()> {
    let found = after("android-phone", &[("system/bin/dumpsys.thermalservice", "Thermal Status: 3\n")])?;
    assert_eq!(found.android, (Some(ThermalStatus::None), Some(ThermalStatus::Severe)));
    assert_eq!(found.throttled(&[0]).map(|t| t.to_string()).as_deref(), Some("thermal status severe"));
    Ok(())
}

#[test]
fn stalls_and_shares_are_differences() -> io::Result<()> {
    let files = [
        ("proc/pressure/cpu", "some avg10=2.00 avg60=0.87 avg300=0.21 total=4086325400\n"),
        ("proc/pressure/memory", "some avg10=0.00 avg60=0.87 avg300=0.21 total=1\n"),
        // 60 units of work, 30 of idleness, 10 stolen.
        ("proc/stat", "cpu  1466806 363041 137401 595268 3273 0 853 822 0 0\n"),
    ];
    let found = after("pc", &files)?;
    assert_eq!(found.pressure, PressureIncrease { cpu_us: Some(44), memory_us: None, io_us: Some(0) });
    assert_eq!((found.busy_share, found.steal_share), (Some(0.6), Some(0.1)));
    Ok(())
}

#[test]
fn a_cable_that_is_pulled_is_seen() -> io::Result<()> {
    let files = [("sys/class/power_supply/AC/online", "0\n"), ("sys/class/power_supply/BAT0/status", "Discharging\n")];
    assert_eq!(after("pc", &files)?.power_source_changed, Some(true));
    assert_eq!(after("pc", &[])?.power_source_changed, Some(false));
    assert_eq!(after("raspberry-pi-4", &[])?.power_source_changed, None);
    Ok(())
}

#[test]
fn monitors_are_found_under_any_number() -> io::Result<()> {
    let copy = Copy::of("jetson-orin")?;
    let before = Sensors::discover(&copy.root()).snapshot();
    std::fs::rename(copy.path("sys/class/hwmon/hwmon1"), copy.path("sys/class/hwmon/hwmon12"))?;
    std::fs::rename(copy.path("sys/class/hwmon/hwmon3"), copy.path("sys/class/hwmon/hwmon1"))?;
    assert_eq!(Sensors::discover(&copy.root()).snapshot(), before);
    Ok(())
}

#[test]
fn the_firmware_is_asked_another_way_where_its_command_is_missing() -> io::Result<()> {
    let ask = |copy: &Copy| Sensors::discover(&copy.root()).snapshot().firmware.map(|f| (f.bits, f.known, f.source));
    let copy = Copy::of("raspberry-pi-4")?;
    let file = "sys/devices/platform/soc/soc:firmware/get_throttled";
    copy.write(file, "50005\n")?;
    copy.write("usr/bin/vcgencmd.get_throttled", "VCHI initialization failed\n")?;
    assert_eq!(ask(&copy), Some((ThrottleBits(0x50005), ThrottleBits::ALL, ThrottleSource::Sysfs)));
    copy.remove(file)?;
    copy.remove("usr/bin/vcgencmd")?;
    copy.write("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n")?;
    let low = ThrottleBits::UNDER_VOLTAGE;
    assert_eq!(ask(&copy), Some((low, low, ThrottleSource::Monitor)));
    copy.remove("sys/class/hwmon/hwmon1")?;
    assert_eq!(ask(&copy), None);
    Ok(())
}

#[test]
fn the_hottest_is_of_the_best_source_there_is() -> io::Result<()> {
    let copy = Copy::of("android-phone")?;
    let sensors = Sensors::discover(&copy.root());
    copy.remove("sys/class/thermal/thermal_zone2")?;
    let snapshot = sensors.snapshot();
    assert_eq!(snapshot.zones[2].millidegrees, None, "it was there when the sensors were looked for");
    assert_eq!(hottest(&snapshot), Some(41_200));
    copy.remove("sys/class/thermal/thermal_zone1")?;
    assert_eq!(hottest(&sensors.snapshot()), Some(43_600), "Android's");
    copy.remove("system/bin/dumpsys")?;
    let snapshot = Sensors::discover(&copy.root()).snapshot();
    assert_eq!(hottest(&snapshot), Some(40_100), "of unknown zones: the graphics");
    copy.write("sys/class/hwmon/hwmon7/name", "k10temp\n")?;
    copy.write("sys/class/hwmon/hwmon7/temp1_input", "61500\n")?;
    assert_eq!(hottest(&Sensors::discover(&copy.root()).snapshot()), Some(61_500), "the processor's own monitor");
    copy.remove("sys/class/hwmon")?;
    copy.remove("sys/class/thermal")?;
    assert_eq!(hottest(&Sensors::discover(&copy.root()).snapshot()), None);
    Ok(())
}
