//! Pressure stall information: how long work waited for processors, memory or storage.
//!
//! Source: the kernel's `accounting/psi`. Many phones hide it.

use crate::root::Root;

/// Stalls for each resource.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// Work that could have run waited for a processor.
    pub cpu: Option<Stalls>,
    /// Work waited for memory to be freed or read back.
    pub memory: Option<Stalls>,
    /// Work waited for storage.
    pub io: Option<Stalls>,
}

/// Stalls for one resource.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stalls {
    /// At least one task waited.
    pub some: Stall,
    /// All tasks waited at once. Old kernels do not tell it for processors.
    pub full: Option<Stall>,
}

/// How much of the time was lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stall {
    /// Mean over the last 10 s, in percent of the time.
    pub avg10_percent: f64,
    /// Sum since the device started, in microseconds.
    pub total_us: u64,
}

/// What the kernel tells now.
pub(crate) fn read(root: &Root) -> Pressure {
    let stalls = |name: &str| parse(&root.text(&format!("/proc/pressure/{name}"))?);
    Pressure { cpu: stalls("cpu"), memory: stalls("memory"), io: stalls("io") }
}

fn parse(text: &str) -> Option<Stalls> {
    let line = |kind: &str| stall(text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?);
    Some(Stalls { some: line("some")?, full: line("full") })
}

fn stall(fields: &str) -> Option<Stall> {
    let field = |name: &str| fields.split_whitespace().find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    let avg10_percent = field("avg10")?.parse().ok().filter(|percent| (0.0..=100.0).contains(percent))?;
    Some(Stall { avg10_percent, total_us: field("total")?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lines_are_read_and_nonsense_is_not() {
        let text = "some avg10=1.53 avg60=0.87 avg300=0.20 total=91254\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=12\n";
        let some = Stall { avg10_percent: 1.53, total_us: 91_254 };
        assert_eq!(parse(text), Some(Stalls { some, full: Some(Stall { avg10_percent: 0.0, total_us: 12 }) }));
        assert_eq!(parse(text.lines().next().unwrap_or_default()), Some(Stalls { some, full: None }));
        for wrong in
            ["", "some", "some avg10=NaN total=1", "some avg10=-1 total=1", "some avg10=101 total=1", "some avg10=1 total=-1"]
        {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
