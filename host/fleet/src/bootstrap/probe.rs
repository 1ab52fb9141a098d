//! One command that asks a device what it is, and the choice of a place from its answers.

use crate::{Error, builds::parse_version, shell};
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

/// What Android says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Android {
    /// Its version, such as `14`.
    pub release: String,
    /// The device's name by its maker.
    pub model: String,
    /// Binary interfaces that its programs may have, the best first, such as `arm64-v8a`.
    pub abis: Vec<String>,
}

/// What a device says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceFacts {
    /// `uname -s`.
    pub system: String,
    /// `uname -m`: the kernel's word, which says nothing about the userland.
    pub machine: String,
    /// The board's name by its device tree, if it has one.
    pub model: Option<String>,
    /// Bits of the userland's words.
    pub bits: Option<u32>,
    /// Version of its glibc, if it has that.
    pub glibc: Option<(u32, u32)>,
    /// Whether it has musl's dynamic linker.
    pub musl: bool,
    /// What it says if it is Android.
    pub android: Option<Android>,
    /// What its first processor can do, in the kernel's words (`asimd`, `vfpv3`, `avx2`); empty where the kernel hides it.
    pub features: Vec<String>,
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
    s.push_str("for f in /bin/sh /system/bin/sh; do if [ -r $f ]; then ");
    s.push_str("echo class=$(od -An -tu1 -j4 -N1 $f 2>/dev/null); fi; done; ");
    s.push_str("echo \"ldd=$(ldd --version 2>/dev/null | head -n 1)\"; ");
    s.push_str("for f in /lib/ld-musl-*; do if [ -e \"$f\" ]; then echo musl=1; fi; done; ");
    s.push_str("if command -v getprop >/dev/null 2>&1; then ");
    s.push_str("say \"android=$(getprop ro.build.version.release 2>/dev/null)\"; ");
    s.push_str("say \"abis=$(getprop ro.product.cpu.abilist 2>/dev/null)\"; ");
    s.push_str("say \"phone=$(getprop ro.product.model 2>/dev/null)\"; fi; ");
    // With the shell's own words: grep and tr may be missing. The device tree's text ends with a nul, which `read` drops.
    s.push_str("m=/proc/device-tree/model; if [ -r $m ]; then read -r m < $m; say \"model=$m\"; fi; ");
    s.push_str("c=/proc/cpuinfo; if [ -r $c ]; then ");
    s.push_str("while read -r k v; do case \"$k\" in Features|flags) echo \"features=$v\"; break;; esac; done < $c; fi; ");
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
            "musl" => facts.musl = true,
            "android" if !value.is_empty() => facts.android.get_or_insert_default().release = value.trim().into(),
            "abis" if !value.is_empty() => facts.android.get_or_insert_default().abis = words(value, ','),
            "phone" if !value.is_empty() => facts.android.get_or_insert_default().model = value.trim().into(),
            "model" => facts.model = Some(value.trim_matches(['\0', ' ']).to_owned()).filter(|model| !model.is_empty()),
            "features" => facts.features = words(value.trim_start_matches([':', ' ', '\t']), ' '),
            "uid" => facts.uid = value.parse().ok(),
            "home" => value.clone_into(&mut facts.home),
            "dir" => facts.dirs.extend(parse_dir(value)),
            _ => {}
        }
    }
    if let (None, Some(android)) = (facts.bits, &facts.android) {
        facts.bits = bits_of_abis(&android.abis);
    }
    (!facts.machine.is_empty()).then_some(facts)
}

fn words(text: &str, separator: char) -> Vec<String> {
    text.split(separator).map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Android with 64 bits also lists the interfaces of 32.
fn bits_of_abis(abis: &[String]) -> Option<u32> {
    let wide = abis.iter().any(|abi| matches!(abi.as_str(), "arm64-v8a" | "x86_64" | "riscv64"));
    if wide { Some(64) } else { (!abis.is_empty()).then_some(32) }
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
        let mut text = match &self.android {
            Some(android) => format!("Android {} ({}), {}", android.release, android.model, self.machine),
            None => format!("{} {}", self.system, self.machine),
        };
        if let Some(bits) = self.bits {
            let _ = write!(text, ", {bits}-bit userland");
        }
        text.push_str(", ");
        text.push_str(&self.libc());
        text
    }

    /// Its C library.
    pub(super) fn libc(&self) -> String {
        match self.glibc {
            Some((major, minor)) => format!("glibc {major}.{minor}"),
            None if self.musl => "musl".into(),
            None if self.android.is_some() => "bionic".into(),
            None => "no glibc".into(),
        }
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
