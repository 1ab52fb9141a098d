//! What an index says, as bytes and back.

use super::cutting::{self, MAX_CHUNKS, Part, Rows};
use crate::{
    ContentHash, ElementType, Error, FileEntry, ModelConfig, Source,
    layout::{tensor_count, tensors},
    rows::{expect_shape, row_bytes},
};
use serde::{Deserialize, Serialize};

/// Version of the index's layout.
pub const INDEX_SCHEMA: &str = "edgewise.super-network-index/1";
/// No index is larger, in bytes: room for [`MAX_CHUNKS`] chunks and for tens of thousands of tensors.
pub const MAX_INDEX_BYTES: usize = 8 << 20;
/// No tensor of rotary angles is larger, in bytes.
const MAX_ROTARY_BYTES: u64 = 1 << 30;

/// A super-network in chunks. Values are valid: only [`Self::parse`] and [`Self::of`] make them.
#[derive(Debug, Clone, PartialEq)]
pub struct SuperNetworkIndex {
    content: Content,
    /// Where each tensor lies.
    parts: Vec<Vec<Part>>,
}

/// A tensor of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexedTensor {
    /// Its name.
    pub name: String,
    /// Type of its elements.
    pub element: ElementType,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
}

/// A piece of a super-network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// Its name: the hash of its bytes.
    pub sha256: ContentHash,
    /// Its size.
    pub bytes: u64,
}

/// The index as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Content {
    pub(super) schema: String,
    pub(super) source: Source,
    pub(super) model: ModelConfig,
    pub(super) model_type: String,
    pub(super) tokenizer: Option<FileEntry>,
    pub(super) tensors: Vec<IndexedTensor>,
    pub(super) chunks: Vec<Chunk>,
}

impl SuperNetworkIndex {
    /// The one way to an index: everything in it has been checked.
    pub(super) fn new(content: Content) -> Result<Self, Error> {
        let bad = |what: String| Error::BadIndex(what);
        if content.schema != INDEX_SCHEMA {
            return Err(bad(format!("its schema is `{}`, this version reads `{INDEX_SCHEMA}`", content.schema)));
        }
        let model = &content.model;
        model.validate()?;
        let rotary = model.max_positions as u64 * model.head_dim as u64 * 2;
        if rotary > MAX_ROTARY_BYTES {
            return Err(bad(format!("rotary tables of {rotary} bytes")));
        }
        if let Some(entry) = &content.tokenizer {
            entry.sha256.parse::<ContentHash>().map_err(|e| bad(format!("tokenizer: {e}")))?;
        }
        // Before anything is made of the number of layers, which is only a number so far.
        if tensor_count(model) != content.tensors.len() {
            let (found, expected) = (content.tensors.len(), tensor_count(model));
            return Err(bad(format!("{found} tensors, the configuration has {expected}")));
        }
        if content.chunks.len() > MAX_CHUNKS {
            return Err(bad(format!("{} chunks, at most {MAX_CHUNKS} can be", content.chunks.len())));
        }
        for (tensor, (name, shape)) in content.tensors.iter().zip(tensors(model)) {
            if tensor.name != name {
                return Err(bad(format!("tensor `{}` stands where `{name}` belongs", tensor.name)));
            }
            expect_shape(&name, &tensor.shape, &shape)?;
            // An artifact's tensors are single precision, whatever the source.
            let size = shape.iter().try_fold(4usize, |n, &d| n.checked_mul(d)).filter(|&n| isize::try_from(n).is_ok());
            size.ok_or_else(|| bad(format!("tensor `{name}` is too large for this machine")))?;
        }
        let sizes: Vec<u64> = content.chunks.iter().map(|chunk| chunk.bytes).collect();
        let parts = cutting::find(content.tensors.iter().map(IndexedTensor::rows), &sizes)?;
        Ok(Self { content, parts })
    }

    /// Reads an index that somebody else made.
    ///
    /// # Errors
    /// [`Error::BadIndex`], [`Error::BadConfig`], [`Error::BadTensor`], saying what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_INDEX_BYTES {
            return Err(Error::BadIndex(format!("{} bytes, at most {MAX_INDEX_BYTES} can be", bytes.len())));
        }
        Self::new(serde_json::from_slice(bytes).map_err(|e| Error::BadIndex(e.to_string()))?)
    }

    /// The index as bytes; their hash names the super-network. Equal indices give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.content).expect("an index has no map")
    }

    /// The hash of [`Self::to_bytes`].
    pub fn sha256(&self) -> ContentHash {
        ContentHash::of(&self.to_bytes())
    }

    /// The architecture.
    pub fn model(&self) -> &ModelConfig {
        &self.content.model
    }

    /// The checkpoint that the super-network was made of.
    pub fn source(&self) -> &Source {
        &self.content.source
    }

    /// `model_type` of its artifacts' `config.json`.
    pub fn model_type(&self) -> &str {
        &self.content.model_type
    }

    /// The tokenizer that its artifacts list.
    pub fn tokenizer(&self) -> Option<&FileEntry> {
        self.content.tokenizer.as_ref()
    }

    /// Its tensors, in the order in which they lie in the chunks.
    pub fn tensors(&self) -> &[IndexedTensor] {
        &self.content.tensors
    }

    /// Its chunks in order. Chunks with the same content have the same name.
    pub fn chunks(&self) -> &[Chunk] {
        &self.content.chunks
    }

    /// Size of all chunks.
    pub fn bytes(&self) -> u64 {
        self.chunks().iter().map(|chunk| chunk.bytes).sum()
    }

    /// Tensors, and where each lies.
    pub(super) fn placed(&self) -> impl Iterator<Item = (&IndexedTensor, &[Part])> {
        self.content.tensors.iter().zip(self.parts.iter().map(Vec::as_slice))
    }
}

impl IndexedTensor {
    /// The tensor as something to be cut. A vector is one row.
    pub(super) fn rows(&self) -> Rows {
        let count = self.shape.iter().rev().skip(1).map(|&d| d as u64).product();
        Rows { count, bytes: row_bytes(self.element, &self.shape) as u64 }
    }
}
