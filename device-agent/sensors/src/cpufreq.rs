//! Clock frequencies: the policies of cpufreq. A policy is a set of processors that share one clock, so on most boards a
//! cluster.
//!
//! Source: the kernel's `admin-guide/pm/cpufreq`, `cpu-freq/cpufreq-stats` and `ABI/testing/sysfs-devices-system-cpu`.

use crate::root::{Root, cpu_list};
use std::ops::RangeInclusive;

const FOLDER: &str = "/sys/devices/system/cpu/cpufreq";
/// Frequencies that are believed, in kHz: 1 MHz to 20 GHz.
const BELIEVED: RangeInclusive<u32> = 1_000..=20_000_000;
/// Most rows of a table of frequencies that are believed.
const ROWS: usize = 512;

/// Processors that share a clock, and how it is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The policy's number: that of its first processor.
    pub number: u32,
    /// Its processors, those that are off included.
    pub cpus: Vec<u32>,
    /// The frequency now, in kHz, as the kernel set or estimates it.
    pub current_khz: Option<u32>,
    /// The lowest frequency that the governor may choose, in kHz.
    pub min_khz: Option<u32>,
    /// The highest frequency that the governor may choose, in kHz. Thermal limits lower it.
    pub max_khz: Option<u32>,
    /// The highest frequency of the hardware, in kHz.
    pub hardware_max_khz: Option<u32>,
    /// What chooses the frequency: `performance`, `schedutil`, ...
    pub governor: Option<String>,
    /// Speed of its first processor against the fastest one of the system, which has 1024. Kernels tell it for ARM only.
    pub capacity: Option<u32>,
    /// Time spent at each frequency since the statistics began. Some drivers (`intel_pstate`) keep none.
    pub time_in_state: Option<TimeInState>,
}

/// How long a policy ran at each of its frequencies: pairs of kHz and units of 10 ms, by frequency.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimeInState(pub Vec<(u32, u64)>);

impl TimeInState {
    /// Milliseconds of one unit.
    pub const UNIT_MS: u64 = 10;

    /// The time spent at each frequency since `before`, in the same form; `None` if the tables are of different frequencies or
    /// time ran backwards (the statistics were reset).
    pub fn since(&self, before: &Self) -> Option<Self> {
        if self.0.len() != before.0.len() {
            return None;
        }
        let rows = self.0.iter().zip(&before.0);
        rows.map(|(&(khz, now), &(same, then))| Some((khz, (khz == same).then(|| now.checked_sub(then))??)))
            .collect::<Option<_>>()
            .map(Self)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut rows = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (khz, units) = line.trim().split_once(char::is_whitespace)?;
            let khz = khz.parse().ok().filter(|khz| BELIEVED.contains(khz))?;
            rows.push((khz, units.trim().parse().ok()?));
        }
        rows.sort_unstable();
        let distinct = rows.windows(2).all(|pair| pair[0].0 != pair[1].0);
        (!rows.is_empty() && rows.len() <= ROWS && distinct).then_some(Self(rows))
    }
}

/// All policies, by number. They are looked for each time: processors come and go.
pub(crate) fn policies(root: &Root) -> Vec<Policy> {
    root.numbered(FOLDER, "policy").into_iter().filter_map(|(number, folder)| policy(root, number, &folder)).collect()
}

fn policy(root: &Root, number: u32, folder: &str) -> Option<Policy> {
    let file = |name: &str| format!("{folder}/{name}");
    let khz = |name: &str| root.number::<u32>(&file(name)).filter(|khz| BELIEVED.contains(khz));
    let cpus = ["related_cpus", "affected_cpus"].into_iter().find_map(|name| cpu_list(&root.text(&file(name))?))?;
    Some(Policy {
        number,
        capacity: capacity(root, *cpus.first()?),
        cpus,
        current_khz: khz("scaling_cur_freq"),
        min_khz: khz("scaling_min_freq"),
        max_khz: khz("scaling_max_freq"),
        hardware_max_khz: khz("cpuinfo_max_freq"),
        governor: root.name(&file("scaling_governor")),
        time_in_state: root.text(&file("stats/time_in_state")).and_then(|text| TimeInState::parse(&text)),
    })
}

fn capacity(root: &Root, cpu: u32) -> Option<u32> {
    root.number(&format!("/sys/devices/system/cpu/cpu{cpu}/cpu_capacity")).filter(|capacity| (1..=1024).contains(capacity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_frequencies_are_sorted_and_all_or_nothing() {
        assert_eq!(TimeInState::parse("1500000 7\n600000 3\n"), Some(TimeInState(vec![(600_000, 3), (1_500_000, 7)])));
        for wrong in ["", "600000", "600000 x", "0 1", "600000 1\n600000 2", "600000 -1", "600000 18446744073709551616"] {
            assert_eq!(TimeInState::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn only_tables_of_one_run_are_compared() {
        let table = |rows: &[(u32, u64)]| TimeInState(rows.to_vec());
        let before = table(&[(600_000, 5), (1_500_000, 10)]);
        assert_eq!(table(&[(600_000, 6), (1_500_000, 30)]).since(&before), Some(table(&[(600_000, 1), (1_500_000, 20)])));
        assert_eq!(table(&[(600_000, 4), (1_500_000, 30)]).since(&before), None);
        assert_eq!(table(&[(700_000, 6), (1_500_000, 30)]).since(&before), None);
        assert_eq!(table(&[(600_000, 6)]).since(&before), None);
    }
}
