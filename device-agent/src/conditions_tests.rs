use super::*;
use edgewise_sensors::{CoolingDevice, CoolingKind, FirmwareThrottle, Policy, ThrottleSource, TimeInState, Zone, ZoneKind};

const AMPLE: Circumstances = Circumstances { available_bytes: Some(4 << 30), artifact_bytes: 1 << 30, emulated: false };

/// Processor times of `n` processors, each of them `busy`, `steal` and `total`.
fn times(n: u32, busy: u64, steal: u64, total: u64) -> BTreeMap<u32, Times> {
    (0..n).map(|number| (number, Times { busy, steal, total })).collect()
}

fn policy(number: u32, cpus: &[u32], rows: &[(u32, u64)]) -> Policy {
    Policy {
        number,
        cpus: cpus.to_vec(),
        current_khz: Some(1_500_000),
        max_khz: Some(1_500_000),
        governor: Some("schedutil".into()),
        time_in_state: Some(TimeInState(rows.to_vec())),
        ..Policy::default()
    }
}

fn firmware(bits: u32) -> FirmwareThrottle {
    FirmwareThrottle { bits: ThrottleBits(bits), known: ThrottleBits::ALL, source: ThrottleSource::Sysfs }
}

fn one(before: Look, after: Look) -> (Conditions, Vec<Flag>) {
    judge(&[(before, after)], &AMPLE)
}

#[test]
fn a_device_that_tells_nothing_is_flagged_for_nothing() {
    let (conditions, flags) = one(Look::default(), Look::default());
    assert_eq!(flags, []);
    assert_eq!(conditions, Conditions { available_bytes: AMPLE.available_bytes, ..Conditions::default() });
    assert_eq!(judge(&[], &AMPLE).1, []);
}

#[test]
fn lines_of_processor_times_are_understood() {
    let expected = Times { busy: 20, steal: 7, total: 132 };
    assert_eq!(parse_times("cpu3 10 1 4 100 5 2 3 7 9 0"), Some((3, expected)));
    assert_eq!(parse_times("cpu0 1 0 0 9"), Some((0, Times { busy: 1, steal: 0, total: 10 })));
    for line in ["cpu  1 2 3 4", "cpu1 1 2", "cpu1 1 2 3 x", "intr 1 2 3 4", "", "cpux 1 2 3 4"] {
        assert_eq!(parse_times(line), None, "{line:?}");
    }
    assert!(parse_times(&format!("cpu0 {0} {0} {0} {0}", u64::MAX)).is_some());
}

#[test]
fn this_system_tells_its_times() {
    let observer = Observer::new(Root::system(), sched::allowed_processors());
    let (before, after) = (observer.look(Moment::Before), observer.look(Moment::After));
    assert_eq!(before.times.len(), sched::allowed_processors().len());
    assert!(before.times.iter().all(|(number, times)| times.total <= after.times[number].total));
}

#[test]
fn others_are_what_is_left_of_the_busy_time() {
    let used = |ticks: u64| Usage { cpu_ns: ticks * TICK_NS, ..Usage::default() };
    let look = |busy, own| Look { times: times(4, busy, 0, 10 * busy + 100), usage: used(own), ..Look::default() };
    // 4 processors busy for 25 of 250 units each; this process took 100 of the 100.
    let (conditions, flags) = one(look(0, 0), look(25, 100));
    assert_eq!((conditions.others_share, flags), (Some(0.0), vec![]));
    let (conditions, flags) = one(look(0, 0), look(25, 70));
    assert_eq!(flags, [Flag::Disturbed]);
    assert!((conditions.others_share.unwrap() - 0.03).abs() < 1e-6, "{conditions:?}");
    // A tick or two in a short span is how the kernel counts.
    let short = |busy, own| Look { times: times(2, busy, 0, busy + 9), usage: used(own), ..Look::default() };
    assert_eq!(one(short(0, 0), short(1, 0)).1, []);
}

#[test]
fn a_hypervisor_that_takes_time_disturbs() {
    let look = |steal, total| Look { times: times(2, 0, steal, total), ..Look::default() };
    let (conditions, flags) = one(look(0, 100), look(4, 200));
    assert_eq!((conditions.steal_share, flags), (Some(0.04), vec![Flag::Disturbed]));
    assert_eq!(one(look(0, 100), look(4, 600)).1, []);
}

#[test]
fn counts_are_summed_over_spans() {
    let look = |n| Look { usage: Usage { cpu_ns: 0, involuntary_switches: n, major_faults: n }, ..Look::default() };
    let (conditions, flags) = judge(&[(look(5), look(7)), (look(20), look(21))], &AMPLE);
    assert_eq!((conditions.involuntary_switches, conditions.major_faults), (3, 3));
    assert_eq!(flags, [Flag::Paging]);
}

