//! The steps of a measurement in order: probe, warm-up, prefill, decode, other lengths of the context, the power meter.

use super::{pace::Pace, points, probe};
use crate::{
    clock::{TickClock, between, millis},
    error::wire,
    limits::MAX_SAMPLES,
    logits::argmax,
    random::SplitMix,
    runtime::CausalModel,
    stats::{self, WINDOW},
};
use edgewise_protocol::{ErrorCode, Estimate, Flag, MeasureJob, Point, Stage, WireError};
use embedded_time::duration::Nanoseconds;
use std::hint::black_box;

/// A loaded model, and everything that timing it needs.
pub(crate) struct Session<'a, C: TickClock> {
    /// What is timed.
    pub(crate) model: &'a mut dyn CausalModel,
    /// By what clock.
    pub(crate) clock: &'a C,
    /// What is to be done; it satisfies [`super::check_job`].
    pub(crate) job: &'a MeasureJob,
    /// Warm-up lasts at least this long, in milliseconds; not less than the plan says.
    pub(crate) min_warmup_ms: u32,
    /// Called right before and right after each stretch of timing, never within one.
    pub(crate) observe: &'a mut dyn FnMut(Moment),
    /// Called when a step begins, never within one.
    pub(crate) report: &'a mut dyn FnMut(Stage),
}

/// When the device is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before a stretch of timing.
    Before,
    /// After it.
    After,
}

/// What ran for the power meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct EnergyRun {
    /// Tokens generated.
    pub(crate) tokens: u64,
    /// Time it took, in nanoseconds.
    pub(crate) ns: u64,
}

/// What a session found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Findings {
    /// Prefill times.
    pub(crate) ttft: Estimate,
    /// Token times.
    pub(crate) tpot: Estimate,
    /// Every timed prefill, in nanoseconds.
    pub(crate) ttft_ns: Vec<u64>,
    /// Every timed token, in nanoseconds.
    pub(crate) tpot_ns: Vec<u64>,
    /// Every prefill of the warm-up, in nanoseconds.
    pub(crate) warmup_ns: Vec<u64>,
    /// Whether both intervals are as narrow as asked.
    pub(crate) converged: bool,
    /// What a reader must know.
    pub(crate) flags: Vec<Flag>,
    /// Largest difference from the probe's logits.
    pub(crate) probe_max_abs_diff: Option<f32>,
    /// The prefill at other prompt lengths.
    pub(crate) prefill_at: Vec<Point>,
    /// The decode at other depths.
    pub(crate) decode_at: Vec<Point>,
    /// The run for the power meter, where one was asked for.
    pub(crate) energy: Option<EnergyRun>,
}

