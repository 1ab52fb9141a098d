//! What Android's thermal service says. It answers the user `shell` (adb), not apps.
//!
//! Document: the Android Open Source Project's `ThermalManagerService` (what `dumpsys thermalservice` prints) and
//! `android.os.Temperature`.

use crate::{command::Tool, root::Root, root::name, thermal::believed};
use std::fmt;

/// Most temperatures that are kept.
const TEMPERATURES: usize = 256;

/// The thermal service's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AndroidThermal {
    /// How hard the device is throttled.
    pub status: ThermalStatus,
    /// The sensors that the vendor's code reads now.
    pub temperatures: Vec<AndroidTemperature>,
}

/// How hard the device is throttled, by `PowerManager.THERMAL_STATUS_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ThermalStatus {
    /// Not at all.
    None,
    /// So that a user does not notice.
    Light,
    /// So that a user hardly notices.
    Moderate,
    /// So that a user notices.
    Severe,
    /// By all means there are.
    Critical,
    /// Parts are being switched off.
    Emergency,
    /// The device is about to switch off.
    Shutdown,
}

impl ThermalStatus {
    const ALL: [(Self, &'static str); 7] = [
        (Self::None, "none"),
        (Self::Light, "light"),
        (Self::Moderate, "moderate"),
        (Self::Severe, "severe"),
        (Self::Critical, "critical"),
        (Self::Emergency, "emergency"),
        (Self::Shutdown, "shutdown"),
    ];
}

impl fmt::Display for ThermalStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(status, _)| status == self).map_or("", |(_, name)| name))
    }
}

/// A sensor of the vendor's code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AndroidTemperature {
    /// Its name.
    pub name: String,
    /// What it is of.
    pub kind: TemperatureType,
    /// Thousandths of a degree Celsius.
    pub millidegrees: i32,
}

/// What a sensor is of, by `android.os.Temperature.TYPE_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemperatureType {
    /// Processors.
    Cpu,
    /// Graphics.
    Gpu,
    /// The battery.
    Battery,
    /// The case.
    Skin,
    /// Another part.
    Other,
}

/// The command that asks the service, if it answers this user.
pub(crate) fn discover(root: &Root) -> Option<Tool> {
    root.tool("dumpsys").filter(|tool| read(tool).is_some())
}

/// Asks the service.
pub(crate) fn read(dumpsys: &Tool) -> Option<AndroidThermal> {
    parse(&dumpsys.run(&["thermalservice"])?)
}

fn parse(text: &str) -> Option<AndroidThermal> {
    let status = text.lines().find_map(|line| line.trim().strip_prefix("Thermal Status:"))?;
    let status = ThermalStatus::ALL.get(status.trim().parse::<usize>().ok()?)?.0;
    // The cached ones before that heading may be old.
    let now = text.lines().skip_while(|line| line.trim() != "Current temperatures from HAL:").skip(1);
    let now = now.map(str::trim).take_while(|line| line.starts_with("Temperature{"));
    Some(AndroidThermal { status, temperatures: now.filter_map(temperature).take(TEMPERATURES).collect() })
}

/// Reads `Temperature{mValue=25.6, mType=0, mName=AP, mStatus=0}`.
fn temperature(line: &str) -> Option<AndroidTemperature> {
    let fields = line.strip_prefix("Temperature{")?.strip_suffix('}')?;
    let field = |name: &str| fields.split(", ").find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    let kind = match field("mType")?.parse::<i32>().ok()? {
        0 => TemperatureType::Cpu,
        1 => TemperatureType::Gpu,
        2 => TemperatureType::Battery,
        3 => TemperatureType::Skin,
        _ => TemperatureType::Other,
    };
    let degrees: f64 = field("mValue")?.parse().ok().filter(|degrees: &f64| degrees.abs() < 1_000.0)?;
    let millidegrees = believed((degrees * 1_000.0).round() as i32)?;
    Some(AndroidTemperature { name: name(field("mName")?)?, kind, millidegrees })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_true_now_is_taken() {
        let text = "Thermal Status: 2\nCached temperatures:\n\tTemperature{mValue=99.0, mType=0, mName=AP, mStatus=0}\n\
            HAL Ready: true\nCurrent temperatures from HAL:\n\tTemperature{mValue=41.55, mType=0, mName=AP, mStatus=0}\n\
            \tTemperature{mValue=0.0, mType=2, mName=SUBBAT, mStatus=0}\n\tTemperature{mValue=NaN, mType=0, mName=X, mStatus=0}\n\
            Current cooling devices from HAL:\n\tCoolingDevice{mValue=0, mType=2, mName=TYPE_CPU}\n";
        let ap = AndroidTemperature { name: "AP".to_owned(), kind: TemperatureType::Cpu, millidegrees: 41_550 };
        assert_eq!(parse(text), Some(AndroidThermal { status: ThermalStatus::Moderate, temperatures: vec![ap] }));
    }

    #[test]
    fn refusals_and_unknown_states_are_no_answer() {
        for wrong in ["", "Can't find service: thermalservice", "Thermal Status: 7", "Thermal Status: -1", "Thermal Status:"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
