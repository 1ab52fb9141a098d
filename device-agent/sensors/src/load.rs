//! What the processors did: their times since the start, and how much wants to run.
//!
//! Source: the kernel's `filesystems/proc`.

use crate::root::Root;

/// More than any line with a processor's times takes: ten numbers.
const LINE: u64 = 1024;

/// Work of the whole device.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// Times of all processors together. Android hides them from apps.
    pub times: Option<CpuTimes>,
    /// Tasks that want to run.
    pub average: Option<LoadAverage>,
}

/// Times of all processors together since the device started, in units of 1/100 s (the kernel's `USER_HZ`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// Worked: for programs, the kernel, interrupts.
    pub busy: u64,
    /// Had nothing to do, or waited for storage.
    pub idle: u64,
    /// Wanted to work while the hypervisor ran something else.
    pub steal: u64,
}

impl CpuTimes {
    /// What happened since `before`; `None` if a time ran backwards.
    pub fn since(&self, before: &Self) -> Option<Self> {
        Some(Self {
            busy: self.busy.checked_sub(before.busy)?,
            idle: self.idle.checked_sub(before.idle)?,
            steal: self.steal.checked_sub(before.steal)?,
        })
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.busy.saturating_add(self.idle).saturating_add(self.steal)
    }
}

/// Mean number of tasks that run, want to run, or wait for storage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadAverage {
    /// Over the last minute.
    pub one: f64,
    /// Over the last five minutes.
    pub five: f64,
    /// Over the last quarter of an hour.
    pub fifteen: f64,
    /// Tasks that run or want to run at this moment, this one among them.
    pub runnable: u32,
}

/// What the kernel tells now.
pub(crate) fn read(root: &Root) -> Load {
    Load {
        // With many interrupts the file is large; the line wanted is its first.
        times: root.first_line("/proc/stat", LINE).and_then(|line| times(&line)),
        average: root.text("/proc/loadavg").and_then(|text| average(&text)),
    }
}

fn times(line: &str) -> Option<CpuTimes> {
    let numbers = line.strip_prefix("cpu ")?.split_whitespace().map(str::parse::<u64>).collect::<Result<Vec<_>, _>>().ok()?;
    // User and nice contain the guests' times. Kernels without a hypervisor's word end before steal.
    let [user, nice, system, idle, rest @ ..] = numbers.as_slice() else { return None };
    let at = |n: usize| rest.get(n).copied().unwrap_or(0);
    let (iowait, irq, softirq, steal) = (at(0), at(1), at(2), at(3));
    let sum = |times: &[u64]| times.iter().try_fold(0_u64, |sum, time| sum.checked_add(*time));
    let times = CpuTimes { busy: sum(&[*user, *nice, *system, irq, softirq])?, idle: sum(&[*idle, iowait])?, steal };
    sum(&[times.busy, times.idle, times.steal]).map(|_| times)
}

fn average(text: &str) -> Option<LoadAverage> {
    /// More tasks than Linux can number.
    const TASKS: f64 = 4_194_304.0;
    let mut fields = text.split_whitespace();
    let mut load = || fields.next()?.parse::<f64>().ok().filter(|load| (0.0..=TASKS).contains(load));
    let (one, five, fifteen) = (load()?, load()?, load()?);
    let (runnable, _) = fields.next()?.split_once('/')?;
    Some(LoadAverage { one, five, fifteen, runnable: runnable.parse().ok().filter(|n| f64::from(*n) <= TASKS)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_summed_by_what_they_mean() {
        assert_eq!(times("cpu  10 1 4 100 5 2 3 7 9 0"), Some(CpuTimes { busy: 20, idle: 105, steal: 7 }));
        assert_eq!(times("cpu  10 1 4 100"), Some(CpuTimes { busy: 15, idle: 100, steal: 0 }));
        for wrong in ["", "cpu", "cpu 1 2 3", "cpu0 1 2 3 4", "cpu 1 2 3 -4", "cpu 18446744073709551615 1 0 0"] {
            assert_eq!(times(wrong), None, "{wrong:?}");
        }
        assert_eq!(times(&format!("cpu {0} 0 0 {0} 0", u64::MAX)), None);
    }

    #[test]
    fn averages_are_finite() {
        let expected = LoadAverage { one: 0.12, five: 0.1, fifteen: 0.56, runnable: 1 };
        assert_eq!(average("0.12 0.10 0.56 1/87 28909\n"), Some(expected));
        for wrong in ["", "0.1 0.2 0.3", "NaN 0 0 1/2 3", "inf 0 0 1/2 3", "-1 0 0 1/2 3", "0 0 0 12 3"] {
            assert_eq!(average(wrong), None, "{wrong:?}");
        }
    }
}
