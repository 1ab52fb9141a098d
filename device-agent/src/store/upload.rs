//! One upload: bytes in order from an offset, checked against the blob's hash at the end.

use super::{
    folder::{Store, blob_id, remove_if_there, stream},
    ledger::Promise,
};
use crate::{
    cancel::Cancel,
    error::{io_error, wire},
    limits::ACK_BYTES,
    sys,
};
use edgewise_protocol::{BlobId, ErrorCode, WireError};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::PathBuf,
};

/// An upload that is under way. Dropping it leaves the part for a later one to go on from.
#[derive(Debug)]
pub(crate) struct Upload {
    blob: BlobId,
    size: u64,
    received: u64,
    acknowledged: u64,
    hasher: Sha256,
    path: PathBuf,
    file: File,
    room: Promise,
}

impl Upload {
    /// Opens the part of `blob`, makes room for the rest, and hashes what a broken-off upload left in it.
    ///
    /// # Errors
    /// [`ErrorCode::Busy`] if another upload of the blob is under way, [`ErrorCode::NoSpace`],
    /// [`ErrorCode::Cancelled`], [`ErrorCode::Io`].
    pub(crate) fn begin(store: &Store, blob: BlobId, size: u64, cancel: &Cancel) -> Result<Self, WireError> {
        let path = store.part(blob);
        let fail = |doing: &'static str| {
            let path = path.clone();
            move |e: std::io::Error| io_error(doing, &path, &e)
        };
        let mut file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(fail("open"))?;
        if !sys::try_lock(&file, true).map_err(fail("lock"))? {
            return Err(wire(ErrorCode::Busy, format!("another upload of blob {blob} is under way")));
        }
        let mut received = file.metadata().map_err(fail("look at"))?.len();
        if received > size {
            file.set_len(0).map_err(fail("empty"))?;
            received = 0;
        }
        let rest = size - received;
        let room = match store.make_room(blob, rest, rest) {
            Ok(room) => room,
            Err(error) => {
                if received == 0 {
                    remove_if_there(&path).map_err(fail("remove"))?;
                }
                return Err(error);
            }
        };
        let mut hasher = Sha256::new();
        stream(&mut file, &path, cancel, |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        file.seek(SeekFrom::Start(received)).map_err(fail("seek in"))?;
        Ok(Self { blob, size, received, acknowledged: received, hasher, path, file, room })
    }

    /// Bytes that are in the part.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Whether all bytes came.
    pub(crate) fn is_complete(&self) -> bool {
        self.received == self.size
    }

    /// Appends bytes. Returns how many the blob has so far when it is time to acknowledge them.
    ///
    /// # Errors
    /// [`ErrorCode::BadRequest`] for more bytes than were announced, after which nothing is kept of the upload: some came
    /// twice, or are another blob's. [`ErrorCode::NoSpace`], [`ErrorCode::Io`].
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<Option<u64>, WireError> {
        if bytes.len() as u64 > self.size - self.received {
            // Not removed: the open part is what keeps others from uploading the same.
            self.file.set_len(0).map_err(|e| io_error("cut", &self.path, &e))?;
            self.received = 0;
            let message = format!("more than the announced {} bytes came for blob {}", self.size, self.blob);
            return Err(wire(ErrorCode::BadRequest, message));
        }
        self.file.write_all(bytes).map_err(|e| io_error("write", &self.path, &e))?;
        self.hasher.update(bytes);
        self.received += bytes.len() as u64;
        self.room.keep(bytes.len() as u64);
        if self.received - self.acknowledged < ACK_BYTES {
            return Ok(None);
        }
        self.acknowledged = self.received;
        Ok(Some(self.received))
    }

    /// Ends several uploads whose bytes all came: checks each hash, and puts the blobs in place once they are on the disk. So
    /// no name ever stands for bytes that a power cut could lose, and no write-back disturbs a measurement that follows.
    /// Several are written to the disk in one go, which costs about what one costs.
    ///
    /// # Errors
    /// For each [`ErrorCode::HashMismatch`], after which nothing is left of the upload; [`ErrorCode::NoSpace`],
    /// [`ErrorCode::Io`].
    pub(crate) fn finish_all(uploads: Vec<Self>, store: &Store) -> Vec<Result<(), WireError>> {
        let checked: Vec<Result<Checked, WireError>> = uploads.into_iter().map(Self::check).collect();
        let together = checked.iter().filter(|result| result.is_ok()).count() > 1;
        let synced = if together { store.sync() } else { Ok(()) };
        let settle = |checked: Checked| {
            synced.clone()?;
            if !together {
                checked.file.sync_data().map_err(|e| io_error("write", &checked.path, &e))?;
            }
            store.admit(&checked.path, checked.blob, None).map_err(|e| io_error("rename", &checked.path, &e))
        };
        checked.into_iter().map(|result| result.and_then(settle)).collect()
    }

