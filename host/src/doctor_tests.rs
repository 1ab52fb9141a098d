use super::*;
use std::collections::BTreeMap;

pub(crate) fn healthy() -> Health {
    Health {
        clusters: vec![ClusterHealth {
            processors: "0-3".into(),
            governor: Some("performance".into()),
            clock_khz: Some(2_400_000),
            max_khz: Some(2_400_000),
            hardware_max_khz: Some(2_400_000),
            allowed: 4,
        }],
        processors: 4,
        allowed_processors: 4,
        hottest_celsius: Some(45.0),
        passive_trip_celsius: Some(80.0),
        active_cooling: Vec::new(),
        throttle_bits: Some(0),
        android_thermal_status: None,
        busy_share: Some(0.004),
        steal_share: Some(0.0),
        cpu_pressure: Some(0.0),
        memory_pressure: Some(0.0),
        io_pressure: Some(0.0),
        memory_bytes: Some(8 << 30),
        available_bytes: Some(7 << 30),
        swapped_bytes: Some(0),
        free_bytes: 50_000_000_000,
        store_in_memory: false,
        on_battery: Some(false),
        battery_percent: None,
        power_meter: None,
        power_mode: None,
        clock_overhead_ns: 40,
        spin_spread: 0.002,
        emulated: false,
        virtual_machine: false,
        lease: None,
    }
}

pub(crate) fn description() -> DeviceDescription {
    DeviceDescription {
        fingerprint: BTreeMap::new(),
        runtimes: Vec::new(),
        free_bytes: 1,
        stored_bytes: 0,
        budget_bytes: 1,
        power_meter: None,
    }
}

#[test]
fn a_healthy_board_has_no_fault() {
    let findings = examine(&healthy(), &description());
    assert_eq!(score(&findings), 100);
    assert!(findings.iter().all(|f| f.severity <= Severity::Note), "{findings:?}");
    assert!(session_flags(&findings).is_empty());
}

#[test]
fn each_fault_is_found_told_and_costs() {
    type Break = fn(&mut Health);
    let faults: [(&str, Severity, Break); 22] = [
        ("governor", Severity::Warning, |h| h.clusters[0].governor = Some("ondemand".into())),
        ("governor", Severity::Note, |h| h.clusters.clear()),
        ("clock_capped", Severity::Warning, |h| h.clusters[0].max_khz = Some(1_500_000)),
        ("temperature", Severity::Problem, |h| h.hottest_celsius = Some(79.0)),
        ("temperature", Severity::Warning, |h| h.hottest_celsius = Some(70.0)),
        ("cooling", Severity::Problem, |h| h.active_cooling.push("thermal-cpufreq-0".into())),
        ("firmware_throttling", Severity::Problem, |h| h.throttle_bits = Some(0x5_0005)),
        ("firmware_throttling", Severity::Warning, |h| h.throttle_bits = Some(0x1_0000)),
        ("thermal_status", Severity::Problem, |h| h.android_thermal_status = Some(3)),
        ("other_load", Severity::Warning, |h| h.busy_share = Some(0.05)),
        ("other_load", Severity::Problem, |h| h.busy_share = Some(0.5)),
        ("steal", Severity::Warning, |h| h.steal_share = Some(0.01)),
        ("memory_pressure", Severity::Problem, |h| h.memory_pressure = Some(0.2)),
        ("jitter", Severity::Problem, |h| h.spin_spread = 0.05),
        ("memory", Severity::Problem, |h| h.available_bytes = Some(100_000_000)),
        ("swap", Severity::Warning, |h| h.swapped_bytes = Some(1 << 30)),
        ("storage", Severity::Warning, |h| h.free_bytes = 5),
        ("store_in_memory", Severity::Warning, |h| h.store_in_memory = true),
        ("battery", Severity::Problem, |h| (h.on_battery, h.battery_percent) = (Some(true), Some(5))),
        ("allowed_processors", Severity::Problem, |h| (h.allowed_processors, h.clusters[0].allowed) = (2, 0)),
        ("emulated", Severity::Problem, |h| h.emulated = true),
        ("clock", Severity::Warning, |h| h.clock_overhead_ns = 5_000),
    ];
    for (check, severity, fault) in faults {
        let mut health = healthy();
        fault(&mut health);
        let findings = examine(&health, &description());
        let found = findings.iter().find(|f| f.check == check).unwrap_or_else(|| panic!("{check}: {findings:?}"));
        assert_eq!(found.severity, severity, "{found:?}");
        assert_eq!(score(&findings), 100 - severity.penalty(), "{findings:?}");
        assert!(severity < Severity::Warning || !found.remedy.is_empty(), "{check} says no remedy");
        assert_eq!(session_flags(&findings).is_empty(), severity != Severity::Problem);
    }
}

#[test]
fn a_device_with_every_fault_scores_nothing() {
    let mut health = healthy();
    health.throttle_bits = Some(1);
    health.emulated = true;
    health.busy_share = Some(1.0);
    health.hottest_celsius = Some(99.0);
    assert_eq!(score(&examine(&health, &description())), 0);
    assert!(verdict(0).starts_with("not fit") && verdict(100).starts_with("fit"));
}
