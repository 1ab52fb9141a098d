//! A small disk.

use crate::fixture::skip;
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A file system in memory of a fixed size; unmounted when dropped.
#[derive(Debug)]
pub struct Tmpfs {
    folder: tempfile::TempDir,
}

impl Tmpfs {
    /// Mounts one of `megabytes`. `None`, and a visible word, where this account may not.
    pub fn mount(megabytes: u32) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("edgewise-disk-").tempdir().expect("a temporary folder can be made");
        let options = format!("size={megabytes}m,mode=0777");
        let mounted = as_root(&["mount", "-t", "tmpfs", "-o", &options, "tmpfs"], folder.path());
        if !mounted {
            skip("this account may not mount a tmpfs");
            return None;
        }
        Some(Self { folder })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Fills it until this many bytes are free, and gives the path of the file that takes the rest.
    pub fn leave(&self, bytes: u64) -> PathBuf {
        let path = self.fill();
        let full = fs::metadata(&path).expect("it was written").len();
        let file = File::options().write(true).open(&path).expect("it was written");
        file.set_len(full.checked_sub(bytes).expect("the disk is larger")).expect("a file can be cut");
        path
    }

    /// Writes a file until the disk is full, and gives its path.
    pub fn fill(&self) -> PathBuf {
        let path = self.folder().join("filler");
        let mut file = File::create(&path).expect("the disk can be written");
        let zeros = vec![0; 64 << 10];
        while file.write_all(&zeros).is_ok() {}
        path
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a process of a failed test may still be in it.
        as_root(&["umount", "-l"], self.folder.path());
    }
}

/// Whether a command succeeded on a path, as this account or as root.
pub(crate) fn as_root(words: &[&str], folder: &Path) -> bool {
    let run = |prefix: &[&str]| {
        let all: Vec<&str> = prefix.iter().chain(words).copied().collect();
        let mut command = Command::new(all[0]);
        command.args(&all[1..]).arg(folder).stdin(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    run(&[]) || run(&["sudo", "-n"])
}
