//! Temperatures: the thermal zones, and which of them tell a processor's.
//!
//! Zones are known by their type; their numbers change from boot to boot. Many PCs have no zone for their processor; the hardware
//! monitor in it then stands for one. Sources: the kernel's `driver-api/thermal/sysfs-api`, `hwmon/k10temp`, `hwmon/coretemp`.

use crate::{hwmon, root::Root};

const CLASS: &str = "/sys/class/thermal";
/// Temperatures that are believed, in thousandths of a degree Celsius: sensors that are off give 0, -40 °C, -273 °C or the
/// largest number; some old ones give whole degrees.
const BELIEVED: std::ops::RangeInclusive<i32> = -39_999..=149_999;
/// Below this size a number is of a sensor that is off, or in another unit.
const SMALLEST: u32 = 1_000;
/// Most trip points of a zone that are looked at.
const TRIPS: usize = 16;
/// Drivers of monitors inside x86 processors, whose first temperature is the control value (AMD) or the package's (Intel).
const MONITORS: [&str; 2] = ["k10temp", "coretemp"];

/// A thermal zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Its type: what the driver or the device tree calls it, such as `cpu-thermal`. Several zones may share one. Of a hardware
    /// monitor: its driver, such as `k10temp`.
    pub name: String,
    /// What it tells the temperature of, judged by its type.
    pub kind: ZoneKind,
    /// Its temperature now, in thousandths of a degree Celsius. Absent where it cannot be read or cannot be true.
    pub millidegrees: Option<i32>,
    /// From where on the kernel does something about it, in the kernel's order.
    pub trips: Vec<Trip>,
}

/// What a zone tells the temperature of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZoneKind {
    /// The processors, or the chip that they are on.
    Processor,
    /// Another part: battery, charger, skin, radio, power supply, ...
    Other,
    /// Its type does not say.
    Unknown,
}

/// A trip point of a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trip {
    /// What happens there.
    pub kind: TripKind,
    /// Where, in thousandths of a degree Celsius.
    pub millidegrees: i32,
}

/// What the kernel does at a trip point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TripKind {
    /// Turns a fan on.
    Active,
    /// Slows the processor down.
    Passive,
    /// Tells the driver.
    Hot,
    /// Switches the device off.
    Critical,
}

/// Where a zone is found, and what of it stays the same.
#[derive(Debug)]
pub(crate) struct ZoneFile {
    temperature: String,
    name: String,
    kind: ZoneKind,
    trips: Vec<Trip>,
}

/// All zones that have a type; if none tells a processor's temperature, the monitors of processors as well.
pub(crate) fn discover(root: &Root) -> Vec<ZoneFile> {
    let mut zones = zones(root);
    let tells = |zone: &ZoneFile| zone.kind == ZoneKind::Processor && zone.read(root).millidegrees.is_some();
    if !zones.iter().any(tells) {
        for name in MONITORS {
            let chips = hwmon::chips(root, name).into_iter();
            zones.extend(chips.map(|folder| ZoneFile {
                temperature: format!("{folder}/temp1_input"),
                name: name.to_owned(),
                kind: ZoneKind::Processor,
                trips: Vec::new(),
            }));
        }
    }
    zones
}

fn zones(root: &Root) -> Vec<ZoneFile> {
    let zones = root.numbered(CLASS, "thermal_zone").into_iter();
    zones
        .filter_map(|(_, folder)| {
            let name = root.name(&format!("{folder}/type"))?;
            let numbers = root.channels(&folder, "trip_point_", "_type");
            let trips = numbers.into_iter().take(TRIPS).filter_map(|n| trip(root, &folder, n)).collect();
            Some(ZoneFile { temperature: format!("{folder}/temp"), kind: kind(&name), name, trips })
        })
        .collect()
}

impl ZoneFile {
    pub(crate) fn read(&self, root: &Root) -> Zone {
        Zone {
            name: self.name.clone(),
            kind: self.kind,
            millidegrees: root.number(&self.temperature).and_then(believed),
            trips: self.trips.clone(),
        }
    }
}

