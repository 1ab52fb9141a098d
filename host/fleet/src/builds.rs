//! Agent builds at hand on the host.

use crate::Error;
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
    glibc: Option<(u32, u32)>,
}

impl AgentBuild {
    /// Reads a build once, for its hash and for the C library that it needs.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn open(triple: &str, path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(|source| Error::File { action: "read", path: path.into(), source })?;
        Ok(Self {
            triple: triple.into(),
            path: path.into(),
            sha256: hex::encode(Sha256::digest(&bytes)),
            size: bytes.len() as u64,
            glibc: needed_glibc(&bytes),
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

    #[test]
    fn the_newest_version_that_is_named_counts() {
        let binary = b"\x7fELF GLIBC_2.2.5\0GLIBC_2.28\0GLIBC_2.9\0 needs GLIBC_9.9 or so GLIBC_PRIVATE\0GLIBC_2.";
        assert_eq!(needed_glibc(binary), Some((2, 28)));
        assert_eq!(needed_glibc(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn a_build_is_named_by_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent");
        fs::write(&path, "abc").unwrap();
        let build = AgentBuild::open("armv7-unknown-linux-musleabihf", &path).unwrap();
        assert_eq!(build.directory(), "agents/armv7-unknown-linux-musleabihf-ba7816bf8f01cfea");
        assert_eq!((build.size(), build.glibc()), (3, None));
        assert!(AgentBuild::open("x", &dir.path().join("none")).unwrap_err().to_string().contains("none"));
    }
}
