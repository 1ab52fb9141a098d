//! An index kept beside the weights that it is of, so that they are hashed once and not in every search.
//!
//! The file's first line says which files the weights were in, by size and time of change, and the index's hash; the index's
//! bytes follow. Whatever does not fit leads to a new index.

use super::{ChunkSource, SuperNetworkIndex};
use crate::{ContentHash, Error, Extras, MappedWeights, ModelConfig, Source};
use serde::{Deserialize, Serialize};
use std::{io::Write, path::Path, time::UNIX_EPOCH};

const CACHE_SCHEMA: &str = "edgewise.index-cache/1";

/// What an index was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stamp {
    schema: String,
    files: Vec<FileStamp>,
    index: ContentHash,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileStamp {
    name: String,
    bytes: u64,
    /// Since 1970, in nanoseconds.
    modified_ns: u128,
}

impl SuperNetworkIndex {
    /// As [`Self::of`], but the index comes from the file `cache` where that was made of these very files, and goes there
    /// where it was not.
    ///
    /// # Errors
    /// Those of [`Self::of`], and [`Error::Io`] if the cache cannot be written.
    pub fn cached<'w>(
        cache: &Path,
        config: &ModelConfig,
        weights: &'w MappedWeights,
        source: &Source,
        extras: &Extras,
    ) -> Result<(Self, Vec<ChunkSource<'w>>), Error> {
        let files = stamps(weights)?;
        if let Some(index) = read(cache, &files) {
            let mut expected = Self::without_chunks(config, weights, source, extras)?;
            expected.chunks = index.chunks().to_vec();
            if Self::new(expected).is_ok_and(|expected| expected == index) {
                let sources = index.sources(weights)?;
                return Ok((index, sources));
            }
        }
        let (index, sources) = Self::of(config, weights, source, extras)?;
        write(cache, files, &index)?;
        Ok((index, sources))
    }
}

fn stamps(weights: &MappedWeights) -> Result<Vec<FileStamp>, Error> {
    weights
        .opened()
        .map(|(path, metadata)| {
            let modified = metadata.modified().map_err(Error::io("look at", path))?;
            Ok(FileStamp {
                name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                bytes: metadata.len(),
                // A time before 1970 is as good as none.
                modified_ns: modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()),
            })
        })
        .collect()
}

/// The index in the cache, if it is whole and was made of these files.
fn read(cache: &Path, files: &[FileStamp]) -> Option<SuperNetworkIndex> {
    let content = std::fs::read(cache).ok()?;
    let line = content.iter().position(|&byte| byte == b'\n')?;
    let (stamp, index) = (&content[..line], &content[line + 1..]);
    let stamp: Stamp = serde_json::from_slice(stamp).ok()?;
    let fits = stamp.schema == CACHE_SCHEMA && stamp.files == files && stamp.index == ContentHash::of(index);
    if fits { SuperNetworkIndex::parse(index).ok() } else { None }
}

fn write(cache: &Path, files: Vec<FileStamp>, index: &SuperNetworkIndex) -> Result<(), Error> {
    let failed = |source| Error::Io { action: "write", path: cache.to_owned(), source };
    let index = index.to_bytes();
    let stamp = Stamp { schema: CACHE_SCHEMA.into(), files, index: ContentHash::of(&index) };
    let mut content = serde_json::to_vec(&stamp).expect("a stamp has no map");
    content.push(b'\n');
    content.extend(index);
    // Another process may read or write it at the same time.
    let folder = cache.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(&content).map_err(failed)?;
    file.persist(cache).map_err(|e| failed(e.error))?;
    Ok(())
}
