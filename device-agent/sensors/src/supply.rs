//! Where the device's power comes from: mains, USB, battery.
//!
//! Vendors differ in the sign of the battery's current (the kernel's rule, negative while it is used up, is often broken) and
//! in its unit (some tell thousandths of an ampere). So the sign is not used; the status says the direction. Source: the
//! kernel's `ABI/testing/sysfs-class-power`.

use crate::root::Root;

const CLASS: &str = "/sys/class/power_supply";
/// Most current that is believed, in millionths of an ampere.
const CURRENT: u64 = 100_000_000;
/// A device that runs takes more than this, in millionths of an ampere: a smaller number is meant in thousandths.
const THOUSANDTHS_BELOW: u64 = 10_000;
/// Voltages of a battery that are believed, in millionths of a volt.
const VOLTAGE: std::ops::RangeInclusive<u64> = 1_000_000..=100_000_000;
/// Temperatures of a battery that are believed, in tenths of a degree Celsius.
const TEMPERATURE: std::ops::RangeInclusive<i32> = -400..=1_200;
/// Most power that is believed, in millionths of a watt.
const POWER: u64 = 1_000_000_000;

/// A source of power.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supply {
    /// The kernel's name for it, such as `battery` or `AC`.
    pub name: String,
    /// What it is.
    pub kind: SupplyKind,
    /// For mains and USB: whether it supplies power.
    pub online: Option<bool>,
    /// For batteries: whether one is there.
    pub present: Option<bool>,
    /// For batteries: how full it is, in percent.
    pub percent: Option<u8>,
    /// For batteries: what happens to it.
    pub status: Option<ChargeStatus>,
    /// For batteries: the size of the current in either direction, in millionths of an ampere.
    pub current_microamps: Option<u64>,
    /// For batteries: the voltage, in millionths of a volt.
    pub microvolts: Option<u64>,
    /// For batteries that tell power in the place of current: its size in either direction, in millionths of a watt.
    pub microwatts: Option<u64>,
    /// For batteries: the temperature, in tenths of a degree Celsius.
    pub temperature_tenths: Option<i32>,
}

/// What a source of power is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SupplyKind {
    /// A wall plug.
    Mains,
    /// A USB port or another cable.
    Usb,
    /// A charging pad.
    Wireless,
    /// A battery that supplies this device (not that of a mouse).
    Battery,
}

/// What happens to a battery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChargeStatus {
    /// It is filled.
    Charging,
    /// It is used up.
    Discharging,
    /// Neither, though a cable is plugged in.
    NotCharging,
    /// It is full, and a cable is plugged in.
    Full,
}

/// What the device runs from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerSource {
    /// A cable or a charging pad.
    External,
    /// Its battery.
    Battery,
}

/// Where a supply is found, and what of it stays the same.
#[derive(Debug, Clone)]
pub(crate) struct SupplyFile {
    folder: String,
    name: String,
    kind: SupplyKind,
}

/// All supplies of the device itself.
pub(crate) fn discover(root: &Root) -> Vec<SupplyFile> {
    let supplies = root.entries(CLASS).into_iter();
    supplies
        .filter_map(|name| {
            let folder = format!("{CLASS}/{name}");
            if root.name(&format!("{folder}/scope")).as_deref() == Some("Device") {
                return None;
            }
            let kind = match root.name(&format!("{folder}/type"))?.as_str() {
                "Mains" | "UPS" => SupplyKind::Mains,
                "Battery" => SupplyKind::Battery,
                "Wireless" => SupplyKind::Wireless,
                // `USB`, `USB_PD`, `USB_DCP`, ...
                usb if usb.starts_with("USB") => SupplyKind::Usb,
                _ => return None,
            };
            Some(SupplyFile { folder, name: crate::root::name(&name)?, kind })
        })
        .collect()
}

impl SupplyFile {
    pub(crate) fn is_battery(&self) -> bool {
        self.kind == SupplyKind::Battery
    }

