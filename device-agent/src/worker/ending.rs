//! Why a worker died, as far as the system tells.

use crate::{
    error::{neutralise, wire},
    limits::STDERR_TAIL,
    sys::{self, Ending},
};
use edgewise_protocol::{ErrorCode, WireError};
use std::{collections::VecDeque, fs, path::PathBuf};

/// A worker that had this share of the memory that was available at its start, and was killed, was killed for it: where
/// the system keeps no count of such kills (Android's user-space killer) this is all there is.
const TELLING_SHARE: f64 = 0.85;

/// The system's memory before a worker starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MemoryWatch {
    kills: Vec<(PathBuf, u64)>,
    available: Option<u64>,
}

impl MemoryWatch {
    pub(super) fn start() -> Self {
        let kills = counters().into_iter().filter_map(|path| Some((path.clone(), kills(&path)?))).collect();
        let available = fs::read_to_string("/proc/meminfo").ok().and_then(|text| sys::proc_kibibytes(&text, "MemAvailable:"));
        Self { kills, available }
    }

    fn killed_since(&self) -> bool {
        self.kills.iter().any(|(path, before)| kills(path).is_some_and(|now| now > *before))
    }

    fn was_exhausted_by(&self, peak: u64) -> bool {
        self.available.is_some_and(|available| peak as f64 >= TELLING_SHARE * available as f64)
    }
}

/// Files that count kills for memory: of the whole system, and of this process's control group.
fn counters() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/proc/vmstat")];
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let group = group.trim_start_matches('/');
        if controllers.is_empty() {
            files.push(PathBuf::from("/sys/fs/cgroup").join(group).join("memory.events"));
        } else if controllers.split(',').any(|name| name == "memory") {
            files.push(PathBuf::from("/sys/fs/cgroup/memory").join(group).join("memory.oom_control"));
        }
    }
    files
}

fn kills(path: &PathBuf) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// The error of a worker that ended without an outcome.
pub(super) fn describe(ending: Ending, watch: &MemoryWatch, stderr: &Tail) -> WireError {
    let said = stderr.text();
    let said = if said.is_empty() { String::new() } else { format!("; it said: {said}") };
    let peak = ending.peak_rss_bytes >> 20;
    let killed_for_memory =
        ending.signal == Some(libc::SIGKILL) && (watch.killed_since() || watch.was_exhausted_by(ending.peak_rss_bytes));
    // Rust's allocator aborts with these words when the system refuses memory.
    let refused_memory = ending.signal == Some(libc::SIGABRT) && stderr.text().contains("memory allocation of");
    if killed_for_memory || refused_memory {
        return wire(ErrorCode::OutOfMemory, format!("the worker ran out of memory at {peak} MiB{said}"));
    }
    let how = match (ending.signal, ending.code) {
        (Some(signal), _) => format!("died of {}", signal_name(signal)),
        (None, Some(code)) => format!("ended with code {code} and no result"),
        (None, None) => "ended without a result".to_owned(),
    };
    wire(ErrorCode::WorkerCrashed, format!("the worker {how} at {peak} MiB{said}"))
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGABRT => "abort (SIGABRT)",
        libc::SIGBUS => "a bus error (SIGBUS)",
        libc::SIGFPE => "an arithmetic error (SIGFPE)",
        libc::SIGILL => "an illegal instruction (SIGILL)",
        libc::SIGKILL => "a kill (SIGKILL)",
        libc::SIGSEGV => "a bad memory access (SIGSEGV)",
        libc::SIGTERM => "termination (SIGTERM)",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

/// The last bytes of a stream.
#[derive(Debug, Default)]
pub(super) struct Tail(VecDeque<u8>);

impl Tail {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let excess = self.0.len().saturating_sub(STDERR_TAIL);
        self.0.drain(..excess);
    }

    /// As one line of text without control characters.
    pub(super) fn text(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        neutralise(&text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(code: Option<i32>, signal: Option<i32>, peak_rss_bytes: u64) -> Ending {
        Ending { code, signal, peak_rss_bytes }
    }

    fn watch() -> MemoryWatch {
        MemoryWatch { kills: vec![], available: Some(1000 << 20) }
    }

    fn said(text: &str) -> Tail {
        let mut tail = Tail::default();
        tail.push(text.as_bytes());
        tail
    }

    #[test]
    fn a_kill_is_for_memory_only_with_evidence() {
        let small = describe(ending(None, Some(libc::SIGKILL), 100 << 20), &watch(), &said(""));
        assert_eq!(small.code, ErrorCode::WorkerCrashed);
        assert_eq!(small.message, "the worker died of a kill (SIGKILL) at 100 MiB");
        let large = describe(ending(None, Some(libc::SIGKILL), 900 << 20), &watch(), &said(""));
        assert_eq!(large.code, ErrorCode::OutOfMemory);
        assert_eq!(large.message, "the worker ran out of memory at 900 MiB");
        let other = describe(ending(None, Some(libc::SIGSEGV), 900 << 20), &watch(), &said(""));
        assert_eq!(other.code, ErrorCode::WorkerCrashed);
    }

    #[test]
    fn a_kill_that_the_system_counted_is_for_memory() {
        let dir = tempfile::tempdir().unwrap();
        let events = dir.path().join("memory.events");
        fs::write(&events, "low 0\noom 1\noom_kill 4\n").unwrap();
        let watch = MemoryWatch { kills: vec![(events.clone(), 4)], available: None };
        let killed = ending(None, Some(libc::SIGKILL), 1 << 20);
        assert_eq!(describe(killed, &watch, &said("")).code, ErrorCode::WorkerCrashed);
        fs::write(&events, "low 0\noom 2\noom_kill 5\n").unwrap();
        assert_eq!(describe(killed, &watch, &said("")).code, ErrorCode::OutOfMemory);
    }

    #[test]
    fn a_refused_allocation_is_told_from_other_aborts() {
        let abort = ending(None, Some(libc::SIGABRT), 1 << 20);
        assert_eq!(describe(abort, &watch(), &said("memory allocation of 99 bytes failed\n")).code, ErrorCode::OutOfMemory);
        let error = describe(abort, &watch(), &said("\x1b[1mbad\n\nthing\n"));
        assert_eq!(error.code, ErrorCode::WorkerCrashed);
        assert_eq!(error.message, "the worker died of abort (SIGABRT) at 1 MiB; it said: \u{fffd}[1mbad | thing");
        let exit = describe(ending(Some(101), None, 0), &watch(), &said(""));
        assert_eq!(exit.message, "the worker ended with code 101 and no result at 0 MiB");
    }

    #[test]
    fn only_the_end_of_what_was_said_is_kept() {
        let mut tail = Tail::default();
        (0..1000).for_each(|i| tail.push(format!("line {i}\n").as_bytes()));
        let text = tail.text();
        assert!(text.len() < 3 * STDERR_TAIL && text.ends_with("line 999") && !text.contains("line 1 "), "{text}");
    }

    #[test]
    fn this_system_counts_kills_somewhere() {
        assert!(MemoryWatch::start().available.is_some());
    }
}
