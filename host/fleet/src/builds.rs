//! Agent builds at hand on the host.

use crate::{
    Error,
    elf::{Elf, Platform},
};
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// One build of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentBuild {
    triple: String,
    path: PathBuf,
    sha256: String,
    size: u64,
    is_static: bool,
    glibc: Option<(u32, u32)>,
}

impl AgentBuild {
    /// Reads a build once, for its hash and for the C library that it needs. What is no ELF file is taken at the caller's word:
    /// a script, or a program for a system with another format.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::WrongBuild`] for a program of other processors than the triple's.
    pub fn open(triple: &str, path: &Path) -> Result<Self, Error> {
        Self::of_bytes(triple, path, &read(path)?)
    }

    /// The same, of a build whose bytes are known: those are what is sent to devices, or nothing is.
    ///
    /// # Errors
    /// As [`Self::open`], and [`Error::BuildChanged`] if they are others.
    pub fn open_checked(triple: &str, path: &Path, sha256: &str, size: u64) -> Result<Self, Error> {
        let bytes = read(path)?;
        let found = hex::encode(Sha256::digest(&bytes));
        if (found.as_str(), bytes.len() as u64) != (sha256, size) {
            return Err(Error::BuildChanged {
                path: path.into(),
                expected: (sha256.into(), size),
                found: (found, bytes.len() as u64),
            });
        }
        Self::of_bytes(triple, path, &bytes)
    }

    /// A build of which only the file is known: it is of the first of the triples that its processor and its C library fit.
    ///
    /// # Errors
    /// As [`Self::open`]; [`Error::WrongBuild`] also if there is no triple.
    pub fn recognise(path: &Path, triples: &[String]) -> Result<Self, Error> {
        let bytes = read(path)?;
        let elf = Elf::parse(&bytes);
        let needs_glibc = needed_glibc(&bytes).is_some();
        let fits = |triple: &&String| elf.is_none_or(|elf| elf.platform.fits(triple));
        let suits = |triple: &&String| elf.is_none_or(|elf| !elf.interpreted || !needs_glibc || triple.contains("-gnu"));
        // A static build needs no C library of the device, which is what the triples with musl stand for.
        let prefers = |triple: &&String| elf.is_none_or(|elf| elf.interpreted || triple.contains("-musl"));
        let mut candidates = triples.iter().filter(fits).filter(suits);
        let best = candidates.clone().find(prefers).or_else(|| candidates.next()).or_else(|| triples.iter().find(fits));
        match best.or(triples.first()) {
            Some(triple) => Self::of_bytes(triple, path, &bytes),
            None => Err(Error::WrongBuild { path: path.into(), is: describe(elf), triple: "any triple".into() }),
        }
    }

    fn of_bytes(triple: &str, path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let elf = Elf::parse(bytes);
        let fits = elf.map_or(!Elf::is_claimed(bytes), |elf| elf.platform.fits(triple));
        if !fits {
            return Err(Error::WrongBuild { path: path.into(), is: describe(elf), triple: triple.into() });
        }
        let is_static = elf.map_or(triple.contains("-musl"), |elf| !elf.interpreted);
        Ok(Self {
            triple: triple.into(),
            path: path.into(),
            sha256: hex::encode(Sha256::digest(bytes)),
            size: bytes.len() as u64,
            is_static,
            glibc: if is_static { None } else { needed_glibc(bytes) },
        })
    }

    /// The triple it was built for.
    pub fn triple(&self) -> &str {
        &self.triple
    }

    /// Where it is on the host.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// SHA-256 in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether it needs nothing of the device but its kernel.
    pub fn is_static(&self) -> bool {
        self.is_static
    }

    /// The oldest glibc that it runs with; `None` if it needs none.
    pub fn glibc(&self) -> Option<(u32, u32)> {
        self.glibc
    }

    /// Its directory below a device's base directory: named by content, so that a running build is never overwritten and a
    /// stale one is never picked.
    pub(crate) fn directory(&self) -> String {
        format!("agents/{}-{}", self.triple, &self.sha256[..16])
    }

    /// For an error's text.
    pub(crate) fn describe(&self) -> String {
        match self.glibc {
            Some((major, minor)) => format!("{} (glibc {major}.{minor})", self.triple),
            None => self.triple.clone(),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::File { action: "read", path: path.into(), source })
}

fn describe(elf: Option<Elf>) -> String {
    let program = |platform: Platform| format!("a program for {platform}");
    elf.map_or_else(|| "a damaged program".into(), |elf| program(elf.platform))
}

/// The newest `GLIBC_x.y` that a binary names: its dynamic linker refuses to start it with an older one.
fn needed_glibc(bytes: &[u8]) -> Option<(u32, u32)> {
    const TAG: &[u8] = b"GLIBC_";
    let mut newest = None;
    let mut rest = bytes;
    while let Some(at) = rest.windows(TAG.len()).position(|window| window == TAG) {
        rest = &rest[at + TAG.len()..];
        let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.').unwrap_or(rest.len().min(16));
        // Only a whole, terminated version counts, not a word that happens to be in a message.
        if rest.get(end) == Some(&0)
            && let Ok(text) = std::str::from_utf8(&rest[..end])
        {
            newest = newest.max(parse_version(text));
        }
    }
    newest
}

/// `2.31` or `2.3.4`: major and minor.
pub(crate) fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::fixture::elf;

