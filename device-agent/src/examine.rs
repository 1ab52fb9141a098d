//! What about the device's state would spoil a measurement: facts for `device doctor`.
//!
//! Contract: takes a few seconds, changes nothing, and reports only what was read or measured. What it means is the host's to
//! say.

use crate::{
    cancel::Cancel,
    clock::{RawClock, TickClock},
    error::{io_error, wire},
    lease::Claim,
    limits::{IDLE_WATCH, SPIN_WATCH},
    sched, stats,
    store::Store,
    sys,
    trial::Device,
};
use crossbeam_channel::RecvTimeoutError;
use edgewise_protocol::{ClusterHealth, ErrorCode, Health, WireError};
use edgewise_sensors::{
    Board, CoolingKind, Policy, PowerSource, Root, Snapshot, Stalls, SupplyKind, TripKind, ZoneKind, evidence,
};
use std::{
    fs,
    hint::black_box,
    time::{Duration, Instant},
};

/// Pairs of readings of the clock of which the closest counts.
const CLOCK_PAIRS: usize = 1_000;
/// How long one of the repeated computations takes, in nanoseconds: long against the clock, short against a time slice.
const SPIN_NS: u64 = 1_000_000;
/// Words in the firmware's names of virtual machines.
const VIRTUAL: [&str; 9] =
    ["QEMU", "KVM", "VMware", "VirtualBox", "Xen", "Amazon EC2", "Google Compute Engine", "Virtual Machine", "Bochs"];

/// Looks at the device while it does nothing, then while it repeats one computation.
///
/// # Errors
/// [`ErrorCode::Io`] if the store's disk cannot be asked, [`ErrorCode::Cancelled`].
pub(crate) fn examine(
    device: &Device,
    store: &Store,
    claim: &Claim,
    emulated: bool,
    cancel: &Cancel,
) -> Result<Health, WireError> {
    let lease = claim.holder(store.root());
    let before = device.snapshot();
    if cancel.signal().recv_timeout(IDLE_WATCH) == Err(RecvTimeoutError::Disconnected) {
        return Err(wire(ErrorCode::Cancelled, "given up by the host"));
    }
    let now = device.snapshot();
    let idle = evidence(&before, &now);
    let spin_spread = spin_spread(SPIN_WATCH, cancel)?;

    let fail = |e: std::io::Error| io_error("ask for the file system of", store.root(), &e);
    let root = device.root();
    let board = Board::read(root);
    let allowed = sched::allowed_processors();
    let share = |percent: f64| (percent / 100.0) as f32;
    let pressure = |stalls: Option<Stalls>| stalls.map(|stalls| share(stalls.some.avg10_percent));
    let battery = now.supplies.iter().find(|supply| supply.kind == SupplyKind::Battery);
    Ok(Health {
        clusters: clusters(&now, &allowed),
        processors: online(root).unwrap_or(allowed.len() as u32),
        allowed_processors: allowed.len() as u32,
        hottest_celsius: crate::conditions::celsius(&now),
        passive_trip_celsius: passive_trip(&now),
        active_cooling: active_cooling(&now),
        throttle_bits: now.firmware.map(|firmware| firmware.bits.0),
        android_thermal_status: now.android.as_ref().map(|android| android.status as u8),
        busy_share: idle.busy_share.map(|share| share as f32),
        steal_share: idle.steal_share.map(|share| share as f32),
        cpu_pressure: pressure(now.pressure.cpu),
        memory_pressure: pressure(now.pressure.memory),
        io_pressure: pressure(now.pressure.io),
        memory_bytes: now.memory.total_bytes,
        available_bytes: now.memory.available_bytes,
        swapped_bytes: now
            .memory
            .swap_total_bytes
            .zip(now.memory.swap_free_bytes)
            .map(|(total, free)| total.saturating_sub(free)),
        free_bytes: sys::free_bytes(store.root()).map_err(fail)?,
        store_in_memory: sys::is_in_memory(store.root()).map_err(fail)?,
        on_battery: now.power_source().map(|source| source == PowerSource::Battery),
        battery_percent: battery.and_then(|battery| battery.percent),
        power_meter: device.power_meter().map(|meter| [meter.name().to_owned(), meter.blind_spots().to_owned()]),
        power_mode: board.power_mode,
        clock_overhead_ns: clock_overhead(),
        spin_spread,
        emulated,
        virtual_machine: is_virtual(root),
        lease,
    })
}

/// The fastest first.
fn clusters(snapshot: &Snapshot, allowed: &[u32]) -> Vec<ClusterHealth> {
    let mut policies: Vec<&Policy> = snapshot.policies.iter().collect();
    policies.sort_by_key(|policy| std::cmp::Reverse((policy.capacity, policy.hardware_max_khz)));
    let health = |policy: &Policy| ClusterHealth {
        processors: ranges(&policy.cpus),
        governor: policy.governor.clone(),
        clock_khz: policy.current_khz,
        max_khz: policy.max_khz,
        hardware_max_khz: policy.hardware_max_khz,
        allowed: policy.cpus.iter().filter(|cpu| allowed.contains(cpu)).count() as u32,
    };
    policies.into_iter().map(health).collect()
}