/// A temperature in thousandths of a degree, if it can be one.
pub(crate) fn believed(millidegrees: i32) -> Option<i32> {
    (BELIEVED.contains(&millidegrees) && millidegrees.unsigned_abs() >= SMALLEST).then_some(millidegrees)
}

/// The trip point `n`, if it is understood and set.
fn trip(root: &Root, folder: &str, n: u32) -> Option<Trip> {
    let kind = match root.name(&format!("{folder}/trip_point_{n}_type"))?.as_str() {
        "active" => TripKind::Active,
        "passive" => TripKind::Passive,
        "hot" => TripKind::Hot,
        "critical" => TripKind::Critical,
        _ => return None,
    };
    let millidegrees = root.number(&format!("{folder}/trip_point_{n}_temp")).and_then(believed)?;
    Some(Trip { kind, millidegrees })
}

/// Judges by the type. What is certainly another part comes first, as in `cpu-board` or `pm8550-cpu`.
fn kind(name: &str) -> ZoneKind {
    const OTHER: [&str; 40] = [
        "batt", "bms", "bcl", "vbat", "ibat", "charg", "chg", "pmic", "pm8", "pm7", "pm6", "pmi", "pmk", "pmr", "pmx", "skin",
        "shell", "usb", "wifi", "wlan", "modem", "mdm", "board", "fan", "nvme", "ssd", "ufs", "emmc", "ddr", "xo-", "xo_",
        "quiet", "ambient", "camera", "flash", "led", "lcd", "display", "pch", "int3400",
    ];
    const PROCESSOR: [&str; 12] =
        ["cpu", "x86_pkg_temp", "tj-", "tj_", "soc-", "soc_", "b0d4", "coretemp", "k10temp", "apss", "apollo", "atlas"];
    let name = name.to_ascii_lowercase();
    // `soc` alone is a battery's state of charge on some phones.
    let numbered_soc = name.strip_prefix("soc").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if OTHER.iter().any(|part| name.contains(part)) || name == "soc" {
        ZoneKind::Other
    } else if PROCESSOR.iter().any(|part| name.contains(part)) || numbered_soc || ["big", "mid", "little"].contains(&&*name) {
        ZoneKind::Processor
    } else {
        ZoneKind::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_told_from_other_parts() {
        let processor = [
            "cpu-thermal",
            "CPU-therm",
            "x86_pkg_temp",
            "tj-thermal",
            "soc0-thermal",
            "soc-thermal",
            "cpu-1-0-usr",
            "cpuss-0",
            "mtktscpu",
            "BIG",
            "LITTLE",
            "B0D4",
            "TCPU",
            "cpu_thermal",
        ];
        let other = [
            "battery",
            "mtktsbattery",
            "charger_therm0",
            "PMIC-Die",
            "pm8350b_tz",
            "skin-therm",
            "iwlwifi_1",
            "Tboard_tegra",
            "thermal-fan-est",
            "pch_cannonlake",
            "INT3400 Thermal",
            "soc",
            "usb-therm",
            "xo-therm",
            "quiet_therm",
            "vbat",
        ];
        for name in processor {
            assert_eq!(kind(name), ZoneKind::Processor, "{name}");
        }
        for name in other {
            assert_eq!(kind(name), ZoneKind::Other, "{name}");
        }
        for name in ["acpitz", "gpu-thermal", "cv0-thermal", "SEN1"] {
            assert_eq!(kind(name), ZoneKind::Unknown, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_a_temperature_is_none() {
        for value in [0, -40_000, 150_000, -273_000, i32::MIN, i32::MAX, 45, 999, -999] {
            assert_eq!(believed(value), None, "{value}");
        }
        for value in [1_000, -1_000, 45_277, -39_999, 149_999] {
            assert_eq!(believed(value), Some(value));
        }
    }
}
