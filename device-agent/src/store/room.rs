//! The store's bound: what goes when bytes are announced that do not fit.
//!
//! Contract: broken-off uploads go first, then whole blobs, each kind the least recently used first. The budget yields to what
//! must stay, the disk yields to nothing: [`ErrorCode::NoSpace`] is only said when not even an empty store would have the
//! room, and then nothing was dropped for it. These stay:
//! - what somebody holds, in this process or another: an upload has a lock on its part, and so has a user on its blob;
//! - the blobs that the host named in its last question: they are about to be used together;
//! - the ONNX Runtime that this connection used last, which the host does not name again for each artifact;
//! - the chunks of the super-network that is in use.
//!
//! A blob's last use is the modification time of a file that only the store writes: of the blob, or of its stamp where the blob
//! is a link to somebody else's file. There is no index that a crash could leave wrong.

use super::{
    folder::{Store, remove_if_there},
    ledger::{Ledger, Promise},
};
use crate::{
    error::{io_error, wire},
    limits::{BLOB_LOCK, DISK_RESERVE, STORE_BUDGET},
    sys,
};
use edgewise_protocol::{BlobId, BlobState, ErrorCode, WireError};
use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

/// The budget where none was given: no more than half of what the disk would have without the store.
pub(super) fn default_budget(free: u64, stored: u64) -> u64 {
    STORE_BUDGET.min(free.saturating_add(stored) / 2)
}

/// A store that is over its budget is brought this share of it below, so that thousands of small blobs that come after one
/// another do not each look through all that are there.
const CLEARING_SHARE: u64 = 64;

/// What this connection's host is about to use.
#[derive(Debug, Default)]
pub(super) struct Near {
    asked: HashSet<BlobId>,
    library: Option<BlobId>,
    /// How often each blob is in use without being held.
    pinned: HashMap<BlobId, usize>,
}

impl Near {
    fn contains(&self, blob: BlobId) -> bool {
        self.library == Some(blob) || self.asked.contains(&blob) || self.pinned.contains_key(&blob)
    }
}

/// What is near, for those who outlive a look at the store.
#[derive(Debug, Clone, Default)]
pub(super) struct Pins(Arc<Mutex<Near>>);

impl Pins {
    pub(super) fn near(&self) -> MutexGuard<'_, Near> {
        // It is valid after every statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps these blobs until they are released as often.
    pub(super) fn pin(&self, blobs: &[BlobId]) {
        let mut near = self.near();
        for blob in blobs {
            *near.pinned.entry(*blob).or_default() += 1;
        }
    }

    pub(super) fn release(&self, blobs: &[BlobId]) {
        let mut near = self.near();
        for blob in blobs {
            if let Some(uses) = near.pinned.get_mut(blob) {
                *uses -= 1;
                if *uses == 0 {
                    near.pinned.remove(blob);
                }
            }
        }
    }
}

/// A whole blob that stays where it is as long as this lives.
#[derive(Debug)]
pub(crate) struct Held {
    path: PathBuf,
    _lock: File,
}

impl Held {
    /// The blob's file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Something that may go.
#[derive(Debug)]
struct Spare {
    blob: BlobId,
    whole: bool,
    path: PathBuf,
    used: SystemTime,
    bytes: u64,
    /// Bytes that the disk gets back: none if the file has another name elsewhere.
    frees: u64,
}

impl Store {
    /// What is there of these blobs, in order. They stay until another question names others; a question that names none
    /// changes nothing.
    pub(crate) fn ask(&self, blobs: Vec<BlobId>) -> Vec<BlobState> {
        let states = blobs.iter().map(|&blob| self.state(blob)).collect::<Vec<_>>();
        for (&blob, _) in blobs.iter().zip(&states).filter(|(_, state)| **state == BlobState::Complete) {
            self.touch(blob);
        }
        if !blobs.is_empty() {
            self.near().asked = blobs.into_iter().collect();
        }
        states
    }

