//! The energy counters of x86 processors.
//!
//! Document: the kernel's `power/powercap/powercap`. Only whole packages are summed: their parts (cores, graphics) are in them.
//! The same packages may show up a second time as `intel-rapl-mmio`, which is left out.

use super::meter::{EnergyCounter, PowerError};
use crate::root::Root;

const CLASS: &str = "/sys/class/powercap";

/// The packages' folders.
#[derive(Debug)]
pub(super) struct Rapl {
    packages: Vec<String>,
}

impl Rapl {
    pub(super) const NAME: &'static str = "RAPL packages";
    pub(super) const BLIND_SPOTS: &'static str =
        "the processor packages, not the memory modules, disks, graphics cards, fans and power supply";

    pub(super) fn find(root: &Root) -> Option<Self> {
        let folders = root.entries(CLASS).into_iter().filter(|name| name.starts_with("intel-rapl:"));
        let folders = folders.map(|name| format!("{CLASS}/{name}"));
        let is_package = |folder: &String| root.name(&format!("{folder}/name")).is_some_and(|name| name.starts_with("package-"));
        let packages: Vec<_> = folders.filter(is_package).collect();
        (!packages.is_empty()).then_some(Self { packages })
    }

    pub(super) fn read(&self, root: &Root) -> Result<Vec<EnergyCounter>, PowerError> {
        self.packages
            .iter()
            .map(|folder| {
                let number = |name: &str| root.number::<u64>(&format!("{folder}/{name}")).ok_or(PowerError::Silent(Self::NAME));
                let counter =
                    EnergyCounter { microjoules: number("energy_uj")?, range_microjoules: number("max_energy_range_uj")? };
                if counter.microjoules > counter.range_microjoules || counter.range_microjoules == 0 {
                    let text = format!("{} of {} µJ", counter.microjoules, counter.range_microjoules);
                    return Err(PowerError::Absurd(Self::NAME, text));
                }
                Ok(counter)
            })
            .collect()
    }
}
