//! Measurements on devices that are hot, throttled, on battery or short of memory: recorded trees stand for `/`.

use crate::support::{Agent, eventually, short_job};
use edgewise_protocol::{AgentMessage, Context, Flag, Gate, MeasureJob, MeasurePlan, Reply, Request, Runtime, Stage};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A folder that stands for `/`.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // At once: a reader sees the old value or the new one.
        let scratch = path.with_extension("new");
        fs::write(&scratch, text).unwrap();
        fs::rename(scratch, &path).unwrap();
        path
    }

    /// A processor of this many degrees Celsius.
    fn heat(&self, celsius: f32) {
        self.write("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
        self.write("sys/class/thermal/thermal_zone0/temp", &format!("{}\n", (celsius * 1000.0) as i32));
    }

    /// The firmware's throttle bits, as older Raspberry Pi kernels tell them.
    fn throttle(&self, bits: u32) {
        self.write("sys/devices/platform/soc/soc:firmware/get_throttled", &format!("{bits:x}\n"));
    }
}

fn gated(job: MeasureJob, max_celsius: f32, max_rest_ms: u32) -> MeasureJob {
    let gate = Gate { max_celsius, max_rise_celsius: 0.0, max_rest_ms };
    MeasureJob { plan: MeasurePlan { gate, ..job.plan }, ..job }
}

#[test]
fn a_hot_start_is_flagged() {
    let tree = Tree::new();
    tree.heat(71.5);
    let mut agent = Agent::with_sensors(tree.path());
    tree.heat(75.0);
    let job = short_job(agent.put_tiny(), Runtime::Tract);
    let id = agent.ask(Request::Measure(Box::new(gated(job.clone(), 60.0, 300))));
    let AgentMessage::Progress { progress, .. } = agent.next() else { panic!("no progress") };
    assert_eq!((progress.stage, progress.note.as_deref()), (Stage::Cool, Some("75.0 C, waits for 71.5 C")));
    let Ok(Reply::Measured(found)) = agent.reply(id) else { panic!("not measured") };
    assert!(found.flags.contains(&Flag::HotStart), "{:?}", found.flags);
    assert!(found.conditions.rested_ms >= 300);
    assert_eq!(found.conditions.celsius, Some([75.0, 75.0]));

    tree.heat(60.0);
    let found = agent.measured(gated(job, 60.0, 300));
    assert!(!found.flags.contains(&Flag::HotStart) && found.conditions.rested_ms < 300, "{:?}", found.conditions);
}

#[test]
fn a_device_that_cools_down_is_waited_for() {
    let tree = Tree::new();
    tree.heat(40.0);
    let mut agent = Agent::with_sensors(tree.path());
    tree.heat(80.0);
    let job = gated(short_job(agent.put_tiny(), Runtime::Tract), 60.0, 60_000);
    let id = agent.ask(Request::Measure(Box::new(job)));
    agent.wait_for_stage(id, Stage::Cool);
    tree.heat(59.0);
    let Ok(Reply::Measured(found)) = agent.reply(id) else { panic!("not measured") };
    assert!(!found.flags.contains(&Flag::HotStart));
    assert!((1..60_000).contains(&found.conditions.rested_ms), "{:?}", found.conditions);
}

