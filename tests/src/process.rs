//! Other processes: who they are, whether they live, signals.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_mins(5);

/// Asks until there is an answer.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn processes() -> Vec<u32> {
    let names = fs::read_dir("/proc").expect("there is a /proc").flatten().map(|e| e.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).collect()
}

/// State and parent of a process that is not dead yet.
fn status(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; state and parent come after it.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    (state != "Z" && state != "X").then(|| fields.next()?.parse().ok())?
}

/// Whether a process runs; a zombie does not.
pub fn is_alive(pid: u32) -> bool {
    status(pid).is_some()
}

/// Children of a process, of all its threads.
pub fn children(parent: u32) -> Vec<u32> {
    processes().into_iter().filter(|&pid| status(pid) == Some(parent)).collect()
}

/// Agents that serve a store in this folder.
pub fn agents_of(folder: &Path) -> Vec<u32> {
    let store = folder.as_os_str().as_encoded_bytes();
    let serves = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = words.split(|b| *b == 0);
        words.next().is_some_and(|program| program.ends_with(b"device-agent"))
            && words.next() == Some(b"serve")
            && words.any(|word| word.starts_with(store))
    };
    processes().into_iter().filter(|pid| serves(pid) && is_alive(*pid)).collect()
}

/// Workers of agents that lie in this folder, whoever their parent is by now.
pub fn workers_of(folder: &Path) -> Vec<u32> {
    let works = |pid: &u32| {
        let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        program.starts_with(folder) && words.split(|b| *b == 0).nth(1) == Some(b"worker")
    };
    processes().into_iter().filter(|pid| works(pid) && is_alive(*pid)).collect()
}

/// Sends a signal.
pub fn kill(pid: u32, signal: i32) {
    // SAFETY: sends a signal; no memory is involved. A process that just died is no failure.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}
