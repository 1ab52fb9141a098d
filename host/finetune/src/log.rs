//! The log of a training: a JSON object per line, for each step and each look at the held-out text.

use crate::{Error, Point};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

/// Name of the file.
pub(crate) const LOG_FILE: &str = "log.jsonl";

/// A look at the held-out text, as the log has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// Steps that were done.
    pub step: u64,
    /// What was found.
    pub validation: Vec<Point>,
}

/// The looks that a log tells of, in order.
pub fn looks(log: &[u8]) -> Vec<Look> {
    log.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// An open log.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens the log of a training that goes on after `steps` steps; what a run that was killed wrote after its last checkpoint
    /// is taken out, since it is written again.
    pub(crate) fn open(folder: &Path, steps: u64) -> Result<Self, Error> {
        let path = folder.join(LOG_FILE);
        let before = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Error::io("read", &path)(e)),
        };
        let step = |line: &str| serde_json::from_str::<Value>(line).ok().and_then(|v| v["step"].as_u64());
        // The last line may be half a line.
        let kept = before.lines().filter(|line| steps > 0 && step(line).is_some_and(|step| step <= steps));
        let kept: String = kept.flat_map(|line| [line, "\n"]).collect();
        std::fs::write(&path, kept).map_err(Error::io("write", &path))?;
        let file = OpenOptions::new().append(true).open(&path).map_err(Error::io("write", &path))?;
        Ok(Self { path, file })
    }

    pub(crate) fn line(&mut self, value: &Value) -> Result<(), Error> {
        self.file.write_all(format!("{value}\n").as_bytes()).map_err(Error::io("write", &self.path))
    }

    /// All of it.
    pub(crate) fn content(&self) -> Result<Vec<u8>, Error> {
        std::fs::read(&self.path).map_err(Error::io("read", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_the_checkpoint_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(folder.path(), 0).unwrap();
        for step in 0..=4 {
            log.line(&serde_json::json!({ "step": step })).unwrap();
        }
        log.file.write_all(b"{\"step\":5,\"lo").unwrap();
        let mut log = Log::open(folder.path(), 3).unwrap();
        log.line(&serde_json::json!({ "step": 4, "again": true })).unwrap();
        let text = String::from_utf8(log.content().unwrap()).unwrap();
        assert_eq!(text, "{\"step\":0}\n{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"again\":true,\"step\":4}\n");
        assert!(Log::open(folder.path(), 0).unwrap().content().unwrap().is_empty());
    }
}
