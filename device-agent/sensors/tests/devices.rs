//! What each fixture tells, in full, against expectations written by hand.

mod common;

use common::fixture;
use edgewise_sensors::{
    AndroidTemperature, AndroidThermal, Board, ChargeStatus, Cluster, CoolingDevice, CoolingKind, CpuTimes, CurrentAlarm,
    EnergyCounter, EventCounter, FirmwareThrottle, Load, LoadAverage, Memory, MeterKind, OverCurrent, Policy, PowerError,
    PowerMeter, PowerSource, Pressure, Reading, Snapshot, Stall, Stalls, Supply, SupplyKind, TemperatureType, ThermalStatus,
    ThrottleBits, ThrottleSource, TimeInState, Trip, TripKind, Zone, ZoneKind, hottest,
};

fn policy(cpus: std::ops::Range<u32>, [current, min, max, hardware]: [u32; 4], governor: &str, capacity: Option<u32>) -> Policy {
    Policy {
        number: cpus.start,
        cpus: cpus.collect(),
        current_khz: Some(current),
        min_khz: Some(min),
        max_khz: Some(max),
        hardware_max_khz: Some(hardware),
        governor: Some(governor.to_owned()),
        capacity,
        time_in_state: None,
    }
}

fn with_times(policy: Policy, rows: &[(u32, u64)]) -> Policy {
    Policy { time_in_state: Some(TimeInState(rows.to_vec())), ..policy }
}

fn zone(name: &str, kind: ZoneKind, millidegrees: impl Into<Option<i32>>, trips: &[(TripKind, i32)]) -> Zone {
    let trips = trips.iter().map(|&(kind, millidegrees)| Trip { kind, millidegrees }).collect();
    Zone { name: name.to_owned(), kind, millidegrees: millidegrees.into(), trips }
}

fn cooling(name: &str, kind: CoolingKind, state: impl Into<Option<u32>>, max: u32) -> CoolingDevice {
    CoolingDevice { name: name.to_owned(), kind, state: state.into(), max_state: Some(max) }
}

fn stalls(some: (f64, u64), full: (f64, u64)) -> Stalls {
    let stall = |(avg10_percent, total_us)| Stall { avg10_percent, total_us };
    Stalls { some: stall(some), full: Some(stall(full)) }
}

fn load(busy: u64, idle: u64, steal: u64, average: [f64; 3], runnable: u32) -> Load {
    let [one, five, fifteen] = average;
    Load { times: Some(CpuTimes { busy, idle, steal }), average: Some(LoadAverage { one, five, fifteen, runnable }) }
}

/// Of numbers in KiB.
fn memory([total, available, swap_total, swap_free]: [u64; 4]) -> Memory {
    Memory {
        total_bytes: Some(total * 1024),
        available_bytes: Some(available * 1024),
        swap_total_bytes: Some(swap_total * 1024),
        swap_free_bytes: Some(swap_free * 1024),
    }
}

fn supply(name: &str, kind: SupplyKind, online: Option<bool>) -> Supply {
    Supply {
        name: name.to_owned(),
        kind,
        online,
        present: None,
        percent: None,
        status: None,
        current_microamps: None,
        microvolts: None,
        microwatts: None,
        temperature_tenths: None,
    }
}

