//! When a timed phase has enough samples.

use crate::{
    clock::{TickClock, millis},
    limits::MAX_SAMPLES,
    stats,
};
use edgewise_protocol::MeasurePlan;
use embedded_time::{Instant, duration::Nanoseconds};

/// Samples between two looks at the interval: looking at each would end a phase at the first lucky streak.
const BATCH: usize = 5;

/// The samples of one phase and the rule that ends it.
#[derive(Debug)]
pub(super) struct Pace<'a, C: TickClock> {
    clock: &'a C,
    plan: &'a MeasurePlan,
    start: Instant<C>,
    timed: Nanoseconds<u64>,
    samples: Vec<u64>,
    next_look: usize,
}

impl<'a, C: TickClock> Pace<'a, C> {
    pub(super) fn start(clock: &'a C, plan: &'a MeasurePlan) -> Self {
        // Room for all samples from the start: the phase itself must not allocate.
        let samples = Vec::with_capacity(MAX_SAMPLES);
        Self { clock, plan, start: clock.now(), timed: Nanoseconds(0), samples, next_look: BATCH }
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
        if n >= MAX_SAMPLES || self.clock.since(self.start) >= millis(self.plan.max_time_ms) {
            return Some(self.is_narrow());
        }
        if open || n < self.next_look {
            return None;
        }
        // Sorting all samples costs time: with many of them a look must be worth it.
        self.next_look = n + BATCH.max(n / 20);
        let enough = self.timed >= millis(self.plan.min_time_ms);
        (enough && self.is_narrow()).then_some(true)
    }

    fn is_narrow(&self) -> bool {
        self.samples.len() >= self.plan.min_samples as usize
            && stats::estimate(&self.samples).is_some_and(|e| stats::narrow_enough(&e, self.plan.target_half_width))
    }

    pub(super) fn into_samples(self) -> Vec<u64> {
        self.samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::fake::HandClock;

    const PLAN: MeasurePlan = MeasurePlan {
        min_warmup_ms: 0,
        max_warmup_ms: 0,
        min_samples: 15,
        min_time_ms: 200,
        max_time_ms: 1000,
        target_half_width: 0.01,
    };

    /// Runs a phase whose samples last what `cost` says, in microseconds.
    fn run(plan: &MeasurePlan, open_until: usize, cost: impl Fn(usize) -> u64) -> (usize, bool) {
        let clock = HandClock::default();
        let mut pace = Pace::start(&clock, plan);
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

    #[test]
    fn noisy_samples_end_with_the_time() {
        let (n, converged) = run(&PLAN, 0, |i| if i % 2 == 0 { 10_000 } else { 20_000 });
        assert!(!converged);
        assert!((60..70).contains(&n), "{n}");
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
