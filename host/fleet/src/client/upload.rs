//! Blobs on their way to a device.

use super::{Answer, CANCEL_POLL, DeviceClient};
use crate::{Error, SendError};
use edgewise_protocol::{BlobId, BlobState, CHUNK_HEADER, HostMessage, MAX_CHUNK, Reply, Request, encode_chunk};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

/// Bytes that may be on their way without an acknowledgement.
const WINDOW: u64 = 4 << 20;
/// From the last byte to the reply: the device syncs its disk and hashes what it had before.
const SETTLE: Duration = Duration::from_mins(2);
/// For a device that hashes a file of its own, in bytes per second at least.
const HASHING: u64 = 10 << 20;

/// A blob and the file it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobFile {
    /// Its SHA-256; the caller knows it, and the device checks it.
    pub blob: BlobId,
    /// Its size, in bytes.
    pub size: u64,
    /// Where it is on the host.
    pub path: PathBuf,
}

impl DeviceClient {
    /// Makes sure that the device holds these blobs, and gives the number of bytes that were sent for it. With
    /// `shares_files`, the device reads the files itself.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Device`], [`Error::Cancelled`], and those that break the connection.
    pub fn ensure_blobs(&mut self, blobs: &[BlobFile], shares_files: bool, cancel: &AtomicBool) -> Result<u64, Error> {
        let mut wanted: Vec<&BlobFile> = Vec::with_capacity(blobs.len());
        for blob in blobs {
            if !wanted.iter().any(|known| known.blob == blob.blob) {
                wanted.push(blob);
            }
        }
        let states = self.have(&wanted.iter().map(|blob| blob.blob).collect::<Vec<_>>())?;
        let mut sent = 0;
        for (blob, state) in wanted.into_iter().zip(states) {
            self.cancelled(cancel)?;
            if state == BlobState::Complete {
                continue;
            }
            if shares_files {
                self.take(blob)?;
            } else {
                sent += self.put_file(blob, cancel)?;
            }
        }
        Ok(sent)
    }

    /// Has the device read a blob from a file that it shares with the host.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Device`], and those that break the connection.
    pub fn take(&mut self, blob: &BlobFile) -> Result<(), Error> {
        let failed = |source| Error::File { action: "name", path: blob.path.clone(), source };
        let path = std::path::absolute(&blob.path).map_err(failed)?;
        let path = path.into_os_string().into_string();
        let path = path.map_err(|_| failed(io::Error::new(io::ErrorKind::InvalidInput, "the path is not UTF-8")))?;
        let limit = SETTLE + Duration::from_secs(blob.size / HASHING);
        match self.call(Request::Take { blob: blob.blob, size: blob.size, path }, limit)? {
            Reply::Stored => Ok(()),
            other => Err(self.wrong_reply(&other)),
        }
    }

