//! One command that asks a device what it is, and the choice of a build from its answers.

use crate::{AgentBuild, Error, builds::parse_version, shell};
use std::fmt::Write;

pub(super) const BEGIN: &str = "@@EDGEWISE-BEGIN";
pub(super) const END: &str = "@@EDGEWISE-END";
/// Defines `say`, which prints one word as it is: some shells' echo gives backslashes a meaning, and some have no printf.
pub(super) const SAY: &str =
    "say() { if command -v printf >/dev/null 2>&1; then printf '%s\\n' \"$1\"; else echo \"$1\"; fi; }; ";
/// Kept free beside the agent, in bytes: its store needs room to be of any use.
const HEADROOM: u64 = 1 << 20;

/// What a directory of the device can be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DirState {
    Usable,
    NoExec,
    ReadOnly,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dir {
    pub(super) path: String,
    pub(super) state: DirState,
    /// Bytes; `None` if df does not say.
    pub(super) free: Option<u64>,
}

/// What a device says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceFacts {
    /// `uname -s`.
    pub system: String,
    /// `uname -m`: the kernel's word, which says nothing about the userland.
    pub machine: String,
    /// Bits of the userland's words.
    pub bits: Option<u32>,
    /// Version of its glibc, if that is its C library.
    pub glibc: Option<(u32, u32)>,
    /// Its user's number.
    pub uid: Option<u32>,
    /// Home directory.
    pub home: String,
    pub(super) dirs: Vec<Dir>,
}

/// The script; `dirs` are words for sh, see [`shell::dir_word`].
///
/// Each directory is tried by writing a file and running it: modes and mount options lie. The file has no `#!` line, since
/// some systems have no /bin/sh; the shell runs it itself unless the kernel forbids it.
pub(super) fn script(dirs: &[String]) -> String {
    let words = dirs.iter().map(|dir| shell::dir_word(dir)).collect::<Vec<_>>().join(" ");
    let mut s = format!("{SAY}umask 077; echo {BEGIN}; ");
    s.push_str("echo system=$(uname -s); echo machine=$(uname -m); ");
    s.push_str("echo bits=$(getconf LONG_BIT 2>/dev/null); echo libc=$(getconf GNU_LIBC_VERSION 2>/dev/null); ");
    // Small systems have no getconf: the fifth byte of a program says its words' size, and ldd is a part of glibc.
    s.push_str("echo class=$(od -An -tu1 -j4 -N1 /bin/sh 2>/dev/null); ");
    s.push_str("echo \"ldd=$(ldd --version 2>/dev/null | head -n 1)\"; ");
    s.push_str("echo uid=$(id -u 2>/dev/null); say \"home=$HOME\"; ");
    let _ = write!(s, "for d in {words}; do t=\"$d/.probe-$$\"; f=; ");
    s.push_str("if mkdir -p \"$d\" 2>/dev/null && echo 'exit 7' 2>/dev/null > \"$t\" && [ -s \"$t\" ]; then ");
    s.push_str("chmod 700 \"$t\"; \"$t\" >/dev/null 2>&1; if [ $? = 7 ]; then s=usable; else s=noexec; fi; ");
    s.push_str("else s=readonly; fi; rm -f \"$t\" 2>/dev/null; ");
    s.push_str("f=$(df -Pk \"$d\" 2>/dev/null | tail -n 1); say \"dir=$s|$f|$d\"; rmdir \"$d\" 2>/dev/null; done; ");
    let _ = write!(s, "echo {END}");
    s
}

/// What stands between the markers; banners and noise of login scripts do not.
pub(super) fn between_markers(stdout: &[u8]) -> Option<Vec<String>> {
    let text = String::from_utf8_lossy(stdout);
    let mut lines = text.lines().map(|line| line.trim_end_matches('\r')).skip_while(|line| *line != BEGIN).skip(1);
    let mut found = Vec::new();
    loop {
        match lines.next()? {
            END => return Some(found),
            line => found.push(line.to_owned()),
        }
    }
}

pub(super) fn parse(stdout: &[u8]) -> Option<DeviceFacts> {
    let mut facts = DeviceFacts::default();
    for line in between_markers(stdout)? {
        let Some((key, value)) = line.split_once('=') else { continue };
        match key {
            "system" => value.clone_into(&mut facts.system),
            "machine" => value.clone_into(&mut facts.machine),
            "bits" => facts.bits = value.parse().ok().or(facts.bits),
            "class" => facts.bits = facts.bits.or(bits_of_class(value)),
            "libc" => facts.glibc = value.strip_prefix("glibc ").and_then(parse_version).or(facts.glibc),
            "ldd" => facts.glibc = facts.glibc.or(glibc_of_ldd(value)),
            "uid" => facts.uid = value.parse().ok(),
            "home" => value.clone_into(&mut facts.home),
            "dir" => facts.dirs.extend(parse_dir(value)),
            _ => {}
        }
    }
    (!facts.machine.is_empty()).then_some(facts)
}

