//! The store's folder: where things lie, what is there, and who uses it.

use crate::{cancel::Cancel, error::ServeError, error::io_error, error::wire, sys};
use edgewise_protocol::{BlobId, BlobState, ErrorCode, WireError};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

const BLOBS: &str = "blobs";
const PARTS: &str = "parts";
const TAKEN: &str = "taken";
const ARTIFACTS: &str = "artifacts";

/// An open store.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    /// Held shared as long as this agent lives, so that another knows that it is not alone.
    _users: File,
    serial: AtomicU64,
}

impl Store {
    /// Opens the store in `root`, which is made if it is missing. An agent that is alone clears what others left behind.
    ///
    /// # Errors
    /// [`ServeError::Store`].
    pub(crate) fn open(root: &Path) -> Result<Self, ServeError> {
        Self::try_open(root).map_err(|source| ServeError::Store { path: root.display().to_string(), source })
    }

    fn try_open(root: &Path) -> io::Result<Self> {
        for folder in [BLOBS, PARTS, TAKEN, ARTIFACTS] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(root.join(folder))?;
        }
        // Runtimes and links want paths that do not depend on the working directory.
        let root = root.canonicalize()?;
        let users = File::options().create(true).append(true).open(root.join("users.lock"))?;
        if sys::try_lock(&users, true)? {
            fs::remove_dir_all(root.join(ARTIFACTS))?;
            fs::DirBuilder::new().mode(0o700).create(root.join(ARTIFACTS))?;
            for entry in fs::read_dir(root.join(PARTS))? {
                let path = entry?.path();
                if path.extension().is_none_or(|extension| extension != "part") {
                    fs::remove_file(path)?;
                }
            }
        }
        // Fails only against an agent that is just starting and holds it exclusively for a moment: then it is not alone either.
        sys::try_lock(&users, false)?;
        Ok(Self { root, _users: users, serial: AtomicU64::new(0) })
    }

    /// What is there of `blob`.
    pub(crate) fn state(&self, blob: BlobId) -> BlobState {
        if self.locate(blob).is_some() {
            return BlobState::Complete;
        }
        match fs::metadata(self.part(blob)) {
            Ok(meta) if meta.len() > 0 => BlobState::Partial(meta.len()),
            _ => BlobState::Missing,
        }
    }

    /// The file of a whole blob. A link to somebody else's file that has changed since it was hashed is dropped.
    pub(crate) fn locate(&self, blob: BlobId) -> Option<PathBuf> {
        let path = self.blob(blob);
        let meta = fs::metadata(&path).ok()?;
        match fs::read_to_string(self.stamp(blob)) {
            Ok(stamp) if stamp != stamp_of(&meta) => {
                self.forget(blob);
                None
            }
            _ => Some(path),
        }
    }

    /// The file of a whole blob that must have `size` bytes.
    ///
    /// # Errors
    /// [`ErrorCode::MissingBlob`].
    pub(crate) fn need(&self, blob: BlobId, size: u64) -> Result<PathBuf, WireError> {
        let path = self.locate(blob).ok_or_else(|| wire(ErrorCode::MissingBlob, format!("blob {blob} is not on the device")))?;
        let have = fs::metadata(&path).map_err(|e| io_error("look at", &path, &e))?.len();
        if have != size {
            self.forget(blob);
            return Err(wire(ErrorCode::MissingBlob, format!("blob {blob} has {have} bytes instead of {size}; it was dropped")));
        }
        Ok(path)
    }

    /// Bytes that whole and partial blobs take.
    pub(crate) fn stored_bytes(&self) -> u64 {
        [BLOBS, PARTS]
            .iter()
            .filter_map(|folder| fs::read_dir(self.root.join(folder)).ok())
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
            .sum()
    }

    /// The store's folder, absolute.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Fails unless `bytes` more fit the disk.
    ///
    /// # Errors
    /// [`ErrorCode::NoSpace`], [`ErrorCode::Io`].
    pub(super) fn check_space(&self, bytes: u64) -> Result<(), WireError> {
        let free = sys::free_bytes(&self.root).map_err(|e| io_error("ask for the free space of", &self.root, &e))?;
        if bytes.saturating_add(crate::limits::DISK_RESERVE) > free {
            let root = self.root.display();
            return Err(wire(ErrorCode::NoSpace, format!("{bytes} bytes are needed in `{root}`, {free} are free")));
        }
        Ok(())
    }

    pub(super) fn blob(&self, blob: BlobId) -> PathBuf {
        self.root.join(BLOBS).join(blob.to_string())
    }

    pub(super) fn part(&self, blob: BlobId) -> PathBuf {
        self.root.join(PARTS).join(format!("{blob}.part"))
    }

    pub(super) fn stamp(&self, blob: BlobId) -> PathBuf {
        self.root.join(TAKEN).join(blob.to_string())
    }

    /// A name that no other file of any agent has, in the folder of parts; cleared at the next start if it stays.
    pub(super) fn scratch(&self, blob: BlobId) -> PathBuf {
        self.root.join(PARTS).join(format!("{blob}.{}", self.unique()))
    }

    /// A new folder for one measurement.
    pub(super) fn artifact(&self, name: &str) -> PathBuf {
        self.root.join(ARTIFACTS).join(format!("{name}-{}", self.unique()))
    }

    fn unique(&self) -> String {
        format!("{}-{}", std::process::id(), self.serial.fetch_add(1, Ordering::Relaxed))
    }

    /// Puts a checked file in place as `blob`; `stamp` tells what it must keep looking like if others can reach it.
    pub(super) fn admit(&self, file: &Path, blob: BlobId, stamp: Option<&str>) -> io::Result<()> {
        match stamp {
            Some(stamp) => fs::write(self.stamp(blob), stamp)?,
            None => remove_if_there(&self.stamp(blob))?,
        }
        fs::rename(file, self.blob(blob))?;
        // A rename onto another link of the same file does nothing, and leaves this one.
        remove_if_there(file)
    }

    fn forget(&self, blob: BlobId) {
        // What cannot be removed is noticed again at the next look; a link is as good as gone without its stamp.
        let _ = fs::remove_file(self.blob(blob));
        let _ = fs::remove_file(self.stamp(blob));
    }
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// What tells that a file is still the one that was hashed.
pub(super) fn stamp_of(meta: &fs::Metadata) -> String {
    format!("{} {} {} {}.{:09}", meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec())
}

