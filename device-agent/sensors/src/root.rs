//! The folder that stands for `/`, and how small files below it are read.
//!
//! Contract: nothing outside the root is named. A file is read only if it is a regular one of at most [`LIMIT`] bytes of UTF-8;
//! anything else is as absent as a missing file.

use crate::command::Tool;
use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    str::FromStr,
};

/// Most bytes that are read of a file or of a command's output. A page is 4 KiB on most kernels, 64 KiB on some, and sysfs
/// gives one page at most.
pub(crate) const LIMIT: u64 = 64 * 1024;
/// Most entries of a folder that are looked at.
const ENTRIES: usize = 4096;
/// Longest name (of a zone, a governor, a board) that is believed, in bytes.
const NAME: usize = 128;
/// Where commands are looked for, in this order: the usual ones, old Raspberry Pi systems, Android.
const COMMANDS: [&str; 7] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/opt/vc/bin", "/system/bin"];

/// Where a device's files are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    path: PathBuf,
}

impl Root {
    /// The running system: `/`.
    pub fn system() -> Self {
        Self::at("/")
    }

    /// The folder `path` in the place of `/`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where the file with the absolute name `path` lies below this root.
    pub fn path(&self, path: &str) -> PathBuf {
        self.path.join(path.trim_start_matches('/'))
    }

    /// A file's whole text.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        let bytes = self.start(path, LIMIT + 1)?;
        if bytes.len() as u64 > LIMIT {
            return None;
        }
        String::from_utf8(bytes).ok()
    }

    /// The first line of a file that may be of any size, without its end. The line must end within `limit` bytes.
    pub(crate) fn first_line(&self, path: &str, limit: u64) -> Option<String> {
        let mut bytes = self.start(path, limit)?;
        let end = bytes.iter().position(|&byte| byte == b'\n')?;
        bytes.truncate(end);
        String::from_utf8(bytes).ok()
    }

    fn start(&self, path: &str, limit: u64) -> Option<Vec<u8>> {
        let path = self.path(path);
        // Opening a pipe would block, and a device may be endless.
        if !fs::metadata(&path).ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// The number that is all a file holds.
    pub(crate) fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.trim().parse().ok()
    }

    /// The name that is all a file holds, without the nul bytes (device tree) and white space around it.
    pub(crate) fn name(&self, path: &str) -> Option<String> {
        name(&self.text(path)?)
    }

    /// The names of a folder's entries, sorted.
    pub(crate) fn entries(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(folder)) else { return Vec::new() };
        let mut names: Vec<String> = entries.take(ENTRIES).filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// The entries of a folder that are called `prefix` and a number, by number, with their full names.
    pub(crate) fn numbered(&self, folder: &str, prefix: &str) -> Vec<(u32, String)> {
        let mut found: Vec<(u32, String)> = self
            .entries(folder)
            .into_iter()
            .filter_map(|name| {
                let digits = name.strip_prefix(prefix)?;
                let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
                Some((number, format!("{folder}/{name}")))
            })
            .collect();
        found.sort_unstable();
        found
    }

    /// The numbers `n` for which a folder has a file called `prefix` n `suffix`, sorted.
    pub(crate) fn channels(&self, folder: &str, prefix: &str, suffix: &str) -> Vec<u32> {
        let files = self.entries(folder);
        let mut numbers: Vec<u32> =
            files.iter().filter_map(|file| file.strip_prefix(prefix)?.strip_suffix(suffix)?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The executable called `name` in one of the usual folders.
    pub(crate) fn tool(&self, name: &str) -> Option<Tool> {
        COMMANDS.iter().map(|folder| self.path(&format!("{folder}/{name}"))).find_map(|path| {
            let metadata = fs::metadata(&path).ok()?;
            (metadata.is_file() && metadata.permissions().mode() & 0o111 != 0).then(|| Tool::new(path))
        })
    }
}

/// `text` without nul bytes and white space around it, if what is left is a name: short, printable, not empty.
pub(crate) fn name(text: &str) -> Option<String> {
    let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    (!text.is_empty() && text.len() <= NAME && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// A list of processors as sysfs writes it: numbers with spaces between them (`0 1 2`), or ranges (`0-3,6`). Sorted.
pub(crate) fn cpu_list(text: &str) -> Option<Vec<u32>> {
    /// More processors than Linux can be built for.
    const MOST: u32 = 8192;
    let mut cpus = Vec::new();
    for part in text.split(|c: char| c == ',' || c.is_whitespace()).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    (!cpus.is_empty()).then_some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_read_in_both_notations() {
        assert_eq!(cpu_list("0 1 2 3\n"), Some(vec![0, 1, 2, 3]));
        assert_eq!(cpu_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(cpu_list("7"), Some(vec![7]));
        for wrong in ["", "\n", "3-1", "0-4294967295", "0-99999", "x", "-1", "1-"] {
            assert_eq!(cpu_list(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn names_lose_their_nul_and_must_be_printable() {
        assert_eq!(name("Raspberry Pi 5 Model B Rev 1.0\0").as_deref(), Some("Raspberry Pi 5 Model B Rev 1.0"));
        assert_eq!(name("\0\n "), None);
        assert_eq!(name("a\u{1b}[31mb"), None);
        assert_eq!(name(&"x".repeat(129)), None);
    }
}
