//! Hardware monitors, found by the name of their driver: the numbers of hwmon folders change from boot to boot.

use crate::root::Root;

const CLASS: &str = "/sys/class/hwmon";

/// The folders of all monitors whose driver calls itself `name`.
pub(crate) fn chips(root: &Root, name: &str) -> Vec<String> {
    root.numbered(CLASS, "hwmon")
        .into_iter()
        .map(|(_, folder)| folder)
        .filter(|folder| root.name(&format!("{folder}/name")).as_deref() == Some(name))
        .collect()
}
