//! The agent's clock: nanoseconds that no time daemon slews, typed with embedded-time.
//!
//! Contract: whatever measures takes a [`TickClock`] and so runs under a clock that a test winds by hand.

use embedded_time::{
    Clock, Instant,
    clock::Error,
    duration::{Milliseconds, Nanoseconds},
    fraction::Fraction,
};

/// A clock that counts nanoseconds in 64 bits.
pub(crate) trait TickClock: Clock<T = u64> {
    /// The present instant; a clock of this trait always runs.
    fn now(&self) -> Instant<Self>;

    /// Time since `start`, or zero if `start` lies ahead.
    fn since(&self, start: Instant<Self>) -> Nanoseconds<u64> {
        between(start, self.now())
    }
}

/// Time from `start` to `end`, or zero if they are the wrong way round.
pub(crate) fn between<C: Clock<T = u64>>(start: Instant<C>, end: Instant<C>) -> Nanoseconds<u64> {
    end.checked_duration_since(&start).and_then(|gap| Nanoseconds::try_from(gap).ok()).unwrap_or(Nanoseconds(0))
}

/// `milliseconds` as a span that is compared with [`TickClock::since`].
pub(crate) fn millis(milliseconds: u32) -> Nanoseconds<u64> {
    Nanoseconds::from(Milliseconds(milliseconds))
}

/// `CLOCK_MONOTONIC_RAW`: monotonic, and not adjusted by NTP while something is timed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RawClock;

impl Clock for RawClock {
    type T = u64;
    const SCALING_FACTOR: Fraction = Fraction::new(1, 1_000_000_000);

    fn try_now(&self) -> Result<Instant<Self>, Error> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a valid place for the call to write to.
        if unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_RAW, &raw mut time) } != 0 {
            return Err(Error::NotRunning);
        }
        Ok(Instant::new(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64))
    }
}

impl TickClock for RawClock {
    fn now(&self) -> Instant<Self> {
        self.try_now().expect("every Linux kernel since 2.6.28 has CLOCK_MONOTONIC_RAW")
    }
}

#[cfg(test)]
pub(crate) mod fake {
    use super::{Clock, Error, Fraction, Instant, TickClock};
    use std::{cell::Cell, rc::Rc};

    /// A clock that moves only when it is told to.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct HandClock(Rc<Cell<u64>>);

    impl HandClock {
        pub(crate) fn advance(&self, nanoseconds: u64) {
            self.0.set(self.0.get() + nanoseconds);
        }
    }

    impl Clock for HandClock {
        type T = u64;
        const SCALING_FACTOR: Fraction = Fraction::new(1, 1_000_000_000);

        fn try_now(&self) -> Result<Instant<Self>, Error> {
            Ok(Instant::new(self.0.get()))
        }
    }

    impl TickClock for HandClock {
        fn now(&self) -> Instant<Self> {
            Instant::new(self.0.get())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn spans_are_exact(start in 0u64..1 << 62, gap in 0u64..1 << 62) {
            let clock = fake::HandClock::default();
            clock.advance(start);
            let from = clock.now();
            clock.advance(gap);
            prop_assert_eq!(clock.since(from), Nanoseconds(gap));
            prop_assert_eq!(between(clock.now(), from), Nanoseconds(0_u64));
        }
    }

    #[test]
    fn the_raw_clock_follows_real_time() {
        let start = RawClock.now();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let gap = RawClock.since(start);
        assert!(gap >= millis(19) && gap < millis(5000), "{gap:?}");
    }

    #[test]
    fn milliseconds_convert() {
        assert_eq!(millis(u32::MAX), Nanoseconds(u64::from(u32::MAX) * 1_000_000));
    }
}
