//! When a timed phase has enough samples.
//!
//! It ends in one of three ways: the interval is as narrow as the plan asks; time is up; or the noise is known well, and
//! with this noise time will be up before the interval is narrow. The third saves the time that the second would waste.

use crate::{
    clock::{TickClock, millis},
    stats,
};
use edgewise_protocol::MeasurePlan;
use embedded_time::{Instant, duration::Nanoseconds};
use std::collections::VecDeque;

/// Samples between two looks at the interval: looking at each would end a phase at the first lucky streak.
const BATCH: usize = 5;
/// Looks whose estimates of the noise must agree for it to count as known.
const NOISE_LOOKS: usize = 12;
/// They agree when their standard deviation is at most this share of their mean.
const NOISE_AGREES: f64 = 0.05;

/// The samples of one phase and the rule that ends it.
#[derive(Debug)]
pub(super) struct Pace<'a, C: TickClock> {
    clock: &'a C,
    plan: &'a MeasurePlan,
    most: usize,
    start: Instant<C>,
    timed: Nanoseconds<u64>,
    samples: Vec<u64>,
    next_look: usize,
    noise: VecDeque<f64>,
}

impl<'a, C: TickClock> Pace<'a, C> {
    /// A phase of at most `most` samples.
    pub(super) fn start(clock: &'a C, plan: &'a MeasurePlan, most: usize) -> Self {
        // Room for all samples from the start: the phase itself must not allocate.
        let (samples, noise) = (Vec::with_capacity(most), VecDeque::with_capacity(NOISE_LOOKS + 1));
        Self { clock, plan, most, start: clock.now(), timed: Nanoseconds(0), samples, next_look: BATCH, noise }
    }

    pub(super) fn record(&mut self, span: Nanoseconds<u64>) {
        self.samples.push(span.0);
        self.timed = self.timed + span;
    }

    /// Whether the phase is over, and if so whether its interval is as narrow as the plan asks. As long as `open`, only
    /// the end of time ends it.
    pub(super) fn verdict(&mut self, open: bool) -> Option<bool> {
        let n = self.samples.len();
        if n == 0 {
            return None;
        }
        if n >= self.most || self.clock.since(self.start) >= millis(self.plan.max_time_ms) {
            return Some(self.is_narrow());
        }
        if open || n < self.next_look {
            return None;
        }
        // Sorting all samples costs time: with many of them a look must be worth it.
        self.next_look = n + BATCH.max(n / 20);
        self.note_noise();
        if self.timed < millis(self.plan.min_time_ms) {
            return None;
        }
        if self.is_narrow() { Some(true) } else { self.is_hopeless().then_some(false) }
    }

    fn is_narrow(&self) -> bool {
        self.samples.len() >= self.plan.min_samples as usize
            && stats::estimate(&self.samples).is_some_and(|e| stats::narrow_enough(&e, self.plan.target_half_width))
    }

    fn note_noise(&mut self) {
        if self.noise.len() == NOISE_LOOKS {
            self.noise.pop_front();
        }
        self.noise.push_back(stats::dispersion(&self.samples).unwrap_or(f64::INFINITY));
    }

    /// Whether the noise is known, and too large for the time that is left.
    fn is_hopeless(&self) -> bool {
        if self.noise.len() < NOISE_LOOKS || !stats::agree(self.noise.iter().copied(), NOISE_AGREES) {
            return false;
        }
        let Some(estimate) = stats::estimate(&self.samples) else { return false };
        // The interval narrows with the square root of the number of samples.
        let excess = (estimate.high - estimate.low) / 2.0 / (f64::from(self.plan.target_half_width) * estimate.median);
        let needed = self.samples.len() as f64 * excess * excess;
        let spent = self.clock.since(self.start).0 as f64;
        let share = (spent / millis(self.plan.max_time_ms).0 as f64).max(self.samples.len() as f64 / self.most as f64);
        needed * share > self.samples.len() as f64
    }

    pub(super) fn into_samples(self) -> Vec<u64> {
        self.samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::fake::HandClock, limits::MAX_SAMPLES, random::SplitMix};
    use edgewise_protocol::Gate;