    pub(crate) fn read(&self, root: &Root) -> Supply {
        let file = |name: &str| format!("{}/{name}", self.folder);
        let flag = |name: &str| root.number::<u8>(&file(name)).filter(|flag| *flag <= 2).map(|flag| flag > 0);
        let mut supply = Supply {
            name: self.name.clone(),
            kind: self.kind,
            online: None,
            present: None,
            percent: None,
            status: None,
            current_microamps: None,
            microvolts: None,
            microwatts: None,
            temperature_tenths: None,
        };
        if self.kind != SupplyKind::Battery {
            supply.online = flag("online");
            return supply;
        }
        supply.present = flag("present");
        supply.percent = root.number(&file("capacity")).filter(|percent| *percent <= 100);
        supply.status = root.name(&file("status")).and_then(|status| charge_status(&status));
        let size = |name: &str| root.number::<i64>(&file(name)).map(i64::unsigned_abs);
        supply.current_microamps = size("current_now").and_then(|current| microamps(current, supply.status));
        supply.microvolts = root.number(&file("voltage_now")).and_then(microvolts);
        supply.microwatts = size("power_now").filter(|power| *power <= POWER);
        supply.temperature_tenths = root.number(&file("temp")).filter(|temperature| TEMPERATURE.contains(temperature));
        supply
    }
}

/// What the device runs from; `None` if its supplies do not say. A board without a battery has no supplies here.
pub fn power_source(supplies: &[Supply]) -> Option<PowerSource> {
    let statuses = || supplies.iter().filter(|s| s.present != Some(false)).filter_map(|s| s.status);
    // A laptop's weak charger may be online while the battery is used up all the same: the power is then the battery's too.
    if statuses().any(|status| status == ChargeStatus::Discharging) {
        Some(PowerSource::Battery)
    } else if supplies.iter().any(|supply| supply.online == Some(true)) || statuses().next().is_some() {
        Some(PowerSource::External)
    } else {
        None
    }
}

fn charge_status(text: &str) -> Option<ChargeStatus> {
    match text {
        "Charging" => Some(ChargeStatus::Charging),
        "Discharging" => Some(ChargeStatus::Discharging),
        "Not charging" => Some(ChargeStatus::NotCharging),
        "Full" => Some(ChargeStatus::Full),
        _ => None,
    }
}

fn microamps(size: u64, status: Option<ChargeStatus>) -> Option<u64> {
    let in_thousandths = status == Some(ChargeStatus::Discharging) && (1..THOUSANDTHS_BELOW).contains(&size);
    Some(if in_thousandths { size * 1_000 } else { size }).filter(|current| *current <= CURRENT)
}

fn microvolts(value: u64) -> Option<u64> {
    let in_thousandths = VOLTAGE.contains(&value.saturating_mul(1_000)) && !VOLTAGE.contains(&value);
    Some(if in_thousandths { value * 1_000 } else { value }).filter(|voltage| VOLTAGE.contains(voltage))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_told_by_size() {
        let discharging = Some(ChargeStatus::Discharging);
        assert_eq!(microamps(350_000, discharging), Some(350_000));
        assert_eq!(microamps(350, discharging), Some(350_000));
        assert_eq!(microamps(350, Some(ChargeStatus::Full)), Some(350));
        assert_eq!(microamps(0, discharging), Some(0));
        assert_eq!(microamps(u64::MAX, discharging), None);
        assert_eq!(microvolts(3_870_000), Some(3_870_000));
        assert_eq!(microvolts(3_870), Some(3_870_000));
        for absurd in [0, 999, u64::MAX] {
            assert_eq!(microvolts(absurd), None, "{absurd}");
        }
    }

    #[test]
    fn a_battery_in_use_outweighs_a_cable() {
        let supply = |kind, online, status| Supply {
            name: "x".to_owned(),
            kind,
            online,
            present: None,
            percent: None,
            status,
            current_microamps: None,
            microvolts: None,
            microwatts: None,
            temperature_tenths: None,
        };
        let mains = |online| supply(SupplyKind::Mains, Some(online), None);
        let battery = |status| supply(SupplyKind::Battery, None, Some(status));
        assert_eq!(power_source(&[]), None);
        assert_eq!(power_source(&[mains(false)]), None);
        assert_eq!(power_source(&[mains(true)]), Some(PowerSource::External));
        assert_eq!(power_source(&[battery(ChargeStatus::NotCharging)]), Some(PowerSource::External));
        assert_eq!(power_source(&[mains(false), battery(ChargeStatus::Discharging)]), Some(PowerSource::Battery));
        assert_eq!(power_source(&[mains(true), battery(ChargeStatus::Discharging)]), Some(PowerSource::Battery));
        let absent = Supply { present: Some(false), ..battery(ChargeStatus::Discharging) };
        assert_eq!(power_source(&[mains(true), absent]), Some(PowerSource::External));
    }
}
