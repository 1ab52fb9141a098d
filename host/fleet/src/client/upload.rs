//! Blobs on their way to a device: several at once, so that many small ones cost no round trip each.

use super::{Answer, CANCEL_POLL, DeviceClient};
use crate::{Error, SendError};
use edgewise_protocol::{BlobId, BlobState, CHUNK_HEADER, HostMessage, MAX_CHUNK, Reply, Request, encode_chunk};
use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

/// Bytes that may be on their way without an acknowledgement, all uploads together. What a broken connection costs is less.
const WINDOW: u64 = 4 << 20;
/// Uploads that are announced at a time.
const OPEN: usize = 32;
/// Bytes that are announced at a time, as long as it is more than one upload.
const ANNOUNCED: u64 = 2 * WINDOW;
/// From the last byte to the reply: the device syncs its disk and hashes what it had before.
const SETTLE: Duration = Duration::from_mins(2);
/// For a device that hashes a file of its own, in bytes per second at least.
const HASHING: u64 = 10 << 20;

/// A blob and where its bytes are on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob<'a> {
    /// Its SHA-256; the caller knows it, and the device checks it.
    pub id: BlobId,
    /// Its size, in bytes.
    pub size: u64,
    /// Its bytes.
    pub content: Content<'a>,
}

/// Bytes of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content<'a> {
    /// All of a file.
    File(PathBuf),
    /// These, one after the other; views of a mapped file as a rule.
    Memory(Vec<&'a [u8]>),
}

impl Blob<'_> {
    /// A blob that is one whole file.
    pub fn file(id: BlobId, size: u64, path: &Path) -> Self {
        Self { id, size, content: Content::File(path.to_owned()) }
    }
}

/// Reads blobs piece by piece; the file in work stays open.
#[derive(Default)]
struct Reader {
    open: Option<(PathBuf, File)>,
}

impl Reader {
    fn file(&mut self, path: &Path) -> Result<&File, Error> {
        if self.open.as_ref().is_none_or(|(of, _)| of != path) {
            let file = File::open(path).map_err(|source| Error::File { action: "read", path: path.into(), source })?;
            self.open = Some((path.to_owned(), file));
        }
        Ok(&self.open.as_ref().expect("it was just opened").1)
    }

    /// Checks that a file has the blob's size, before the device hears of it.
    fn check(&mut self, blob: &Blob<'_>) -> Result<(), Error> {
        let Content::File(path) = &blob.content else { return Ok(()) };
        let failed = |source| Error::File { action: "read", path: path.clone(), source };
        let size = self.file(path)?.metadata().map_err(failed)?.len();
        if size == blob.size {
            return Ok(());
        }
        Err(failed(io::Error::new(io::ErrorKind::InvalidData, format!("it has {size} bytes, not {}", blob.size))))
    }

    /// Fills `into` with the blob's bytes from `at` on.
    fn read(&mut self, blob: &Blob<'_>, at: u64, into: &mut [u8]) -> Result<(), Error> {
        match &blob.content {
            Content::File(path) => self.file(path)?.read_exact_at(into, at).map_err(|source| Error::File {
                action: "read",
                path: path.clone(),
                source,
            }),
            Content::Memory(pieces) => {
                let (mut start, mut done) = (0, 0);
                for piece in pieces {
                    let from = (at as usize + done).saturating_sub(start);
                    if from < piece.len() && done < into.len() {
                        let n = (piece.len() - from).min(into.len() - done);
                        into[done..done + n].copy_from_slice(&piece[from..from + n]);
                        done += n;
                    }
                    start += piece.len();
                }
                assert_eq!(done, into.len(), "a blob in memory is as long as its size says");
                Ok(())
            }
        }
    }
}

/// An upload that has no reply yet.
struct Upload<'a> {
    id: u32,
    blob: &'a Blob<'a>,
    /// The next byte to send, once the device has said where to start.
    next: Option<u64>,
    acked: u64,
    given_up: bool,
}

