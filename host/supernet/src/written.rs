//! Writing weights and what belongs to them: a folder that appears whole or not at all.

use crate::Error;
use edgewise_onnx::ElementType;
use safetensors::{Dtype, SafeTensorError, View};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// The file that a super-network's weights are in.
pub(crate) const WEIGHTS_FILE: &str = "model.safetensors";

/// The name of an element type in such a file.
pub(crate) fn dtype(element: ElementType) -> Dtype {
    match element {
        ElementType::F32 => Dtype::F32,
        ElementType::F16 => Dtype::F16,
        ElementType::Bf16 => Dtype::BF16,
    }
}

/// Writes tensors, one at a time.
///
/// # Errors
/// [`Error::Io`], when the disk is full for one.
pub(crate) fn safetensors<V: View>(tensors: Vec<(String, V)>, path: &Path) -> Result<(), Error> {
    safetensors::serialize_to_file(tensors, None, path).map_err(|error| {
        let source = match error {
            SafeTensorError::IoError(source) => source,
            other => io::Error::other(other.to_string()),
        };
        Error::io("write", path)(source)
    })
}

/// A folder that is being written, beside where it shall be. Dropped before it is finished, it is gone.
pub(crate) struct Partial {
    folder: TempDir,
    target: PathBuf,
}

impl Partial {
    /// Begins one that shall be `target`, which must not exist.
    pub(crate) fn beside(target: &Path) -> Result<Self, Error> {
        // A name alone lies in the working folder.
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(Error::io("make", parent))?;
        let folder = tempfile::Builder::new().prefix(".partial-").tempdir_in(parent).map_err(Error::io("make", parent))?;
        Ok(Self { folder, target: target.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of it.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path().join(name);
        fs::write(&path, bytes).map_err(Error::io("write", &path))
    }

    /// Gives it its name.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let partial = self.folder.keep();
        fs::rename(&partial, &self.target).map_err(|source| {
            // What is left of a failure is of no use; that it cannot be removed either adds nothing.
            let _ = fs::remove_dir_all(&partial);
            Error::io("write", &self.target)(source)
        })
    }
}
