//! The power chip of the Raspberry Pi 5.
//!
//! Document: Raspberry Pi's on `vcgencmd pmic_read_adc`. It prints a line for each current (`VDD_CORE_A current(7)=1.2A`) and
//! each voltage (`VDD_CORE_V volt(15)=0.9V`); a rail's two lines share the name before `_A` and `_V`, not the number.

use super::meter::PowerError;
use crate::{command::Tool, root::Root};
use std::collections::BTreeMap;

/// Amperes and volts that are believed of a rail.
const BELIEVED: std::ops::RangeInclusive<f64> = 0.0..=50.0;

/// `vcgencmd`.
#[derive(Debug)]
pub(super) struct Pmic {
    vcgencmd: Tool,
}

impl Pmic {
    pub(super) const NAME: &'static str = "Raspberry Pi PMIC";
    pub(super) const BLIND_SPOTS: &'static str =
        "the chip's rails, not its own losses, nor what hangs on 5 V: USB, fan, HAT; reading it takes some milliseconds";

    pub(super) fn find(root: &Root) -> Option<Self> {
        Some(Self { vcgencmd: root.tool("vcgencmd")? })
    }

    /// Millionths of a watt.
    pub(super) fn read(&self) -> Result<u64, PowerError> {
        let text = self.vcgencmd.run(&["pmic_read_adc"]).ok_or(PowerError::Silent(Self::NAME))?;
        watts(&text).map(|watts| (watts * 1e6).round() as u64)
    }
}

/// The sum over all rails with both a current and a voltage. A current without a voltage means that the answer is torn.
fn watts(text: &str) -> Result<f64, PowerError> {
    let (mut amps, mut volts) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let absurd = || PowerError::Absurd(Pmic::NAME, line.chars().take(60).collect());
        let (name, value) =
            line.split_once(' ').and_then(|(name, value)| Some((name, value.split_once('=')?.1))).ok_or_else(absurd)?;
        let (rail, kind, unit) = match (name.strip_suffix("_A"), name.strip_suffix("_V")) {
            (Some(rail), _) => (rail, &mut amps, 'A'),
            (_, Some(rail)) => (rail, &mut volts, 'V'),
            _ => continue,
        };
        let value = value.strip_suffix(unit).and_then(|value| value.parse::<f64>().ok());
        kind.insert(rail, value.filter(|value| BELIEVED.contains(value)).ok_or_else(absurd)?);
    }
    if amps.is_empty() {
        return Err(PowerError::Silent(Pmic::NAME));
    }
    amps.iter().try_fold(0.0, |sum, (rail, amps)| {
        let volts = volts.get(rail).ok_or_else(|| PowerError::Absurd(Pmic::NAME, format!("no voltage of {rail}")))?;
        Ok(sum + amps * volts)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rails_are_paired_by_name() -> Result<(), PowerError> {
        let text = "  VDD_CORE_A current(7)=2.0A\n 3V3_SYS_A current(1)=0.5A\n 3V3_SYS_V volt(9)=3.3V\n VDD_CORE_V volt(15)=0.9V\n\
            EXT5V_V volt(24)=5.1V\n";
        assert!((watts(text)? - (2.0 * 0.9 + 0.5 * 3.3)).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn torn_answers_are_refused() {
        for wrong in [
            "",
            "EXT5V_V volt(24)=5.1V",
            "X_A current(1)=1A",
            "X_A current(1)=NaNA\nX_V volt(2)=1V",
            "X_A current(1)=-1A",
            "error",
        ] {
            assert!(watts(wrong).is_err(), "{wrong:?}");
        }
    }
}
