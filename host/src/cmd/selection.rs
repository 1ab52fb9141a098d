//! Which devices a command is for.

use crate::{devices::Fleet, failure::Failure};
use clap::ArgAction;

/// Flags that choose devices.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Selection {
    /// Device; may be given several times, and may be a pattern such as 'pi*' [default: local]
    #[arg(long = "device", value_name = "D", action = ArgAction::Append)]
    device: Vec<String>,
    /// All devices of a group; may be given several times
    #[arg(long = "group", value_name = "G", action = ArgAction::Append)]
    group: Vec<String>,
    /// All registered boards
    #[arg(long, conflicts_with_all = ["device", "group"])]
    fleet: bool,
}

impl Selection {
    /// Names of the devices in the order the user gave them; `None` where the user left it open.
    pub(crate) fn names(&self, fleet: &Fleet) -> Result<Option<Vec<String>>, Failure> {
        if self.fleet {
            let boards: Vec<String> = fleet.boards().into_iter().map(|d| d.name).collect();
            return if boards.is_empty() {
                Err(Failure::usage("no board is registered").hint("host device add NAME --target TARGET --address USER@HOST"))
            } else {
                Ok(Some(boards))
            };
        }
        if self.device.is_empty() && self.group.is_empty() {
            return Ok(None);
        }
        let mut out: Vec<String> = Vec::new();
        let patterns = self.device.iter().map(|pattern| (std::slice::from_ref(pattern), &[][..]));
        let groups = self.group.iter().map(|group| (&[][..], std::slice::from_ref(group)));
        for (patterns, groups) in patterns.chain(groups) {
            for device in fleet.select(patterns, groups)? {
                if !out.contains(&device.name) {
                    out.push(device.name);
                }
            }
        }
        Ok(Some(out))
    }
}
