//! Taking a blob from a file on the device: the way of host and device that share a disk.

use super::folder::{Store, blob_id, remove_if_there, stamp_of, stream};
use crate::{
    cancel::Cancel,
    error::{io_error, wire},
};
use edgewise_protocol::{BlobId, ErrorCode, WireError};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{Seek, Write},
    path::Path,
};

impl Store {
    /// Takes `blob` of `size` bytes from the regular file at the absolute `path`. The file is read once to check its hash, then
    /// linked; where that is not possible it is copied. A link is only good as long as the file stays as it was
    /// hashed: [`Store::locate`] checks its identity, size and time of change at each use.
    ///
    /// # Errors
    /// [`ErrorCode::BadRequest`], [`ErrorCode::HashMismatch`], [`ErrorCode::NoSpace`], [`ErrorCode::Cancelled`],
    /// [`ErrorCode::Io`].
    pub(crate) fn take(&self, blob: BlobId, size: u64, path: &Path, cancel: &Cancel) -> Result<(), WireError> {
        if !path.is_absolute() {
            return Err(wire(ErrorCode::BadRequest, format!("`{}` is not an absolute path", path.display())));
        }
        if self.hold(blob)?.is_some() {
            return Ok(());
        }
        // A link to a symbolic link would follow wherever that points later.
        let path = &path.canonicalize().map_err(|e| io_error("find", path, &e))?;
        let before = fs::metadata(path).map_err(|e| io_error("look at", path, &e))?;
        if !before.is_file() {
            return Err(wire(ErrorCode::BadRequest, format!("`{}` is not a regular file", path.display())));
        }
        if before.len() != size {
            let message = format!("`{}` has {} bytes, blob {blob} has {size}", path.display(), before.len());
            return Err(wire(ErrorCode::HashMismatch, message));
        }
        let mut file = File::open(path).map_err(|e| io_error("open", path, &e))?;
        let mut hasher = Sha256::new();
        stream(&mut file, path, cancel, |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        let after = file.metadata().map_err(|e| io_error("look at", path, &e))?;
        let found = blob_id(hasher);
        if found != blob || stamp_of(&before) != stamp_of(&after) {
            let message = format!("`{}` hashes to {found}, not to {blob}, or changed while it was read", path.display());
            return Err(wire(ErrorCode::HashMismatch, message));
        }

        // A link takes nothing from the disk, but its bytes stay there for the store's sake once the other name is gone.
        let mut room = self.make_room(blob, size, 0)?;
        let scratch = self.scratch(blob);
        if fs::hard_link(path, &scratch).is_ok() {
            let linked = fs::metadata(&scratch).map_err(|e| io_error("look at", &scratch, &e))?;
            // The name may have been given to another file after it was opened.
            if stamp_of(&linked) == stamp_of(&after) {
                self.admit(&scratch, blob, Some(&stamp_of(&after))).map_err(|e| io_error("link", &scratch, &e))?;
                room.keep(size);
                return Ok(());
            }
            remove_if_there(&scratch).map_err(|e| io_error("remove", &scratch, &e))?;
        }
        // The copy is promised more: the disk's space.
        drop(room);
        let copied = self.copy_in(blob, size, &mut file, path, &scratch, cancel);
        if copied.is_err() {
            remove_if_there(&scratch).map_err(|e| io_error("remove", &scratch, &e))?;
        }
        copied
    }

    fn copy_in(
        &self,
        blob: BlobId,
        size: u64,
        from: &mut File,
        path: &Path,
        to: &Path,
        cancel: &Cancel,
    ) -> Result<(), WireError> {
        let mut room = self.make_room(blob, size, size)?;
        from.rewind().map_err(|e| io_error("read", path, &e))?;
        let mut file = File::create_new(to).map_err(|e| io_error("make", to, &e))?;
        // Hashed again: the bytes that are kept are the ones that count.
        let mut hasher = Sha256::new();
        stream(from, path, cancel, |bytes| {
            hasher.update(bytes);
            file.write_all(bytes).map_err(|e| io_error("write", to, &e))
        })?;
        if blob_id(hasher) != blob {
            let message = format!("`{}` changed while it was copied", path.display());
            return Err(wire(ErrorCode::HashMismatch, message));
        }
        file.sync_data().map_err(|e| io_error("write", to, &e))?;
        self.admit(to, blob, None).map_err(|e| io_error("rename", to, &e))?;
        room.keep(size);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel;
    use edgewise_protocol::BlobState;
    use std::os::unix::fs::MetadataExt;

    fn id(bytes: &[u8]) -> BlobId {
        blob_id(Sha256::new_with_prefix(bytes))
    }

    #[test]
    fn a_file_is_linked_and_a_later_change_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), None).unwrap();
        let (_keep, cancel) = cancel::pair();
        let file = dir.path().join("weights");
        fs::write(&file, "abc").unwrap();
        let blob = id(b"abc");
        store.take(blob, 3, &file, &cancel).unwrap();
        let path = store.locate(blob).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), fs::metadata(&file).unwrap().ino(), "no bytes were copied");
        // A second time, and through another name, changes nothing.
        store.take(blob, 3, &file, &cancel).unwrap();
        assert_eq!(store.state(blob), BlobState::Complete);

        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&file, "xyz").unwrap();
        assert_eq!(store.state(blob), BlobState::Missing, "same inode, same size, other bytes");
        assert!(file.exists(), "only the link went");
        assert_eq!(fs::read_dir(dir.path().join("store/parts")).unwrap().count(), 0);
    }

    #[test]
    fn what_cannot_be_linked_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        // Another file system than the temporary folder's, where there is one.
        let Ok(other) = tempfile::tempdir_in("/dev/shm") else {
            std::io::stderr().write_all(b"skipped: no /dev/shm here\n").unwrap();
            return;
        };
        let store = Store::open(dir.path(), None).unwrap();
        let (_keep, cancel) = cancel::pair();
        let file = other.path().join("weights");
        fs::write(&file, "abc").unwrap();
        store.take(id(b"abc"), 3, &file, &cancel).unwrap();
        fs::write(&file, "xyz").unwrap();
        assert_eq!(fs::read(store.locate(id(b"abc")).unwrap()).unwrap(), b"abc");
    }

    #[test]
    fn only_the_right_regular_file_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), None).unwrap();
        let (_keep, cancel) = cancel::pair();
        let file = dir.path().join("weights");
        fs::write(&file, "abc").unwrap();
        let code = |blob, size, path: &Path| store.take(blob, size, path, &cancel).unwrap_err().code;
        assert_eq!(code(id(b"xyz"), 3, &file), ErrorCode::HashMismatch);
        assert_eq!(code(id(b"abc"), 4, &file), ErrorCode::HashMismatch);
        assert_eq!(code(id(b"abc"), 3, Path::new("weights")), ErrorCode::BadRequest);
        assert_eq!(code(id(b"abc"), 3, dir.path()), ErrorCode::BadRequest);
        assert_eq!(code(id(b"abc"), 3, &dir.path().join("none")), ErrorCode::Io);
        assert_eq!(store.stored_bytes(), 0);
    }
}