    const PLAN: MeasurePlan = MeasurePlan {
        min_warmup_ms: 0,
        max_warmup_ms: 0,
        min_samples: 15,
        min_time_ms: 200,
        max_time_ms: 1000,
        target_half_width: 0.01,
        retries: 0,
        gate: Gate { max_celsius: 60.0, max_rise_celsius: 3.0, max_rest_ms: 0 },
    };

    /// Runs a phase whose samples last what `cost` says, in microseconds.
    fn run(plan: &MeasurePlan, open_until: usize, cost: impl Fn(usize) -> u64) -> (usize, bool) {
        let clock = HandClock::default();
        let mut pace = Pace::start(&clock, plan, MAX_SAMPLES);
        for i in 0.. {
            let ns = cost(i) * 1000;
            clock.advance(ns);
            pace.record(Nanoseconds(ns));
            if let Some(converged) = pace.verdict(i + 1 < open_until) {
                return (pace.into_samples().len(), converged);
            }
        }
        unreachable!("the loop is endless")
    }

    #[test]
    fn quiet_samples_end_at_the_least_number_and_time() {
        assert_eq!(run(&PLAN, 0, |_| 50_000), (15, true), "15 samples, 0.75 s");
        assert_eq!(run(&PLAN, 0, |_| 10_000), (20, true), "0.2 s");
        assert_eq!(run(&PLAN, 0, |_| 9_900), (25, true), "looks are taken each 5 samples");
    }

    /// A cost between 8 and 12 ms, different at each sample.
    fn noisy(i: usize) -> u64 {
        8_000 + SplitMix::new(i as u64).next_u64() % 4_000
    }

    #[test]
    fn hopeless_noise_ends_a_phase_early() {
        let long = MeasurePlan { max_time_ms: 60_000, ..PLAN };
        let two_speeds = |i| if i % 2 == 0 { 10_000 } else { 20_000 };
        let (n, converged) = run(&long, 0, two_speeds);
        assert!(!converged && (60..80).contains(&n), "two speeds have no median to find: {n} of 4000 samples");
        let (n, converged) = run(&MeasurePlan { target_half_width: 0.0001, ..long }, 0, noisy);
        assert!(!converged && (60..200).contains(&n), "{n} of 6000 samples");
    }

    #[test]
    fn noise_that_time_can_beat_is_beaten() {
        let long = MeasurePlan { max_time_ms: 60_000, ..PLAN };
        let (n, converged) = run(&long, 0, noisy);
        assert!(converged && n > 60, "{n} samples");
        // The same noise, and less time than it takes.
        let short = MeasurePlan { max_time_ms: 900, ..PLAN };
        let (n, converged) = run(&short, 0, noisy);
        assert!(!converged && (60..95).contains(&n), "{n} samples");
    }

    #[test]
    fn noise_that_grows_is_not_known() {
        // The spread never settles, so that time decides.
        let growing = |i: usize| 10_000 + (noisy(i) - 8_000) * i as u64 / 20;
        let plan = MeasurePlan { max_time_ms: 5_000, target_half_width: 0.000_1, ..PLAN };
        let clock = HandClock::default();
        let mut pace = Pace::start(&clock, &plan, MAX_SAMPLES);
        let end = (1..).find_map(|i| {
            let ns = growing(i) * 1000;
            clock.advance(ns);
            pace.record(Nanoseconds(ns));
            pace.verdict(false)
        });
        assert_eq!(end, Some(false));
        assert!(clock.since(Instant::new(0)) >= millis(5_000), "not before its time");
    }

    #[test]
    fn few_slow_samples_never_converge() {
        assert_eq!(run(&PLAN, 0, |_| 300_000), (4, false));
        assert_eq!(run(&PLAN, 0, |_| 5_000_000), (1, false));
    }

    #[test]
    fn an_open_round_is_finished_unless_time_ends() {
        assert_eq!(run(&PLAN, 37, |_| 20_000), (37, true));
        assert_eq!(run(&PLAN, 1000, |_| 20_000), (50, true));
    }

    #[test]
    fn the_number_of_samples_is_bounded() {
        let plan = MeasurePlan { min_time_ms: u32::MAX, max_time_ms: u32::MAX, ..PLAN };
        assert_eq!(run(&plan, 0, |_| 1), (MAX_SAMPLES, true));
    }
}
