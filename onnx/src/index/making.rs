//! Making an index of sorted weights.

use super::{
    CHUNK_BYTES, Chunk, INDEX_SCHEMA, IndexedTensor, SuperNetworkIndex,
    content::Content,
    cutting::{self, Part},
};
use crate::{
    ContentHash, Error, Extras, FileEntry, ModelConfig, Source, TensorView, Weights, layout::tensors, rows::expect_shape,
};
use rayon::prelude::*;

/// The bytes of a chunk, where they lie.
#[derive(Debug, Clone)]
pub struct ChunkSource<'a> {
    /// Name and size.
    pub chunk: Chunk,
    /// Its bytes are these, one after the other.
    pub pieces: Vec<&'a [u8]>,
}

impl ChunkSource<'_> {
    /// Copies bytes from `offset` on; returns how many, which is less than asked for only at the chunk's end.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> usize {
        let (mut skip, mut done) = (usize::try_from(offset).unwrap_or(usize::MAX), 0);
        for piece in &self.pieces {
            let rest = piece.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(piece.len());
            let taken = rest.len().min(into.len() - done);
            into[done..done + taken].copy_from_slice(&rest[..taken]);
            done += taken;
        }
        done
    }
}

impl SuperNetworkIndex {
    /// The index of sorted `weights`, and where its chunks' bytes are. Every byte is hashed, on rayon's threads.
    ///
    /// # Errors
    /// [`Error::BadConfig`], [`Error::MissingTensor`], [`Error::BadTensor`], and [`Error::BadIndex`] for a network that is too
    /// large.
    pub fn of<'w, W: Weights>(
        config: &ModelConfig,
        weights: &'w W,
        source: &Source,
        extras: &Extras,
    ) -> Result<(Self, Vec<ChunkSource<'w>>), Error> {
        Self::of_chunks(config, weights, source, extras, CHUNK_BYTES)
    }

    /// As [`Self::of`], with chunks of at most `limit` bytes.
    pub(crate) fn of_chunks<'w, W: Weights>(
        config: &ModelConfig,
        weights: &'w W,
        source: &Source,
        extras: &Extras,
        limit: u64,
    ) -> Result<(Self, Vec<ChunkSource<'w>>), Error> {
        let mut content = Self::without_chunks(config, weights, source, extras)?;
        let sizes = cutting::cut(content.tensors.iter().map(IndexedTensor::rows), limit);
        let parts = cutting::find(content.tensors.iter().map(IndexedTensor::rows), &sizes)?;
        let placed = content.tensors.iter().zip(parts.iter().map(Vec::as_slice));
        let pieces = pieces(placed, sizes.len(), weights)?;
        content.chunks = pieces
            .par_iter()
            .zip(&sizes)
            .map(|(pieces, &bytes)| Chunk { sha256: ContentHash::of_pieces(pieces), bytes })
            .collect();
        let sources = content.chunks.iter().zip(pieces).map(|(&chunk, pieces)| ChunkSource { chunk, pieces }).collect();
        Ok((Self::new(content)?, sources))
    }

    /// Everything that needs no hashing.
    pub(super) fn without_chunks(
        config: &ModelConfig,
        weights: &impl Weights,
        source: &Source,
        extras: &Extras,
    ) -> Result<Content, Error> {
        config.validate()?;
        let tensors = tensors(config).map(|(name, shape)| {
            let view = weights.tensor(&name)?;
            expect_shape(&name, view.shape, &shape)?;
            Ok(IndexedTensor { element: view.element, name, shape })
        });
        Ok(Content {
            schema: INDEX_SCHEMA.into(),
            source: source.clone(),
            model: config.clone(),
            model_type: extras.model_type.clone(),
            tokenizer: extras.tokenizer.as_deref().map(FileEntry::of),
            tensors: tensors.collect::<Result<_, Error>>()?,
            chunks: Vec::new(),
        })
    }

    /// Where the chunks' bytes are in the weights that this index is of; nothing is hashed.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], and [`Error::BadTensor`] where a tensor is not as the index says.
    pub fn sources<'w, W: Weights>(&self, weights: &'w W) -> Result<Vec<ChunkSource<'w>>, Error> {
        let pieces = pieces(self.placed(), self.chunks().len(), weights)?;
        Ok(self.chunks().iter().zip(pieces).map(|(&chunk, pieces)| ChunkSource { chunk, pieces }).collect())
    }
}

/// For each chunk the bytes that it is made of.
fn pieces<'t, 'w, W: Weights>(
    placed: impl Iterator<Item = (&'t IndexedTensor, &'t [Part])>,
    chunks: usize,
    weights: &'w W,
) -> Result<Vec<Vec<&'w [u8]>>, Error> {
    let mut pieces = vec![Vec::new(); chunks];
    for (tensor, parts) in placed {
        let TensorView { element, shape, bytes } = weights.tensor(&tensor.name)?;
        expect_shape(&tensor.name, shape, &tensor.shape)?;
        let rows = tensor.rows();
        if element != tensor.element || rows.count * rows.bytes != bytes.len() as u64 {
            let problem = format!("has {} bytes of {element:?}, its index says {:?}", bytes.len(), tensor.element);
            return Err(Error::BadTensor { name: tensor.name.clone(), problem });
        }
        for part in parts {
            let (start, length) = (part.first * rows.bytes, part.count * rows.bytes);
            pieces[part.chunk].push(&bytes[start as usize..][..length as usize]);
        }
    }
    Ok(pieces)
}