    /// Holds a whole blob, if it is there. This counts as a use.
    ///
    /// # Errors
    /// [`ErrorCode::Io`].
    pub(crate) fn hold(&self, blob: BlobId) -> Result<Option<Held>, WireError> {
        let Some(path) = self.locate(blob) else { return Ok(None) };
        let fail = |doing: &'static str| {
            let path = path.clone();
            move |e: io::Error| io_error(doing, &path, &e)
        };
        let file = match File::open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(fail("open"))?,
        };
        // Whoever has it alone is looking whether it may go, which takes a moment, or removes it.
        let start = Instant::now();
        while !sys::try_lock(&file, false).map_err(fail("lock"))? {
            if start.elapsed() > BLOB_LOCK {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(2));
        }
        if !is_at(&file, &path) {
            return Ok(None);
        }
        self.touch(blob);
        Ok(Some(Held { path, _lock: file }))
    }

    /// As [`Self::hold`], and keeps the blob for the rest of the connection or until another one is used in its stead.
    ///
    /// # Errors
    /// [`ErrorCode::MissingBlob`], [`ErrorCode::Io`].
    pub(crate) fn hold_library(&self, blob: BlobId) -> Result<Held, WireError> {
        let missing = || wire(ErrorCode::MissingBlob, format!("ONNX Runtime, blob {blob}, is not on the device"));
        let held = self.hold(blob)?.ok_or_else(missing)?;
        self.near().library = Some(blob);
        Ok(held)
    }

    /// Sees to it that `stored` more bytes fit the budget and `written` more the disk, for `blob`, and keeps that room until
    /// the bytes are there or the promise is dropped.
    ///
    /// # Errors
    /// [`ErrorCode::NoSpace`], [`ErrorCode::Io`].
    pub(super) fn make_room(&self, blob: BlobId, stored: u64, written: u64) -> Result<Promise, WireError> {
        let free = sys::free_bytes(self.root()).map_err(|e| io_error("ask for the free space of", self.root(), &e))?;
        self.make_room_on(free, blob, stored, written)
    }

    fn make_room_on(&self, free: u64, blob: BlobId, stored: u64, written: u64) -> Result<Promise, WireError> {
        let shared = self.ledger();
        // As long as it is locked nobody else is promised the same room.
        let mut ledger = shared.lock();
        self.clear(&mut ledger, free, blob, stored, written)?;
        Ok(ledger.promise(shared, stored))
    }

    fn clear(&self, ledger: &mut Ledger, free: u64, blob: BlobId, stored: u64, written: u64) -> Result<(), WireError> {
        let excess = |here: u64, ledger: &Ledger| {
            here.saturating_add(ledger.promised()).saturating_add(stored).saturating_sub(self.budget())
        };
        let mut over = excess(ledger.stored(false, || self.stored_bytes()), ledger);
        // What was promised is still to be written, too.
        let to_write = written.saturating_add(ledger.promised()).saturating_add(DISK_RESERVE);
        let shortage = if written == 0 { 0 } else { to_write.saturating_sub(free) };
        if over == 0 && shortage == 0 {
            return Ok(());
        }
        over = excess(ledger.stored(true, || self.stored_bytes()), ledger);
        if over > 0 {
            over = over.saturating_add(self.budget() / CLEARING_SHARE);
        }
        let spares = self.spares(blob).map_err(|e| io_error("list", self.root(), &e))?;
        let possible: u64 = spares.iter().map(|spare| spare.frees).sum();
        let none = |more: u64| {
            let message = format!(
                "{written} bytes are needed in `{}`, {free} are free and {more} could be made free",
                self.root().display()
            );
            Err(wire(ErrorCode::NoSpace, message))
        };
        if shortage > possible {
            return none(possible);
        }
        let (mut dropped, mut freed) = (0, 0);
        for spare in &spares {
            let wanted = dropped < over || (freed < shortage && spare.frees > 0);
            if wanted && self.evict(spare).map_err(|e| io_error("remove", &spare.path, &e))? {
                dropped += spare.bytes;
                freed += spare.frees;
            }
        }
        ledger.dropped(dropped);
        // Somebody took hold of something meanwhile.
        if freed < shortage { none(freed) } else { Ok(()) }
    }

    /// What may go, in the order in which it does.
    fn spares(&self, keep: BlobId) -> io::Result<Vec<Spare>> {
        let mut spares = Vec::new();
        for (folder, whole) in [(self.parts(), false), (self.blobs(), true)] {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let name = if whole { Some(name) } else { name.strip_suffix(".part") };
                // What is not named like this belongs to somebody who is at work, or is none of the store's.
                let Some(blob) = name.and_then(|name| name.parse().ok()) else { continue };
                if blob == keep || self.near().contains(blob) || !is_free(&path)? {
                    continue;
                }
                let Some(meta) = if_there(fs::symlink_metadata(&path))? else { continue };
                let stamp = if whole { if_there(fs::metadata(self.stamp(blob)))? } else { None };
                let used = stamp.as_ref().unwrap_or(&meta).modified()?;
                let frees = if meta.nlink() == 1 { meta.len() } else { 0 };
                spares.push(Spare { blob, whole, path, used, bytes: meta.len(), frees });
            }
        }
        spares.sort_by(order);
        Ok(spares)
    }

    /// Removes something unless somebody holds it by now.
    fn evict(&self, spare: &Spare) -> io::Result<bool> {
        let Some(file) = if_there(open(&spare.path))? else { return Ok(true) };
        if let Some(file) = &file
            && (!sys::try_lock(file, true)? || !is_at(file, &spare.path))
        {
            return Ok(false);
        }
        remove_if_there(&spare.path)?;
        if spare.whole {
            // Last: a link without its stamp would pass for the store's own file.
            remove_if_there(&self.stamp(spare.blob))?;
        }
        Ok(true)
    }

    /// Notes that a whole blob is used now.
    pub(super) fn touch(&self, blob: BlobId) {
        let now = SystemTime::now();
        // Only the stamp of a link is the store's: the times of somebody else's file are not to be changed.
        let own = match File::open(self.stamp(blob)) {
            Err(e) if e.kind() == ErrorKind::NotFound => File::open(self.blob(blob)),
            other => other,
        };
        // A blob whose time cannot be set only seems older than it is.
        let _ = own.and_then(|file| file.set_modified(now));
    }
}

/// Broken-off uploads before blobs, the older before the younger; the names make the order one and the same.
fn order(a: &Spare, b: &Spare) -> Ordering {
    (a.whole, a.used, &a.path).cmp(&(b.whole, b.used, &b.path))
}

/// Whether nobody holds this file.
fn is_free(path: &Path) -> io::Result<bool> {
    match if_there(open(path))? {
        Some(Some(file)) => sys::try_lock(&file, true),
        Some(None) => Ok(true),
        None => Ok(false),
    }
}

/// Opens a file to lock it. One that must not be opened is held by nobody.
fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => Ok(None),
        other => other.map(Some),
    }
}

/// Whether the open file is still the one of that name.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |meta: fs::Metadata| (meta.dev(), meta.ino());
    file.metadata().map(identity).ok().is_some_and(|open| fs::metadata(path).map(identity).ok() == Some(open))
}

fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
