//! What a device's state means for measurements: findings with what to do about them, and a score.
//!
//! Contract: pure judgement of what an agent found ([`Health`]) and said of itself. The limits follow the protocol of
//! measurement: what they forbid is what was seen to move medians by more than the percent that separates candidates.

use edgewise_protocol::{ClusterHealth, DeviceDescription, Health, Runtime};
use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Checked, and as it should be.
    Good,
    /// Worth knowing; spoils nothing.
    Note,
    /// Widens intervals or shifts results a little.
    Warning,
    /// What is measured now is not what the device can do.
    Problem,
}

impl Severity {
    fn penalty(self) -> u32 {
        match self {
            Self::Good | Self::Note => 0,
            Self::Warning => 8,
            Self::Problem => 30,
        }
    }

    /// The word for tables.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Finding {
    /// A stable name for programs.
    pub(crate) check: &'static str,
    pub(crate) severity: Severity,
    /// What was seen.
    pub(crate) observed: String,
    /// What it does to measurements.
    pub(crate) meaning: &'static str,
    /// How to mend it; empty where there is nothing to mend.
    pub(crate) remedy: &'static str,
}

/// 100 for a device without a fault; each warning takes 8, each problem 30.
pub(crate) fn score(findings: &[Finding]) -> u32 {
    100_u32.saturating_sub(findings.iter().map(|f| f.severity.penalty()).sum())
}

/// What a score says.
pub(crate) fn verdict(score: u32) -> &'static str {
    match score {
        90.. => "fit for measurements",
        70..=89 => "usable: intervals will be wider than they need be",
        40..=69 => "doubtful: small differences cannot be told apart",
        _ => "not fit: results would not be this device's",
    }
}

/// The flags that a session on this device carries: its problems.
pub(crate) fn session_flags(findings: &[Finding]) -> Vec<String> {
    findings.iter().filter(|f| f.severity == Severity::Problem).map(|f| f.check.to_owned()).collect()
}

/// Judges a device, the worst first.
pub(crate) fn examine(health: &Health, description: &DeviceDescription) -> Vec<Finding> {
    let mut out = Vec::new();
    clocks(health, &mut out);
    heat(health, &mut out);
    load(health, &mut out);
    memory(health, &mut out);
    power(health, &mut out);
    machine(health, &mut out);
    software(health, description, &mut out);
    out.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    out
}

fn push(
    out: &mut Vec<Finding>,
    check: &'static str,
    severity: Severity,
    observed: String,
    meaning: &'static str,
    remedy: &'static str,
) {
    let remedy = if severity == Severity::Good { "" } else { remedy };
    out.push(Finding { check, severity, observed, meaning, remedy });
}

/// `problem` or `warning` where a value reaches these limits.
fn grade(value: f32, warning: f32, problem: f32) -> Severity {
    if value >= problem {
        Severity::Problem
    } else if value >= warning {
        Severity::Warning
    } else {
        Severity::Good
    }
}

fn percent(share: f32) -> String {
    format!("{:.1} %", share * 100.0)
}

fn clocks(health: &Health, out: &mut Vec<Finding>) {
    let governors: Vec<(&ClusterHealth, &str)> =
        health.clusters.iter().filter_map(|c| Some((c, c.governor.as_deref()?))).collect();
    if governors.is_empty() {
        push(
            out,
            "governor",
            Severity::Note,
            "the system does not tell how it chooses clocks".into(),
            "throttling shows in the latencies alone",
            "",
        );
    } else {
        let loose: Vec<String> = governors
            .iter()
            .filter(|(_, governor)| *governor != "performance")
            .map(|(cluster, governor)| format!("processors {}: {governor}", cluster.processors))
            .collect();
        let (severity, observed) =
            if loose.is_empty() { (Severity::Good, "performance".to_owned()) } else { (Severity::Warning, loose.join("; ")) };
        push(
            out,
            "governor",
            severity,
            observed,
            "the clock follows the load: warming up takes longer and short runs are slower than long ones",
            "echo performance | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor (until the next start); on a \
             Jetson: sudo jetson_clocks",
        );
    }
    for cluster in &health.clusters {
        if let (Some(max), Some(hardware)) = (cluster.max_khz, cluster.hardware_max_khz)
            && max < hardware
        {
            push(
                out,
                "clock_capped",
                Severity::Warning,
                format!("processors {}: at most {} of {} MHz", cluster.processors, max / 1000, hardware / 1000),
                "latencies are those of the capped clock",
                "raise scaling_max_freq, or choose a higher power mode, unless the cap is how the product will run",
            );
        }
    }
}

