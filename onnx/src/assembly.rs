//! An artifact in memory: what a runtime is given where nothing is to be written to a device's storage.

use crate::{
    ContentHash, DATA_FILE, Error, FileEntry, MODEL_FILE, Manifest, SHARED_DATA_FILE,
    graph::{GraphBuilder, Placed},
    slice::numbers_in,
    stream::{Fill, fill_slots},
};
use memmap2::MmapMut;

/// The files of an artifact that a runtime needs, in memory.
///
/// Data files begin at pages, in memory that belongs to no file. It is the kernel's ordinary kind: huge pages would build an
/// artifact faster, but a network would then run on other pages than those of the files that are shipped.
#[derive(Debug)]
pub struct Assembly {
    /// `model.onnx`.
    pub model: Vec<u8>,
    /// `model.onnx_data`.
    pub data: MmapMut,
    /// `model.onnx_data_1`.
    pub shared: MmapMut,
    /// The artifact's manifest.
    pub manifest: Manifest,
    /// Its hash: the artifact's name.
    pub sha256: ContentHash,
}

impl Assembly {
    /// The files by name; the graph is the first.
    pub fn files(&self) -> [(&'static str, &[u8]); 3] {
        [(MODEL_FILE, &self.model), (DATA_FILE, &self.data), (SHARED_DATA_FILE, &self.shared)]
    }
}

/// Both data files, made at the same time.
pub(crate) fn fill(from: &impl Fill, plan: &GraphBuilder) -> Result<(MmapMut, MmapMut, [FileEntry; 2]), Error> {
    let [layers, shared] = [0, 1].map(|file| plan.in_file(file));
    let (mut data, mut shared_data) = (memory_for(&layers)?, memory_for(&shared)?);
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| fill_file(from, &shared, &mut shared_data));
        let first = fill_file(from, &layers, &mut data);
        (first, second.join().expect("making tensors does not panic"))
    });
    let entries = [first?, second?];
    Ok((data, shared_data, entries))
}

fn memory_for(placed: &[&Placed]) -> Result<MmapMut, Error> {
    let bytes = placed.last().map_or(0, |last| last.offset + last.bytes);
    let failed = |source| Error::Memory { bytes, source };
    let length = usize::try_from(bytes).map_err(|_| failed(std::io::ErrorKind::OutOfMemory.into()))?;
    MmapMut::map_anon(length).map_err(failed)
}

/// Cuts the tensors of a file where they belong.
fn fill_file(from: &impl Fill, placed: &[&Placed], memory: &mut [u8]) -> Result<FileEntry, Error> {
    let (mut rest, mut at) = (memory, 0);
    let slots = placed.iter().map(move |placed| {
        let here = std::mem::take(&mut rest).split_at_mut((placed.offset - at) as usize).1;
        let (slot, after) = here.split_at_mut(placed.bytes as usize);
        (rest, at) = (after, placed.offset + placed.bytes);
        numbers_in(slot).expect("tensors begin at pages")
    });
    fill_slots(from, placed, slots, |_, _| Ok(()))
}