/// Reads `file` to its end through `sink`.
///
/// # Errors
/// [`ErrorCode::Cancelled`], [`ErrorCode::Io`], and those of `sink`.
pub(super) fn stream(
    file: &mut File,
    path: &Path,
    cancel: &Cancel,
    mut sink: impl FnMut(&[u8]) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        if cancel.is_cancelled() {
            return Err(wire(ErrorCode::Cancelled, "given up by the host"));
        }
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => sink(&buffer[..n])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(io_error("read", path, &e)),
        }
    }
}

pub(super) fn blob_id(hasher: Sha256) -> BlobId {
    BlobId(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOB: BlobId = BlobId([7; 32]);

    #[test]
    fn leftovers_are_cleared_only_by_an_agent_that_is_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = Store::open(dir.path()).unwrap();
        let artifact = first.artifact("x");
        fs::create_dir(&artifact).unwrap();
        fs::write(first.scratch(BLOB), "x").unwrap();
        fs::write(first.part(BLOB), "abc").unwrap();

        let second = Store::open(dir.path()).unwrap();
        assert!(artifact.exists(), "the first agent may be measuring it");
        drop((first, second));

        let third = Store::open(dir.path()).unwrap();
        assert!(!artifact.exists());
        assert_eq!(fs::read_dir(dir.path().join(PARTS)).unwrap().count(), 1, "parts can be resumed, so they stay");
        assert_eq!(third.state(BLOB), BlobState::Partial(3));
        assert_eq!(third.stored_bytes(), 3);
    }

    #[test]
    fn a_blob_of_another_size_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        fs::write(store.blob(BLOB), "abc").unwrap();
        assert!(store.need(BLOB, 3).is_ok());
        let error = store.need(BLOB, 4).unwrap_err();
        assert_eq!(error.code, ErrorCode::MissingBlob);
        assert!(error.message.contains("3 bytes instead of 4"), "{}", error.message);
        assert_eq!(store.state(BLOB), BlobState::Missing);
    }

    #[test]
    fn more_than_the_disk_holds_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.check_space(u64::MAX).unwrap_err().code, ErrorCode::NoSpace);
        store.check_space(1).unwrap();
    }

    #[test]
    fn a_store_that_cannot_be_made_names_its_path() {
        let error = Store::open(Path::new("/proc/nowhere")).unwrap_err();
        assert_eq!(error.to_string(), "cannot use the store /proc/nowhere");
    }
}