fn heat(health: &Health, out: &mut Vec<Finding>) {
    if let Some(hottest) = health.hottest_celsius {
        let trip = health.passive_trip_celsius.filter(|trip| *trip > 0.0);
        let severity = match trip {
            Some(trip) if hottest >= trip - 2.0 => Severity::Problem,
            Some(trip) if hottest >= trip - 12.0 => Severity::Warning,
            Some(_) => Severity::Good,
            None => grade(hottest, 70.0, 85.0),
        };
        let limit = trip.map(|t| format!(", slowed down from {t:.0} °C on")).unwrap_or_default();
        push(
            out,
            "temperature",
            severity,
            format!("{hottest:.1} °C{limit}"),
            "near its limit the processor is slowed down in the middle of a run",
            "add a heat sink or a fan, give it air, let it cool",
        );
    }
    if !health.active_cooling.is_empty() {
        push(
            out,
            "cooling",
            Severity::Problem,
            health.active_cooling.join(", "),
            "the kernel is slowing something down right now",
            "let the device cool; add a heat sink or a fan",
        );
    }
    if let Some(bits) = health.throttle_bits {
        let now = [(0, "under-voltage"), (1, "clock capped"), (2, "throttled"), (3, "soft temperature limit")];
        let of = |shift: u32| {
            let names: Vec<&str> = now.iter().filter(|(bit, _)| bits >> (bit + shift) & 1 == 1).map(|(_, name)| *name).collect();
            names.join(", ")
        };
        let (present, past) = (of(0), of(16));
        let (severity, observed) = match (present.is_empty(), past.is_empty()) {
            (false, _) => (Severity::Problem, format!("{present}, now")),
            (true, false) => (Severity::Warning, format!("{past}, since the last start")),
            (true, true) => (Severity::Good, "never since the last start".to_owned()),
        };
        push(
            out,
            "firmware_throttling",
            severity,
            observed,
            "the firmware lowers the clock, whatever the system says it is",
            "under-voltage: the board's own power supply and a short cable; otherwise: a heat sink or a fan. Restart to clear",
        );
    }
    if let Some(status) = health.android_thermal_status {
        let severity = match status {
            0 => Severity::Good,
            1 => Severity::Warning,
            _ => Severity::Problem,
        };
        push(
            out,
            "thermal_status",
            severity,
            format!("Android's thermal status is {status}"),
            "from 1 (light) on Android lowers clocks",
            "take the phone out of its case, screen off, let it cool for ten minutes",
        );
    }
}

fn load(health: &Health, out: &mut Vec<Finding>) {
    if let Some(busy) = health.busy_share {
        push(
            out,
            "other_load",
            grade(busy, 0.03, 0.15),
            format!("{} of the processors' time was in use while nothing was measured", percent(busy)),
            "other programs take processor time and caches from what is timed",
            "find them with `top`; stop updates, desktops and browsers while measuring",
        );
    }
    if let Some(steal) = health.steal_share.filter(|steal| *steal > 0.0) {
        push(
            out,
            "steal",
            grade(steal, 0.005, 0.03),
            percent(steal),
            "a hypervisor gives the processors to other machines",
            "measure on a machine of its own",
        );
    }
    for (check, pressure, limits) in [
        // What went on in the last ten seconds may have been the host's own work; what is going on now is `other_load`.
        ("cpu_pressure", health.cpu_pressure, [0.10, f32::INFINITY]),
        ("memory_pressure", health.memory_pressure, [0.005, 0.05]),
        ("io_pressure", health.io_pressure, [0.05, 0.30]),
    ] {
        let Some(pressure) = pressure.filter(|pressure| *pressure >= limits[0]) else { continue };
        push(
            out,
            check,
            grade(pressure, limits[0], limits[1]),
            format!("something waited in {} of the last ten seconds", percent(pressure)),
            "programs wait for one another; so will the one that is timed",
            "wait until the device is idle",
        );
    }
    let spread = health.spin_spread;
    push(
        out,
        "jitter",
        grade(spread, 0.01, 0.04),
        format!("the same computation varies by {}", percent(spread)),
        "medians move by about as much between runs",
        "look at the other findings first; without any, the machine is shared or its clock moves",
    );
}

