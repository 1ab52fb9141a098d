//! What two snapshots say about the time between them: was the device the same all along?
//!
//! Contract: only what both snapshots tell is compared. Nothing here decides what to do about it; [`Evidence::throttled`] names
//! what would spoil a trial.

use crate::{
    android::ThermalStatus,
    cooling::CoolingKind,
    cpufreq::{Policy, TimeInState},
    firmware::ThrottleBits,
    load::CpuTimes,
    pressure::Stalls,
    snapshot::{Snapshot, hottest},
};
use std::fmt;

/// Share of the time that a clock must have been at one frequency to count as steady.
pub const STEADY_SHARE: f64 = 0.95;
/// Time that must have been seen to judge a clock by shares, in milliseconds: the statistics count in 10 ms.
const JUDGED_MS: u64 = 200;

/// What happened between two snapshots.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// Clocks whose statistics both snapshots hold.
    pub clocks: Vec<ClockEvidence>,
    /// The hottest processor before and after, in thousandths of a degree Celsius.
    pub hottest_millidegrees: (Option<i32>, Option<i32>),
    /// Cooling devices that were at work before or after, fans and screens among them.
    pub cooling: Vec<CoolingEvidence>,
    /// The Raspberry Pi's firmware bits.
    pub firmware: Option<ThrottleBitsEvidence>,
    /// Events and alarms of the supply that are new.
    pub over_current: Vec<OverCurrentEvidence>,
    /// Android's thermal status before and after.
    pub android: (Option<ThermalStatus>, Option<ThermalStatus>),
    /// How much longer work waited.
    pub pressure: PressureIncrease,
    /// Share of all processors' time that the hypervisor took, from 0 to 1.
    pub steal_share: Option<f64>,
    /// Share of all processors' time that was worked, from 0 to 1.
    pub busy_share: Option<f64>,
    /// Policies whose governor is another one.
    pub governor_changed: Vec<u32>,
    /// Whether the device runs from something else than before; `None` where it does not tell.
    pub power_source_changed: Option<bool>,
}

/// What a policy's clock did.
#[derive(Debug, Clone, PartialEq)]
pub struct ClockEvidence {
    /// The policy's number.
    pub policy: u32,
    /// Its processors.
    pub cpus: Vec<u32>,
    /// Time that the statistics cover, in milliseconds.
    pub covered_ms: u64,
    /// The frequency it was at most of the time, in kHz, and the share of the time it was, from 0 to 1. Absent without statistics.
    pub steady: Option<(u32, f64)>,
    /// The highest frequency it was at, in kHz, and the share of the time it was, from 0 to 1. Absent without statistics.
    pub top: Option<(u32, f64)>,
    /// The highest frequency that was allowed, in kHz, before and after.
    pub max_khz: (Option<u32>, Option<u32>),
}

impl ClockEvidence {
    /// Whether the clock was seen long enough, and was at no frequency for [`STEADY_SHARE`] of the time.
    pub fn is_unsteady(&self) -> bool {
        self.covered_ms >= JUDGED_MS && self.steady.is_some_and(|(_, share)| share < STEADY_SHARE)
    }
}

/// A cooling device that was at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoolingEvidence {
    /// Its type.
    pub name: String,
    /// What it acts on.
    pub kind: CoolingKind,
    /// Its state before and after.
    pub state: (Option<u32>, Option<u32>),
}

/// What the Raspberry Pi's firmware said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThrottleBitsEvidence {
    /// Set after and not before. A bit "since start" among them proves an event in between.
    pub new: ThrottleBits,
    /// Of the bits that say what is now: set before or after.
    pub now: ThrottleBits,
    /// Of the bits "since start": those that could not show an event, since they were set already or are unknown.
    pub blind: ThrottleBits,
}

/// An event or an alarm of the supply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverCurrentEvidence {
    /// A counter went up.
    Events {
        /// The counter.
        name: String,
        /// By how much.
        count: u64,
        /// Whether such an event throttles the chip.
        throttles: Option<bool>,
    },
    /// An alarm is on after.
    Alarm {
        /// The rail.
        label: String,
    },
}

/// How much longer some task waited, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PressureIncrease {
    /// For a processor.
    pub cpu_us: Option<u64>,
    /// For memory.
    pub memory_us: Option<u64>,
    /// For storage.
    pub io_us: Option<u64>,
}

