//! What a Jetson says about throttling by its supply: counted events, and alarms of its current monitors.
//!
//! Documents: NVIDIA's Jetson Linux Developer Guide on `soctherm` over-current events (event 1 is under-voltage, 2 average
//! over-current, 3 instantaneous over-current on Orin), the kernel's `hwmon/ina3221`.

use crate::{hwmon, root::Root};

/// Counters and alarms of the supply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OverCurrent {
    /// Events since the device started; each throttled the chip where throttling is on.
    pub events: Vec<EventCounter>,
    /// Alarms of the current monitors.
    pub alarms: Vec<CurrentAlarm>,
}

/// Counts one kind of event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventCounter {
    /// The driver's name for it: `oc1`, `oc2`, ...
    pub name: String,
    /// Events since the device started.
    pub count: u64,
    /// Whether such an event throttles the chip.
    pub throttles: Option<bool>,
}

/// A monitor of a current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentAlarm {
    /// The rail that it watches.
    pub label: String,
    /// Whether its current is over the critical limit.
    pub active: bool,
}

/// Where the counters and alarms are found.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// Folder and number of each event.
    events: Vec<(String, u32)>,
    /// Label and file of each alarm.
    alarms: Vec<(String, String)>,
}

pub(crate) fn discover(root: &Root) -> Files {
    let mut files = Files::default();
    for folder in hwmon::chips(root, "soctherm_oc") {
        files.events.extend(root.channels(&folder, "oc", "_event_cnt").into_iter().map(|n| (folder.clone(), n)));
    }
    for folder in hwmon::chips(root, "ina3221") {
        for n in root.channels(&folder, "curr", "_crit_alarm") {
            if let Some(label) = root.name(&format!("{folder}/in{n}_label")) {
                files.alarms.push((label, format!("{folder}/curr{n}_crit_alarm")));
            }
        }
    }
    files
}

impl Files {
    pub(crate) fn read(&self, root: &Root) -> OverCurrent {
        let events = self.events.iter().filter_map(|(folder, n)| {
            let count = root.number(&format!("{folder}/oc{n}_event_cnt"))?;
            let throttles = root.number::<u8>(&format!("{folder}/oc{n}_throt_en")).filter(|on| *on <= 1).map(|on| on == 1);
            Some(EventCounter { name: format!("oc{n}"), count, throttles })
        });
        let alarms = self.alarms.iter().filter_map(|(label, file)| {
            let active = root.number::<u8>(file).filter(|on| *on <= 1)? == 1;
            Some(CurrentAlarm { label: label.clone(), active })
        });
        OverCurrent { events: events.collect(), alarms: alarms.collect() }
    }
}