impl Upload<'_> {
    fn under_way(&self) -> u64 {
        self.next.map_or(0, |next| next - self.acked)
    }

    fn unsent(&self) -> u64 {
        self.blob.size - self.next.unwrap_or(0)
    }
}

impl DeviceClient {
    /// Makes sure that the device holds these blobs, and adds the bytes of blobs that were sent to `sent`. With
    /// `shares_files`, the device reads whole files itself.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Device`], [`Error::Cancelled`], and those that break the connection.
    pub fn ensure_blobs(
        &mut self,
        blobs: &[Blob<'_>],
        shares_files: bool,
        sent: &mut u64,
        cancel: &AtomicBool,
    ) -> Result<(), Error> {
        let mut known = std::collections::HashSet::with_capacity(blobs.len());
        let wanted: Vec<&Blob<'_>> = blobs.iter().filter(|blob| known.insert(blob.id)).collect();
        let states = self.have(&wanted.iter().map(|blob| blob.id).collect::<Vec<_>>())?;
        let missing = wanted.into_iter().zip(states).filter(|(_, state)| *state != BlobState::Complete).map(|(blob, _)| blob);
        if shares_files {
            for blob in missing {
                self.cancelled(cancel)?;
                match &blob.content {
                    Content::File(path) => self.take(blob, path)?,
                    Content::Memory(_) => self.put(&[blob], sent, cancel)?,
                }
            }
            return Ok(());
        }
        self.put(&missing.collect::<Vec<_>>(), sent, cancel)
    }

    /// Has the device read a blob from a file that it shares with the host.
    fn take(&mut self, blob: &Blob<'_>, path: &Path) -> Result<(), Error> {
        let failed = |source| Error::File { action: "name", path: path.into(), source };
        let absolute = std::path::absolute(path).map_err(failed)?.into_os_string().into_string();
        let path = absolute.map_err(|_| failed(io::Error::new(io::ErrorKind::InvalidInput, "the path is not UTF-8")))?;
        let limit = SETTLE + Duration::from_secs(blob.size / HASHING);
        match self.call(Request::Take { blob: blob.id, size: blob.size, path }, limit)? {
            Reply::Stored => Ok(()),
            other => Err(self.wrong_reply(&other)),
        }
    }

    /// Uploads blobs, each from where the device's copy ends; adds the bytes sent to `sent`, also where it fails.
    ///
    /// # Errors
    /// As [`Self::ensure_blobs`]. The first error ends it; what the device has of the others stays there.
    pub fn put(&mut self, blobs: &[&Blob<'_>], sent: &mut u64, cancel: &AtomicBool) -> Result<(), Error> {
        let mut reader = Reader::default();
        let mut waiting: VecDeque<&Blob<'_>> = blobs.iter().copied().collect();
        let mut open: VecDeque<Upload<'_>> = VecDeque::new();
        let mut failure = None;
        let (mut chunk, mut piece) = (Vec::new(), vec![0; MAX_CHUNK]);
        let mut chunk_of = 0;
        let mut last_progress = Instant::now();
        loop {
            if let Err(cancelled) = self.cancelled(cancel) {
                failure.get_or_insert(cancelled);
            }
            if failure.is_some() {
                waiting.clear();
                chunk.clear();
                for upload in open.iter_mut().filter(|upload| !upload.given_up) {
                    upload.given_up = true;
                    self.send(&HostMessage::Cancel { id: upload.id })?;
                }
            }
            if let Err(e) = self.announce(&mut reader, &mut waiting, &mut open) {
                if e.breaks_connection() {
                    return Err(e);
                }
                failure.get_or_insert(e);
                continue;
            }
            if open.is_empty() {
                return failure.map_or(Ok(()), Err);
            }
            let room = open.iter().map(Upload::under_way).sum::<u64>() < WINDOW;
            if room && chunk.is_empty() {
                let ready = open.iter().find(|u| !u.given_up && u.next.is_some_and(|next| next < u.blob.size));
                if let Some(upload) = ready {
                    let n = upload.unsent().min(MAX_CHUNK as u64) as usize;
                    if let Err(e) = reader.read(upload.blob, upload.next.unwrap_or(0), &mut piece[..n]) {
                        failure.get_or_insert(e);
                        continue;
                    }
                    encode_chunk(upload.id, &piece[..n], &mut chunk);
                    chunk_of = upload.id;
                }
            }
            let mut pause = CANCEL_POLL;
            if !chunk.is_empty() {
                let length = (chunk.len() - CHUNK_HEADER) as u64;
                match self.transport.send(&mut chunk, Instant::now() + CANCEL_POLL) {
                    Ok(()) => {
                        *sent += length;
                        chunk.clear();
                        if let Some(upload) = open.iter_mut().find(|upload| upload.id == chunk_of) {
                            upload.next = upload.next.map(|next| next + length);
                        }
                        last_progress = Instant::now();
                    }
                    Err(SendError::Timeout) => {}
                    Err(SendError::Closed) => {
                        let end = self.transport.close(Duration::from_secs(2));
                        return Err(self.ended(end));
                    }
                }
                // Only what is there already is read while there is something to send.
                pause = Duration::ZERO;
            } else if last_progress.elapsed() > SETTLE {
                return Err(Error::AgentSilent { device: self.device.clone(), silence: SETTLE });
            }
            let answer = self.answer_any(|id| open.iter().any(|u| u.id == id), Instant::now() + pause, true)?;
            let Some((id, answer)) = answer else { continue };
            last_progress = Instant::now();
            match self.answered(&mut open, id, answer) {
                Ok(done) => {
                    if done && chunk_of == id {
                        chunk.clear();
                    }
                }
                Err(e) if e.breaks_connection() => return Err(e),
                Err(e) => {
                    if chunk_of == id {
                        chunk.clear();
                    }
                    // An upload that was given up for the sake of another one is answered so; that is no second fault.
                    failure.get_or_insert(e);
                }
            }
        }
    }

    /// Announces uploads while few enough are open.
    fn announce<'a>(
        &mut self,
        reader: &mut Reader,
        waiting: &mut VecDeque<&'a Blob<'a>>,
        open: &mut VecDeque<Upload<'a>>,
    ) -> Result<(), Error> {
        while open.len() < OPEN && (open.is_empty() || open.iter().map(Upload::unsent).sum::<u64>() < ANNOUNCED) {
            let Some(blob) = waiting.pop_front() else { break };
            reader.check(blob)?;
            let id = self.request(Request::Put { blob: blob.id, size: blob.size })?;
            open.push_back(Upload { id, blob, next: None, acked: 0, given_up: false });
        }
        Ok(())
    }

    /// What an answer means for its upload; true once that is done.
    fn answered(&self, open: &mut VecDeque<Upload<'_>>, id: u32, answer: Answer) -> Result<bool, Error> {
        let Some(at) = open.iter().position(|upload| upload.id == id) else { return Ok(false) };
        let upload = &mut open[at];
        match answer {
            Answer::Ack(offset) => {
                let most = upload.next.unwrap_or(upload.blob.size);
                if offset < upload.acked || offset > most {
                    let what = format!("it acknowledged byte {offset} after {} and before {most}", upload.acked);
                    return Err(self.unexpected(&what));
                }
                upload.acked = offset;
                upload.next = upload.next.or(Some(offset));
                Ok(false)
            }
            Answer::Reply(Ok(reply)) => {
                let whole = upload.next == Some(upload.blob.size) || upload.next.is_none();
                open.remove(at);
                match reply {
                    Reply::Stored if whole => Ok(true),
                    Reply::Stored => Err(self.unexpected("it had all of a blob that was half sent")),
                    other => Err(self.wrong_reply(&other)),
                }
            }
            Answer::Reply(Err(error)) => {
                open.remove(at);
                self.accept(Err(error)).map(|_| true)
            }
            Answer::Progress(_) | Answer::Tokens(_) => Err(self.unexpected("it reported progress of an upload")),
        }
    }
}
