//! The fixtures, and copies of them that a test may change.

#![expect(dead_code, reason = "each test uses a part")]

use edgewise_sensors::Root;
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

pub(crate) const DEVICES: [&str; 5] = ["raspberry-pi-4", "raspberry-pi-5", "jetson-orin", "android-phone", "pc"];

fn folder(device: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(device)
}

/// A fixture as it is.
pub(crate) fn fixture(device: &str) -> Root {
    Root::at(folder(device))
}

/// A copy of a fixture, removed with it.
pub(crate) struct Copy {
    folder: tempfile::TempDir,
}

impl Copy {
    pub(crate) fn of(device: &str) -> io::Result<Self> {
        let copy = Self { folder: tempfile::tempdir()? };
        // By another process: a script that this one holds open for writing while a thread of it forks could not be run.
        let status = Command::new("cp").arg("-a").arg(folder(device).join(".")).arg(copy.folder.path()).status()?;
        if status.success() { Ok(copy) } else { Err(io::Error::other("cp failed")) }
    }

    pub(crate) fn root(&self) -> Root {
        Root::at(self.folder.path())
    }

    /// Writes a file, made with its folder if it is not there.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) -> io::Result<()> {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(path, content)
    }

    /// Removes a file or a folder that is there.
    pub(crate) fn remove(&self, path: &str) -> io::Result<()> {
        let path = self.folder.path().join(path);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
    }

    /// Puts a new script in the place of a command, written by another process for the reason above.
    pub(crate) fn script(&self, path: &str, body: &str) -> io::Result<()> {
        let path = self.folder.path().join(path);
        let text = format!("#!/bin/sh\n{body}\n");
        let write = "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\"";
        let status = Command::new("sh").args(["-c", write]).arg(&path).arg(text).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other("cannot write the script")) }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// The names of all its files.
    pub(crate) fn files(&self) -> io::Result<Vec<String>> {
        let mut files = Vec::new();
        let mut folders = vec![self.folder.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(self.folder.path()).map_err(io::Error::other)?;
                    files.push(name.to_string_lossy().into_owned());
                }
            }
        }
        files.sort_unstable();
        Ok(files)
    }
}
