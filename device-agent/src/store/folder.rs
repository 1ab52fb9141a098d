//! The store's folder: where things lie, what is there, and who uses it.

use super::{
    ledger::{Promise, SharedLedger},
    room::{Held, Near, Pins, default_budget},
};
use crate::{cancel::Cancel, error::ServeError, error::io_error, error::wire, sys};
use edgewise_protocol::{BlobId, BlobState, ErrorCode, WireError};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

const BLOBS: &str = "blobs";
const PARTS: &str = "parts";
const TAKEN: &str = "taken";
const ARTIFACTS: &str = "artifacts";

/// An open store.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    budget: u64,
    pins: Pins,
    ledger: SharedLedger,
    /// Held shared as long as this agent lives, so that another knows that it is not alone.
    _users: File,
    serial: AtomicU64,
}

impl Store {
    /// Opens the store in `root`, which is made if it is missing. An agent that is alone clears what others left behind.
    /// `budget` bounds the bytes of blobs, see [`super::room`]; without one it follows from the disk.
    ///
    /// # Errors
    /// [`ServeError::Store`].
    pub(crate) fn open(root: &Path, budget: Option<u64>) -> Result<Self, ServeError> {
        Self::try_open(root, budget).map_err(|source| ServeError::Store { path: root.display().to_string(), source })
    }

    fn try_open(root: &Path, budget: Option<u64>) -> io::Result<Self> {
        for folder in [BLOBS, PARTS, TAKEN, ARTIFACTS] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(root.join(folder))?;
        }
        // Runtimes and links want paths that do not depend on the working directory.
        let root = root.canonicalize()?;
        let users = File::options().create(true).append(true).open(root.join("users.lock"))?;
        if sys::try_lock(&users, true)? {
            clear(&root)?;
        }
        // Fails only against an agent that is just starting and holds it exclusively for a moment: then it is not alone either.
        sys::try_lock(&users, false)?;
        let (pins, ledger, serial) = (Pins::default(), SharedLedger::default(), AtomicU64::new(0));
        let mut store = Self { root, budget: 0, pins, ledger, _users: users, serial };
        store.budget = match budget {
            Some(budget) => budget,
            None => default_budget(sys::free_bytes(&store.root)?, store.stored_bytes()),
        };
        Ok(store)
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

    /// Holds a whole blob that must have `size` bytes.
    ///
    /// # Errors
    /// [`ErrorCode::MissingBlob`], [`ErrorCode::Io`].
    pub(crate) fn need(&self, blob: BlobId, size: u64) -> Result<Held, WireError> {
        let missing = || wire(ErrorCode::MissingBlob, format!("blob {blob} is not on the device"));
        let held = self.hold(blob)?.ok_or_else(missing)?;
        let have = fs::metadata(held.path()).map_err(|e| io_error("look at", held.path(), &e))?.len();
        if have != size {
            self.forget(blob);
            return Err(wire(ErrorCode::MissingBlob, format!("blob {blob} has {have} bytes instead of {size}; it was dropped")));
        }
        Ok(held)
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

    /// Bytes that blobs may take.
    pub(crate) fn budget(&self) -> u64 {
        self.budget
    }

    /// Writes whatever the store's file system has not written yet, in one go.
    ///
    /// # Errors
    /// [`ErrorCode::Io`], [`ErrorCode::NoSpace`].
    pub(crate) fn sync(&self) -> Result<(), WireError> {
        let sync = File::open(&self.root).and_then(|root| sys::sync_file_system(&root));
        sync.map_err(|e| io_error("write the file system of", &self.root, &e))
    }

    pub(super) fn near(&self) -> MutexGuard<'_, Near> {
        self.pins.near()
    }

    pub(super) fn pins(&self) -> Pins {
        self.pins.clone()
    }

    pub(super) fn ledger(&self) -> &SharedLedger {
        &self.ledger
    }

    /// The folder of whole blobs, each a file that is named by its hash.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join(BLOBS)
    }

    pub(super) fn parts(&self) -> PathBuf {
        self.root.join(PARTS)
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

    pub(super) fn forget(&self, blob: BlobId) {
        // What cannot be removed is noticed again at the next look. The stamp goes last: without it a link would pass for the
        // store's own file.
        if remove_if_there(&self.blob(blob)).is_ok() {
            let _ = fs::remove_file(self.stamp(blob));
        }
    }
}