/// Measures with sticky bits that are set as often as `times` while a trial runs; each time another one.
fn throttled_trial(times: usize, retries: u8) -> edgewise_protocol::Measurement {
    let tree = Tree::new();
    tree.throttle(0);
    let mut agent = Agent::with_sensors(tree.path());
    let mut job = gated(short_job(agent.put_tiny(), Runtime::Tract), 60.0, 100);
    job.plan.retries = retries;
    // Long enough for the bits to change while it lasts.
    job.plan.min_time_ms = 300;
    agent.ask(Request::Measure(Box::new(job)));
    let mut bits = 0;
    let mut events = (16..20).take(times);
    loop {
        match agent.next() {
            AgentMessage::Progress { progress, .. } if progress.stage == Stage::Decode => {
                if let Some(bit) = events.next() {
                    bits |= 1 << bit;
                    tree.throttle(bits);
                }
            }
            AgentMessage::Reply { result: Ok(Reply::Measured(found)), .. } => return *found,
            AgentMessage::Progress { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_throttled_trial_is_discarded_and_made_again() {
    let found = throttled_trial(1, 2);
    assert_eq!(found.discarded, 1);
    assert_eq!(found.conditions.throttled, None, "the second was fair");
    assert!(!found.flags.contains(&Flag::Throttled) && !found.flags.contains(&Flag::UnderVoltage), "{:?}", found.flags);
    assert_eq!(found.conditions.throttle_bits, Some([0x1_0000; 2]));
}

#[test]
fn a_trial_that_is_always_throttled_is_flagged() {
    let found = throttled_trial(2, 1);
    assert_eq!(found.discarded, 1);
    assert!(found.flags.contains(&Flag::Throttled), "{:?}", found.flags);
    assert_eq!(found.conditions.throttle_bits, Some([0x1_0000, 0x3_0000]));
    assert!(found.conditions.throttled.unwrap().contains("firmware"));

    let found = throttled_trial(1, 0);
    assert_eq!(found.discarded, 0);
    assert!(found.flags.contains(&Flag::Throttled) && found.flags.contains(&Flag::UnderVoltage), "{:?}", found.flags);
}

#[test]
fn a_device_that_is_throttled_now_rests() {
    let tree = Tree::new();
    tree.throttle(0x4);
    let mut agent = Agent::with_sensors(tree.path());
    let job = gated(short_job(agent.put_tiny(), Runtime::Tract), 60.0, 60_000);
    let id = agent.ask(Request::Measure(Box::new(job)));
    let AgentMessage::Progress { progress, .. } = agent.next() else { panic!("no progress") };
    assert_eq!(progress.stage, Stage::Cool);
    assert!(progress.note.as_ref().is_some_and(|note| note.contains("throttled")), "{progress:?}");
    tree.throttle(0);
    agent.reply(id).unwrap();
}

#[test]
fn batteries_and_scarce_memory_are_flagged() {
    let tree = Tree::new();
    tree.write("sys/class/power_supply/battery/type", "Battery\n");
    tree.write("sys/class/power_supply/battery/status", "Discharging\n");
    tree.write("sys/class/power_supply/battery/present", "1\n");
    tree.write("proc/meminfo", "MemTotal: 900000 kB\nMemAvailable: 200 kB\n");
    let mut agent = Agent::with_sensors(tree.path());
    let job = short_job(agent.put_tiny(), Runtime::Tract);
    let found = agent.measured(job);
    for flag in [Flag::OnBattery, Flag::LowMemory] {
        assert!(found.flags.contains(&flag), "{:?}", found.flags);
    }
    assert_eq!(found.conditions.available_bytes, Some(200 << 10));
}

#[test]
fn clocks_that_follow_the_load_get_time_to_rise() {
    let tree = Tree::new();
    let policy = "sys/devices/system/cpu/cpufreq/policy0";
    tree.write(&format!("{policy}/related_cpus"), "0 1\n");
    tree.write(&format!("{policy}/scaling_governor"), "schedutil\n");
    tree.write(&format!("{policy}/scaling_cur_freq"), "1500000\n");
    let mut agent = Agent::with_sensors(tree.path());
    let mut job = short_job(agent.put_tiny(), Runtime::Tract);
    job.plan.max_warmup_ms = 5_000;
    let found = agent.measured(job.clone());
    let warm = |found: &edgewise_protocol::Measurement| found.warmup_ns.iter().sum::<u64>() / 1_000_000;
    assert!(warm(&found) > 1_500, "{} ms", warm(&found));
    assert_eq!(found.conditions.governor.as_deref(), Some("schedutil"));
    assert_eq!(found.conditions.clock_khz, Some([1_500_000; 2]));
    tree.write(&format!("{policy}/scaling_governor"), "performance\n");
    let found = agent.measured(job);
    assert!(warm(&found) < 1_500, "{} ms", warm(&found));
}

#[test]
fn other_lengths_come_back_with_the_rest() {
    let mut agent = Agent::new();
    let context = Context { prompts: vec![4, 64], depths: vec![0, 100] };
    let job = MeasureJob { context, ..short_job(agent.put_tiny(), Runtime::Tract) };
    let id = agent.ask(Request::Measure(Box::new(job)));
    agent.wait_for_stage(id, Stage::Context);
    let Ok(Reply::Measured(found)) = agent.reply(id) else { panic!("not measured") };
    assert_eq!(found.prefill_at.iter().map(|point| point.tokens).collect::<Vec<_>>(), [4, 64]);
    assert_eq!(found.decode_at.iter().map(|point| point.tokens).collect::<Vec<_>>(), [0, 100]);
    assert!(found.prefill_at[0].estimate.median < found.prefill_at[1].estimate.median, "{:?}", found.prefill_at);
    assert!(found.prefill_at.iter().chain(&found.decode_at).all(|point| point.samples_ns.len() >= 9));
}

#[test]
fn others_who_work_are_noticed() {
    let mut agent = Agent::new();
    let mut job = short_job(agent.put_tiny(), Runtime::Tract);
    job.plan.min_time_ms = 400;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let found = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let found = agent.measured(job);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        found
    });
    assert!(found.flags.contains(&Flag::Disturbed), "{found:?}");
    assert!(found.conditions.others_share.is_some_and(|share| share > 0.1), "{:?}", found.conditions);
}

#[test]
fn energy_is_measured_where_there_is_a_meter() {
    let tree = Tree::new();
    let monitor = "sys/class/hwmon/hwmon3";
    let set = |milliamps: u32| drop(tree.write(&format!("{monitor}/curr1_input"), &format!("{milliamps}\n")));
    tree.write(&format!("{monitor}/name"), "ina3221\n");
    tree.write(&format!("{monitor}/in1_label"), "VDD_IN\n");
    tree.write(&format!("{monitor}/in1_input"), "5000\n");
    set(400);
    let mut agent = Agent::with_sensors(tree.path());
    let Ok(Reply::Described(device)) =
        agent.call(Request::Describe { ort: edgewise_protocol::OrtLibrary::Path("/nowhere.so".into()) })
    else {
        panic!("not described")
    };
    assert!(device.power_meter.is_some());
    let job = MeasureJob { energy_ms: 1, ..short_job(agent.put_tiny(), Runtime::Tract) };
    let id = agent.ask(Request::Measure(Box::new(job)));
    agent.wait_for_stage(id, Stage::Load);
    set(1_400);
    agent.wait_for_stage(id, Stage::Energy);
    let Ok(Reply::Measured(found)) = agent.reply(id) else { panic!("not measured") };
    let energy = found.energy.unwrap();
    assert!((energy.idle_watts - 2.0).abs() < 1e-6 && (energy.mean_watts - 7.0).abs() < 1e-6, "{energy:?}");
    assert!(energy.seconds >= 5.0 && energy.seconds < 6.0, "five seconds at least: {energy:?}");
    let expected = 5.0 * energy.seconds / energy.tokens as f64;
    assert!((energy.joules_per_token - expected).abs() < 1e-9 * expected.max(1.0), "{energy:?}");
    assert!(!energy.meter.is_empty() && !energy.blind_spots.is_empty());
}

#[test]
fn no_meter_means_no_energy_and_no_run_for_it() {
    let tree = Tree::new();
    let mut agent = Agent::with_sensors(tree.path());
    let job = MeasureJob { energy_ms: 60_000, ..short_job(agent.put_tiny(), Runtime::Tract) };
    let id = agent.ask(Request::Measure(Box::new(job)));
    let found = eventually("the reply", || match agent.next() {
        AgentMessage::Progress { progress, .. } => {
            assert_ne!(progress.stage, Stage::Energy);
            None
        }
        AgentMessage::Reply { id: got, result: Ok(Reply::Measured(found)) } if got == id => Some(found),
        other => panic!("{other:?}"),
    });
    assert_eq!(found.energy, None);
}