/// Why the time between two snapshots is no fair measure of the device.
#[derive(Debug, Clone, PartialEq)]
pub enum Throttle {
    /// A clock was at its usual frequency for less than [`STEADY_SHARE`] of the time.
    UnsteadyClock {
        /// The policy.
        policy: u32,
        /// The frequency it was at most of the time, in kHz.
        khz: u32,
        /// For which share of the time.
        share: f64,
    },
    /// The highest frequency allowed is another one.
    LimitMoved {
        /// The policy.
        policy: u32,
        /// Before, in kHz.
        before_khz: u32,
        /// After, in kHz.
        after_khz: u32,
    },
    /// The kernel slowed the processors down against heat.
    Cooling {
        /// The cooling device.
        name: String,
        /// How hard it worked, the higher of before and after.
        state: u32,
    },
    /// The Raspberry Pi's firmware set these bits.
    Firmware(ThrottleBits),
    /// The supply was too weak.
    OverCurrent {
        /// The counter or the rail.
        name: String,
    },
    /// Android throttled the device.
    Android(ThermalStatus),
}

impl fmt::Display for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnsteadyClock { policy, khz, share } => {
                write!(f, "clock of policy {policy} at {} MHz for only {:.0} % of the time", khz / 1_000, share * 100.0)
            }
            Self::LimitMoved { policy, before_khz, after_khz } => {
                write!(f, "clock limit of policy {policy} moved from {} to {} MHz", before_khz / 1_000, after_khz / 1_000)
            }
            Self::Cooling { name, state } => write!(f, "cooling device {name} in state {state}"),
            Self::Firmware(bits) => write!(f, "firmware: {bits}"),
            Self::OverCurrent { name } => write!(f, "over-current on {name}"),
            Self::Android(status) => write!(f, "thermal status {status}"),
        }
    }
}

impl Evidence {
    /// All reasons to distrust a trial that ran on the processors `cpus` (empty: on any). The clocks of other processors come
    /// and go with the load and say nothing.
    pub fn reasons(&self, cpus: &[u32]) -> Vec<Throttle> {
        let mut reasons = Vec::new();
        for clock in self.clocks.iter().filter(|clock| cpus.is_empty() || clock.cpus.iter().any(|cpu| cpus.contains(cpu))) {
            if let (true, Some((khz, share))) = (clock.is_unsteady(), clock.steady) {
                reasons.push(Throttle::UnsteadyClock { policy: clock.policy, khz, share });
            }
            if let (Some(before_khz), Some(after_khz)) = clock.max_khz
                && before_khz != after_khz
            {
                reasons.push(Throttle::LimitMoved { policy: clock.policy, before_khz, after_khz });
            }
        }
        for device in self.cooling.iter().filter(|device| device.kind == CoolingKind::Processor) {
            let state = device.state.0.max(device.state.1).unwrap_or(0);
            reasons.push(Throttle::Cooling { name: device.name.clone(), state });
        }
        if let Some(firmware) = self.firmware {
            let bits = ThrottleBits(firmware.new.0 | firmware.now.0);
            if !bits.is_empty() {
                reasons.push(Throttle::Firmware(bits));
            }
        }
        for event in &self.over_current {
            match event {
                OverCurrentEvidence::Events { throttles: Some(false), .. } => {}
                OverCurrentEvidence::Events { name, .. } | OverCurrentEvidence::Alarm { label: name } => {
                    reasons.push(Throttle::OverCurrent { name: name.clone() });
                }
            }
        }
        if let Some(status) = self.android.0.max(self.android.1).filter(|status| *status > ThermalStatus::None) {
            reasons.push(Throttle::Android(status));
        }
        reasons
    }

    /// The first of [`Self::reasons`].
    pub fn throttled(&self, cpus: &[u32]) -> Option<Throttle> {
        self.reasons(cpus).into_iter().next()
    }
}