/// `EI_CLASS` of an ELF file.
fn bits_of_class(value: &str) -> Option<u32> {
    match value.trim() {
        "1" => Some(32),
        "2" => Some(64),
        _ => None,
    }
}

/// `ldd (GNU libc) 2.31`, or a distribution's name for it in the brackets.
fn glibc_of_ldd(line: &str) -> Option<(u32, u32)> {
    let (name, version) = line.rsplit_once(' ')?;
    let glibc = name.contains("GNU libc") || name.to_ascii_uppercase().contains("GLIBC");
    parse_version(version).filter(|_| glibc)
}

fn parse_dir(value: &str) -> Option<Dir> {
    let mut parts = value.splitn(3, '|');
    let state = match parts.next()? {
        "usable" => DirState::Usable,
        "noexec" => DirState::NoExec,
        "readonly" => DirState::ReadOnly,
        _ => return None,
    };
    let words: Vec<&str> = parts.next()?.split_whitespace().collect();
    // Names of file systems may hold spaces; what is free stands before the percentage.
    let percent = words.iter().position(|word| word.ends_with('%') && word.len() > 1);
    let free = percent.and_then(|at| words.get(at.checked_sub(1)?)?.parse::<u64>().ok());
    Some(Dir { path: parts.next()?.to_owned(), state, free: free.map(|kib| kib.saturating_mul(1024)) })
}

impl DeviceFacts {
    /// In a few words, for an error's text.
    pub fn describe(&self) -> String {
        let mut text = format!("{} {}", self.system, self.machine);
        if let Some(bits) = self.bits {
            let _ = write!(text, ", {bits}-bit userland");
        }
        match self.glibc {
            Some((major, minor)) => {
                let _ = write!(text, ", glibc {major}.{minor}");
            }
            None => text.push_str(", no glibc"),
        }
        text
    }

    /// Whether a build would start here.
    fn runs(&self, build: &AgentBuild) -> bool {
        let triple = build.triple();
        let arch = triple.split('-').next().unwrap_or_default();
        let is_static = triple.contains("-musl");
        // A userland of 32 bits on a kernel of 64 lacks the libraries, not the instructions: a static build runs.
        let wide = self.bits != Some(32) || is_static;
        let processor = match (arch, self.machine.as_str()) {
            ("x86_64", "x86_64" | "amd64") | ("aarch64", "aarch64" | "arm64") => wide,
            ("armv7", "armv7l" | "armv8l") => true,
            ("armv7", "aarch64" | "arm64") => self.bits == Some(32),
            _ => false,
        };
        let system = match self.system.as_str() {
            "Linux" => triple.contains("-linux-"),
            "Darwin" => triple.contains("-darwin"),
            _ => false,
        };
        let libc = match (triple.contains("-gnu"), build.glibc(), self.glibc) {
            (false, ..) | (true, None, Some(_)) => true,
            (true, Some(needed), Some(there)) => there >= needed,
            (true, _, None) => false,
        };
        processor && system && libc
    }

    /// The build to use: the first of the profile's triples that is at hand and runs here. An emulator (`any_processor`)
    /// runs whatever the profile says.
    pub(super) fn choose<'a>(
        &self,
        device: &str,
        triples: &[String],
        builds: &'a [AgentBuild],
        any_processor: bool,
    ) -> Result<&'a AgentBuild, Error> {
        let in_order = triples.iter().flat_map(|triple| builds.iter().filter(move |build| build.triple() == triple));
        in_order.into_iter().find(|build| any_processor || self.runs(build)).ok_or_else(|| Error::NoAgentBuild {
            device: device.into(),
            system: self.describe(),
            available: builds.iter().map(AgentBuild::describe).collect(),
        })
    }

    /// The first directory that may hold a build of `size` bytes.
    pub(super) fn place(&self, device: &str, size: u64) -> Result<&str, Error> {
        let needed = size + HEADROOM;
        let fits = |dir: &&Dir| dir.free.is_none_or(|free| free >= needed);
        let usable = || self.dirs.iter().filter(|dir| dir.state == DirState::Usable);
        if let Some(dir) = usable().find(fits) {
            return Ok(&dir.path);
        }
        let device = device.to_owned();
        // A full file system also fails the write, but then has nothing free.
        let full = self.dirs.iter().filter(|dir| dir.state == DirState::ReadOnly && dir.free == Some(0));
        if let Some(dir) = usable().chain(full).max_by_key(|dir| dir.free) {
            return Err(Error::NoSpace { device, dir: dir.path.clone(), needed, free: dir.free.unwrap_or(0) });
        }
        let noexec: Vec<_> = self.dirs.iter().filter(|dir| dir.state == DirState::NoExec).map(|dir| dir.path.clone()).collect();
        if noexec.is_empty() {
            return Err(Error::ReadOnly { device, dirs: self.dirs.iter().map(|dir| dir.path.clone()).collect() });
        }
        Err(Error::NoExec { device, dirs: noexec })
    }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