#[test]
fn raspberry_pi_4() {
    let root = fixture("raspberry-pi-4");
    let rows = [
        (600_000, 91_234),
        (700_000, 310),
        (800_000, 205),
        (900_000, 150),
        (1_000_000, 98),
        (1_100_000, 77),
        (1_200_000, 61),
        (1_300_000, 40),
        (1_400_000, 33),
        (1_500_000, 21),
        (1_600_000, 18),
        (1_700_000, 12),
        (1_800_000, 24_680),
    ];
    let snapshot = Snapshot::take(&root);
    let expected = Snapshot {
        policies: vec![with_times(policy(0..4, [1_800_000, 600_000, 1_800_000, 1_800_000], "ondemand", Some(1024)), &rows)],
        zones: vec![zone("cpu-thermal", ZoneKind::Processor, 48_199, &[(TripKind::Critical, 110_000)])],
        firmware: Some(FirmwareThrottle { bits: ThrottleBits(0), known: ThrottleBits::ALL, source: ThrottleSource::Command }),
        load: load(14_776, 913_076, 0, [0.08, 0.03, 0.01], 1),
        memory: memory([3_885_396, 3_529_012, 102_396, 102_396]),
        ..Snapshot::default()
    };
    assert_eq!(snapshot, expected);
    assert_eq!(hottest(&snapshot), Some(48_199));
    assert_eq!(snapshot.power_source(), None);
    assert!(PowerMeter::find(&root).is_none(), "its vcgencmd has no pmic_read_adc");
    let cluster = Cluster { policy: 0, cpus: vec![0, 1, 2, 3], max_khz: Some(1_800_000), capacity: Some(1024) };
    let expected = Board {
        model: Some("Raspberry Pi 4 Model B Rev 1.4".to_owned()),
        clusters: vec![cluster],
        memory_bytes: Some(3_885_396 * 1024),
        ..Board::default()
    };
    assert_eq!(Board::read(&root), expected);
}

#[test]
fn raspberry_pi_5() -> Result<(), PowerError> {
    let root = fixture("raspberry-pi-5");
    let rows = [
        (1_500_000, 60_321),
        (1_600_000, 120),
        (1_700_000, 90),
        (1_800_000, 71),
        (1_900_000, 44),
        (2_000_000, 32),
        (2_100_000, 20),
        (2_200_000, 15),
        (2_300_000, 9),
        (2_400_000, 8_421),
    ];
    let trips = [
        (TripKind::Critical, 110_000),
        (TripKind::Active, 50_000),
        (TripKind::Active, 60_000),
        (TripKind::Active, 67_500),
        (TripKind::Active, 75_000),
    ];
    let snapshot = Snapshot::take(&root);
    let expected = Snapshot {
        policies: vec![with_times(policy(0..4, [2_400_000, 1_500_000, 2_400_000, 2_400_000], "ondemand", Some(1024)), &rows)],
        zones: vec![zone("cpu-thermal", ZoneKind::Processor, 52_350, &trips)],
        cooling: vec![cooling("pwm-fan", CoolingKind::Fan, 1, 4)],
        firmware: Some(FirmwareThrottle {
            bits: ThrottleBits(0x50000),
            known: ThrottleBits::ALL,
            source: ThrottleSource::Command,
        }),
        pressure: Pressure {
            cpu: Some(stalls((0.54, 4_120_338), (0.0, 0))),
            memory: Some(stalls((0.0, 1_200), (0.0, 800))),
            io: Some(stalls((0.1, 901_233), (0.05, 800_112))),
        },
        load: load(28_840, 1_746_424, 0, [0.42, 0.2, 0.11], 2),
        memory: memory([8_245_376, 7_431_184, 524_272, 524_272]),
        ..Snapshot::default()
    };
    assert_eq!(snapshot, expected);
    assert_eq!(hottest(&snapshot), Some(52_350));
    let meter = PowerMeter::find(&root).ok_or(PowerError::Silent("fixture"))?;
    assert_eq!((meter.name(), meter.kind()), ("Raspberry Pi PMIC", MeterKind::Power));
    assert!(meter.blind_spots().contains("USB"));
    // 0.37 + 0.66 + 0.45 + 0.055 + 0 + 0.33 + 0.32 + 2.2 + 0.0033 + 0.0033 + 0.004 + 0.051 W
    assert_eq!(meter.read()?, Reading::Power { microwatts: 4_446_600 });
    let cluster = Cluster { policy: 0, cpus: vec![0, 1, 2, 3], max_khz: Some(2_400_000), capacity: Some(1024) };
    let expected = Board {
        model: Some("Raspberry Pi 5 Model B Rev 1.0".to_owned()),
        clusters: vec![cluster],
        memory_bytes: Some(8_245_376 * 1024),
        ..Board::default()
    };
    assert_eq!(Board::read(&root), expected);
    Ok(())
}

