//! `manifest.json`: what an artifact is, and the hash of every file of it. Its own hash names the artifact.

use crate::{ContentHash, Error, MANIFEST_FILE, ModelConfig, PROBE_FILE, SubNetwork};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

/// Version of the manifest's layout.
pub const MANIFEST_SCHEMA: &str = "edgewise.artifact/1";

/// Number format of an artifact's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// IEEE single precision.
    Fp32,
}

impl Precision {
    /// The name used on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
        }
    }
}

/// The checkpoint an artifact was cut from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Name for people.
    pub name: String,
    /// SHA-256 over the checkpoint's weight files.
    pub sha256: String,
}

/// A file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

impl FileEntry {
    /// The entry of a file with this content.
    pub fn of(content: &[u8]) -> Self {
        Self { sha256: ContentHash::of(content).to_string(), bytes: content.len() as u64 }
    }
}

/// The content of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`MANIFEST_SCHEMA`].
    pub schema: String,
    /// Program and version that made it.
    pub producer: String,
    /// Where the weights come from.
    pub source: Source,
    /// Which part of the super-network it is.
    pub candidate: SubNetwork,
    /// Number format of the weights.
    pub precision: Precision,
    /// Parameters of the sub-network; a tied embedding counts once.
    pub parameters: u64,
    /// Architecture of the super-network.
    pub model: ModelConfig,
    /// Every other file, by name.
    pub files: BTreeMap<String, FileEntry>,
}

/// `probe.json`: logits that the host computed, for the identity check on a device. Not part of the artifact's hash, because
/// the last bits of logits depend on the processor that computed them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeFile {
    /// Steps with a growing key/value cache.
    pub steps: Vec<ProbeStep>,
    /// Largest accepted difference of a logit.
    pub tolerance: f32,
}

/// One step of a [`ProbeFile`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeStep {
    /// Tokens to feed.
    pub feed: Vec<u32>,
    /// Vocabulary entries and their logits in the step's last row.
    pub expect: Vec<(u32, f32)>,
}

impl Manifest {
    /// The bytes of `manifest.json`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a manifest has only string keys");
        bytes.push(b'\n');
        bytes
    }

    /// Reads and checks the manifest in `folder`.
    ///
    /// # Errors
    /// [`Error::NotAnArtifact`] saying what is wrong, [`Error::BadSubNetwork`], [`Error::BadConfig`].
    pub fn read(folder: &Path) -> Result<(Self, Vec<u8>), Error> {
        let path = folder.join(MANIFEST_FILE);
        let bad = |reason: String| Error::NotAnArtifact { path: folder.to_owned(), reason };
        let bytes = std::fs::read(&path).map_err(|e| bad(format!("cannot read {MANIFEST_FILE}: {e}")))?;
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|e| bad(format!("{MANIFEST_FILE}: {e}")))?;
        if manifest.schema != MANIFEST_SCHEMA {
            return Err(bad(format!("its schema is `{}`, this version reads `{MANIFEST_SCHEMA}`", manifest.schema)));
        }
        manifest.model.validate()?;
        manifest.model.check(&manifest.candidate)?;
        for name in manifest.files.keys() {
            if Path::new(name).file_name().is_none_or(|file| file != name.as_str()) {
                return Err(bad(format!("`{name}` is not a plain file name")));
            }
        }
        Ok((manifest, bytes))
    }
}

impl ProbeFile {
    /// Reads the probe beside an artifact, if there is one.
    ///
    /// # Errors
    /// [`Error::NotAnArtifact`] if the file is there but damaged.
    pub fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(PROBE_FILE);
        let bad = |reason: String| Error::NotAnArtifact { path: folder.to_owned(), reason };
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| bad(format!("{PROBE_FILE}: {e}"))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { action: "read", path, source }),
        }
    }
}
