//! A limit on the memory of processes, by a control group.

use crate::{fixture::skip, tmpfs::as_root};
use std::path::{Path, PathBuf};

/// A control group with a limit; removed when dropped.
#[derive(Debug)]
pub struct MemoryLimit {
    folder: PathBuf,
}

impl MemoryLimit {
    /// Makes one. `None`, and a visible word, where this account or this system does not allow it.
    pub fn new(bytes: u64) -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        // Version 1 has a tree for memory alone, version 2 one tree for everything.
        let (tree, file) = if root.join("memory/memory.limit_in_bytes").is_file() {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            (root.to_owned(), "memory.max")
        };
        // The port makes it this test's own: no other listens there.
        let folder = tree.join(format!("edgewise-test-{}-{}", std::process::id(), crate::sshd::free_port()));
        let limit = Self { folder };
        let script = format!("mkdir \"$1\" && echo {bytes} > \"$1/{file}\"");
        if !as_root(&["sh", "-c", &script, "sh"], &limit.folder) {
            skip("memory cannot be limited by a control group here");
            return None;
        }
        Some(limit)
    }

    /// Puts a process under the limit, and all that it starts from now on.
    pub fn hold(&self, pid: u32) {
        let script = format!("echo {pid} > \"$1/cgroup.procs\"");
        assert!(as_root(&["sh", "-c", &script, "sh"], &self.folder), "process {pid} cannot be put into the group");
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // Not before the last process is gone; a failed test leaves the empty folder behind.
        let script = "for i in 1 2 3 4 5 6 7 8 9 10; do rmdir \"$1\" && exit; sleep 0.2; done";
        as_root(&["sh", "-c", script, "sh"], &self.folder);
    }
}
