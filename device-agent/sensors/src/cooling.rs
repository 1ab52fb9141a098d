//! Cooling devices: what the kernel does against heat, and how hard it does it.
//!
//! Source: the kernel's `driver-api/thermal/sysfs-api`.

use crate::root::Root;

const CLASS: &str = "/sys/class/thermal";
/// States that are believed. Devices count steps, of clocks or of a fan's speed; a few count in thousands.
const STATES: u32 = 1_000_000;

/// A cooling device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoolingDevice {
    /// Its type, such as `thermal-cpufreq-0` or `pwm-fan`.
    pub name: String,
    /// What it acts on, judged by its type.
    pub kind: CoolingKind,
    /// How hard it cools: 0 is not at all.
    pub state: Option<u32>,
    /// How hard it can cool.
    pub max_state: Option<u32>,
}

/// What a cooling device acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoolingKind {
    /// Slows processors down or takes them away: a trial sees it.
    Processor,
    /// A fan: a trial sees only that it helps.
    Fan,
    /// Something else: a screen, a radio, a charger, a graphics processor, or unknown.
    Other,
}

/// Where a cooling device is found, and what of it stays the same.
#[derive(Debug)]
pub(crate) struct CoolingFile {
    state: String,
    name: String,
    kind: CoolingKind,
    max_state: Option<u32>,
}

/// All cooling devices that have a type.
pub(crate) fn discover(root: &Root) -> Vec<CoolingFile> {
    let devices = root.numbered(CLASS, "cooling_device").into_iter();
    devices
        .filter_map(|(_, folder)| {
            let name = root.name(&format!("{folder}/type"))?;
            let max_state = root.number(&format!("{folder}/max_state")).filter(|state| *state <= STATES);
            Some(CoolingFile { state: format!("{folder}/cur_state"), kind: kind(&name), name, max_state })
        })
        .collect()
}

impl CoolingFile {
    pub(crate) fn read(&self, root: &Root) -> CoolingDevice {
        let most = self.max_state.unwrap_or(STATES);
        CoolingDevice {
            name: self.name.clone(),
            kind: self.kind,
            // An idle `intel_powerclamp` tells -1 on some kernels: no state, so absent.
            state: root.number(&self.state).filter(|state| *state <= most),
            max_state: self.max_state,
        }
    }
}

fn kind(name: &str) -> CoolingKind {
    let name = name.to_ascii_lowercase();
    if name.contains("fan") {
        CoolingKind::Fan
    } else if ["cpu", "processor", "powerclamp", "soctherm", "thermal-pause"].iter().any(|part| name.contains(part)) {
        CoolingKind::Processor
    } else {
        CoolingKind::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fans_and_screens_slow_nothing_down() {
        for name in ["Processor", "thermal-cpufreq-0", "cpufreq-cpu4", "cpu-throttle-alert", "intel_powerclamp", "cpu-isolate0"] {
            assert_eq!(kind(name), CoolingKind::Processor, "{name}");
        }
        for name in ["pwm-fan", "Fan", "cpu-fan"] {
            assert_eq!(kind(name), CoolingKind::Fan, "{name}");
        }
        for name in ["panel0-backlight", "LCD", "TCC Offset", "devfreq-17000000.gpu", "iwlwifi_1", "battery"] {
            assert_eq!(kind(name), CoolingKind::Other, "{name}");
        }
    }
}
