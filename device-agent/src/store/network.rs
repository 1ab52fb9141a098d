//! A super-network in the store: its index, and thousands of chunks that are used together.
//!
//! Chunks are not held by open files, of which a process has too few. This agent's own clearing leaves them alone as long as
//! the super-network is in use, and each use counts for all of them, so that another agent's clearing takes them last. A worker
//! that has mapped a chunk keeps it, whoever removes its name.

use super::{
    folder::{Store, stream},
    room::Held,
};
use crate::{
    cancel,
    error::{io_error, wire},
};
use edgewise_onnx::SuperNetworkIndex;
use edgewise_protocol::{BlobId, ErrorCode, WireError};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
    sync::Arc,
};

/// A super-network whose blobs are all there, and stay as long as this lives.
#[derive(Debug)]
pub(crate) struct SuperNetwork {
    index: SuperNetworkIndex,
    chunks: Arc<Vec<BlobId>>,
    store: super::room::Pins,
    _held: Held,
}

impl SuperNetwork {
    /// Its description.
    pub(crate) fn index(&self) -> &SuperNetworkIndex {
        &self.index
    }
}

impl Drop for SuperNetwork {
    fn drop(&mut self) {
        self.store.release(&self.chunks);
    }
}

impl Store {
    /// The super-network whose index is the blob `index`, which `read` reads. This counts as a use of all its blobs.
    ///
    /// # Errors
    /// [`ErrorCode::MissingBlob`] if the index or a chunk is not there, those of `read`, [`ErrorCode::Io`].
    pub(crate) fn use_super_network(
        &self,
        index: BlobId,
        read: impl FnOnce(&Path) -> Result<SuperNetworkIndex, WireError>,
    ) -> Result<SuperNetwork, WireError> {
        let missing = || wire(ErrorCode::MissingBlob, format!("the super-network's index, blob {index}, is not on the device"));
        let held = self.hold(index)?.ok_or_else(missing)?;
        let index = read(held.path())?;
        let sizes: BTreeMap<BlobId, u64> = index.chunks().iter().map(|chunk| (BlobId(chunk.sha256.0), chunk.bytes)).collect();
        let chunks = Arc::new(sizes.keys().copied().collect::<Vec<_>>());
        // Before they are looked at: what is there then stays.
        let pins = self.pins();
        pins.pin(&chunks);
        let network = SuperNetwork { index, chunks, store: pins, _held: held };
        let mut absent = Vec::new();
        for (&chunk, &bytes) in &sizes {
            let there = self.locate(chunk).and_then(|path| fs::metadata(path).ok()).is_some_and(|meta| meta.len() == bytes);
            if there {
                self.touch(chunk);
            } else {
                absent.push(chunk);
            }
        }
        match absent.first() {
            None => Ok(network),
            Some(first) => {
                let message = format!(
                    "{} of {} chunks of the super-network are not on the device; the first is {first}",
                    absent.len(),
                    sizes.len()
                );
                Err(wire(ErrorCode::MissingBlob, message))
            }
        }
    }

    /// Drops the chunks that are not what their names say, and says how many they were. Reads all of them.
    pub(crate) fn drop_damaged(&self, network: &SuperNetwork) -> usize {
        let (_keep, never) = cancel::pair();
        let damaged = |chunk: &&BlobId| {
            let path = self.blob(**chunk);
            let mut hash = Sha256::new();
            let read = File::open(&path).map_err(|e| io_error("open", &path, &e)).and_then(|mut file| {
                stream(&mut file, &path, &never, |bytes| {
                    hash.update(bytes);
                    Ok(())
                })
            });
            read.is_err() || <[u8; 32]>::from(hash.finalize()) != chunk.0
        };
        let damaged: Vec<BlobId> = network.chunks.iter().filter(damaged).copied().collect();
        for chunk in &damaged {
            self.forget(*chunk);
        }
        damaged.len()
    }
}
