//! What Linux and Android tell about clocks, heat, power and load of a device.
//!
//! Contract: everything is read below a [`Root`], so that a test can put a folder in the place of `/`. What a device does not
//! tell, tells in a form that is not understood, or tells with a value that cannot be true is absent (`None`, or missing from a
//! list); nothing is ever estimated. Reading changes nothing on the device. No foreign bytes make anything here panic.
//!
//! [`Sensors::discover`] looks once for what there is; [`Sensors::snapshot`] then reads it in a few milliseconds, before and
//! after a trial; [`evidence`] says what happened in between. [`PowerMeter`] and [`Integrator`] measure energy. [`Board`] tells
//! what stays the same.

mod android;
mod board;
mod command;
mod cooling;
mod cpufreq;
mod evidence;
mod firmware;
mod hwmon;
mod load;
mod memory;
mod overcurrent;
mod power;
mod pressure;
mod root;
mod snapshot;
mod supply;
mod thermal;

pub use android::{AndroidTemperature, AndroidThermal, TemperatureType, ThermalStatus};
pub use board::{Board, Cluster};
pub use cooling::{CoolingDevice, CoolingKind};
pub use cpufreq::{Policy, TimeInState};
pub use evidence::{
    ClockEvidence, CoolingEvidence, Evidence, OverCurrentEvidence, PressureIncrease, STEADY_SHARE, Throttle,
    ThrottleBitsEvidence, evidence,
};
pub use firmware::{FirmwareThrottle, ThrottleBits, ThrottleSource};
pub use load::{CpuTimes, Load, LoadAverage};
pub use memory::Memory;
pub use overcurrent::{CurrentAlarm, EventCounter, OverCurrent};
pub use power::{EnergyCounter, Integrator, MeterKind, PowerError, PowerMeter, Reading};
pub use pressure::{Pressure, Stall, Stalls};
pub use root::Root;
pub use snapshot::{Sensors, Snapshot, hottest};
pub use supply::{ChargeStatus, PowerSource, Supply, SupplyKind, power_source};
pub use thermal::{Trip, TripKind, Zone, ZoneKind};