    fn check(self) -> Result<Checked, WireError> {
        let found = blob_id(self.hasher);
        if found != self.blob {
            remove_if_there(&self.path).map_err(|e| io_error("remove", &self.path, &e))?;
            let message = format!("the {} bytes that came for blob {} hash to {found}", self.size, self.blob);
            return Err(wire(ErrorCode::HashMismatch, message));
        }
        Ok(Checked { blob: self.blob, path: self.path, file: self.file })
    }
}

/// An upload whose bytes are the right ones. Its file is locked until this is dropped.
#[derive(Debug)]
struct Checked {
    blob: BlobId,
    path: PathBuf,
    file: File,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel;
    use edgewise_protocol::BlobState;

    fn id(bytes: &[u8]) -> BlobId {
        blob_id(Sha256::new_with_prefix(bytes))
    }

    fn finish(upload: Upload, store: &Store) -> Result<(), WireError> {
        Upload::finish_all(vec![upload], store).remove(0)
    }

    #[test]
    fn several_uploads_end_together_and_each_gets_its_own_answer() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), None).unwrap();
        let (_keep, cancel) = cancel::pair();
        let begin = |named: &[u8], sent: &[u8]| {
            let mut upload = Upload::begin(&store, id(named), sent.len() as u64, &cancel).unwrap();
            upload.append(sent).unwrap();
            upload
        };
        let uploads = vec![begin(b"one", b"one"), begin(b"two", b"owt"), begin(b"three", b"three")];
        let results = Upload::finish_all(uploads, &store);
        assert!(results[0].is_ok() && results[2].is_ok());
        assert_eq!(results[1].as_ref().unwrap_err().code, ErrorCode::HashMismatch);
        let states = [&b"one"[..], b"two", b"three"].map(|bytes| store.state(id(bytes)));
        assert_eq!(states, [BlobState::Complete, BlobState::Missing, BlobState::Complete]);
        assert_eq!(std::fs::read_dir(store.parts()).unwrap().count(), 0);
    }

    #[test]
    fn a_broken_off_upload_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), None).unwrap();
        let (_keep, cancel) = cancel::pair();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        let blob = id(&bytes);
        let size = bytes.len() as u64;

        let mut first = Upload::begin(&store, blob, size, &cancel).unwrap();
        assert_eq!(first.append(&bytes[..1000]).unwrap(), None);
        assert_eq!(first.append(&bytes[1000..1_200_000]).unwrap(), Some(1_200_000));
        drop(first);
        assert_eq!(store.state(blob), BlobState::Partial(1_200_000));

        let mut second = Upload::begin(&store, blob, size, &cancel).unwrap();
        assert_eq!(second.received(), 1_200_000);
        assert_eq!(second.append(&bytes[1_200_000..]).unwrap(), Some(size));
        assert!(second.is_complete());
        finish(second, &store).unwrap();
        assert_eq!(store.state(blob), BlobState::Complete);
        assert_eq!(std::fs::read(store.locate(blob).unwrap()).unwrap(), bytes);
        assert!(!store.part(blob).exists());
    }

    #[test]
    fn wrong_bytes_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), None).unwrap();
        let (_keep, cancel) = cancel::pair();
        let mut upload = Upload::begin(&store, id(b"right"), 5, &cancel).unwrap();
        upload.append(b"wrong").unwrap();
        assert_eq!(finish(upload, &store).unwrap_err().code, ErrorCode::HashMismatch);
        assert_eq!(store.state(id(b"right")), BlobState::Missing);
    }

    #[test]
    fn the_announced_size_bounds_an_upload() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), None).unwrap();
        let (_keep, cancel) = cancel::pair();
        let mut upload = Upload::begin(&store, id(b"abc"), 3, &cancel).unwrap();
        assert_eq!(upload.append(b"abcd").unwrap_err().code, ErrorCode::BadRequest);
        let second = Upload::begin(&store, id(b"abc"), 3, &cancel).unwrap_err();
        assert_eq!(second.code, ErrorCode::Busy, "{}", second.message);
        let huge = Upload::begin(&store, id(b"x"), u64::MAX, &cancel).unwrap_err();
        assert_eq!(huge.code, ErrorCode::NoSpace);
        assert!(!store.part(id(b"x")).exists(), "an upload that never began leaves nothing");
        drop(upload);

        // A part that is longer than the blob is none of this blob.
        std::fs::write(store.part(id(b"abc")), "too long").unwrap();
        assert_eq!(Upload::begin(&store, id(b"abc"), 3, &cancel).unwrap().received(), 0);
    }

    #[test]
    fn hashing_a_part_can_be_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), None).unwrap();
        let (canceller, cancel) = cancel::pair();
        drop(canceller);
        assert_eq!(Upload::begin(&store, id(b"abc"), 3, &cancel).unwrap_err().code, ErrorCode::Cancelled);
    }
}
