//! Memory of the whole device.
//!
//! Source: the kernel's `filesystems/proc` on `/proc/meminfo`.

use crate::root::Root;

/// Sizes in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// What the kernel manages: the memory without what it and the firmware set aside.
    pub total_bytes: Option<u64>,
    /// What programs can still get without swapping.
    pub available_bytes: Option<u64>,
    /// Size of the swap space; 0 where there is none.
    pub swap_total_bytes: Option<u64>,
    /// Of that, unused.
    pub swap_free_bytes: Option<u64>,
}

/// What the kernel tells now.
pub(crate) fn read(root: &Root) -> Memory {
    root.text("/proc/meminfo").map(|text| parse(&text)).unwrap_or_default()
}

fn parse(text: &str) -> Memory {
    let bytes = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let total_bytes = bytes("MemTotal").filter(|bytes| *bytes > 0);
    let swap_total_bytes = bytes("SwapTotal");
    let within = |part: Option<u64>, whole: Option<u64>| part.filter(|part| whole.is_some_and(|whole| *part <= whole));
    Memory {
        total_bytes,
        available_bytes: within(bytes("MemAvailable"), total_bytes),
        swap_total_bytes,
        swap_free_bytes: within(bytes("SwapFree"), swap_total_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_never_more_than_the_whole() {
        let memory = parse("MemTotal:  100 kB\nMemAvailable:  101 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n");
        let none = Some(0);
        assert_eq!(
            memory,
            Memory { total_bytes: Some(102_400), swap_total_bytes: none, swap_free_bytes: none, ..Memory::default() }
        );
        assert_eq!(parse("MemTotal: 18446744073709551615 kB\nMemAvailable: -1 kB\nSwapTotal: 3\n"), Memory::default());
    }
}