/// Numbers in ascending order as the kernel lists them: `0-3,6`.
fn ranges(numbers: &[u32]) -> String {
    let mut parts = Vec::new();
    let mut rest = numbers;
    while let Some((&first, _)) = rest.split_first() {
        let length = rest.iter().zip(first..).take_while(|(number, expected)| **number == *expected).count();
        parts.push(match length {
            1 => first.to_string(),
            n => format!("{first}-{}", rest[n - 1]),
        });
        rest = &rest[length..];
    }
    parts.join(",")
}

/// Processors that are switched on.
fn online(root: &Root) -> Option<u32> {
    let text = fs::read_to_string(root.path("/sys/devices/system/cpu/online")).ok()?;
    let count = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)
    };
    text.trim().split(',').map(count).try_fold(0_u32, |sum, part| sum.checked_add(part?))
}

/// Where the kernel begins to slow a processor down, in degrees Celsius.
fn passive_trip(snapshot: &Snapshot) -> Option<f32> {
    let zones = snapshot.zones.iter().filter(|zone| zone.kind == ZoneKind::Processor);
    let trips = zones.flat_map(|zone| &zone.trips).filter(|trip| trip.kind == TripKind::Passive);
    trips.map(|trip| trip.millidegrees).min().map(|millidegrees| millidegrees as f32 / 1000.0)
}

/// A fan that turns slows nothing down.
fn active_cooling(snapshot: &Snapshot) -> Vec<String> {
    let working = |device: &&edgewise_sensors::CoolingDevice| {
        device.kind == CoolingKind::Processor && device.state.is_some_and(|state| state > 0)
    };
    snapshot.cooling.iter().filter(working).map(|device| device.name.clone()).collect()
}

/// Nanoseconds between two readings of the clock, at best.
fn clock_overhead() -> u64 {
    let pair = |_| {
        let first = RawClock.now();
        RawClock.since(first).0
    };
    (0..CLOCK_PAIRS).map(pair).min().unwrap_or(0)
}

/// The spread of a computation's times, repeated for `time`.
fn spin_spread(time: Duration, cancel: &Cancel) -> Result<f32, WireError> {
    let spin = |rounds: u64| {
        let start = RawClock.now();
        let mut x = rounds;
        for _ in 0..rounds {
            x = black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
        black_box(x);
        RawClock.since(start).0
    };
    let mut rounds = 1_000;
    while spin(rounds) < SPIN_NS {
        rounds *= 2;
    }
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed() < time {
        if cancel.is_cancelled() {
            return Err(wire(ErrorCode::Cancelled, "given up by the host"));
        }
        times.push(spin(rounds));
    }
    stats::spread(&times).map(|spread| spread as f32).ok_or_else(|| wire(ErrorCode::Internal, "a computation took no time"))
}

/// Whether the processor, the kernel or the firmware says that a hypervisor runs the system.
fn is_virtual(root: &Root) -> bool {
    let read = |path: &str| fs::read_to_string(root.path(path)).unwrap_or_default();
    let flags = |line: &str| line.starts_with("flags") && line.split_whitespace().any(|flag| flag == "hypervisor");
    let firmware = ["sys_vendor", "product_name"].map(|file| read(&format!("/sys/class/dmi/id/{file}"))).join(" ");
    read("/proc/cpuinfo").lines().any(flags)
        || !read("/sys/hypervisor/type").trim().is_empty()
        || VIRTUAL.iter().any(|word| firmware.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel;

    #[test]
    fn processors_are_listed_as_the_kernel_does() {
        assert_eq!(ranges(&[0, 1, 2, 3]), "0-3");
        assert_eq!(ranges(&[0, 2, 3, 7]), "0,2-3,7");
        assert_eq!(ranges(&[]), "");
    }

    #[test]
    fn processors_that_are_on_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("sys/devices/system/cpu");
        fs::create_dir_all(&folder).unwrap();
        let count = |text: &str| {
            fs::write(folder.join("online"), text).unwrap();
            online(&Root::at(dir.path()))
        };
        assert_eq!(count("0-3\n"), Some(4));
        assert_eq!(count("0,2-4\n"), Some(4));
        for wrong in ["", "x", "4-2", "0-4294967295,1"] {
            assert_eq!(count(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn virtual_machines_are_told_by_any_of_three_signs() {
        let dir = tempfile::tempdir().unwrap();
        let is = || is_virtual(&Root::at(dir.path()));
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert!(!is());
        write("proc/cpuinfo", "model name: hypervisor\nflags\t\t: fpu vme\n");
        assert!(!is());
        write("proc/cpuinfo", "flags\t\t: fpu hypervisor vme\n");
        assert!(is());
        write("proc/cpuinfo", "");
        write("sys/class/dmi/id/sys_vendor", "QEMU\n");
        assert!(is());
        write("sys/class/dmi/id/sys_vendor", "Raspberry Pi\n");
        write("sys/hypervisor/type", "xen\n");
        assert!(is());
    }

    #[test]
    fn a_computation_and_the_clock_are_timed() {
        let (canceller, cancel) = cancel::pair();
        let spread = spin_spread(Duration::from_millis(30), &cancel).unwrap();
        assert!((0.0..10.0).contains(&spread), "{spread}");
        assert!(clock_overhead() < 1_000_000);
        drop(canceller);
        assert_eq!(spin_spread(Duration::from_secs(9), &cancel).unwrap_err().code, ErrorCode::Cancelled);
    }
}
