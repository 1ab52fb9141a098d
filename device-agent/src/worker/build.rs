//! Making an artifact of a super-network's chunks, in memory or as files.
//!
//! Contract: what comes out has the hash that the recipe names, or is refused: the host would otherwise be told the latency of
//! another model. Every byte is hashed on the way.

use super::order::Plan;
use crate::error::{io_error, wire};
use edgewise_onnx::{ArtifactWriter, Assembly, ChunkedWeights, ContentHash, Error, MAX_INDEX_BYTES, Recipe, SuperNetworkIndex};
use edgewise_protocol::{ErrorCode, WireError};
use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

/// Makes the files that a runtime needs in this process's memory.
///
/// # Errors
/// [`ErrorCode::OtherArtifact`], [`ErrorCode::MissingBlob`], [`ErrorCode::BadRequest`], [`ErrorCode::OutOfMemory`],
/// [`ErrorCode::Io`].
pub(super) fn in_memory(plan: &Plan) -> Result<Assembly, WireError> {
    with_writer(plan, |writer, recipe| writer.assemble_checked(&recipe.sub, &recipe.artifact))
}

/// Writes the artifact's files into `folder`; returns their size in bytes.
///
/// # Errors
/// As [`in_memory`], and [`ErrorCode::NoSpace`].
pub(super) fn as_files(plan: &Plan, folder: &Path) -> Result<u64, WireError> {
    with_writer(plan, |writer, recipe| writer.write_checked(&recipe.sub, folder, &recipe.artifact))?;
    let size = |entry: std::io::Result<fs::DirEntry>| entry?.metadata().map(|meta| meta.len());
    let sizes = fs::read_dir(folder).and_then(|entries| entries.map(size).sum::<std::io::Result<u64>>());
    sizes.map_err(|e| io_error("list", folder, &e))
}

fn with_writer<T>(
    plan: &Plan,
    make: impl FnOnce(&ArtifactWriter<'_, ChunkedWeights>, &Recipe) -> Result<T, Error>,
) -> Result<T, WireError> {
    let blob = |hash: &ContentHash| -> PathBuf { Path::new(&plan.blobs).join(hash.to_string()) };
    let recipe = Recipe::parse(&plan.recipe).map_err(|e| onnx_error(&e))?;
    let index = read_index(&blob(&recipe.index))?;
    recipe.check(&index, &recipe.index).map_err(|e| onnx_error(&e))?;
    // The maps go with this function: what a runtime gets is its own memory or a folder.
    let weights = ChunkedWeights::open(&index, blob).map_err(|e| onnx_error(&e))?;
    make(&ArtifactWriter::on_device(&index, &weights), &recipe).map_err(|e| onnx_error(&e))
}

/// Reads the index of a super-network from its blob, whose hash was checked when it came in.
///
/// # Errors
/// [`ErrorCode::BadRequest`] if it is none, [`ErrorCode::Io`].
pub(crate) fn read_index(path: &Path) -> Result<SuperNetworkIndex, WireError> {
    let mut bytes = Vec::new();
    let limit = MAX_INDEX_BYTES as u64 + 1;
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(|e| io_error("read", path, &e))?;
    SuperNetworkIndex::parse(&bytes).map_err(|e| onnx_error(&e))
}

/// The code by which the host decides, for an error in making an artifact.
pub(crate) fn onnx_error(error: &Error) -> WireError {
    let code = match error {
        Error::OtherArtifact { .. } => ErrorCode::OtherArtifact,
        Error::BadChunk { .. } => ErrorCode::MissingBlob,
        Error::Memory { .. } => ErrorCode::OutOfMemory,
        Error::Io { action, path, source } => return io_error(action, path, source),
        Error::BadRecipe(_) | Error::BadIndex(_) | Error::BadSubNetwork(_) | Error::BadConfig(_) | Error::BadTensor { .. } => {
            ErrorCode::BadRequest
        }
        _ => ErrorCode::Internal,
    };
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    wire(code, format!("{error}{cause}"))
}
