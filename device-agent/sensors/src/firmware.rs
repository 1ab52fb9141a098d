//! What the firmware of a Raspberry Pi says about throttling.
//!
//! Sources, the first that answers: `vcgencmd get_throttled` (needs the group `video`); the old sysfs file; the hardware monitor
//! `rpi_volt`, which knows under-voltage only. Bits 16 to 19 say the same as 0 to 3 since the device started: once set, they
//! hide what happens later. Documents: Raspberry Pi's on `vcgencmd`, the kernel's driver `raspberrypi-hwmon`.

use crate::{command::Tool, hwmon, root::Root};
use std::fmt;

const SYSFS: [&str; 2] =
    ["/sys/devices/platform/soc/soc:firmware/get_throttled", "/sys/devices/platform/axi/axi:firmware/get_throttled"];

/// The firmware's bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ThrottleBits(pub u32);

impl ThrottleBits {
    /// The supply's voltage is too low now.
    pub const UNDER_VOLTAGE: Self = Self(1);
    /// The processors' clock is limited now.
    pub const CAPPED: Self = Self(1 << 1);
    /// The processors are slowed down now.
    pub const THROTTLED: Self = Self(1 << 2);
    /// The soft limit of temperature is reached now.
    pub const SOFT_LIMIT: Self = Self(1 << 3);
    /// The four that say what is now.
    pub const NOW: Self = Self(0xf);
    /// The four that say the same since the device started.
    pub const SINCE_START: Self = Self(0xf << 16);
    /// All that mean something.
    pub const ALL: Self = Self(Self::NOW.0 | Self::SINCE_START.0);

    /// The bits that are set in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The bits that are set here and not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether no bit is set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for ThrottleBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 4] = ["under-voltage", "clock capped", "throttled", "soft temperature limit"];
        let mut rest = self.0;
        let mut comma = "";
        for (n, name) in NAMES.into_iter().enumerate() {
            for (bit, when) in [(n, ""), (n + 16, " since start")] {
                if self.0 & 1 << bit != 0 {
                    write!(f, "{comma}{name}{when}")?;
                    rest &= !(1 << bit);
                    comma = ", ";
                }
            }
        }
        if rest != 0 || self.0 == 0 { write!(f, "{comma}{rest:#x}") } else { Ok(()) }
    }
}

/// What the firmware says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirmwareThrottle {
    /// The bits that are set.
    pub bits: ThrottleBits,
    /// The bits that the source can tell; the others are unknown.
    pub known: ThrottleBits,
    /// Who said it.
    pub source: ThrottleSource,
}

/// Who tells the firmware's bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThrottleSource {
    /// `vcgencmd get_throttled`.
    Command,
    /// The file `get_throttled` of sysfs.
    Sysfs,
    /// The hardware monitor `rpi_volt`.
    Monitor,
}

/// The source that answers on this device.
#[derive(Debug)]
pub(crate) enum Source {
    Command(Tool),
    Sysfs(&'static str),
    Monitor(String),
}

/// Asks each source, and keeps the first that answers.
pub(crate) fn discover(root: &Root) -> Option<Source> {
    let command = root.tool("vcgencmd").map(Source::Command);
    let sysfs = SYSFS.into_iter().map(Source::Sysfs);
    let monitor = hwmon::chips(root, "rpi_volt").into_iter().map(Source::Monitor);
    command.into_iter().chain(sysfs).chain(monitor).find(|source| source.read(root).is_some())
}

impl Source {
    pub(crate) fn read(&self, root: &Root) -> Option<FirmwareThrottle> {
        let (bits, known, source) = match self {
            Self::Command(tool) => {
                let text = tool.run(&["get_throttled"])?;
                (hexadecimal(text.trim().strip_prefix("throttled=0x")?)?, ThrottleBits::ALL, ThrottleSource::Command)
            }
            Self::Sysfs(path) => {
                let text = root.text(path)?;
                let text = text.trim();
                (hexadecimal(text.strip_prefix("0x").unwrap_or(text))?, ThrottleBits::ALL, ThrottleSource::Sysfs)
            }
            Self::Monitor(folder) => {
                let alarm = root.number::<u32>(&format!("{folder}/in0_lcrit_alarm")).filter(|alarm| *alarm <= 1)?;
                (ThrottleBits(alarm), ThrottleBits::UNDER_VOLTAGE, ThrottleSource::Monitor)
            }
        };
        // Newer firmware may come to say more; what it means is unknown here.
        Some(FirmwareThrottle { bits: bits.and(known), known, source })
    }
}

fn hexadecimal(digits: &str) -> Option<ThrottleBits> {
    // `from_str_radix` would accept a sign.
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok().map(ThrottleBits))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_told_in_words() {
        assert_eq!(
            ThrottleBits(0x50005).to_string(),
            "under-voltage, under-voltage since start, throttled, throttled since start"
        );
        assert_eq!(ThrottleBits(0).to_string(), "0x0");
        assert_eq!(ThrottleBits(0x102).to_string(), "clock capped, 0x100");
    }

    #[test]
    fn only_digits_are_a_number() {
        assert_eq!(hexadecimal("50005"), Some(ThrottleBits(0x50005)));
        for wrong in ["", "+5", "-5", "g", "100000000", "0x5"] {
            assert_eq!(hexadecimal(wrong), None, "{wrong:?}");
        }
    }
}
