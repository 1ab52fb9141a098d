//! The bytes of a data file in order, from tensors that are cut on one thread while those before are hashed on another.

use crate::{
    Error, FileEntry,
    graph::{ALIGNMENT, Placed},
    slice::bytes_of,
};
use sha2::{Digest, Sha256};
use std::sync::mpsc;

/// Tensors in memory at a time: one being cut, one being hashed, one being written.
const BUFFERS: usize = 3;
/// What stands between two tensors.
const PADDING: [u8; ALIGNMENT as usize] = [0; ALIGNMENT as usize];

/// What makes tensors.
pub(crate) trait Fill: Sync {
    /// Fills `into`, which has the size of the tensor, with numbers as a file holds them.
    fn fill(&self, placed: &Placed, into: &mut [f32]) -> Result<(), Error>;
}

/// Makes the tensors of a file, each in its slot, and hashes the file. `slots` are of the tensors' sizes; `done` gets the
/// padding before a tensor and its slot, in order, when both are hashed.
pub(crate) fn fill_slots<S: AsMut<[f32]> + AsRef<[f32]> + Send>(
    from: &impl Fill,
    placed: &[&Placed],
    slots: impl Iterator<Item = S> + Send,
    mut done: impl FnMut(&[u8], S) -> Result<(), Error>,
) -> Result<FileEntry, Error> {
    let (cut, to_hash) = mpsc::channel::<Result<S, Error>>();
    let (hashed, to_end) = mpsc::channel::<Result<S, Error>>();
    std::thread::scope(|scope| {
        // A thread whose neighbour is gone (an error, a full disk) ends as well.
        scope.spawn(move || {
            for (placed, mut slot) in placed.iter().zip(slots) {
                let made = from.fill(placed, slot.as_mut()).map(|()| slot);
                if made.is_err() | cut.send(made).is_err() {
                    return;
                }
            }
        });
        let hasher = scope.spawn(move || {
            let (mut hash, mut at) = (Sha256::new(), 0);
            for (placed, made) in placed.iter().zip(to_hash) {
                if let Ok(slot) = &made {
                    hash.update(&PADDING[..(placed.offset - at) as usize]);
                    hash.update(bytes_of(slot.as_ref()));
                    at = placed.offset + placed.bytes;
                }
                if hashed.send(made).is_err() {
                    break;
                }
            }
            hash
        });
        let mut at = 0;
        for placed in placed {
            let slot = to_end.recv().expect("one result comes for each tensor")?;
            done(&PADDING[..(placed.offset - at) as usize], slot)?;
            at = placed.offset + placed.bytes;
        }
        // Where `done` takes slots back and gives them out again, its end of that must go before the threads can end.
        drop(done);
        let hash = hasher.join().expect("hashing does not panic");
        Ok(FileEntry { sha256: hex::encode(hash.finalize()), bytes: at })
    })
}

/// Passes the bytes of a data file to `sink`. The few buffers go round, because fresh memory for every tensor costs more than
/// the cutting.
pub(crate) fn through_buffers(
    from: &impl Fill,
    placed: &[&Placed],
    mut sink: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<FileEntry, Error> {
    let (give_back, empty) = mpsc::channel::<Vec<f32>>();
    for _ in 0..BUFFERS {
        give_back.send(Vec::new()).expect("the receiver lives");
    }
    let slots = placed.iter().zip(empty).map(|(placed, mut buffer)| {
        buffer.resize(placed.bytes as usize / 4, 0.0);
        buffer
    });
    fill_slots(from, placed, slots, move |padding, buffer| {
        sink(padding)?;
        sink(bytes_of(&buffer))?;
        // The cutting thread may be done already.
        let _ = give_back.send(buffer);
        Ok(())
    })
}
