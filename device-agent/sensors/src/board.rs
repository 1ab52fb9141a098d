//! What a device is: facts that stay the same while it runs.

use crate::{
    cpufreq, memory,
    root::{Root, name},
};

const SOC: &str = "/sys/devices/soc0";
const DMI: &str = "/sys/class/dmi/id";

/// Facts about the device. What it does not tell is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Board {
    /// The board's name by the device tree, else the computer's by its firmware (DMI).
    pub model: Option<String>,
    /// The chip's name or number, as its driver tells it.
    pub soc: Option<String>,
    /// Processors that share a clock, by number.
    pub clusters: Vec<Cluster>,
    /// Memory that the kernel manages, in bytes.
    pub memory_bytes: Option<u64>,
    /// Jetson: the power mode, such as `15W` or `MAXN`.
    pub power_mode: Option<String>,
}

/// Processors that share a clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The policy's number.
    pub policy: u32,
    /// Its processors.
    pub cpus: Vec<u32>,
    /// The highest frequency of the hardware, in kHz.
    pub max_khz: Option<u32>,
    /// Speed of one of them against the fastest of the device, which has 1024.
    pub capacity: Option<u32>,
}

impl Board {
    /// Reads them.
    pub fn read(root: &Root) -> Self {
        let clusters = cpufreq::policies(root).into_iter().map(|policy| Cluster {
            policy: policy.number,
            cpus: policy.cpus,
            max_khz: policy.hardware_max_khz,
            capacity: policy.capacity,
        });
        let tree =
            ["/proc/device-tree/model", "/sys/firmware/devicetree/base/model"].into_iter().find_map(|file| root.name(file));
        Self {
            model: tree.or_else(|| joined(root, DMI, &["sys_vendor", "product_name"])),
            soc: joined(root, SOC, &["family", "machine", "soc_id"]),
            clusters: clusters.collect(),
            memory_bytes: memory::read(root).total_bytes,
            power_mode: power_mode(root),
        }
    }

    /// The clusters of the fastest kind: by capacity, else by the highest frequency. Empty where neither is told.
    pub fn fastest(&self) -> Vec<&Cluster> {
        let speed = |cluster: &Cluster| (cluster.capacity, cluster.max_khz);
        let Some(best) = self.clusters.iter().map(speed).max().filter(|best| *best != (None, None)) else { return Vec::new() };
        self.clusters.iter().filter(|cluster| speed(cluster) == best).collect()
    }
}

/// What the files tell, each once, with spaces between.
fn joined(root: &Root, folder: &str, files: &[&str]) -> Option<String> {
    let mut parts: Vec<String> = files.iter().filter_map(|file| root.name(&format!("{folder}/{file}"))).collect();
    parts.dedup();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// Asks `nvpmodel -q`, which answers `NV Power Mode: 15W` and the mode's number on the next line.
fn power_mode(root: &Root) -> Option<String> {
    let answer = root.tool("nvpmodel")?.run(&["-q"])?;
    answer.lines().find_map(|line| name(line.trim().strip_prefix("NV Power Mode:")?))
}