/// Compares two snapshots of one device.
pub fn evidence(before: &Snapshot, after: &Snapshot) -> Evidence {
    let times = after.load.times.zip(before.load.times).and_then(|(after, before)| after.since(&before));
    let share = |part: fn(&CpuTimes) -> u64| times.filter(|t| t.total() > 0).map(|t| part(&t) as f64 / t.total() as f64);
    let same_policies =
        || after.policies.iter().filter_map(|now| Some((before.policies.iter().find(|p| p.number == now.number)?, now)));
    Evidence {
        clocks: same_policies().map(|(then, now)| clock(then, now)).collect(),
        hottest_millidegrees: (hottest(before), hottest(after)),
        cooling: cooling(before, after),
        firmware: firmware(before, after),
        over_current: over_current(before, after),
        android: (before.android.as_ref().map(|a| a.status), after.android.as_ref().map(|a| a.status)),
        pressure: PressureIncrease {
            cpu_us: longer(before.pressure.cpu, after.pressure.cpu),
            memory_us: longer(before.pressure.memory, after.pressure.memory),
            io_us: longer(before.pressure.io, after.pressure.io),
        },
        steal_share: share(|times| times.steal),
        busy_share: share(|times| times.busy),
        governor_changed: same_policies()
            .filter(|(then, now)| then.governor.is_some() && now.governor.is_some() && then.governor != now.governor)
            .map(|(_, now)| now.number)
            .collect(),
        power_source_changed: before.power_source().zip(after.power_source()).map(|(then, now)| then != now),
    }
}

fn clock(then: &Policy, now: &Policy) -> ClockEvidence {
    let spent = now.time_in_state.as_ref().zip(then.time_in_state.as_ref()).and_then(|(now, then)| now.since(then));
    let rows = spent.map(|spent| spent.0).unwrap_or_default();
    let total = rows.iter().fold(0_u64, |sum, (_, units)| sum.saturating_add(*units));
    let share = |(khz, units): &(u32, u64)| (*khz, *units as f64 / total as f64);
    let used = || rows.iter().filter(|(_, units)| *units > 0);
    ClockEvidence {
        policy: now.number,
        cpus: now.cpus.clone(),
        covered_ms: total.saturating_mul(TimeInState::UNIT_MS),
        steady: used().max_by_key(|(_, units)| *units).map(share),
        top: used().max_by_key(|(khz, _)| *khz).map(share),
        max_khz: (then.max_khz, now.max_khz),
    }
}

/// Devices are paired by type and, among those of one type, by order.
fn cooling(before: &Snapshot, after: &Snapshot) -> Vec<CoolingEvidence> {
    let state = |snapshot: &Snapshot, name: &str, nth: usize| {
        snapshot.cooling.iter().filter(|device| device.name == name).nth(nth).and_then(|device| device.state)
    };
    let mut found = Vec::new();
    for (n, device) in after.cooling.iter().enumerate() {
        let nth = after.cooling.iter().take(n).filter(|other| other.name == device.name).count();
        let state = (state(before, &device.name, nth), device.state);
        if state.0.max(state.1).unwrap_or(0) > 0 {
            found.push(CoolingEvidence { name: device.name.clone(), kind: device.kind, state });
        }
    }
    found
}

fn firmware(before: &Snapshot, after: &Snapshot) -> Option<ThrottleBitsEvidence> {
    let (before, after) = (before.firmware?, after.firmware?);
    let known = before.known.and(after.known);
    let (then, now) = (before.bits.and(known), after.bits.and(known));
    Some(ThrottleBitsEvidence {
        new: now.without(then),
        now: ThrottleBits(then.0 | now.0).and(ThrottleBits::NOW),
        blind: ThrottleBits(then.0 | !known.0).and(ThrottleBits::SINCE_START),
    })
}

fn over_current(before: &Snapshot, after: &Snapshot) -> Vec<OverCurrentEvidence> {
    let (then, now) = (&before.over_current, &after.over_current);
    let events = now.events.iter().filter_map(|counter| {
        let earlier = then.events.iter().find(|other| other.name == counter.name)?;
        let count = counter.count.checked_sub(earlier.count).filter(|count| *count > 0)?;
        Some(OverCurrentEvidence::Events { name: counter.name.clone(), count, throttles: counter.throttles })
    });
    let alarms = now.alarms.iter().filter(|alarm| alarm.active);
    events.chain(alarms.map(|alarm| OverCurrentEvidence::Alarm { label: alarm.label.clone() })).collect()
}

fn longer(before: Option<Stalls>, after: Option<Stalls>) -> Option<u64> {
    after?.some.total_us.checked_sub(before?.some.total_us)
}
