//! Which build of the agent a device gets, and why it gets none.
//!
//! Contract: the profile's order decides among the builds that would start. Where none would, each of the profile's triples has
//! its own reason, so that a person learns what to change: the target, the build, or what is built.

use super::{
    mismatch::{Mismatch, NoBuild},
    probe::DeviceFacts,
};
use crate::{
    AgentBuild, Error,
    elf::{Arch, Platform},
};
use edgewise_targets::{AGENT_GLIBC, Profile};

/// What a profile is to a device, as far as builds go.
pub(crate) struct Offer<'a, 'b> {
    /// The profile's name.
    pub(crate) target: &'b str,
    /// Its triples, the best first.
    pub(crate) triples: &'b [String],
    /// Builds at hand.
    pub(crate) builds: &'a [AgentBuild],
    /// An emulator runs the agent: it knows the processor, whatever the device's is.
    pub(crate) emulated: bool,
}

impl DeviceFacts {
    /// The build to use: the first of the profile's triples that is at hand and runs here.
    ///
    /// # Errors
    /// [`Error::NoAgentBuild`].
    pub(super) fn choose<'a>(&self, device: &str, offer: &Offer<'a, '_>) -> Result<&'a AgentBuild, Error> {
        let mut reasons = Vec::new();
        for triple in offer.triples {
            let mut of_triple = offer.builds.iter().filter(|build| build.triple() == triple).peekable();
            if of_triple.peek().is_none() {
                let obstacle = if offer.emulated { None } else { self.obstacle(triple, None) };
                reasons.push(obstacle.unwrap_or_else(|| Mismatch::NotAtHand { triple: triple.clone() }));
            }
            for build in of_triple {
                match self.obstacle(triple, Some(build)) {
                    Some(obstacle) if !offer.emulated => reasons.push(obstacle),
                    _ => return Ok(build),
                }
            }
        }
        let is_platform = |reason: &Mismatch| matches!(reason, Mismatch::Platform { .. });
        if reasons.iter().all(is_platform) {
            let mut is_for: Vec<String> = offer.triples.iter().map(|triple| platform_words(triple)).collect();
            is_for.dedup();
            reasons = vec![Mismatch::Target { target: offer.target.into(), is_for, device: self.platform_words() }];
        } else {
            reasons.retain(|reason| !is_platform(reason));
        }
        Err(Error::NoAgentBuild(Box::new(NoBuild {
            device: device.into(),
            system: self.describe(),
            targets: if matches!(reasons[..], [Mismatch::Target { .. }]) { self.targets() } else { Vec::new() },
            reasons,
            available: offer.builds.iter().map(AgentBuild::describe).collect(),
        })))
    }

    /// What keeps a build of that triple from starting here; without a build, one that the build script would make.
    fn obstacle(&self, triple: &str, build: Option<&AgentBuild>) -> Option<Mismatch> {
        let is_static = build.map_or(triple.contains("-musl"), AgentBuild::is_static);
        let named = || triple.to_owned();
        if !self.is_of(triple) {
            return Some(Mismatch::Platform { triple: named(), device: self.platform_words() });
        }
        // A userland of 32 bits on a kernel of 64 lacks the libraries, not the instructions: a static build runs.
        let wide = Platform::of_triple(triple).is_some_and(|platform| platform.bits == 64);
        if wide && self.bits == Some(32) && !is_static {
            return Some(Mismatch::Userland { triple: named() });
        }
        // What compilers for ARMv7 use without asking; each of the others includes it. A list without a word that every such
        // processor has is another's: an emulator may show its host's.
        let has = |words: &[&str]| self.features.iter().any(|feature| words.contains(&feature.as_str()));
        let is_told = has(&["half", "thumb", "fastmult"]);
        if is_armv7(triple) && is_told && !has(&["vfpv3", "vfpv3d16", "vfpv4", "neon"]) {
            return Some(Mismatch::Feature { triple: named(), feature: "VFPv3" });
        }
        if is_static {
            return None;
        }
        let lacking = |needed| Some(Mismatch::Libc { triple: named(), needed, there: self.libc() });
        if triple.contains("-gnu") {
            let needed = build.map_or(Some(AGENT_GLIBC), AgentBuild::glibc);
            return match (needed, self.glibc) {
                (Some(needed), Some(there)) if there < needed => Some(Mismatch::Glibc { triple: named(), needed, there }),
                (_, None) => lacking("glibc"),
                _ => None,
            };
        }
        if triple.contains("-musl") && !self.musl {
            return lacking("musl");
        }
        if triple.contains("-android") && self.android.is_none() {
            return lacking("bionic");
        }
        None
    }

