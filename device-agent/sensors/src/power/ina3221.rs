//! The current monitors of NVIDIA's Jetson modules.
//!
//! Documents: NVIDIA's Jetson Linux Developer Guide on power monitors (which rails there are), the kernel's `hwmon/ina3221`
//! (millivolts and milliamperes).

use super::meter::PowerError;
use crate::{hwmon, root::Root};

/// Rails whose power, summed, is the module's: the monitored input where there is one, else the rails that part it.
const TOTALS: [(&str, &[&str]); 4] = [
    ("INA3221 VDD_IN", &["VDD_IN"]),
    ("INA3221 POM_5V_IN", &["POM_5V_IN"]),
    ("INA3221 VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0", &["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"]),
    ("INA3221 GPU + CPU + SOC + CV + VDDRQ + SYS5V", &["GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"]),
];
/// Channels of one chip; what the driver numbers above them are shunts and sums.
const CHANNELS: std::ops::RangeInclusive<u32> = 1..=3;
/// Voltages that the chip can measure, in mV.
const MILLIVOLTS: std::ops::RangeInclusive<i64> = 0..=26_000;
/// Currents that are believed, in mA. Without load the chip's offset makes them negative by a little.
const MILLIAMPS: std::ops::RangeInclusive<i64> = -100..=100_000;

/// The rails that make up the module's power.
#[derive(Debug)]
pub(super) struct Ina3221 {
    name: &'static str,
    /// Files of voltage and current.
    rails: Vec<(String, String)>,
}

impl Ina3221 {
    pub(super) fn find(root: &Root) -> Option<Self> {
        let mut channels = Vec::new();
        for folder in hwmon::chips(root, "ina3221") {
            for n in root.channels(&folder, "in", "_label").into_iter().filter(|n| CHANNELS.contains(n)) {
                // A channel that is not connected may have no name.
                if let Some(label) = root.name(&format!("{folder}/in{n}_label")) {
                    channels.push((label, (format!("{folder}/in{n}_input"), format!("{folder}/curr{n}_input"))));
                }
            }
        }
        let rail = |label: &&str| channels.iter().find(|(other, _)| other == label).map(|(_, files)| files.clone());
        TOTALS.iter().find_map(|(name, labels)| Some(Self { name, rails: labels.iter().map(rail).collect::<Option<_>>()? }))
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn blind_spots(&self) -> &'static str {
        if self.rails.len() == 1 {
            "the module, not the carrier board; the chip averages over some milliseconds"
        } else {
            "the module's main rails, not its other ones and not the carrier board; the chip averages over some milliseconds"
        }
    }

    /// Millionths of a watt.
    pub(super) fn read(&self, root: &Root) -> Result<u64, PowerError> {
        let number = |file: &str| root.number::<i64>(file).ok_or(PowerError::Silent(self.name));
        self.rails.iter().try_fold(0_u64, |sum, (voltage, current)| {
            let (millivolts, milliamps) = (number(voltage)?, number(current)?);
            if !MILLIVOLTS.contains(&millivolts) || !MILLIAMPS.contains(&milliamps) {
                return Err(PowerError::Absurd(self.name, format!("{millivolts} mV, {milliamps} mA")));
            }
            Ok(sum + millivolts.unsigned_abs() * milliamps.max(0).unsigned_abs())
        })
    }
}