impl<C: TickClock> Session<'_, C> {
    /// Runs all steps.
    ///
    /// # Errors
    /// [`ErrorCode::ProbeMismatch`], and the runtime's errors.
    pub(crate) fn run(mut self) -> Result<Findings, WireError> {
        let mut flags = Vec::new();
        let probe_max_abs_diff = if let Some(probe) = &self.job.probe {
            (self.report)(Stage::Probe);
            Some(probe::check(self.model, probe)?)
        } else {
            flags.push(Flag::Unverified);
            None
        };
        let tokens = self.tokens();
        let workload = self.job.workload;
        // The last generated token is never fed.
        let sequence = &tokens[..(workload.prompt_tokens + workload.generated_tokens - 1) as usize];
        let (prompt, generated) = sequence.split_at(workload.prompt_tokens as usize);

        (self.report)(Stage::Warm);
        let (warmup_ns, steady) = self.warm_up(prompt, generated)?;
        if !steady {
            flags.push(Flag::NoSteadyState);
        }

        (self.observe)(Moment::Before);
        (self.report)(Stage::Prefill);
        let (ttft_ns, ttft_converged) = self.time_prefill(prompt)?;
        (self.report)(Stage::Decode);
        let (tpot_ns, tpot_converged) = self.time_decode(prompt, generated)?;
        (self.observe)(Moment::After);

        let converged = ttft_converged && tpot_converged;
        if !converged {
            flags.push(Flag::NotConverged);
        }
        let prefills: Vec<f64> = ttft_ns.iter().map(|&ns| ns as f64).collect();
        if stats::drifts(&prefills) || stats::drifts(&stats::without_depth(&tpot_ns, timed_per_round(generated))) {
            flags.push(Flag::Drift);
        }
        let (prefill_at, decode_at) = self.context(&tokens)?;
        let energy = self.run_for_the_meter(sequence)?;
        let estimate =
            |samples: &[u64]| stats::estimate(samples).ok_or_else(|| wire(ErrorCode::Internal, "a phase ended without samples"));
        Ok(Findings {
            ttft: estimate(&ttft_ns)?,
            tpot: estimate(&tpot_ns)?,
            ttft_ns,
            tpot_ns,
            warmup_ns,
            converged,
            flags,
            probe_max_abs_diff,
            prefill_at,
            decode_at,
            energy,
        })
    }

    /// The prompt, and the tokens that are fed as if they had been generated; more where longer sequences are asked for.
    fn tokens(&self) -> Vec<u32> {
        let mut random = SplitMix::new(self.job.seed);
        let workload = self.job.workload;
        let count = (workload.prompt_tokens + workload.generated_tokens - 1).max(points::tokens_needed(self.job));
        (0..count).map(|_| random.below(self.job.vocabulary)).collect()
    }

    fn context(&mut self, tokens: &[u32]) -> Result<(Vec<Point>, Vec<Point>), WireError> {
        if self.job.context.prompts.is_empty() && self.job.context.depths.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        (self.observe)(Moment::Before);
        (self.report)(Stage::Context);
        let points = points::measure(self, tokens)?;
        (self.observe)(Moment::After);
        Ok(points)
    }

    /// Generates tokens for as long as the job asks. Sequences grow from nothing to the workload's length: a prefill in between
    /// would be energy that no token asked for.
    fn run_for_the_meter(&mut self, sequence: &[u32]) -> Result<Option<EnergyRun>, WireError> {
        if self.job.energy_ms == 0 {
            return Ok(None);
        }
        let end = millis(self.job.energy_ms);
        (self.report)(Stage::Energy);
        let start = self.clock.now();
        let mut tokens = 0;
        loop {
            self.model.reset();
            for token in sequence {
                self.step(&[*token])?;
                tokens += 1;
                let spent = self.clock.since(start);
                if spent >= end {
                    return Ok(Some(EnergyRun { tokens, ns: spent.0 }));
                }
            }
        }
    }

    /// Prefills until their times are steady; then a few tokens, whose kernels are others. Says whether they became steady.
    fn warm_up(&mut self, prompt: &[u32], generated: &[u32]) -> Result<(Vec<u64>, bool), WireError> {
        let start = self.clock.now();
        let mut runs = Vec::new();
        let steady = loop {
            runs.push(self.prefill(prompt)?.0);
            let spent = self.clock.since(start);
            if spent >= millis(self.min_warmup_ms) && stats::is_steady(&runs, WINDOW) {
                break true;
            }
            if spent >= millis(self.job.plan.max_warmup_ms) || runs.len() >= MAX_SAMPLES {
                // A slow model does not get to two whole windows in this time; then smaller ones must do.
                break stats::is_steady(&runs, WINDOW.min(runs.len() / 2));
            }
        };
        for token in generated.iter().take(2 * WINDOW) {
            self.step(&[*token])?;
        }
        Ok((runs, steady))
    }

    fn time_prefill(&mut self, prompt: &[u32]) -> Result<(Vec<u64>, bool), WireError> {
        // Whatever the report of this step stirred up settles in a run that does not count.
        self.prefill(prompt)?;
        let mut pace = Pace::start(self.clock, &self.job.plan, MAX_SAMPLES);
        loop {
            pace.record(self.prefill(prompt)?);
            if let Some(converged) = pace.verdict(false) {
                return Ok((pace.into_samples(), converged));
            }
        }
    }

    /// Rounds of a prefill, which does not count here, and all tokens after it. The first token of a round pays for the
    /// change of kernels and does not count either, unless it is the only one. The first round is finished whenever
    /// time allows, so that all depths are among the samples; later ones may be cut short.
    fn time_decode(&mut self, prompt: &[u32], generated: &[u32]) -> Result<(Vec<u64>, bool), WireError> {
        let uncounted = generated.len() - timed_per_round(generated);
        let mut pace = Pace::start(self.clock, &self.job.plan, MAX_SAMPLES);
        let mut open = true;
        loop {
            self.prefill(prompt)?;
            for (depth, token) in generated.iter().enumerate() {
                let span = self.step(&[*token])?;
                if depth < uncounted {
                    continue;
                }
                pace.record(span);
                open &= depth + 1 < generated.len();
                if let Some(converged) = pace.verdict(open) {
                    return Ok((pace.into_samples(), converged));
                }
            }
        }
    }

    /// One prompt from an empty cache, with the choice of the first token.
    pub(super) fn prefill(&mut self, prompt: &[u32]) -> Result<Nanoseconds<u64>, WireError> {
        self.model.reset();
        self.step(prompt)
    }

    /// Tokens after those that are in the cache, with the choice of the next.
    pub(super) fn step(&mut self, tokens: &[u32]) -> Result<Nanoseconds<u64>, WireError> {
        let start = self.clock.now();
        let logits = self.model.feed(tokens)?;
        black_box(argmax(logits));
        let end = self.clock.now();
        Ok(between(start, end))
    }
}

