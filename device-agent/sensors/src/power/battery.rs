//! A battery as a power meter: voltage times current, while it is what supplies the device.

use super::meter::PowerError;
use crate::{
    root::Root,
    supply::{self, PowerSource, SupplyFile, SupplyKind, power_source},
};

/// All supplies: the batteries to be read, the others to see whether a cable is plugged in.
#[derive(Debug)]
pub(super) struct Battery {
    supplies: Vec<SupplyFile>,
}

impl Battery {
    pub(super) const NAME: &'static str = "battery";
    pub(super) const BLIND_SPOTS: &'static str =
        "nothing of the device, but screen and radios too; most gauges tell a mean over seconds, some vendors' numbers are off";

    pub(super) fn find(root: &Root) -> Option<Self> {
        let supplies = supply::discover(root);
        supplies.iter().any(SupplyFile::is_battery).then_some(Self { supplies })
    }

    /// Millionths of a watt.
    pub(super) fn read(&self, root: &Root) -> Result<u64, PowerError> {
        let supplies: Vec<_> = self.supplies.iter().map(|supply| supply.read(root)).collect();
        let plugged_in = supplies.iter().any(|supply| supply.online == Some(true));
        if plugged_in || power_source(&supplies) != Some(PowerSource::Battery) {
            return Err(PowerError::PluggedIn);
        }
        let batteries = supplies.iter().filter(|s| s.kind == SupplyKind::Battery && s.present != Some(false));
        batteries
            .map(|battery| {
                let product = || battery.current_microamps?.checked_mul(battery.microvolts?).map(|power| power / 1_000_000);
                battery.microwatts.or_else(product).ok_or(PowerError::Silent(Self::NAME))
            })
            .try_fold(0_u64, |sum, microwatts| Ok(sum.saturating_add(microwatts?)))
    }
}