fn memory(health: &Health, out: &mut Vec<Finding>) {
    let mb = |bytes: u64| bytes / 1_000_000;
    if let (Some(total), Some(available)) = (health.memory_bytes, health.available_bytes) {
        let severity = match (available, available.saturating_mul(4) < total) {
            (..200_000_000, _) => Severity::Problem,
            (_, true) => Severity::Warning,
            _ => Severity::Good,
        };
        push(
            out,
            "memory",
            severity,
            format!("{} of {} MB available", mb(available), mb(total)),
            "models that do not fit are killed, or page while they are timed",
            "stop other programs",
        );
    }
    if let Some(swapped) = health.swapped_bytes.filter(|swapped| *swapped > 64 << 20) {
        push(
            out,
            "swap",
            Severity::Warning,
            format!("{} MB are swapped out", mb(swapped)),
            "what is timed may be read back from storage meanwhile",
            "free memory, then: sudo swapoff -a && sudo swapon -a",
        );
    }
    if health.free_bytes < 1_000_000_000 {
        push(
            out,
            "storage",
            Severity::Warning,
            format!("{} MB free where models are kept", mb(health.free_bytes)),
            "the super-network may not fit; then every candidate travels whole",
            "free space, or name another directory with `store` in devices.toml",
        );
    }
    if health.store_in_memory {
        push(
            out,
            "store_in_memory",
            Severity::Warning,
            "models are kept on a tmpfs".into(),
            "they take the memory that they need to run",
            "name a directory on storage with `store` in devices.toml",
        );
    }
}

fn power(health: &Health, out: &mut Vec<Finding>) {
    if health.on_battery == Some(true) {
        let percent = health.battery_percent;
        push(
            out,
            "battery",
            if percent.is_some_and(|p| p < 20) { Severity::Problem } else { Severity::Warning },
            percent.map_or_else(|| "on battery".to_owned(), |p| format!("on battery, {p} %")),
            "many devices lower their clocks on battery, most when it is low",
            "plug it in; for energy, unplug it only for that run",
        );
    }
    match &health.power_meter {
        Some([name, blind]) => {
            push(out, "power_meter", Severity::Good, format!("{name}; does not see {blind}"), "energy can be measured", "");
        }
        None => push(out, "power_meter", Severity::Note, "none".into(), "no energy is measured", ""),
    }
    if let Some(mode) = &health.power_mode {
        push(
            out,
            "power_mode",
            Severity::Note,
            mode.clone(),
            "the front is this power mode's",
            "sudo nvpmodel -m MODE, then start the study anew",
        );
    }
}

fn machine(health: &Health, out: &mut Vec<Finding>) {
    if health.allowed_processors < health.processors {
        let fastest_missing = health.clusters.first().is_some_and(|fastest| fastest.allowed == 0);
        push(
            out,
            "allowed_processors",
            if fastest_missing { Severity::Problem } else { Severity::Warning },
            format!("{} of {}", health.allowed_processors, health.processors),
            "the agent is kept off some processors (a container, or Android's background group)",
            "on Android: termux-wake-lock, and keep Termux in the foreground",
        );
    }
    if health.emulated {
        push(
            out,
            "emulated",
            Severity::Problem,
            "an emulator runs the agent".into(),
            "latencies are the emulator's",
            "measure on the board itself",
        );
    }
    if health.virtual_machine {
        push(
            out,
            "virtual_machine",
            Severity::Note,
            "a hypervisor runs the system".into(),
            "clocks, heat and neighbours are out of sight",
            "",
        );
    }
    if health.clock_overhead_ns > 2_000 {
        push(
            out,
            "clock",
            Severity::Warning,
            format!("reading the clock takes {} ns", health.clock_overhead_ns),
            "the system fell back to a slow clock source",
            "see /sys/devices/system/clocksource/clocksource0/available_clocksource",
        );
    }
    if let Some(holder) = &health.lease {
        push(
            out,
            "lease",
            Severity::Note,
            format!("{holder} is measuring"),
            "what was seen here is partly their load; measurements take turns",
            "",
        );
    }
}

fn software(_health: &Health, description: &DeviceDescription, out: &mut Vec<Finding>) {
    for status in &description.runtimes {
        let name = status.runtime.name();
        match (&status.version, &status.problem) {
            (Some(version), None) => {
                push(out, "runtime", Severity::Good, format!("{name} {version}"), "works in a process of its own", "");
            }
            (_, Some(problem)) => {
                let remedy = if status.runtime == Runtime::Ort { "host deploy --ort-library FILE" } else { "" };
                push(
                    out,
                    "runtime",
                    Severity::Note,
                    format!("without {name}: {problem}"),
                    "candidates run on the other runtime",
                    remedy,
                );
            }
            (None, None) => {}
        }
    }
}

#[cfg(test)]
#[path = "doctor_tests.rs"]
pub(crate) mod tests;