#[test]
fn jetson_orin() -> Result<(), PowerError> {
    let root = fixture("jetson-orin");
    let rows = |low, middle, top| [(115_200, low), (729_600, middle), (1_113_600, 12), (1_344_000, 7), (1_510_400, top)];
    let trips = [(TripKind::Passive, 99_000), (TripKind::Hot, 99_500), (TripKind::Critical, 104_500)];
    let event = |name: &str, count| EventCounter { name: name.to_owned(), count, throttles: Some(true) };
    let alarm = |label: &str| CurrentAlarm { label: label.to_owned(), active: false };
    let snapshot = Snapshot::take(&root);
    let expected = Snapshot {
        policies: vec![
            with_times(
                policy(0..4, [1_510_400, 729_600, 1_510_400, 1_510_400], "schedutil", Some(1024)),
                &rows(0, 48_211, 9_120),
            ),
            with_times(policy(4..6, [729_600, 729_600, 1_510_400, 1_510_400], "schedutil", Some(1024)), &rows(0, 55_123, 2_208)),
        ],
        zones: vec![
            zone("cpu-thermal", ZoneKind::Processor, 47_812, &trips),
            zone("gpu-thermal", ZoneKind::Unknown, 46_906, &trips),
            zone("cv0-thermal", ZoneKind::Unknown, None, &[]),
            zone("soc0-thermal", ZoneKind::Processor, 45_375, &[]),
            zone("tj-thermal", ZoneKind::Processor, 48_125, &[]),
        ],
        cooling: vec![
            cooling("cpu-throttle-alert", CoolingKind::Processor, 0, 1),
            cooling("gpu-throttle-alert", CoolingKind::Other, 0, 1),
            cooling("hot-surface-alert", CoolingKind::Other, 0, 1),
            cooling("devfreq-17000000.gpu", CoolingKind::Other, 0, 5),
            cooling("pwm-fan", CoolingKind::Fan, 2, 4),
        ],
        over_current: OverCurrent {
            events: vec![event("oc1", 0), event("oc2", 0), event("oc3", 37)],
            alarms: vec![alarm("VDD_IN"), alarm("VDD_CPU_GPU_CV"), alarm("VDD_SOC")],
        },
        pressure: Pressure {
            cpu: Some(stalls((1.0, 9_120_338), (0.0, 0))),
            memory: Some(stalls((0.0, 0), (0.0, 0))),
            io: Some(stalls((0.0, 1_712_345), (0.0, 1_500_001))),
        },
        load: load(50_423, 2_748_424, 0, [0.61, 0.55, 0.4], 1),
        memory: memory([7_802_936, 5_211_340, 3_901_464, 3_901_464]),
        ..Snapshot::default()
    };
    assert_eq!(snapshot, expected);
    assert_eq!(hottest(&snapshot), Some(48_125));
    let meter = PowerMeter::find(&root).ok_or(PowerError::Silent("fixture"))?;
    assert_eq!((meter.name(), meter.kind()), ("INA3221 VDD_IN", MeterKind::Power));
    assert!(meter.blind_spots().contains("carrier board"));
    // 5,048 mV times 1,120 mA
    assert_eq!(meter.read()?, Reading::Power { microwatts: 5_653_760 });
    let cluster = |policy, cpus: std::ops::Range<u32>| Cluster {
        policy,
        cpus: cpus.collect(),
        max_khz: Some(1_510_400),
        capacity: Some(1024),
    };
    let expected = Board {
        model: Some("NVIDIA Jetson Orin Nano Developer Kit".to_owned()),
        soc: Some("Tegra NVIDIA Jetson Orin Nano Developer Kit 35".to_owned()),
        clusters: vec![cluster(0, 0..4), cluster(4, 4..6)],
        memory_bytes: Some(7_802_936 * 1024),
        power_mode: Some("15W".to_owned()),
    };
    let board = Board::read(&root);
    assert_eq!(board, expected);
    assert_eq!(board.fastest().len(), 2);
    Ok(())
}