    const AARCH64: u16 = 183;
    const LIBRARY: &[u32] = &[3];

    #[test]
    fn the_newest_version_that_is_named_counts() {
        let binary = b"\x7fELF GLIBC_2.2.5\0GLIBC_2.28\0GLIBC_2.9\0 needs GLIBC_9.9 or so GLIBC_PRIVATE\0GLIBC_2.";
        assert_eq!(needed_glibc(binary), Some((2, 28)));
        assert_eq!(needed_glibc(b"#!/bin/sh\n"), None);
    }

    fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device-agent");
        fs::write(&path, content).unwrap();
        (dir, path)
    }

    #[test]
    fn a_build_is_named_by_its_content() {
        let (dir, path) = file(b"abc");
        let build = AgentBuild::open("armv7-unknown-linux-musleabihf", &path).unwrap();
        assert_eq!(build.directory(), "agents/armv7-unknown-linux-musleabihf-ba7816bf8f01cfea");
        assert_eq!((build.size(), build.glibc()), (3, None));
        assert!(AgentBuild::open("x", &dir.path().join("none")).unwrap_err().to_string().contains("none"));
    }

    #[test]
    fn what_was_promised_is_there_or_nothing_is_used() {
        let (_dir, path) = file(b"abc");
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let open = |sha256: &str, size| AgentBuild::open_checked("x86_64-unknown-linux-gnu", &path, sha256, size);
        assert_eq!(open(sha256, 3).unwrap(), AgentBuild::open("x86_64-unknown-linux-gnu", &path).unwrap());
        let other = sha256.replace("ba78", "0000");
        for error in [open(&other, 3).unwrap_err(), open(sha256, 4).unwrap_err()] {
            assert!(matches!(&error, Error::BuildChanged { .. }), "{error}");
            assert!(error.to_string().contains(sha256) && error.hint().unwrap().contains("scripts/build-agents"), "{error}");
        }
        assert!(open(&other, 3).unwrap_err().to_string().contains(&other));
    }

    #[test]
    fn a_program_for_another_processor_is_refused_and_named() {
        let (_dir, path) = file(&elf(AARCH64, true, false, LIBRARY));
        let error = AgentBuild::open("x86_64-unknown-linux-gnu", &path).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("is a program for aarch64") && said.contains("x86_64-unknown-linux-gnu"), "{said}");
        assert!(error.hint().is_some());
        assert!(AgentBuild::open("aarch64-unknown-linux-gnu", &path).is_ok());
        fs::write(&path, &elf(AARCH64, true, false, LIBRARY)[..40]).unwrap();
        let damaged = AgentBuild::open("aarch64-unknown-linux-gnu", &path).unwrap_err().to_string();
        assert!(damaged.contains("a damaged program"), "{damaged}");
    }

    #[test]
    fn a_program_says_itself_whether_it_is_static() {
        let needing = [elf(AARCH64, true, false, LIBRARY), b"\0GLIBC_2.31\0".to_vec()].concat();
        let (_dir, path) = file(&needing);
        let build = AgentBuild::open("aarch64-unknown-linux-gnu", &path).unwrap();
        assert_eq!((build.is_static(), build.glibc()), (false, Some((2, 31))));
        let alone = [elf(AARCH64, true, false, &[1, 2]), b"\0GLIBC_2.31\0".to_vec()].concat();
        fs::write(&path, alone).unwrap();
        let build = AgentBuild::open("aarch64-unknown-linux-gnu", &path).unwrap();
        assert_eq!((build.is_static(), build.glibc()), (true, None));
        fs::write(&path, "#!/bin/sh\n").unwrap();
        assert!(AgentBuild::open("aarch64-unknown-linux-musl", &path).unwrap().is_static());
    }

    #[test]
    fn a_file_is_of_the_triple_that_it_fits() {
        let triples = ["aarch64-unknown-linux-gnu", "aarch64-unknown-linux-musl", "armv7-unknown-linux-musleabihf"];
        let triples = triples.map(String::from);
        let (_dir, path) = file(b"");
        let is = |content: Vec<u8>| {
            fs::write(&path, content).unwrap();
            AgentBuild::recognise(&path, &triples).map(|build| build.triple)
        };
        let needing = [elf(AARCH64, true, false, LIBRARY), b"\0GLIBC_2.28\0".to_vec()].concat();
        assert_eq!(is(needing).unwrap(), triples[0]);
        assert_eq!(is(elf(AARCH64, true, false, &[1])).unwrap(), triples[1]);
        assert_eq!(is(elf(40, false, false, &[1])).unwrap(), triples[2]);
        assert_eq!(is(b"#!/bin/sh\n".to_vec()).unwrap(), triples[0]);
        let error = is(elf(62, true, false, &[1])).unwrap_err();
        assert!(matches!(&error, Error::WrongBuild { is, .. } if is.contains("x86-64")), "{error}");
        assert!(matches!(AgentBuild::recognise(&path, &[]), Err(Error::WrongBuild { .. })));
        let statics = ["aarch64-unknown-linux-gnu".to_owned()];
        fs::write(&path, elf(AARCH64, true, false, &[1])).unwrap();
        assert_eq!(AgentBuild::recognise(&path, &statics).unwrap().triple(), statics[0], "a static build for glibc is one, too");
    }
}