/// Tokens of a round that count.
fn timed_per_round(generated: &[u32]) -> usize {
    match generated.len() {
        1 => 1,
        n => n - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::fake::HandClock, limits::DEPTH_ROUND, measure::job::tests::job};
    use edgewise_protocol::{Context, MeasurePlan, Workload};
    use std::{cell::RefCell, rc::Rc};

    /// Depth and tokens of every step.
    type Log = Vec<(usize, Vec<u32>)>;

    /// A model whose time is what a function of (feeds so far, depth, new tokens) says, in microseconds.
    struct Timed<F> {
        clock: HandClock,
        cost: F,
        feeds: u64,
        depth: usize,
        log: Rc<RefCell<Log>>,
    }

    impl<F: Fn(u64, usize, usize) -> u64> CausalModel for Timed<F> {
        fn runtime_version(&self) -> &'static str {
            "0"
        }
        fn reset(&mut self) {
            self.depth = 0;
        }
        fn feed(&mut self, tokens: &[u32]) -> Result<&[f32], WireError> {
            self.log.borrow_mut().push((self.depth, tokens.to_vec()));
            self.clock.advance(1000 * (self.cost)(self.feeds, self.depth, tokens.len()));
            self.feeds += 1;
            self.depth += tokens.len();
            Ok(&[0.0, 1.0])
        }
    }

    fn run(job: &MeasureJob, cost: impl Fn(u64, usize, usize) -> u64) -> (Findings, Vec<Stage>, Log) {
        let clock = HandClock::default();
        let log = Rc::default();
        let mut model = Timed { clock: clock.clone(), cost, feeds: 0, depth: 0, log: Rc::clone(&log) };
        let mut stages = Vec::new();
        let mut moments = Vec::new();
        let session = Session {
            model: &mut model,
            clock: &clock,
            job,
            min_warmup_ms: job.plan.min_warmup_ms,
            observe: &mut |moment| moments.push((moment, log.borrow().len())),
            report: &mut |stage| stages.push(stage),
        };
        let findings = session.run().unwrap();
        let stretches = if job.context == Context::default() { 1 } else { 2 };
        let expected = [Moment::Before, Moment::After].repeat(stretches);
        assert_eq!(moments.iter().map(|(moment, _)| *moment).collect::<Vec<_>>(), expected);
        assert!(moments[0].1 > findings.warmup_ns.len(), "after the warm-up");
        let log = log.borrow().clone();
        (findings, stages, log)
    }

    /// 20 ms per prefill, 2 ms per token.
    fn quiet(_: u64, _: usize, tokens: usize) -> u64 {
        if tokens > 1 { 20_000 } else { 2_000 }
    }

    #[test]
    fn a_quiet_model_is_measured_exactly() {
        let (found, stages, log) = run(&job(), quiet);
        assert_eq!(found.ttft, Estimate { median: 20.0, low: 20.0, high: 20.0, n: 15 });
        assert!((found.tpot.median, found.tpot.low, found.tpot.high) == (2.0, 2.0, 2.0), "{:?}", found.tpot);
        assert!(found.tpot.n >= 50, "0.1 s at least: {:?}", found.tpot);
        assert_eq!(found.warmup_ns.len(), 10, "two windows");
        assert!(found.converged);
        assert_eq!(found.flags, [Flag::Unverified]);
        assert_eq!(stages, [Stage::Warm, Stage::Prefill, Stage::Decode]);

        let prompts: Vec<_> = log.iter().filter(|(_, tokens)| tokens.len() > 1).collect();
        assert!(prompts.iter().all(|(depth, tokens)| *depth == 0 && tokens.len() == 4 && tokens == &prompts[0].1));
        let deepest = log.iter().map(|(depth, _)| *depth).max().unwrap();
        assert_eq!(deepest, 4 + 9 - 2, "the ninth generated token is never fed");
        assert!(log.iter().flat_map(|(_, tokens)| tokens).all(|&token| token < 10));
    }

    #[test]
    fn the_first_token_of_a_round_does_not_count() {
        let (found, ..) = run(&job(), |_, depth, tokens| if depth == 4 { 50_000 } else { quiet(0, depth, tokens) });
        assert!(found.tpot_ns.iter().all(|&ns| ns == 2_000_000), "{:?}", found.tpot_ns);
        let short = MeasureJob { workload: Workload { prompt_tokens: 4, generated_tokens: 2 }, ..job() };
        let (found, ..) = run(&short, quiet);
        assert!(found.tpot.n >= 15, "the only token of a round counts");
    }

    #[test]
    fn warm_up_goes_on_until_times_are_steady() {
        let (found, ..) = run(&job(), |feeds, _, tokens| if feeds < 12 { 40_000 - 1500 * feeds } else { quiet(0, 0, tokens) });
        assert!(found.warmup_ns.len() > 16 && found.warmup_ns.len() < 26, "{}", found.warmup_ns.len());
        assert!(!found.flags.contains(&Flag::NoSteadyState));

        let (found, ..) = run(&job(), |feeds, _, tokens| quiet(0, 0, tokens) * (100 + 3 * feeds) / 100);
        assert!(found.flags.contains(&Flag::NoSteadyState), "{:?}", found.flags);
        assert!(found.flags.contains(&Flag::Drift), "{:?}", found.flags);
    }

    #[test]
    fn a_slow_model_is_judged_by_the_runs_that_fit() {
        let slow = |_, _, tokens: usize| if tokens > 1 { 240_000 } else { 30_000 };
        let (found, ..) = run(&job(), slow);
        assert_eq!(found.warmup_ns.len(), 5);
        assert!(!found.flags.contains(&Flag::NoSteadyState));
        assert!(found.flags.contains(&Flag::NotConverged), "nine prefills fit in 2 s, 15 were asked for");
        assert!(!found.converged);
        let crawling = |_, _, tokens: usize| if tokens > 1 { 9_000_000 } else { 30_000 };
        let (found, ..) = run(&job(), crawling);
        assert_eq!((found.warmup_ns.len(), found.ttft.n, found.tpot.n), (1, 1, 1), "every phase ends with its time");
        assert!(found.flags.contains(&Flag::NoSteadyState));
    }

    #[test]
    fn dearer_tokens_at_depth_are_no_drift_and_the_first_round_is_whole() {
        let workload = Workload { prompt_tokens: 4, generated_tokens: 100 };
        let plan = MeasurePlan { target_half_width: 0.5, ..job().plan };
        let deep = |_, depth: usize, tokens: usize| if tokens > 1 { 20_000 } else { 2_000 + 20 * depth as u64 };
        let (found, ..) = run(&MeasureJob { workload, plan, ..job() }, deep);
        assert!(found.tpot.n >= 98, "{:?}", found.tpot);
        assert!(!found.flags.contains(&Flag::Drift));
    }

    #[test]
    fn the_warm_up_can_be_longer_than_the_plan_says() {
        let clock = HandClock::default();
        let mut model = Timed { clock: clock.clone(), cost: quiet, feeds: 0, depth: 0, log: Rc::default() };
        let job = job();
        let (observe, report) = (&mut |_| {}, &mut |_| {});
        let session = Session { model: &mut model, clock: &clock, job: &job, min_warmup_ms: 800, observe, report };
        assert_eq!(session.run().unwrap().warmup_ns.len(), 40, "0.8 s of 20 ms");
    }

    #[test]
    fn other_lengths_are_timed_at_their_lengths() {
        let context = Context { prompts: vec![2, 32], depths: vec![0, 40] };
        let cost = |_, depth: usize, tokens: usize| 1_000 * tokens as u64 + 100 * depth as u64;
        let (found, stages, log) = run(&MeasureJob { context, ..job() }, cost);
        assert_eq!(stages, [Stage::Warm, Stage::Prefill, Stage::Decode, Stage::Context]);
        let tokens: Vec<_> = found.prefill_at.iter().chain(&found.decode_at).map(|point| point.tokens).collect();
        assert_eq!(tokens, [2, 32, 0, 40]);
        assert_eq!(found.prefill_at.iter().map(|point| point.estimate.median).collect::<Vec<_>>(), [2.0, 32.0]);
        for point in found.prefill_at.iter().chain(&found.decode_at) {
            assert!(point.estimate.n >= 9 && point.samples_ns.len() == point.estimate.n as usize, "{point:?}");
        }
        for point in &found.decode_at {
            let (least, most) = (point.samples_ns.iter().min().unwrap(), point.samples_ns.iter().max().unwrap());
            let at = |depth: u64| (1_000 + 100 * depth) * 1_000;
            assert_eq!(*least, at(u64::from(point.tokens) + 1), "the first token after the fill does not count");
            assert!(*most <= at(u64::from(point.tokens) + DEPTH_ROUND as u64), "{point:?}");
        }
        assert!(log.iter().any(|(depth, tokens)| *depth == 0 && tokens.len() == 40), "one prefill fills the cache");
    }

    #[test]
    fn slow_points_end_with_their_time() {
        let context = Context { prompts: vec![64], depths: vec![64] };
        let cost = |_, _, tokens: usize| if tokens == 64 { 3_000_000 } else { quiet(0, 0, tokens) };
        let (found, ..) = run(&MeasureJob { context, ..job() }, cost);
        assert_eq!(found.prefill_at[0].estimate.n, 1);
        assert!(found.decode_at[0].estimate.n >= 9, "filling the cache takes nothing from the tokens' time");
    }

    #[test]
    fn the_meter_gets_tokens_and_nothing_else() {
        let (found, stages, log) = run(&MeasureJob { energy_ms: 500, ..job() }, quiet);
        assert_eq!(found.energy, Some(EnergyRun { tokens: 250, ns: 500_000_000 }), "2 ms a token");
        assert_eq!(stages.last(), Some(&Stage::Energy));
        let run = &log[log.len() - 250..];
        assert!(run.iter().all(|(depth, tokens)| tokens.len() == 1 && *depth < 12), "{run:?}");
    }

    #[test]
    fn the_same_seed_feeds_the_same_tokens() {
        let tokens = |seed| run(&MeasureJob { seed, ..job() }, quiet).2[0].1.clone();
        assert_eq!(tokens(1), tokens(1));
        assert_ne!(tokens(1), tokens(2));
    }
}
