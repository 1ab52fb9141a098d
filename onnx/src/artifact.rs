//! Opening an artifact's folder.

use crate::{DATA_FILE, Error, MODEL_FILE, Manifest, PROBE_FILE, ProbeFile, SHARED_DATA_FILE};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

/// An artifact on disk.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// Its folder.
    pub folder: PathBuf,
    /// SHA-256 of its manifest, in hexadecimal: the artifact's name.
    pub sha256: String,
    /// Its manifest.
    pub manifest: Manifest,
}

impl Artifact {
    /// Opens an artifact and checks that its files are there with the sizes that the manifest says. Their hashes are checked
    /// by whoever ships or stores them.
    ///
    /// # Errors
    /// [`Error::NotAnArtifact`] saying what is wrong.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let (manifest, bytes) = Manifest::read(folder)?;
        let bad = |reason: String| Error::NotAnArtifact { path: folder.to_owned(), reason };
        for needed in [MODEL_FILE, DATA_FILE, SHARED_DATA_FILE] {
            if !manifest.files.contains_key(needed) {
                return Err(bad(format!("its manifest does not list `{needed}`")));
            }
        }
        for (name, entry) in &manifest.files {
            let found = fs::metadata(folder.join(name)).map_err(|e| bad(format!("`{name}`: {e}")))?.len();
            if found != entry.bytes {
                return Err(bad(format!("`{name}` has {found} bytes, the manifest says {}", entry.bytes)));
            }
        }
        Ok(Self { folder: folder.to_owned(), sha256: hex::encode(Sha256::digest(&bytes)), manifest })
    }

    /// Recomputes the hash of every file.
    ///
    /// # Errors
    /// [`Error::NotAnArtifact`] naming the first file whose bytes are not those of the manifest.
    pub fn verify(&self) -> Result<(), Error> {
        for (name, entry) in &self.manifest.files {
            let path = self.folder.join(name);
            let mut file = File::open(&path).map_err(Error::io("open", &path))?;
            let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
            loop {
                let n = file.read(&mut buffer).map_err(Error::io("read", &path))?;
                if n == 0 {
                    break;
                }
                hash.update(&buffer[..n]);
            }
            if hex::encode(hash.finalize()) != entry.sha256 {
                let reason = format!("`{name}` was changed after the artifact was made");
                return Err(Error::NotAnArtifact { path: self.folder.clone(), reason });
            }
        }
        Ok(())
    }

    /// Total size of its files, in bytes.
    pub fn bytes(&self) -> u64 {
        self.manifest.files.values().map(|f| f.bytes).sum()
    }

    /// The host's reference logits, where they were stored beside it.
    ///
    /// # Errors
    /// [`Error::NotAnArtifact`] if the file is damaged.
    pub fn probe(&self) -> Result<Option<ProbeFile>, Error> {
        ProbeFile::read(&self.folder)
    }

    /// Stores reference logits beside the artifact.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_probe(&self, probe: &ProbeFile) -> Result<(), Error> {
        let path = self.folder.join(PROBE_FILE);
        let bytes = serde_json::to_vec(probe).expect("a probe has no map");
        fs::write(&path, bytes).map_err(Error::io("write", &path))
    }
}
