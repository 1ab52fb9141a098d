//! Boards of a kind that are known one by one: what their processors are.
//!
//! A board that a profile does not list is as good as one that it does. But of one that is listed it can be said that a core
//! is missing: switched off by a power mode, or withheld from the agent.

use serde::Deserialize;

/// Boards of one model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// A part of the name by which the device tree calls the board: `Raspberry Pi 4` also stands for `Raspberry Pi 400`.
    pub model: String,
    /// Groups of cores that share a clock, the fastest first.
    pub clusters: Vec<Cluster>,
}

/// Cores that share a clock.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// How many.
    pub cores: u16,
    /// What they are, such as `Cortex-A76`.
    pub name: String,
}

impl Board {
    /// Whether `model`, the name by which a device tree calls a board, is of these.
    pub fn is(&self, model: &str) -> bool {
        model.contains(&self.model)
    }

    /// Cores of all clusters.
    pub fn cores(&self) -> u32 {
        self.clusters.iter().map(|cluster| u32::from(cluster.cores)).sum()
    }

    /// In a few words: `4 x Cortex-A76`, or `4 + 2 x Cortex-A78AE` where clusters are of one sort.
    pub fn processors(&self) -> String {
        let mut out = Vec::new();
        let mut rest = &self.clusters[..];
        while let Some(first) = rest.first() {
            let alike = rest.iter().take_while(|cluster| cluster.name == first.name).count();
            let counts: Vec<String> = rest[..alike].iter().map(|cluster| cluster.cores.to_string()).collect();
            out.push(format!("{} x {}", counts.join(" + "), first.name));
            rest = &rest[alike..];
        }
        out.join(", ")
    }

    /// What makes no sense in it.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.model.trim().is_empty() {
            return Some("holds a board without a model".into());
        }
        if self.clusters.is_empty() || self.clusters.iter().any(|cluster| cluster.cores == 0 || cluster.name.is_empty()) {
            return Some(format!("holds `{}`, of which no cores are told", self.model));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(clusters: &[(u16, &str)]) -> Board {
        let cluster = |(cores, name): &(u16, &str)| Cluster { cores: *cores, name: (*name).into() };
        Board { model: "Jetson Orin".into(), clusters: clusters.iter().map(cluster).collect() }
    }

    #[test]
    fn processors_are_told_in_few_words() {
        assert_eq!(board(&[(4, "A76")]).processors(), "4 x A76");
        let mixed = board(&[(4, "A78AE"), (2, "A78AE"), (4, "A55")]);
        assert_eq!((mixed.processors().as_str(), mixed.cores()), ("4 + 2 x A78AE, 4 x A55", 10));
    }

    #[test]
    fn a_board_is_known_by_a_part_of_its_name() {
        let orin = board(&[(4, "A78AE")]);
        assert!(orin.is("NVIDIA Jetson Orin Nano Developer Kit") && !orin.is("NVIDIA Jetson Xavier"));
        assert_eq!(orin.problem(), None);
        assert!(Board { model: " ".into(), ..orin }.problem().is_some());
        assert!(
            board(&[]).problem().is_some() && board(&[(0, "A76")]).problem().is_some() && board(&[(1, "")]).problem().is_some()
        );
    }
}
