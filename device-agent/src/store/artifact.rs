//! The folder that a runtime sees: an artifact's files under their names, side by side.
//!
//! Runtimes want real files there: ONNX Runtime refuses external data that leaves the model's folder through a symbolic link.

use super::{folder::Store, room::Held};
use crate::{
    error::{io_error, wire},
    limits::{MAX_FILES, MAX_NAME},
};
use edgewise_protocol::{ArtifactFile, ErrorCode, WireError};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Name of the graph in every artifact.
pub(crate) const MODEL: &str = "model.onnx";

/// An assembled artifact; its folder goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Artifact {
    folder: PathBuf,
    /// The links keep the bytes; this keeps the blobs, which would have to be sent again for the next runtime.
    blobs: Vec<Held>,
}

impl Artifact {
    /// Links the files of an artifact from their blobs into a folder of their own; copies where links are not possible.
    ///
    /// # Errors
    /// Those of [`check_names`], [`ErrorCode::MissingBlob`], [`ErrorCode::NoSpace`], [`ErrorCode::Io`].
    pub(crate) fn assemble(store: &Store, files: &[ArtifactFile]) -> Result<Self, WireError> {
        check_names(files)?;
        let blobs = files.iter().map(|file| store.need(file.blob, file.size)).collect::<Result<Vec<_>, _>>()?;
        let artifact = Self { folder: store.artifact(&name_of(files)), blobs };
        fs::create_dir(&artifact.folder).map_err(|e| io_error("make", &artifact.folder, &e))?;
        for (file, blob) in files.iter().zip(&artifact.blobs) {
            let path = artifact.folder.join(&file.name);
            if fs::hard_link(blob.path(), &path).is_err() {
                let _room = store.make_room(file.blob, 0, file.size)?;
                fs::copy(blob.path(), &path).map_err(|e| io_error("copy a blob to", &path, &e))?;
            }
        }
        Ok(artifact)
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Artifact {
    fn drop(&mut self) {
        // What stays is cleared by the next agent that starts alone.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Checks that the files' names are plain, differ, and hold a model.
///
/// # Errors
/// [`ErrorCode::BadRequest`].
pub(crate) fn check_names(files: &[ArtifactFile]) -> Result<(), WireError> {
    let bad = |message: String| Err(wire(ErrorCode::BadRequest, message));
    if files.len() > MAX_FILES {
        return bad(format!("an artifact of {} files; at most {MAX_FILES} are accepted", files.len()));
    }
    let mut seen = BTreeSet::new();
    for ArtifactFile { name, .. } in files {
        let plain = !name.is_empty()
            && name.len() <= MAX_NAME
            && name != "."
            && name != ".."
            && !name.chars().any(|c| c == '/' || c == '\\' || c.is_control());
        if !plain {
            return bad(format!("{name:?} is not a plain file name"));
        }
        if !seen.insert(name.as_str()) {
            return bad(format!("two files of the artifact are called {name:?}"));
        }
    }
    if seen.contains(MODEL) { Ok(()) } else { bad(format!("the artifact has no `{MODEL}`")) }
}

/// A short name that follows from the names and contents of the files.
fn name_of(files: &[ArtifactFile]) -> String {
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update(file.name.as_bytes());
        hasher.update([0]);
        hasher.update(file.blob.0);
    }
    hex::encode(&hasher.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cancel, store::Upload};
    use edgewise_protocol::BlobId;

    fn file(name: &str, bytes: &[u8]) -> ArtifactFile {
        ArtifactFile { name: name.to_owned(), blob: BlobId(Sha256::digest(bytes).into()), size: bytes.len() as u64 }
    }

    fn put(store: &Store, bytes: &[u8]) {
        let (_keep, cancel) = cancel::pair();
        let blob = BlobId(Sha256::digest(bytes).into());
        let mut upload = Upload::begin(store, blob, bytes.len() as u64, &cancel).unwrap();
        upload.append(bytes).unwrap();
        Upload::finish_all(vec![upload], store).remove(0).unwrap();
    }

    #[test]
    fn files_lie_side_by_side_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), None).unwrap();
        put(&store, b"graph");
        put(&store, b"weights");
        let files = [file("model.onnx", b"graph"), file("model.onnx_data", b"weights"), file("again", b"graph")];
        let first = Artifact::assemble(&store, &files).unwrap();
        let second = Artifact::assemble(&store, &files).unwrap();
        assert_ne!(first.folder(), second.folder());
        assert_eq!(fs::read(first.folder().join("model.onnx_data")).unwrap(), b"weights");
        assert_eq!(fs::read(first.folder().join("again")).unwrap(), b"graph");
        let folder = first.folder().to_owned();
        drop(first);
        assert!(!folder.exists() && second.folder().exists());
    }

    #[test]
    fn a_missing_blob_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), None).unwrap();
        let error = Artifact::assemble(&store, &[file("model.onnx", b"graph")]).unwrap_err();
        assert_eq!(error.code, ErrorCode::MissingBlob);
        assert!(error.message.contains(&file("", b"graph").blob.to_string()), "{}", error.message);
    }

    #[test]
    fn names_that_reach_elsewhere_are_refused() {
        for name in ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "a\0b", "a\nb", &"x".repeat(129)] {
            let error = check_names(&[file("model.onnx", b""), file(name, b"")]).unwrap_err();
            assert_eq!(error.code, ErrorCode::BadRequest, "{name:?}");
        }
        assert!(check_names(&[file("model.onnx", b""), file("model.onnx", b"")]).is_err());
        assert!(check_names(&[file("weights", b"")]).is_err());
        check_names(&[file("model.onnx", b""), file("..data", b"")]).unwrap();
    }
}
