//! What a device was like around the timed phases: looked at right before and right after, never in between.
//!
//! Contract: readings become [`Conditions`] and flags here, and nowhere else. What a device does not tell is absent and flags
//! nothing.

use crate::{
    measure::Moment,
    sched::{self, Usage},
};
use edgewise_protocol::{Conditions, Flag};
use edgewise_sensors::{Evidence, PowerSource, Root, Sensors, Snapshot, ThrottleBits, evidence, hottest};
use std::{collections::BTreeMap, fs};

/// Share of the processors' time beyond which others disturbed a trial.
const DISTURBING_SHARE: f32 = 0.02;
/// And at least this much of it, in units of 10 ms: both ends of a span are rounded to a unit on every processor, so that less
/// may be no more than rounding.
const DISTURBING_TICKS: u64 = 5;
/// Nanoseconds of a unit of the kernel's processor times.
const TICK_NS: u64 = 10_000_000;
/// A policy whose processors together worked for this share of one processor's time is one that the model ran on.
const BUSY_SHARE: f64 = 0.5;
/// A processor number that no machine has.
const NO_PROCESSOR: u32 = u32::MAX;
/// Memory that should be available, for each byte that an artifact takes.
const AMPLE_MEMORY: f64 = 1.3;

/// Looks at the device for a process that measures.
#[derive(Debug)]
pub(crate) struct Observer {
    root: Root,
    sensors: Sensors,
    processors: Vec<u32>,
}

/// The device and this process at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Look {
    snapshot: Snapshot,
    usage: Usage,
    /// Of each processor that this process may use, where the kernel tells.
    times: BTreeMap<u32, Times>,
}

/// What a processor did since the system started, in units of 10 ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// Worked, for this process or another.
    pub(crate) busy: u64,
    /// Wanted to work while the hypervisor ran something else.
    pub(crate) steal: u64,
    /// All of it.
    pub(crate) total: u64,
}

impl Observer {
    /// Finds the sensors below `root`. `processors` are those that this process may use.
    pub(crate) fn new(root: Root, processors: Vec<u32>) -> Self {
        Self { sensors: Sensors::discover(&root), root, processors }
    }

    /// Reads everything. Counters are read next to the timing, so that reading the sensors is not part of what they count.
    pub(crate) fn look(&self, moment: Moment) -> Look {
        match moment {
            Moment::Before => {
                let snapshot = self.sensors.snapshot();
                Look { snapshot, times: self.times(), usage: sched::usage() }
            }
            Moment::After => {
                let (usage, times) = (sched::usage(), self.times());
                Look { snapshot: self.sensors.snapshot(), usage, times }
            }
        }
    }

    /// Whether some clock follows the load, so that it must be made to rise before anything is timed.
    pub(crate) fn clocks_follow_load(&self) -> bool {
        clocks_follow_load(&self.sensors.snapshot())
    }

    fn times(&self) -> BTreeMap<u32, Times> {
        let mut times = processor_times(&self.root);
        times.retain(|number, _| self.processors.contains(number));
        times
    }
}

/// The times of every processor; empty where they are hidden, as from apps on Android.
pub(crate) fn processor_times(root: &Root) -> BTreeMap<u32, Times> {
    fs::read_to_string(root.path("/proc/stat")).map(|text| text.lines().filter_map(parse_times).collect()).unwrap_or_default()
}

/// A line such as `cpu3 user nice system idle iowait irq softirq steal guest guest_nice`; guests are part of user and nice.
fn parse_times(line: &str) -> Option<(u32, Times)> {
    let (name, rest) = line.split_once(' ')?;
    let number = name.strip_prefix("cpu")?.parse().ok()?;
    let fields: Vec<u64> = rest.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, idle, ..] = fields[..] else { return None };
    let field = |at: usize| fields.get(at).copied().unwrap_or(0);
    let (waiting, irq, softirq, steal) = (field(4), field(5), field(6), field(7));
    let sum = |parts: &[u64]| parts.iter().fold(0_u64, |sum, part| sum.saturating_add(*part));
    let busy = sum(&[user, nice, system, irq, softirq]);
    Some((number, Times { busy, steal, total: sum(&[busy, idle, waiting, steal]) }))
}

