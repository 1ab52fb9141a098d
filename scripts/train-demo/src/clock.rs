//! Processor time, which a budget on a shared machine is counted in.

/// Seconds of processor time that all threads of this process have used.
pub(crate) fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live `timespec`, which is all that the call writes.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(status, 0, "the process has no CPU-time clock");
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