impl Store {
    /// An empty folder for the files of an artifact of `bytes` bytes, which are made here.
    ///
    /// # Errors
    /// [`ErrorCode::NoSpace`] if they do not fit the disk, or the budget beside what is in use; [`ErrorCode::Io`].
    pub(crate) fn make_folder(&self, name: &str, bytes: u64) -> Result<Folder, WireError> {
        // It is no blob; the budget is for what this takes from the disk, whatever it is.
        const NOT_A_BLOB: BlobId = BlobId([0; 32]);
        let promise = self.make_room(NOT_A_BLOB, bytes, bytes)?;
        let here = self.stored_bytes();
        if here.saturating_add(bytes) > self.budget {
            let budget = self.budget;
            let message = format!("an artifact of {bytes} bytes does not fit the store's {budget}, of which {here} are in use");
            return Err(wire(ErrorCode::NoSpace, message));
        }
        let path = self.artifact(name);
        fs::create_dir(&path).map_err(|e| io_error("make", &path, &e))?;
        Ok(Folder { path, _promise: promise })
    }
}

/// A folder that goes, with all that is in it, when this is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _promise: Promise,
}

impl Folder {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays is cleared by the next agent that starts alone.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Clears what ended agents left: folders of measurements, half-made copies, uploads that never began or whose blob is there
/// by now, stamps of links that are gone. Broken-off uploads stay, to be resumed.
fn clear(root: &Path) -> io::Result<()> {
    let artifacts = root.join(ARTIFACTS);
    fs::remove_dir_all(&artifacts)?;
    fs::DirBuilder::new().mode(0o700).create(artifacts)?;
    let is_whole = |name: Option<&std::ffi::OsStr>| name.is_some_and(|name| root.join(BLOBS).join(name).exists());
    for entry in fs::read_dir(root.join(PARTS))? {
        let path = entry?.path();
        let resumable = path.extension().is_some_and(|extension| extension == "part")
            && fs::symlink_metadata(&path)?.len() > 0
            && !is_whole(path.file_stem());
        if !resumable {
            fs::remove_file(path)?;
        }
    }
    for entry in fs::read_dir(root.join(TAKEN))? {
        let path = entry?.path();
        if !is_whole(path.file_name()) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
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
        let first = Store::open(dir.path(), None).unwrap();
        let artifact = first.artifact("x");
        fs::create_dir(&artifact).unwrap();
        fs::write(first.scratch(BLOB), "x").unwrap();
        fs::write(first.part(BLOB), "abc").unwrap();

        let second = Store::open(dir.path(), None).unwrap();
        assert!(artifact.exists(), "the first agent may be measuring it");
        drop((first, second));

        let third = Store::open(dir.path(), None).unwrap();
        assert!(!artifact.exists());
        assert_eq!(fs::read_dir(dir.path().join(PARTS)).unwrap().count(), 1, "parts can be resumed, so they stay");
        assert_eq!(third.state(BLOB), BlobState::Partial(3));
        assert_eq!(third.stored_bytes(), 3);
    }

    #[test]
    fn a_blob_of_another_size_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), None).unwrap();
        fs::write(store.blob(BLOB), "abc").unwrap();
        assert!(store.need(BLOB, 3).is_ok());
        let error = store.need(BLOB, 4).unwrap_err();
        assert_eq!(error.code, ErrorCode::MissingBlob);
        assert!(error.message.contains("3 bytes instead of 4"), "{}", error.message);
        assert_eq!(store.state(BLOB), BlobState::Missing);
    }

    #[test]
    fn what_belongs_to_nothing_any_more_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), None).unwrap();
        fs::write(store.blob(BLOB), "whole").unwrap();
        fs::write(store.stamp(BLOB), "of a link").unwrap();
        fs::write(store.part(BLOB), "who").unwrap();
        fs::write(store.stamp(BlobId([8; 32])), "of a link that is gone").unwrap();
        fs::write(store.part(BlobId([8; 32])), "").unwrap();
        drop(store);
        let store = Store::open(dir.path(), None).unwrap();
        assert!(store.stamp(BLOB).exists() && !store.stamp(BlobId([8; 32])).exists());
        assert_eq!(fs::read_dir(store.parts()).unwrap().count(), 0);
    }

    #[test]
    fn a_store_that_cannot_be_made_names_its_path() {
        let error = Store::open(Path::new("/proc/nowhere"), None).unwrap_err();
        assert_eq!(error.to_string(), "cannot use the store /proc/nowhere");
    }
}
