//! A device's power meter.
//!
//! Contract: a meter is found by what it calls itself, never by its number, and only if it can be read now. What it does not
//! see is said with it, since no meter here sees a whole board.

use super::{battery::Battery, ina3221::Ina3221, pmic::Pmic, rapl::Rapl};
use crate::root::Root;

/// Most power that is believed of a device, in millionths of a watt: 10 kW.
pub(super) const MOST_MICROWATTS: u64 = 10_000_000_000;

/// A power meter of the device.
#[derive(Debug)]
pub struct PowerMeter {
    root: Root,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Ina3221(Ina3221),
    Pmic(Pmic),
    Rapl(Rapl),
    Battery(Battery),
}

/// What a meter tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeterKind {
    /// The power at the moment of reading: to be read often.
    Power,
    /// The energy since some moment: to be read at both ends, and before it wraps around twice.
    Energy,
}

/// What a meter told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// The power now, in millionths of a watt.
    Power {
        /// How much.
        microwatts: u64,
    },
    /// Counters of energy, whose sum is the device's. Each wraps around by itself.
    Energy(Vec<EnergyCounter>),
}

/// A counter of energy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnergyCounter {
    /// Where it stands, in millionths of a joule.
    pub microjoules: u64,
    /// After which value it starts from 0 again, in millionths of a joule.
    pub range_microjoules: u64,
}

/// Why power was not measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PowerError {
    /// The meter did not answer, or not with a number.
    #[error("power meter {0} does not answer")]
    Silent(&'static str),
    /// It answered with a number that cannot be true.
    #[error("power meter {0} tells what cannot be true: {1}")]
    Absurd(&'static str, String),
    /// The battery is not what supplies the device.
    #[error("battery is not in use: unplug the device to measure its power")]
    PluggedIn,
    /// A reading is not later than the one before.
    #[error("power reading at {now} ns is not after the one at {before} ns")]
    Order {
        /// The earlier reading's time.
        before: u64,
        /// The later reading's time.
        now: u64,
    },
    /// A reading is of another meter than the one before.
    #[error("power readings are of different meters")]
    Mixed,
}

impl PowerMeter {
    /// The best meter that can be read now: a Jetson's monitor of its input, the Raspberry Pi 5's power chip, the counters of an
    /// x86 processor (readable for root only, by default), the battery while it is in use.
    pub fn find(root: &Root) -> Option<Self> {
        let sources = [
            |root: &Root| Ina3221::find(root).map(Source::Ina3221),
            |root: &Root| Pmic::find(root).map(Source::Pmic),
            |root: &Root| Rapl::find(root).map(Source::Rapl),
            |root: &Root| Battery::find(root).map(Source::Battery),
        ];
        let meters = sources.iter().filter_map(|find| Some(Self { root: root.clone(), source: find(root)? }));
        meters.into_iter().find(|meter| meter.read().is_ok())
    }

    /// What it is called in a report.
    pub fn name(&self) -> &'static str {
        match &self.source {
            Source::Ina3221(meter) => meter.name(),
            Source::Pmic(_) => Pmic::NAME,
            Source::Rapl(_) => Rapl::NAME,
            Source::Battery(_) => Battery::NAME,
        }
    }

    /// What it does not see.
    pub fn blind_spots(&self) -> &'static str {
        match &self.source {
            Source::Ina3221(meter) => meter.blind_spots(),
            Source::Pmic(_) => Pmic::BLIND_SPOTS,
            Source::Rapl(_) => Rapl::BLIND_SPOTS,
            Source::Battery(_) => Battery::BLIND_SPOTS,
        }
    }

    /// What it tells.
    pub fn kind(&self) -> MeterKind {
        if matches!(self.source, Source::Rapl(_)) { MeterKind::Energy } else { MeterKind::Power }
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`PowerError::Silent`], [`PowerError::Absurd`]; [`PowerError::PluggedIn`] of a battery.
    pub fn read(&self) -> Result<Reading, PowerError> {
        let root = &self.root;
        let microwatts = match &self.source {
            Source::Ina3221(meter) => meter.read(root)?,
            Source::Pmic(meter) => meter.read()?,
            Source::Rapl(meter) => return meter.read(root).map(Reading::Energy),
            Source::Battery(meter) => meter.read(root)?,
        };
        if microwatts > MOST_MICROWATTS {
            return Err(PowerError::Absurd(self.name(), format!("{} W", microwatts / 1_000_000)));
        }
        Ok(Reading::Power { microwatts })
    }
}
