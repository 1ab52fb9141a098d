//! What the agent asks of the scheduler: the processor time a process took, priorities, and which processors it may use.
//!
//! Contract: as [`crate::sys`], each function wraps one system call and returns plain values. What may be refused (a higher
//! priority, an affinity) is refused without consequence: it makes measurements better, not possible.

use std::{io, mem};

/// What this process used and suffered so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Processor time of all its threads, in nanoseconds.
    pub(crate) cpu_ns: u64,
    /// Times that it was put off a processor against its will.
    pub(crate) involuntary_switches: u64,
    /// Pages that it had to read from disk.
    pub(crate) major_faults: u64,
}

impl Usage {
    /// What happened since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            involuntary_switches: self.involuntary_switches.saturating_sub(before.involuntary_switches),
            major_faults: self.major_faults.saturating_sub(before.major_faults),
        }
    }
}

/// What this process used so far.
pub(crate) fn usage() -> Usage {
    // SAFETY: an all-zero `rusage` is a valid value, and the place is valid to write to.
    let usage = unsafe {
        let mut usage: libc::rusage = mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let nanoseconds = |time: libc::timeval| (time.tv_sec as u64) * 1_000_000_000 + (time.tv_usec as u64) * 1_000;
    Usage {
        cpu_ns: nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime),
        involuntary_switches: usage.ru_nivcsw as u64,
        major_faults: usage.ru_majflt as u64,
    }
}

/// Gives this process, and every thread that it starts from now on, the priority `nice`. Raising it takes a privilege; says
/// whether it was granted.
pub(crate) fn set_nice(nice: i32) -> bool {
    // SAFETY: no memory is involved. 0 is the calling process; the type of the first argument differs between C libraries.
    unsafe { libc::setpriority(libc::PRIO_PROCESS as _, 0, nice) == 0 }
}

/// Numbers of the processors that this thread may use, in order. Empty if the system does not say.
pub(crate) fn allowed_processors() -> Vec<u32> {
    // SAFETY: an all-zero set is a valid value, the size is that of the set, and `CPU_ISSET` is asked within its bounds.
    unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0 {
            return Vec::new();
        }
        let most = 8 * size_of::<libc::cpu_set_t>();
        (0..most).filter(|&n| libc::CPU_ISSET(n, &set)).map(|n| n as u32).collect()
    }
}

/// Keeps this thread, and every one that it starts from now on, to `processors`.
///
/// # Errors
/// If none of them may be used.
pub(crate) fn pin(processors: &[u32]) -> io::Result<()> {
    let most = 8 * size_of::<libc::cpu_set_t>();
    // SAFETY: an all-zero set is a valid value, processors are set within its bounds, and the size is that of the set.
    let result = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        for &n in processors.iter().filter(|&&n| (n as usize) < most) {
            libc::CPU_SET(n as usize, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_as_processor_time() {
        let before = usage();
        let mut x = 1_u64;
        while usage().since(&before).cpu_ns < 20_000_000 {
            for _ in 0..100_000 {
                x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
            }
        }
        assert_eq!(before.since(&usage()), Usage::default(), "time does not run backwards");
    }

    #[test]
    fn a_thread_can_be_kept_to_a_processor_it_may_use() {
        let allowed = allowed_processors();
        assert!(!allowed.is_empty() && allowed.is_sorted());
        std::thread::spawn(move || {
            pin(&allowed[..1]).unwrap();
            assert_eq!(allowed_processors(), allowed[..1]);
            assert!(pin(&[]).is_err());
        })
        .join()
        .unwrap();
    }
}
