//! The state of a device as far as it bears on measurements: facts only, what they mean is the host's to say.

use serde::{Deserialize, Serialize};

/// What an agent finds when it looks at its device for a few seconds. What the device does not tell is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Groups of processors that share a clock, the fastest first.
    pub clusters: Vec<ClusterHealth>,
    /// Processors that are online.
    pub processors: u32,
    /// Processors that the agent may use.
    pub allowed_processors: u32,
    /// Hottest processor zone, in degrees Celsius.
    pub hottest_celsius: Option<f32>,
    /// Lowest temperature at which the kernel slows a processor down, in degrees Celsius.
    pub passive_trip_celsius: Option<f32>,
    /// Cooling devices that are slowing something down now.
    pub active_cooling: Vec<String>,
    /// The Raspberry Pi firmware's throttle bits.
    pub throttle_bits: Option<u32>,
    /// Android's thermal status, 0 (none) to 6 (shutdown).
    pub android_thermal_status: Option<u8>,
    /// Share of processor time that was in use while the agent watched idly.
    pub busy_share: Option<f32>,
    /// Share of processor time that a hypervisor took meanwhile.
    pub steal_share: Option<f32>,
    /// Share of the last ten seconds in which something waited for a processor.
    pub cpu_pressure: Option<f32>,
    /// The same for memory.
    pub memory_pressure: Option<f32>,
    /// The same for storage.
    pub io_pressure: Option<f32>,
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory that a program could get, in bytes.
    pub available_bytes: Option<u64>,
    /// Swap in use, in bytes.
    pub swapped_bytes: Option<u64>,
    /// Free bytes where blobs are kept.
    pub free_bytes: u64,
    /// Blobs are kept in memory (`tmpfs`), which models then lack.
    pub store_in_memory: bool,
    /// Runs on its battery.
    pub on_battery: Option<bool>,
    /// The battery's charge, in percent.
    pub battery_percent: Option<u8>,
    /// The power meter and what it does not see.
    pub power_meter: Option<[String; 2]>,
    /// The power mode, where boards have such (`nvpmodel`).
    pub power_mode: Option<String>,
    /// Least difference of two readings of the clock, in nanoseconds.
    pub clock_overhead_ns: u64,
    /// Spread of a fixed computation repeated for a second: its median absolute deviation over its median.
    pub spin_spread: f32,
    /// An emulator runs the agent.
    pub emulated: bool,
    /// A hypervisor runs the system.
    pub virtual_machine: bool,
    /// Who holds the device's lease now.
    pub lease: Option<String>,
}

/// Processors that share a clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterHealth {
    /// Their numbers, as the kernel lists them: `0-3`.
    pub processors: String,
    /// How the clock is chosen.
    pub governor: Option<String>,
    /// The clock now, in kilohertz.
    pub clock_khz: Option<u32>,
    /// The highest clock that is allowed now, in kilohertz.
    pub max_khz: Option<u32>,
    /// The highest clock that the processor can do, in kilohertz.
    pub hardware_max_khz: Option<u32>,
    /// How many of them the agent may use.
    pub allowed: u32,
}
