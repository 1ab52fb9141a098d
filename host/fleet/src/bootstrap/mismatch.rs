//! Why no build of the agent runs on a device, and what to do about it.

use edgewise_targets::AGENT_GLIBC;
use std::fmt;

/// Why a build does not run on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// Every build of the target is for other processors or another system: the device is of another kind.
    Target {
        /// The target.
        target: String,
        /// What its builds are for.
        is_for: Vec<String>,
        /// What the device is.
        device: String,
    },
    /// The build is for other processors or another system, though others of the target are not.
    Platform {
        /// Its triple.
        triple: String,
        /// What the device is.
        device: String,
    },
    /// The build loads libraries of 64 bits, and the system has only those of 32 beside a kernel of 64.
    Userland {
        /// Its triple.
        triple: String,
    },
    /// The build needs a newer glibc.
    Glibc {
        /// Its triple.
        triple: String,
        /// The oldest that it runs with.
        needed: (u32, u32),
        /// The device's.
        there: (u32, u32),
    },
    /// The build loads a C library that the device lacks.
    Libc {
        /// Its triple.
        triple: String,
        /// What it loads.
        needed: &'static str,
        /// What the device has.
        there: String,
    },
    /// The build uses instructions that the processor lacks.
    Feature {
        /// Its triple.
        triple: String,
        /// What it lacks.
        feature: &'static str,
    },
    /// It would run, but there is no such build.
    NotAtHand {
        /// Its triple.
        triple: String,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target { target, is_for, device } => {
                write!(f, "target `{target}` is for {}, the device is {device}", is_for.join(" and "))
            }
            Self::Platform { triple, device } => write!(f, "{triple} is not for {device}"),
            Self::Userland { triple } => {
                write!(f, "{triple} loads 64-bit libraries, the kernel is 64-bit but the system's programs are 32-bit")
            }
            Self::Glibc { triple, needed, there } => {
                write!(f, "{triple} needs glibc {}.{}, the device has {}.{}", needed.0, needed.1, there.0, there.1)
            }
            Self::Libc { triple, needed, there } => write!(f, "{triple} needs {needed}, the device has {there}"),
            Self::Feature { triple, feature } => write!(f, "{triple} needs {feature}, which the processor lacks"),
            Self::NotAtHand { triple } => write!(f, "no build for {triple} is at hand"),
        }
    }
}

/// Why a device gets no agent.
#[derive(Debug)]
pub struct NoBuild {
    /// The device.
    pub device: String,
    /// Its system, as it was probed.
    pub system: String,
    /// What is wrong with each build that its target would do with.
    pub reasons: Vec<Mismatch>,
    /// Triples of the builds at hand, with what each needs.
    pub available: Vec<String>,
    /// Targets that the device would fit, where it does not fit its own.
    pub targets: Vec<String>,
}

impl NoBuild {
    pub(crate) fn reasons(&self) -> String {
        self.reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    /// The first of the reasons that can be mended says how, since they are in the target's order.
    pub(crate) fn hint(&self) -> String {
        self.reasons
            .iter()
            .find_map(|reason| self.remedy(reason))
            .unwrap_or_else(|| "build an agent for this very system and name it with `agent` in devices.toml".into())
    }

    fn remedy(&self, reason: &Mismatch) -> Option<String> {
        Some(match reason {
            Mismatch::NotAtHand { triple } => {
                format!("build it: scripts/build-agents {triple}; or name one with `agent` in devices.toml")
            }
            Mismatch::Target { .. } if !self.targets.is_empty() => {
                format!("if it is the board that was meant, set its `target` in devices.toml to {}", self.targets.join(" or "))
            }
            Mismatch::Glibc { triple, there, .. } if *there >= AGENT_GLIBC => format!(
                "build it for older systems: scripts/build-agents {triple} makes one that needs glibc {}.{}",
                AGENT_GLIBC.0, AGENT_GLIBC.1
            ),
            Mismatch::Glibc { triple, .. } | Mismatch::Userland { triple } | Mismatch::Libc { triple, needed: "glibc", .. } => {
                let independent = triple.replace("-gnu", "-musl");
                if self.reasons.iter().any(|other| matches!(other, Mismatch::NotAtHand { triple } if *triple == independent)) {
                    return None;
                }
                format!("a static build needs nothing of the system: put {independent} into the target's `triples`")
            }
            _ => return None,
        })
    }
}