#[test]
fn android_phone() -> Result<(), PowerError> {
    let root = fixture("android-phone");
    let temperature = |name: &str, kind, millidegrees| AndroidTemperature { name: name.to_owned(), kind, millidegrees };
    let passive = [(TripKind::Passive, 110_000)];
    let pmic = [(TripKind::Passive, 95_000), (TripKind::Hot, 115_000), (TripKind::Critical, 145_000)];
    let snapshot = Snapshot::take(&root);
    let expected = Snapshot {
        policies: vec![
            with_times(
                policy(0..4, [1_804_800, 300_000, 1_804_800, 1_804_800], "walt", Some(325)),
                &[(300_000, 512_345), (691_200, 40_211), (1_228_800, 20_110), (1_804_800, 91_822)],
            ),
            with_times(
                policy(4..7, [2_419_200, 710_400, 2_419_200, 2_419_200], "walt", Some(828)),
                &[(710_400, 601_234), (1_478_400, 9_120), (2_419_200, 50_210)],
            ),
            with_times(
                policy(7..8, [844_800, 844_800, 2_841_600, 2_841_600], "walt", Some(1024)),
                &[(844_800, 640_021), (1_900_800, 4_120), (2_841_600, 16_423)],
            ),
        ],
        zones: vec![
            zone("aoss0-usr", ZoneKind::Unknown, 38_900, &[]),
            zone("cpu-0-0-usr", ZoneKind::Processor, 41_200, &passive),
            zone("cpu-1-0-usr", ZoneKind::Processor, 43_600, &passive),
            zone("gpuss-0-usr", ZoneKind::Unknown, 40_100, &[]),
            zone("battery", ZoneKind::Other, 31_500, &[]),
            zone("soc", ZoneKind::Other, None, &[]),
            zone("skin-therm", ZoneKind::Other, 35_200, &[]),
            zone("modem-therm", ZoneKind::Other, None, &[]),
            zone("pm8350b_tz", ZoneKind::Other, 37_000, &pmic),
            zone("cpu-unused-usr", ZoneKind::Processor, None, &[]),
        ],
        cooling: vec![
            cooling("thermal-cpufreq-0", CoolingKind::Processor, 0, 14),
            cooling("thermal-cpufreq-4", CoolingKind::Processor, 0, 15),
            cooling("thermal-cpufreq-7", CoolingKind::Processor, 0, 18),
            cooling("panel0-backlight", CoolingKind::Other, 1, 10),
            cooling("battery", CoolingKind::Other, 0, 7),
        ],
        android: Some(AndroidThermal {
            status: ThermalStatus::None,
            temperatures: vec![
                temperature("CPU", TemperatureType::Cpu, 43_600),
                temperature("GPU", TemperatureType::Gpu, 40_100),
                temperature("battery", TemperatureType::Battery, 31_500),
                temperature("skin", TemperatureType::Skin, 35_200),
            ],
        }),
        memory: memory([11_534_336, 6_201_220, 8_388_604, 7_340_028]),
        supplies: vec![
            Supply {
                present: Some(true),
                percent: Some(63),
                status: Some(ChargeStatus::Discharging),
                current_microamps: Some(412_531),
                microvolts: Some(3_902_000),
                temperature_tenths: Some(315),
                ..supply("battery", SupplyKind::Battery, None)
            },
            supply("usb", SupplyKind::Usb, Some(false)),
            supply("wireless", SupplyKind::Wireless, Some(false)),
        ],
        ..Snapshot::default()
    };
    assert_eq!(snapshot, expected);
    assert_eq!(hottest(&snapshot), Some(43_600));
    assert_eq!(snapshot.power_source(), Some(PowerSource::Battery));
    let meter = PowerMeter::find(&root).ok_or(PowerError::Silent("fixture"))?;
    assert_eq!((meter.name(), meter.kind()), ("battery", MeterKind::Power));
    assert!(meter.blind_spots().contains("screen"));
    // 412,531 µA times 3.902 V, rounded down
    assert_eq!(meter.read()?, Reading::Power { microwatts: 1_609_695 });
    let board = Board::read(&root);
    assert_eq!((board.model.as_deref(), board.soc.as_deref()), (None, Some("Snapdragon LAHAINA 415")));
    assert_eq!(board.memory_bytes, Some(11_534_336 * 1024));
    assert_eq!(board.power_mode, None);
    let capacities: Vec<_> = board.clusters.iter().map(|c| (c.policy, c.cpus.len(), c.max_khz, c.capacity)).collect();
    assert_eq!(
        capacities,
        [(0, 4, Some(1_804_800), Some(325)), (4, 3, Some(2_419_200), Some(828)), (7, 1, Some(2_841_600), Some(1024))]
    );
    assert_eq!(board.fastest().iter().map(|c| c.policy).collect::<Vec<_>>(), [7]);
    Ok(())
}