    /// Uploads a blob from a file, from where the device's copy ends; gives the bytes sent.
    ///
    /// # Errors
    /// As [`Self::ensure_blobs`].
    pub fn put_file(&mut self, blob: &BlobFile, cancel: &AtomicBool) -> Result<u64, Error> {
        let failed = |source| Error::File { action: "read", path: blob.path.clone(), source };
        let mut file = File::open(&blob.path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        if size != blob.size {
            let what = format!("it has {size} bytes, not {}", blob.size);
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        self.put(blob.blob, blob.size, &mut file, &blob.path, cancel)
    }

    /// Uploads a blob from `source`, which is named `path` in errors; gives the bytes sent.
    ///
    /// # Errors
    /// As [`Self::ensure_blobs`].
    pub fn put<R: Read + Seek>(
        &mut self,
        blob: BlobId,
        size: u64,
        source: &mut R,
        path: &Path,
        cancel: &AtomicBool,
    ) -> Result<u64, Error> {
        let id = self.request(Request::Put { blob, size })?;
        let start = match self.first_answer(id, cancel)? {
            Answer::Ack(offset) if offset <= size => offset,
            Answer::Ack(offset) => return Err(self.unexpected(&format!("it acknowledged byte {offset} of {size}"))),
            Answer::Reply(result) => return self.stored(result).map(|()| 0),
            Answer::Progress(_) => return Err(self.unexpected("it reported progress of an upload")),
        };
        let failed = |e| Error::File { action: "read", path: path.into(), source: e };
        if let Err(e) = source.seek(SeekFrom::Start(start)) {
            self.give_up(id)?;
            return Err(failed(e));
        }
        let (mut sent, mut acked) = (start, start);
        let mut settling = None;
        let mut chunk = Vec::new();
        let mut piece = vec![0; MAX_CHUNK];
        loop {
            let room = sent < size && sent - acked < WINDOW;
            if room && chunk.is_empty() {
                let n = (size - sent).min(MAX_CHUNK as u64) as usize;
                if let Err(e) = source.read_exact(&mut piece[..n]) {
                    self.give_up(id)?;
                    return Err(failed(e));
                }
                encode_chunk(id, &piece[..n], &mut chunk);
            }
            let mut pause = CANCEL_POLL;
            if room {
                let length = (chunk.len() - CHUNK_HEADER) as u64;
                match self.transport.send(&mut chunk, Instant::now() + CANCEL_POLL) {
                    Ok(()) => {
                        sent += length;
                        chunk.clear();
                    }
                    Err(SendError::Timeout) => {}
                    Err(SendError::Closed) => {
                        let end = self.transport.close(Duration::from_secs(2));
                        return Err(self.ended(end));
                    }
                }
                // Only what is there already is read while there is something to send.
                pause = Duration::ZERO;
            } else if sent == size {
                let since = *settling.get_or_insert_with(Instant::now);
                if since.elapsed() > SETTLE {
                    return Err(Error::AgentSilent { device: self.device.clone(), silence: SETTLE });
                }
            }
            let Some(answer) = self.poll_answer(id, cancel, pause)? else { continue };
            match answer {
                Answer::Ack(offset) if offset >= acked && offset <= sent => acked = offset,
                Answer::Ack(offset) => {
                    return Err(self.unexpected(&format!("it acknowledged byte {offset} after {acked} and before {sent}")));
                }
                Answer::Reply(Ok(reply)) if sent < size => {
                    return Err(match reply {
                        Reply::Stored => self.unexpected("it had all of a blob that was half sent"),
                        other => self.wrong_reply(&other),
                    });
                }
                Answer::Reply(result) => return self.stored(result).map(|()| sent - start),
                Answer::Progress(_) => return Err(self.unexpected("it reported progress of an upload")),
            }
        }
    }

    fn stored(&self, result: Result<Reply, edgewise_protocol::WireError>) -> Result<(), Error> {
        match self.accept(result)? {
            Reply::Stored => Ok(()),
            other => Err(self.wrong_reply(&other)),
        }
    }

    /// The device may hash what it has of the blob before it answers.
    fn first_answer(&mut self, id: u32, cancel: &AtomicBool) -> Result<Answer, Error> {
        let start = Instant::now();
        loop {
            if let Some(answer) = self.poll_answer(id, cancel, CANCEL_POLL)? {
                return Ok(answer);
            }
            if start.elapsed() > SETTLE {
                return Err(Error::AgentSilent { device: self.device.clone(), silence: SETTLE });
            }
        }
    }

    fn poll_answer(&mut self, id: u32, cancel: &AtomicBool, pause: Duration) -> Result<Option<Answer>, Error> {
        if let Err(cancelled) = self.cancelled(cancel) {
            self.give_up(id)?;
            return Err(cancelled);
        }
        self.answer(id, Instant::now() + pause, true)
    }

    /// Tells the agent that an upload ends here and waits until it knows: what it has stays for the next attempt.
    fn give_up(&mut self, id: u32) -> Result<(), Error> {
        self.send(&HostMessage::Cancel { id })?;
        let deadline = Instant::now() + super::SILENCE;
        loop {
            match self.answer(id, deadline, true)? {
                Some(Answer::Reply(_)) => return Ok(()),
                Some(_) => {}
                None => return Err(Error::AgentSilent { device: self.device.clone(), silence: super::SILENCE }),
            }
        }
    }
}