/// What this process needs to know beside what it saw.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances {
    /// Memory available before it started, in bytes.
    pub(crate) available_bytes: Option<u64>,
    /// Bytes of the artifact.
    pub(crate) artifact_bytes: u64,
    /// An emulator runs it.
    pub(crate) emulated: bool,
}

/// What the looks before and after each span of timing say. The figures that are told before and after are those of the first
/// and the last look.
pub(crate) fn judge(spans: &[(Look, Look)], circumstances: &Circumstances) -> (Conditions, Vec<Flag>) {
    let mut sum = Sum::default();
    for (before, after) in spans {
        sum.add(before, after);
    }
    let ends = spans.first().zip(spans.last()).map(|((before, _), (_, after))| (&before.snapshot, &after.snapshot));
    let bits = |snapshot: &Snapshot| snapshot.firmware.map(|firmware| firmware.bits.0);
    let conditions = Conditions {
        rested_ms: 0,
        celsius: ends.and_then(|(before, after)| Some([celsius(before)?, celsius(after)?])),
        clock_khz: ends.and_then(|(before, after)| Some([fastest_clock(before)?, fastest_clock(after)?])),
        steady_clock_share: sum.steady,
        throttle_bits: ends.and_then(|(before, after)| Some([bits(before)?, bits(after)?])),
        throttled: sum.throttled,
        governor: ends.and_then(|(_, after)| governor(after)),
        steal_share: (sum.total > 0).then(|| sum.steal as f32 / sum.total as f32),
        others_share: (sum.total > 0).then(|| sum.others as f32 / sum.total as f32),
        involuntary_switches: sum.usage.involuntary_switches,
        major_faults: sum.usage.major_faults,
        available_bytes: circumstances.available_bytes,
    };
    let disturbing =
        |share: Option<f32>, ticks: u64| share.is_some_and(|share| share > DISTURBING_SHARE) && ticks >= DISTURBING_TICKS;
    let low_memory = circumstances
        .available_bytes
        .is_some_and(|available| (available as f64) < AMPLE_MEMORY * circumstances.artifact_bytes as f64);
    let on_battery = ends.is_some_and(|(before, after)| {
        [before, after].iter().any(|snapshot| snapshot.power_source() == Some(PowerSource::Battery))
    });
    let flags = [
        (conditions.major_faults > 0, Flag::Paging),
        (sum.under_voltage, Flag::UnderVoltage),
        // Of all the time of the processors that the model may use, not only of those that it did use: whoever works beside it
        // takes cache and memory bandwidth from it even on another processor.
        (disturbing(conditions.steal_share, sum.steal) || disturbing(conditions.others_share, sum.others), Flag::Disturbed),
        (low_memory, Flag::LowMemory),
        (on_battery, Flag::OnBattery),
        (circumstances.emulated, Flag::Emulated),
    ];
    (conditions, flags.into_iter().filter(|(holds, _)| *holds).map(|(_, flag)| flag).collect())
}

/// What several spans say together.
#[derive(Debug, Default)]
struct Sum {
    usage: Usage,
    steal: u64,
    others: u64,
    total: u64,
    steady: Option<f32>,
    throttled: Option<String>,
    under_voltage: bool,
}