#[test]
fn a_clock_counts_where_the_model_ran() {
    let look = |busy: [u64; 4], little: &[(u32, u64)], big: &[(u32, u64)]| Look {
        snapshot: Snapshot { policies: vec![policy(0, &[0, 1], little), policy(2, &[2, 3], big)], ..Snapshot::default() },
        times: (0..4).map(|n| (n, Times { busy: busy[n as usize], steal: 0, total: busy[n as usize].max(100) })).collect(),
        ..Look::default()
    };
    let mut before = look([0; 4], &[(500, 0), (1_000, 0)], &[(500, 0), (2_000, 0)]);
    before.times.values_mut().for_each(|times| times.total = 0);
    // The thread wanders between the two fast processors; the slow ones change their clock as they like.
    let calm = look([1, 2, 48, 52], &[(500, 50), (1_000, 50)], &[(500, 1), (2_000, 99)]);
    let (conditions, _) = one(before.clone(), calm);
    assert_eq!((conditions.throttled, conditions.steady_clock_share), (None, Some(0.99)));
    let slowed = look([1, 2, 48, 52], &[(500, 50), (1_000, 50)], &[(500, 40), (2_000, 60)]);
    let (conditions, _) = one(before.clone(), slowed.clone());
    assert!(conditions.throttled.unwrap().contains("policy 2"));
    assert_eq!((conditions.steady_clock_share, conditions.governor.as_deref()), (Some(0.6), Some("schedutil")));
    // Where nobody tells what was busy, every clock counts.
    let silent = |look: &Look| Look { times: BTreeMap::new(), ..look.clone() };
    assert!(one(silent(&before), silent(&slowed)).0.throttled.unwrap().contains("policy 0"));
}

#[test]
fn firmware_bits_throttle_and_tell_of_the_supply() {
    let look = |bits| Look { snapshot: Snapshot { firmware: Some(firmware(bits)), ..Snapshot::default() }, ..Look::default() };
    let (conditions, flags) = one(look(0x5_0000), look(0x5_0000));
    assert_eq!((conditions.throttled, flags), (None, vec![]), "what happened long ago is no matter");
    assert_eq!(conditions.throttle_bits, Some([0x5_0000; 2]));
    let (conditions, flags) = one(look(0), look(0x4_0000));
    assert!(conditions.throttled.is_some() && flags.is_empty(), "{flags:?}");
    let (conditions, flags) = one(look(0), look(0x1_0000));
    assert!(conditions.throttled.is_some());
    assert_eq!(flags, [Flag::UnderVoltage]);
    assert!(throttled_now(&look(0x4).snapshot).is_some() && throttled_now(&look(0x4_0000).snapshot).is_none());
}

#[test]
fn heat_and_cooling_are_told() {
    let snapshot = |millidegrees, state| Snapshot {
        zones: vec![Zone { name: "cpu".into(), kind: ZoneKind::Processor, millidegrees: Some(millidegrees), trips: vec![] }],
        cooling: vec![CoolingDevice {
            name: "cpufreq".into(),
            kind: CoolingKind::Processor,
            state: Some(state),
            max_state: Some(9),
        }],
        ..Snapshot::default()
    };
    let look = |snapshot| Look { snapshot, ..Look::default() };
    let (conditions, _) = one(look(snapshot(50_500, 0)), look(snapshot(61_000, 0)));
    assert_eq!((conditions.celsius, conditions.throttled), (Some([50.5, 61.0]), None));
    let (conditions, _) = one(look(snapshot(50_500, 0)), look(snapshot(85_000, 2)));
    assert!(conditions.throttled.unwrap().contains("cpufreq"));
    assert!(throttled_now(&snapshot(50_000, 1)).is_some() && throttled_now(&snapshot(90_000, 0)).is_none());
}

#[test]
fn circumstances_are_flagged() {
    let flags = |circumstances| judge(&[(Look::default(), Look::default())], &circumstances).1;
    assert_eq!(flags(Circumstances { artifact_bytes: 3 << 30, ..AMPLE }), [], "1.33 times as much as it needs");
    assert_eq!(flags(Circumstances { artifact_bytes: 4 << 30, ..AMPLE }), [Flag::LowMemory]);
    assert_eq!(flags(Circumstances { emulated: true, available_bytes: None, ..AMPLE }), [Flag::Emulated]);
}

#[test]
fn clocks_that_follow_the_load_are_known_by_their_governor() {
    let snapshot = |governor: Option<&str>| Snapshot {
        policies: vec![Policy { governor: governor.map(Into::into), ..Policy::default() }],
        ..Snapshot::default()
    };
    assert!(clocks_follow_load(&snapshot(Some("schedutil"))) && clocks_follow_load(&snapshot(Some("ondemand"))));
    assert!(!clocks_follow_load(&snapshot(Some("performance"))) && !clocks_follow_load(&snapshot(None)));
    assert!(!clocks_follow_load(&Snapshot::default()));
}
