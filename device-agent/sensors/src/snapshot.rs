//! All readings at one moment.
//!
//! Contract: [`Sensors`] knows where the sensors are and which commands answer; a snapshot only reads. It starts at most two
//! processes, `vcgencmd` on a Raspberry Pi and `dumpsys` on Android, and those only if they answered when they were found.

use crate::{
    android::{self, AndroidThermal, TemperatureType},
    command::Tool,
    cooling::{self, CoolingDevice, CoolingFile},
    cpufreq::{self, Policy},
    firmware::{self, FirmwareThrottle},
    load::{self, Load},
    memory::{self, Memory},
    overcurrent::{self, OverCurrent},
    pressure::{self, Pressure},
    root::Root,
    supply::{self, PowerSource, Supply, SupplyFile, power_source},
    thermal::{self, Zone, ZoneFile, ZoneKind},
};

/// The sensors of a device.
#[derive(Debug)]
pub struct Sensors {
    root: Root,
    zones: Vec<ZoneFile>,
    cooling: Vec<CoolingFile>,
    supplies: Vec<SupplyFile>,
    firmware: Option<firmware::Source>,
    over_current: overcurrent::Files,
    dumpsys: Option<Tool>,
}

/// All readings at one moment. What the device does not tell is absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Clocks, by the policies' numbers.
    pub policies: Vec<Policy>,
    /// Temperatures, in the kernel's order.
    pub zones: Vec<Zone>,
    /// What is done against heat, in the kernel's order.
    pub cooling: Vec<CoolingDevice>,
    /// Raspberry Pi: the firmware's throttle bits.
    pub firmware: Option<FirmwareThrottle>,
    /// Jetson: events and alarms of the supply.
    pub over_current: OverCurrent,
    /// Android: the thermal service's word.
    pub android: Option<AndroidThermal>,
    /// Stalls.
    pub pressure: Pressure,
    /// Work of the processors.
    pub load: Load,
    /// Memory.
    pub memory: Memory,
    /// Sources of power, by name.
    pub supplies: Vec<Supply>,
}

impl Sensors {
    /// Looks for the sensors below `root`.
    pub fn discover(root: &Root) -> Self {
        Self {
            root: root.clone(),
            zones: thermal::discover(root),
            cooling: cooling::discover(root),
            supplies: supply::discover(root),
            firmware: firmware::discover(root),
            over_current: overcurrent::discover(root),
            dumpsys: android::discover(root),
        }
    }

    /// Reads them all.
    pub fn snapshot(&self) -> Snapshot {
        let root = &self.root;
        Snapshot {
            policies: cpufreq::policies(root),
            zones: self.zones.iter().map(|zone| zone.read(root)).collect(),
            cooling: self.cooling.iter().map(|device| device.read(root)).collect(),
            firmware: self.firmware.as_ref().and_then(|source| source.read(root)),
            over_current: self.over_current.read(root),
            android: self.dumpsys.as_ref().and_then(android::read),
            pressure: pressure::read(root),
            load: load::read(root),
            memory: memory::read(root),
            supplies: self.supplies.iter().map(|supply| supply.read(root)).collect(),
        }
    }
}

impl Snapshot {
    /// Looks for the sensors and reads them. For one reading only: [`Sensors`] serves several faster.
    pub fn take(root: &Root) -> Self {
        Sensors::discover(root).snapshot()
    }

    /// What the device runs from, if it tells.
    pub fn power_source(&self) -> Option<PowerSource> {
        power_source(&self.supplies)
    }
}

/// The hottest processor's temperature, in thousandths of a degree Celsius: of the zones that are a processor's; else of
/// Android's sensors that are; else of the zones that do not say what they are of, graphics for example, or a PC's `acpitz`.
pub fn hottest(snapshot: &Snapshot) -> Option<i32> {
    let zones = |kind| snapshot.zones.iter().filter(move |zone| zone.kind == kind).filter_map(|zone| zone.millidegrees).max();
    let android = || {
        let sensors = &snapshot.android.as_ref()?.temperatures;
        sensors.iter().filter(|sensor| sensor.kind == TemperatureType::Cpu).map(|sensor| sensor.millidegrees).max()
    };
    zones(ZoneKind::Processor).or_else(android).or_else(|| zones(ZoneKind::Unknown))
}
