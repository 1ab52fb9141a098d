//! What the agent finds when it looks at its device.

use crate::support::{Agent, code, endless_job, unique_lease};
use edgewise_protocol::{ErrorCode, Health, HostMessage, Reply, Request, Stage};
use std::{fs, time::Instant};

fn examined(agent: &mut Agent) -> Health {
    match agent.call(Request::Examine) {
        Ok(Reply::Examined(health)) => *health,
        other => panic!("{other:?}"),
    }
}

#[test]
fn this_device_is_examined() {
    let mut agent = Agent::new();
    let start = Instant::now();
    let health = examined(&mut agent);
    assert!((2..10).contains(&start.elapsed().as_secs()), "a few seconds");
    assert!(health.allowed_processors >= 1 && health.allowed_processors <= health.processors, "{health:?}");
    assert!(health.memory_bytes.is_some_and(|bytes| bytes > 1 << 27) && health.available_bytes <= health.memory_bytes);
    assert!(health.busy_share.is_some_and(|share| (0.0..=1.0).contains(&share)), "{health:?}");
    assert!(health.free_bytes > 0 && health.clock_overhead_ns < 100_000 && health.spin_spread >= 0.0);
    assert_eq!(health.lease, None);
    assert!(!health.emulated);
}

#[test]
fn what_a_device_tells_is_told() {
    let tree = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = tree.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for (policy, cpus, most) in [(0, "0 1 2 3", 1_800_000), (4, "4 5", 2_400_000)] {
        let folder = format!("sys/devices/system/cpu/cpufreq/policy{policy}");
        write(&format!("{folder}/related_cpus"), cpus);
        write(&format!("{folder}/scaling_governor"), "schedutil\n");
        write(&format!("{folder}/cpuinfo_max_freq"), &format!("{most}\n"));
        write(&format!("{folder}/scaling_max_freq"), "1200000\n");
    }
    write("sys/devices/system/cpu/online", "0-5\n");
    write("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
    write("sys/class/thermal/thermal_zone0/temp", "66500\n");
    write("sys/class/thermal/thermal_zone0/trip_point_0_type", "passive\n");
    write("sys/class/thermal/thermal_zone0/trip_point_0_temp", "80000\n");
    write("sys/class/thermal/cooling_device0/type", "cpufreq-cpu0\n");
    write("sys/class/thermal/cooling_device0/cur_state", "2\n");
    write("sys/class/thermal/cooling_device0/max_state", "5\n");
    write("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n");
    write("proc/cpuinfo", "flags\t\t: fpu hypervisor\n");
    write("proc/pressure/cpu", "some avg10=12.50 avg60=0.00 avg300=0.00 total=1\n");
    let mut agent = Agent::with_sensors(tree.path());
    let health = examined(&mut agent);
    let clusters: Vec<_> = health.clusters.iter().map(|c| (c.processors.as_str(), c.hardware_max_khz, c.max_khz)).collect();
    let limit = Some(1_200_000);
    assert_eq!(clusters, [("4-5", Some(2_400_000), limit), ("0-3", Some(1_800_000), limit)], "the fastest first");
    assert_eq!((health.processors, health.hottest_celsius, health.passive_trip_celsius), (6, Some(66.5), Some(80.0)));
    assert_eq!(health.active_cooling, ["cpufreq-cpu0"]);
    assert_eq!((health.throttle_bits, health.cpu_pressure), (Some(0x5_0005), Some(0.125)));
    assert!(health.virtual_machine);
    assert_eq!((health.busy_share, health.memory_bytes, health.on_battery), (None, None, None), "what is not told is absent");
}

#[test]
fn a_store_in_memory_and_a_holder_are_noticed() {
    let lease = unique_lease();
    let mut ann = Agent::with(&[], "ann", &lease);
    let files = ann.put_tiny();
    let id = ann.ask(Request::Measure(Box::new(endless_job(files))));
    ann.wait_for_stage(id, Stage::Warm);
    assert_eq!(code(ann.call(Request::Examine)), ErrorCode::Busy, "not while it measures itself");
    let mut bob = Agent::with(&[], "bob", &lease);
    let health = examined(&mut bob);
    assert_eq!(health.lease.as_deref(), Some("ann"));
    assert!(!health.store_in_memory || bob.store.path().starts_with("/dev/shm") || bob.store.path().starts_with("/tmp"));
    if let Ok(memory) = tempfile::tempdir_in("/dev/shm") {
        assert!(examined(&mut Agent::in_store(memory)).store_in_memory);
    }
}

#[test]
fn an_examination_can_be_given_up() {
    let mut agent = Agent::new();
    let id = agent.ask(Request::Examine);
    agent.send(&HostMessage::Cancel { id });
    let start = Instant::now();
    assert_eq!(code(agent.reply(id)), ErrorCode::Cancelled);
    assert!(start.elapsed().as_secs() < 2);
}