impl Sum {
    fn add(&mut self, before: &Look, after: &Look) {
        let usage = after.usage.since(&before.usage);
        self.usage.cpu_ns += usage.cpu_ns;
        self.usage.involuntary_switches += usage.involuntary_switches;
        self.usage.major_faults += usage.major_faults;

        let times = differences(before, after);
        let busy: u64 = times.values().map(|times| times.busy).sum();
        self.steal += times.values().map(|times| times.steal).sum::<u64>();
        self.total += times.values().map(|times| times.total).sum::<u64>();
        self.others += busy.saturating_sub(usage.cpu_ns.div_ceil(TICK_NS));

        let evidence = evidence(&before.snapshot, &after.snapshot);
        let used = used_processors(&evidence, &times);
        // The fastest of the clocks that were in use: on a board with several it is the busiest cluster's.
        let steady = evidence.clocks.iter().filter(|clock| used.is_empty() || clock.cpus.iter().any(|cpu| used.contains(cpu)));
        if let Some((_, share)) = steady.filter_map(|clock| clock.steady).max_by_key(|(khz, _)| *khz) {
            self.steady = Some(self.steady.unwrap_or(1.0).min(share as f32));
        }
        if self.throttled.is_none() {
            self.throttled = evidence.throttled(&used).map(|throttle| throttle.to_string());
        }
        let under_voltage = ThrottleBits(ThrottleBits::UNDER_VOLTAGE.0 | ThrottleBits::UNDER_VOLTAGE.0 << 16);
        self.under_voltage |= evidence
            .firmware
            .is_some_and(|firmware| !ThrottleBits(firmware.new.0 | firmware.now.0).and(under_voltage).is_empty());
    }
}

fn differences(before: &Look, after: &Look) -> BTreeMap<u32, Times> {
    let difference = |(number, after): (&u32, &Times)| {
        let before = before.times.get(number)?;
        let minus = |after: u64, before: u64| after.saturating_sub(before);
        let times = Times {
            busy: minus(after.busy, before.busy),
            steal: minus(after.steal, before.steal),
            total: minus(after.total, before.total),
        };
        (times.total > 0).then_some((*number, times))
    };
    after.times.iter().filter_map(difference).collect()
}

/// Processors whose clocks bear on the trial: those that share a clock and together worked. Others' clocks come and go with
/// whatever runs there. Empty, which stands for all, where the kernel does not tell what worked.
fn used_processors(evidence: &Evidence, times: &BTreeMap<u32, Times>) -> Vec<u32> {
    if times.is_empty() {
        return Vec::new();
    }
    let work = |cpu: &u32| times.get(cpu).map_or(0.0, |times| times.busy as f64 / times.total as f64);
    let worked = evidence.clocks.iter().filter(|clock| clock.cpus.iter().map(work).sum::<f64>() >= BUSY_SHARE);
    let used: Vec<u32> = worked.flat_map(|clock| clock.cpus.iter().copied()).collect();
    if used.is_empty() { vec![NO_PROCESSOR] } else { used }
}

/// Why the device is slowed down at this moment, if it is.
pub(crate) fn throttled_now(snapshot: &Snapshot) -> Option<String> {
    // Between a look and itself nothing happened; what is left is what is now.
    evidence(snapshot, snapshot).throttled(&[NO_PROCESSOR]).map(|throttle| throttle.to_string())
}

/// Hottest processor, in degrees Celsius.
pub(crate) fn celsius(snapshot: &Snapshot) -> Option<f32> {
    hottest(snapshot).map(|millidegrees| millidegrees as f32 / 1000.0)
}

/// How clocks are chosen; where clusters differ, each way once.
pub(crate) fn governor(snapshot: &Snapshot) -> Option<String> {
    let mut governors: Vec<&str> = snapshot.policies.iter().filter_map(|policy| policy.governor.as_deref()).collect();
    governors.dedup();
    (!governors.is_empty()).then(|| governors.join(","))
}

fn clocks_follow_load(snapshot: &Snapshot) -> bool {
    snapshot.policies.iter().any(|policy| policy.governor.as_deref().is_some_and(|governor| governor != "performance"))
}

fn fastest_clock(snapshot: &Snapshot) -> Option<u32> {
    let fastest = snapshot.policies.iter().max_by_key(|policy| (policy.capacity, policy.hardware_max_khz, policy.current_khz))?;
    fastest.current_khz
}

#[cfg(test)]
#[path = "conditions_tests.rs"]
mod tests;
