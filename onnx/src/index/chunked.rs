//! Weights in the chunk files of a device.

use super::{SuperNetworkIndex, content::IndexedTensor};
use crate::{ContentHash, ElementType, Error, RowSource, RowView};
use memmap2::Mmap;
use rayon::prelude::*;
use std::{
    collections::{BTreeMap, btree_map},
    fs::File,
    ops::Range,
    path::PathBuf,
};

/// A super-network's chunk files, mapped into memory.
pub struct ChunkedWeights {
    chunks: Vec<Mapped>,
    tensors: BTreeMap<String, Placed>,
}

struct Mapped {
    path: PathBuf,
    sha256: ContentHash,
    map: Mmap,
}

struct Placed {
    element: ElementType,
    shape: Vec<usize>,
    /// Which files, and where in them.
    segments: Vec<(usize, Range<usize>)>,
}

impl std::fmt::Debug for ChunkedWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkedWeights").field("chunks", &self.chunks.len()).field("tensors", &self.tensors.len()).finish()
    }
}

impl ChunkedWeights {
    /// Maps the file of every chunk, which `locate` finds. Sizes are checked; hashes are checked by whoever stores chunks, and
    /// by [`Self::verify`].
    ///
    /// # Errors
    /// [`Error::BadChunk`] for a file that is missing or of another size, [`Error::Io`] if it cannot be mapped.
    pub fn open(index: &SuperNetworkIndex, locate: impl Fn(&ContentHash) -> PathBuf) -> Result<Self, Error> {
        let mut chunks: Vec<Mapped> = Vec::new();
        let mut known: BTreeMap<ContentHash, usize> = BTreeMap::new();
        let mut files = Vec::with_capacity(index.chunks().len());
        for chunk in index.chunks() {
            let file = match known.entry(chunk.sha256) {
                btree_map::Entry::Occupied(entry) => *entry.get(),
                btree_map::Entry::Vacant(entry) => {
                    chunks.push(Mapped::open(locate(&chunk.sha256), chunk.sha256)?);
                    *entry.insert(chunks.len() - 1)
                }
            };
            // Two chunks of one name and two sizes cannot both be right.
            let Mapped { path, map, .. } = &chunks[file];
            if map.len() as u64 != chunk.bytes {
                let problem = format!("has {} bytes, the index says {}", map.len(), chunk.bytes);
                return Err(Error::BadChunk { path: path.clone(), problem });
            }
            files.push(file);
        }
        let tensors = index.placed().map(|(tensor, parts)| {
            let IndexedTensor { name, element, shape } = tensor;
            let row = tensor.rows().bytes;
            let segments = parts.iter().map(|part| {
                // The file has been found to be as large as its chunk, so its offsets are sizes of this machine.
                let (start, length) = (part.offset as usize, (part.count * row) as usize);
                (files[part.chunk], start..start + length)
            });
            (name.clone(), Placed { element: *element, shape: shape.clone(), segments: segments.collect() })
        });
        Ok(Self { tensors: tensors.collect(), chunks })
    }

    /// Recomputes the hash of every chunk, on rayon's threads.
    ///
    /// # Errors
    /// [`Error::BadChunk`] naming a file that does not hold what its name says.
    pub fn verify(&self) -> Result<(), Error> {
        self.chunks.par_iter().try_for_each(|Mapped { path, sha256, map }| {
            let found = ContentHash::of(map);
            if found == *sha256 {
                return Ok(());
            }
            Err(Error::BadChunk { path: path.clone(), problem: format!("has the hash {found}, the index says {sha256}") })
        })
    }
}

impl Mapped {
    fn open(path: PathBuf, sha256: ContentHash) -> Result<Self, Error> {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) => return Err(Error::BadChunk { path, problem: format!("cannot be opened: {e}") }),
        };
        // SAFETY: the map is only read, and every bit pattern is a number; see `MappedWeights`.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io("map", &path))?;
        Ok(Self { path, sha256, map })
    }
}

impl RowSource for ChunkedWeights {
    fn rows(&self, name: &str) -> Result<RowView<'_>, Error> {
        let Placed { element, shape, segments } = self.tensors.get(name).ok_or_else(|| Error::MissingTensor(name.to_owned()))?;
        let segments = segments.iter().map(|(file, range)| &self.chunks[*file].map[range.clone()]);
        Ok(RowView::new(*element, shape, segments))
    }
}
