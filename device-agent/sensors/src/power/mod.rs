//! Power and energy: the meters that a device may have, and how energy comes of their readings.

mod battery;
mod ina3221;
mod integrate;
mod meter;
mod pmic;
mod rapl;

pub use integrate::Integrator;
pub use meter::{EnergyCounter, MeterKind, PowerError, PowerMeter, Reading};
