//! What the agent asks of Linux and std does not offer: descriptors, process groups, limits, counters.
//!
//! Contract: this module, [`crate::sched`] and [`crate::clock`] hold the crate's unsafe system calls; each function wraps one
//! call and returns plain values.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{ffi::OsStrExt, net::UnixListener, process::CommandExt},
    },
    path::Path,
    process::Command,
};

/// Takes the process's standard output away: returns it as a private file and lets descriptor 1 go to standard error, so
/// that a stray print in a runtime cannot get between the bytes of a frame.
///
/// # Errors
/// If descriptors 1 or 2 are closed.
pub(crate) fn take_stdout() -> io::Result<File> {
    // SAFETY: duplicates a descriptor number; no memory is involved.
    let private = check(unsafe { libc::fcntl(1, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: `private` was just made by this process and nothing else owns it.
    let private = unsafe { OwnedFd::from_raw_fd(private) };
    // SAFETY: as above; descriptor 1 is replaced in one step.
    check(unsafe { libc::dup2(2, 1) })?;
    Ok(File::from(private))
}

/// Makes the process of `command` die with the thread that spawns it, lead its own process group, be the first victim when
/// memory runs out, and leave no core file.
pub(crate) fn isolate(command: &mut Command) {
    command.process_group(0);
    let parent = std::process::id() as libc::pid_t;
    let setup = move || {
        check(prctl_parent_death(libc::SIGKILL))?;
        // The parent may have died before the request took hold; then nothing would ever kill this process.
        // SAFETY: no memory is involved.
        if unsafe { libc::getppid() } != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `none` is valid for the call to read.
        check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) })?;
        // SAFETY: the strings are nul-terminated and of the length given. Where the file cannot be written the worker runs all
        // the same: the kernel then chooses its victim by size, which is most likely the worker anyway.
        unsafe {
            let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            if file >= 0 {
                libc::write(file, c"1000".as_ptr().cast(), 4);
                libc::close(file);
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec `setup` makes only async-signal-safe calls and allocates nothing.
    unsafe { command.pre_exec(setup) };
}

fn prctl_parent_death(signal: libc::c_int) -> libc::c_int {
    // SAFETY: this option takes one integer.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong) }
}

/// Kills every process of the group that `leader` leads. A group that is gone already is no error.
pub(crate) fn kill_group(leader: u32) {
    // SAFETY: sends a signal; no memory is involved.
    unsafe { libc::kill(-(leader as libc::pid_t), libc::SIGKILL) };
}

/// How a child ended, and the largest resident memory it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Its exit code, if it exited.
    pub(crate) code: Option<i32>,
    /// The signal that killed it, if one did.
    pub(crate) signal: Option<i32>,
    /// Largest resident memory, in bytes.
    pub(crate) peak_rss_bytes: u64,
}

/// Waits for the child `pid` to end and reaps it.
///
/// # Errors
/// If it is no child of this process.
pub(crate) fn wait(pid: u32) -> io::Result<Ending> {
    let mut status = 0;
    // SAFETY: an all-zero `rusage` is a valid value of the plain struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both places are valid for the call to write to.
        match check(unsafe { libc::wait4(pid as libc::pid_t, &raw mut status, 0, &raw mut usage) }) {
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(Ending {
        code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
        peak_rss_bytes: kibibytes(usage.ru_maxrss),
    })
}

/// Bytes that this user may still write to the file system of `path`.
///
/// # Errors
/// If `path` does not exist.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: an all-zero `statvfs` is a valid value of the plain struct.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is nul-terminated and `stat` is valid to write to.
    check(unsafe { libc::statvfs(path.as_ptr(), &raw mut stat) })?;
    #[expect(clippy::useless_conversion, reason = "the fields are 32 bits wide on 32-bit targets")]
    Ok(u64::from(stat.f_bavail).saturating_mul(u64::from(stat.f_frsize)))
}

/// Takes a lock on an open file for this process, or says that another one holds it. Released when the file is closed,
/// by death too. File systems without locks grant every one.
///
/// # Errors
/// If the call fails for another reason.
pub(crate) fn try_lock(file: &File, exclusive: bool) -> io::Result<bool> {
    let kind = if exclusive { libc::LOCK_EX } else { libc::LOCK_SH };
    // SAFETY: no memory is involved.
    match check(unsafe { libc::flock(file.as_raw_fd(), kind | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::EWOULDBLOCK) => Ok(false),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::ENOLCK)) => Ok(true),
        Err(e) => Err(e),
    }
}

/// Ends every wait for a connection at this socket, now and later.
pub(crate) fn shut_down(listener: &UnixListener) {
    // SAFETY: no memory is involved, and the descriptor is open as long as its owner lives.
    unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) };
}

