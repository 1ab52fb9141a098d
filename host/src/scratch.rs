//! A folder for files that live as long as the program.

use crate::failure::Failure;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};
use tempfile::TempDir;

const PREFIX: &str = "artifacts-";
const LOCK: &str = ".lock";

/// A folder that is removed at the end; one that a killed program left behind is removed by the next.
pub(crate) struct Scratch {
    folder: TempDir,
    /// Held as long as the folder is in use. The system drops it however the program ends.
    _lock: File,
}

impl Scratch {
    /// Makes a folder in `parent`, after clearing what nobody uses any more.
    pub(crate) fn new(parent: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(parent).map_err(|e| Failure::file("make", parent, &e))?;
        clear(parent);
        let failed = |e: std::io::Error| Failure::file("make a folder in", parent, &e);
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent).map_err(failed)?;
        // It gets its name when it is locked: another program must not find it before.
        let unnamed = folder.path().join(".lock-new");
        let lock = File::create(&unnamed).map_err(failed)?;
        lock.lock().map_err(failed)?;
        fs::rename(&unnamed, folder.path().join(LOCK)).map_err(failed)?;
        Ok(Self { folder, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes folders whose lock nobody holds. One without a lock file is just being made, or was by a program that died then:
/// it is empty and stays.
fn clear(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let ours = entries.filter(|e| e.file_name().to_string_lossy().starts_with(PREFIX));
    for folder in ours.map(|e| e.path()).collect::<Vec<PathBuf>>() {
        if File::open(folder.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok()) {
            // What cannot be removed now is tried again by the next search.
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_program_left_is_cleared_and_what_a_living_one_uses_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let living = Scratch::new(parent.path()).unwrap();
        let dead = parent.path().join("artifacts-dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        fs::write(dead.join("model.onnx_data"), "weights").unwrap();
        fs::create_dir(parent.path().join("supernets")).unwrap();
        let next = Scratch::new(parent.path()).unwrap();
        assert!(!dead.exists() && living.path().exists() && next.path().exists());
        assert!(parent.path().join("supernets").exists());
        let path = next.path().to_owned();
        drop(next);
        assert!(!path.exists());
    }
}
