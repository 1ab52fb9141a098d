//! What a profile says of a kind of board, against what a device is.
//!
//! Contract: pure judgement, as in [`crate::doctor`], of what only the kind of board tells: a sensor that such boards have, a
//! core that is switched off.

use crate::doctor::{Finding, Severity};
use edgewise_protocol::{DeviceDescription, Health};
use edgewise_targets::{Board, Profile, Sensor};

/// Judges a device by its profile.
pub(crate) fn compare(profile: &Profile, health: &Health, description: &DeviceDescription) -> Vec<Finding> {
    let missing = profile.sensors.iter().copied().filter(|&sensor| !tells(health, sensor));
    let (meters, others): (Vec<Sensor>, Vec<Sensor>) = missing.partition(|&sensor| is_meter(sensor));
    let names = |sensors: &[Sensor]| sensors.iter().map(|s| s.name()).collect::<Vec<_>>().join(", ");
    let mut out = Vec::new();
    if !others.is_empty() {
        out.push(Finding {
            check: "sensors",
            severity: Severity::Warning,
            observed: format!("no {}, which a {} has", names(&others), profile.name),
            meaning: "throttling and heat may go unnoticed",
            remedy: "see whether the agent's user may read them, and whether the target is the right one",
        });
    }
    if !meters.is_empty() {
        out.push(Finding {
            check: "power_meters",
            severity: Severity::Note,
            observed: format!("no {}, which a {} has", names(&meters), profile.name),
            meaning: "energy is not measured",
            remedy: "see whether the agent's user may read them",
        });
    }
    let model = description.fingerprint.get("model").map(String::as_str).unwrap_or_default();
    let known: Vec<&Board> = profile.boards_of(model).collect();
    if !known.is_empty() && known.iter().all(|board| board.cores() != health.processors) {
        let most = known.iter().map(|board| board.cores()).max().unwrap_or_default();
        out.push(Finding {
            check: "cores",
            severity: Severity::Warning,
            observed: format!("{} of {most} cores are on ({})", health.processors, known[0].processors()),
            meaning: "a board like this one, with all its cores, is faster",
            remedy: "look at its power mode, and at isolcpus= and maxcpus= of its kernel",
        });
    }
    out
}

fn is_meter(sensor: Sensor) -> bool {
    matches!(sensor, Sensor::Ina3221 | Sensor::Pmic | Sensor::Rapl)
}

fn tells(health: &Health, sensor: Sensor) -> bool {
    let meter = |name: &str| health.power_meter.as_ref().is_some_and(|[meter, _]| meter.to_lowercase().contains(name));
    match sensor {
        Sensor::Cpufreq => health.clusters.iter().any(|cluster| cluster.clock_khz.is_some()),
        Sensor::Thermal => health.hottest_celsius.is_some(),
        Sensor::ThrottleBits => health.throttle_bits.is_some(),
        Sensor::AndroidThermal => health.android_thermal_status.is_some(),
        Sensor::Pressure => health.cpu_pressure.is_some(),
        Sensor::Battery => health.on_battery.is_some() || health.battery_percent.is_some(),
        Sensor::Ina3221 => meter("ina3221"),
        Sensor::Pmic => meter("pmic"),
        Sensor::Rapl => meter("rapl"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tests::{description, healthy};

    fn checks(profile: &Profile, model: &str, change: impl Fn(&mut Health)) -> Vec<(&'static str, String)> {
        let mut health = healthy();
        change(&mut health);
        let mut description = description();
        description.fingerprint.insert("model".into(), model.into());
        compare(profile, &health, &description).into_iter().map(|f| (f.check, f.observed)).collect()
    }

    #[test]
    fn what_a_board_should_have_and_lacks_is_told() {
        let pi = Profile::find("raspberry-pi").unwrap();
        let model = "Raspberry Pi 4 Model B Rev 1.4";
        let whole = checks(&pi, model, |h| h.power_meter = Some(["Raspberry Pi PMIC".into(), String::new()]));
        assert_eq!(whole, []);
        let lacking = checks(&pi, model, |h| {
            (h.throttle_bits, h.hottest_celsius, h.processors) = (None, None, 3);
        });
        let found: Vec<&str> = lacking.iter().map(|(check, _)| *check).filter(|check| *check != "power_meters").collect();
        assert_eq!(found, ["sensors", "cores"], "{lacking:?}");
        assert!(lacking[0].1.contains("thermal") && lacking[0].1.contains("throttle-bits"), "{lacking:?}");
        assert!(lacking.iter().any(|(_, seen)| seen.contains("3 of 4 cores")), "{lacking:?}");
        // Of a board that nobody described nothing is said.
        assert!(checks(&pi, "Some Other Board", |h| h.processors = 3).iter().all(|(check, _)| *check != "cores"));
    }
}