/// Whether the file system of `path` keeps its files in memory.
///
/// # Errors
/// If `path` does not exist.
pub(crate) fn is_in_memory(path: &Path) -> io::Result<bool> {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: an all-zero `statfs` is a valid value of the plain struct.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is nul-terminated and `stat` is valid to write to.
    check(unsafe { libc::statfs(path.as_ptr(), &raw mut stat) })?;
    // The field is signed on some targets, and 32 bits wide on others: the numbers of file systems have 32 bits.
    let kind = stat.f_type as u64 & 0xffff_ffff;
    Ok(kind == TMPFS || kind == RAMFS)
}

/// Writes everything of the file system that `file` lies on to the disk.
///
/// # Errors
/// If the disk fails.
pub(crate) fn sync_file_system(file: &File) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::syncfs(file.as_raw_fd()) }).map(drop)
}

/// Largest resident memory that this process had so far, in bytes, since its program was started: the system's
/// `ru_maxrss` would include what the parent had when it forked.
///
/// # Errors
/// If `/proc` is not mounted.
pub(crate) fn peak_rss() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    proc_kibibytes(&status, "VmHWM:").ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no VmHWM in /proc/self/status"))
}

/// The value of the line that starts with `key` in a file such as `/proc/meminfo`, in bytes.
pub(crate) fn proc_kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Whether the disk or the user's quota is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

fn kibibytes(value: libc::c_long) -> u64 {
    (value as u64).saturating_mul(1024)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_isolated_child_leads_its_group_and_is_the_first_oom_victim() {
        let mut command = Command::new("sh");
        command.args(["-c", "cat /proc/self/oom_score_adj; ulimit -c; cat /proc/$$/stat"]);
        isolate(&mut command);
        let output = command.output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(&lines[..2], ["1000", "0"]);
        let fields: Vec<&str> = lines[2].split(' ').collect();
        assert_eq!(fields[0], fields[4], "the process is its group's leader");
    }

    /// Starts a child that only [`wait`] reaps.
    fn start(mut command: Command) -> u32 {
        command.spawn().unwrap().id()
    }

    #[test]
    fn a_killed_group_is_reaped_with_its_signal() {
        let mut command = Command::new("sleep");
        command.arg("60");
        isolate(&mut command);
        let child = start(command);
        kill_group(child);
        let ending = wait(child).unwrap();
        assert_eq!((ending.code, ending.signal), (None, Some(libc::SIGKILL)));
        assert!(wait(child).is_err(), "reaped once");
    }

    #[test]
    fn exit_codes_come_back() {
        let mut command = Command::new("sh");
        command.args(["-c", "exit 7"]);
        let child = start(command);
        let ending = wait(child).unwrap();
        assert_eq!((ending.code, ending.signal), (Some(7), None));
        assert!(ending.peak_rss_bytes > 100_000, "{ending:?}");
    }

    #[test]
    fn counters_are_plausible() {
        assert!(peak_rss().unwrap() > 1 << 20);
        assert!(free_bytes(Path::new("/")).unwrap() > 0);
        assert!(free_bytes(Path::new("/no such place")).is_err());
        assert!(!is_in_memory(Path::new("/proc")).unwrap());
        if Path::new("/dev/shm").is_dir() {
            assert!(is_in_memory(Path::new("/dev/shm")).unwrap());
        }
        assert_eq!(proc_kibibytes("MemTotal:  16 kB\nMemFree: 4 kB\n", "MemFree:"), Some(4096));
        assert_eq!(proc_kibibytes("MemTotal:  16 kB\n", "MemFree:"), None);
    }

    #[test]
    fn locks_exclude_each_other_until_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let open = || File::options().create(true).append(true).open(&path).unwrap();
        let (first, second) = (open(), open());
        assert!(try_lock(&first, true).unwrap());
        assert!(!try_lock(&second, false).unwrap());
        drop(first);
        assert!(try_lock(&second, false).unwrap());
    }

    #[test]
    fn full_disks_are_told_from_other_errors() {
        assert!(is_full(&io::Error::from_raw_os_error(libc::ENOSPC)));
        assert!(!is_full(&io::Error::from_raw_os_error(libc::EACCES)));
    }
}
