//! The super-network as it lies on a device: sent once, in chunks that are named after their content.
//!
//! All tensors of the architecture, in the order of [`crate::tensors`], make one stream of bytes, which is cut into chunks
//! between rows. Small tensors share a chunk with their neighbours, so that nothing is sent in crumbs: a network has hundreds
//! of norms and biases of a kilobyte. An index need not say where a tensor lies: that follows from the shapes and the chunks'
//! sizes, and so nothing in a foreign index can overlap or leave a gap.

mod cache;
mod chunked;
mod content;
mod cutting;
mod making;
#[cfg(test)]
mod tests;

pub use chunked::ChunkedWeights;
pub use content::{Chunk, INDEX_SCHEMA, IndexedTensor, MAX_INDEX_BYTES, SuperNetworkIndex};
pub use cutting::{CHUNK_BYTES, MAX_CHUNK_BYTES, MAX_CHUNKS};
pub use making::ChunkSource;