#[test]
fn pc() -> Result<(), PowerError> {
    let root = fixture("pc");
    let cpu = |n: u32, current| Policy {
        // The clock that is estimated may lie below the lowest that may be chosen; the first is not to be rounded to the second.
        current_khz: Some(current),
        ..policy(n..n + 1, [0, 800_000, 4_700_000, 4_700_000], "powersave", None)
    };
    let processor = || cooling("Processor", CoolingKind::Processor, 0, 10);
    let snapshot = Snapshot::take(&root);
    let expected = Snapshot {
        policies: vec![cpu(0, 2_900_021), cpu(1, 800_000), cpu(2, 799_998), cpu(3, 3_100_000)],
        zones: vec![
            zone("acpitz", ZoneKind::Unknown, 27_800, &[(TripKind::Critical, 119_000)]),
            zone("x86_pkg_temp", ZoneKind::Processor, 41_000, &[]),
            zone("iwlwifi_1", ZoneKind::Other, None, &[]),
            zone("INT3400 Thermal", ZoneKind::Other, 20_000, &[]),
        ],
        cooling: vec![
            processor(),
            processor(),
            processor(),
            processor(),
            cooling("intel_powerclamp", CoolingKind::Processor, None, 100),
            cooling("TCC Offset", CoolingKind::Other, 10, 63),
        ],
        pressure: Pressure {
            cpu: Some(stalls((0.35, 4_086_325_356), (0.0, 0))),
            memory: Some(stalls((0.0, 52), (0.0, 48))),
            io: Some(stalls((0.0, 91_254_000), (0.0, 88_112_000))),
        },
        load: load(1_968_041, 598_511, 812, [0.12, 0.1, 0.56], 1),
        memory: memory([16_262_144, 9_871_232, 2_097_148, 2_097_148]),
        supplies: vec![
            supply("AC", SupplyKind::Mains, Some(true)),
            Supply {
                present: Some(true),
                percent: Some(98),
                status: Some(ChargeStatus::NotCharging),
                microvolts: Some(12_744_000),
                microwatts: Some(0),
                ..supply("BAT0", SupplyKind::Battery, None)
            },
        ],
        ..Snapshot::default()
    };
    assert_eq!(snapshot, expected);
    assert_eq!(hottest(&snapshot), Some(41_000));
    assert_eq!(snapshot.power_source(), Some(PowerSource::External));
    let meter = PowerMeter::find(&root).ok_or(PowerError::Silent("fixture"))?;
    assert_eq!((meter.name(), meter.kind()), ("RAPL packages", MeterKind::Energy));
    assert!(meter.blind_spots().contains("memory"));
    let counter = EnergyCounter { microjoules: 183_512_345_678, range_microjoules: 262_143_328_850 };
    assert_eq!(meter.read()?, Reading::Energy(vec![counter]));
    let board = Board::read(&root);
    assert_eq!((board.model.as_deref(), board.soc.as_deref()), (Some("Example Computers Laptop 14"), None));
    assert_eq!(board.fastest().len(), 4);
    Ok(())
}