    /// Whether the kernel runs programs of that triple, given what they load.
    fn is_of(&self, triple: &str) -> bool {
        let system = match self.system.as_str() {
            "Linux" => triple.contains("-linux-"),
            "Darwin" => triple.contains("-darwin"),
            _ => false,
        };
        let narrow = self.bits == Some(32);
        let machine = if self.machine == "amd64" { "x86_64" } else { &self.machine };
        let processor = match (Platform::of_triple(triple), Platform::of_triple(machine)) {
            // A kernel of 64 bits may run no programs of 32, unless its system consists of them.
            (Some(Platform { arch: Arch::Arm, .. }), Some(Platform { arch: Arch::Aarch64, .. })) => narrow,
            (Some(Platform { arch: Arch::Arm, .. }), _) if is_armv7(triple) => matches!(machine, "armv7l" | "armv8l"),
            (Some(wanted), Some(there)) => wanted == there || (wanted.arch == there.arch && wanted.bits == 32 && narrow),
            _ => triple.split('-').next() == Some(machine),
        };
        system && processor
    }

    fn platform_words(&self) -> String {
        let processor = match (self.machine.as_str(), self.bits) {
            ("aarch64" | "arm64", Some(32)) => "aarch64 with a 32-bit system".to_owned(),
            ("armv6l", _) => "armv6l, older than ARMv7".to_owned(),
            (machine, _) => machine.to_owned(),
        };
        if self.system == "Linux" { processor } else { format!("{} {processor}", self.system) }
    }

    /// The targets that would do for this device, the embedded ones: those of the very board where it is known.
    fn targets(&self) -> Vec<String> {
        let runs = |profile: &Profile| profile.triples.iter().any(|triple| self.obstacle(triple, None).is_none());
        let fitting: Vec<Profile> = Profile::all().into_iter().filter(|p| p.name != "local" && runs(p)).collect();
        let named = |wanted: &dyn Fn(&Profile) -> bool| -> Vec<String> {
            fitting.iter().filter(|profile| wanted(profile)).map(|profile| profile.name.clone()).collect()
        };
        let is_android = |profile: &Profile| profile.name == "android";
        let of_this_board =
            |profile: &Profile| self.model.as_ref().is_some_and(|model| profile.boards_of(model).next().is_some());
        let sets = if self.android.is_some() {
            [named(&is_android), Vec::new(), Vec::new()]
        } else {
            // A profile that lists no boards is for any.
            let general = |profile: &Profile| profile.boards.is_empty() && !is_android(profile);
            [named(&of_this_board), named(&general), named(&|profile| !is_android(profile))]
        };
        sets.into_iter().find(|set| !set.is_empty()).unwrap_or_default()
    }
}

fn is_armv7(triple: &str) -> bool {
    triple.starts_with("armv7") || triple.starts_with("thumbv7")
}

/// `aarch64`; with the whole triple where that is not for Linux.
fn platform_words(triple: &str) -> String {
    let arch = triple.split('-').next().unwrap_or_default();
    if triple.contains("-linux-") { arch.to_owned() } else { format!("{arch} ({triple})") }
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
