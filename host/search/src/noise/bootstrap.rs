//! The result of several trials: the median of their medians, with an interval.
//!
//! Two things move it. *Samples* within the trials: a bootstrap draws them anew and takes the medians, which sees their skew
//! and their number. *Processes*: with a handful of trials a bootstrap over trials says too little, and of one trial nothing,
//! so the device's pooled [`Spread`] stands for them, as a Student interval for the median of that many trials. The result's
//! interval is the union of both. Trials that scatter beyond what the device's spread explains are the exception: then their
//! own scatter is taken, and the bootstrap is the full hierarchical one, trials first, then samples within each.

use super::{draws::Draws, spread::Spread};

/// Resamples of the bootstrap.
const RESAMPLES: usize = 2000;

/// What several trials say together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Median of the trials' medians, in milliseconds.
    pub median: f64,
    /// Lower and upper end of its 95 % interval, in milliseconds.
    pub ci95: [f64; 2],
    /// Number of trials.
    pub trials: u32,
    /// Number of samples in all of them.
    pub samples: u32,
}

/// A part of a latency: samples of one phase, and how often the phase occurs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part<'a> {
    /// How often it occurs; finite and not negative.
    pub times: f64,
    /// Its samples, in nanoseconds.
    pub samples_ns: &'a [u64],
}

/// The median of trials of one phase, each given by its samples in nanoseconds. Trials without samples are left out; `None` if
/// none is left.
pub fn median_of_trials(trials: &[&[u64]], spread: &Spread) -> Option<Summary> {
    let trials: Vec<[Part<'_>; 1]> = trials.iter().map(|&samples_ns| [Part { times: 1.0, samples_ns }]).collect();
    sum_of_trials(&trials, spread)
}

/// The median of trials of a latency that consists of several phases: a trial's figure is the sum over its parts of the median
/// times how often the phase occurs. Trials in which a part has no samples are left out; `None` if none is left.
pub fn sum_of_trials<'a, T: AsRef<[Part<'a>]>>(trials: &[T], spread: &Spread) -> Option<Summary> {
    let whole = |t: &&T| !t.as_ref().is_empty() && t.as_ref().iter().all(|p| !p.samples_ns.is_empty());
    let sorted: Vec<Vec<Sorted>> = trials.iter().filter(whole).map(|t| t.as_ref().iter().map(Sorted::new).collect()).collect();
    if sorted.is_empty() {
        return None;
    }
    let mut figures: Vec<f64> = sorted.iter().map(|parts| parts.iter().map(Sorted::median).sum()).collect();
    let own = scatter(&figures);
    let median = median(&mut figures);
    let beyond = own > spread.of_one_trial() * beyond_chance(sorted.len());
    let [low, high] = bootstrap(&sorted, beyond);
    let half = spread.half_width(sorted.len(), if beyond { own } else { spread.of_one_trial() });
    Some(Summary {
        median,
        ci95: [low.min(median * (-half).exp()), high.max(median * half.exp())],
        trials: sorted.len() as u32,
        samples: sorted.iter().flatten().map(|part| part.ms.len() as u32).sum(),
    })
}

/// One part's samples in milliseconds, times how often it occurs, ascending.
struct Sorted {
    ms: Vec<f64>,
}

impl Sorted {
    fn new(part: &Part<'_>) -> Self {
        let mut ns = part.samples_ns.to_vec();
        ns.sort_unstable();
        Self { ms: ns.into_iter().map(|x| x as f64 / 1e6 * part.times).collect() }
    }

    fn median(&self) -> f64 {
        f64::midpoint(self.ms[(self.ms.len() - 1) / 2], self.ms[self.ms.len() / 2])
    }

    /// The median of as many samples drawn with replacement. A resample's order statistics are those of uniform numbers, looked
    /// up in the sorted samples; only the one or two in the middle are drawn.
    fn resampled_median(&self, draws: &mut Draws) -> f64 {
        let n = self.ms.len();
        let at = |u: f64| self.ms[((u * n as f64) as usize).min(n - 1)];
        let middle = n.div_ceil(2);
        let u = draws.order_statistic(middle, n);
        if n % 2 == 1 { at(u) } else { f64::midpoint(at(u), at(draws.next_above(u, n - middle))) }
    }
}

/// Standard deviation of the logarithms; 0 for one figure, or where one is 0.
fn scatter(figures: &[f64]) -> f64 {
    let n = figures.len() as f64;
    let mean = figures.iter().map(|x| x.ln()).sum::<f64>() / n;
    let squares: f64 = figures.iter().map(|x| (x.ln() - mean).powi(2)).sum();
    if n > 1.0 && squares.is_finite() { (squares / (n - 1.0)).sqrt() } else { 0.0 }
}

/// How many times the pooled standard deviation that of `n` trials may be, in all but about one case in fifteen.
fn beyond_chance(n: usize) -> f64 {
    let freedom = (n as f64 - 1.0).max(1.0);
    (1.0 + 2.5 * (2.0 / freedom).sqrt()).sqrt()
}

/// The middle 95 % of medians of resampled trials, which are themselves drawn with replacement if `hierarchical`.
fn bootstrap(trials: &[Vec<Sorted>], hierarchical: bool) -> [f64; 2] {
    let mut draws = Draws::new("bootstrap", 0);
    let mut figures = vec![0.0; trials.len()];
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            for (k, figure) in figures.iter_mut().enumerate() {
                let trial = &trials[if hierarchical { draws.below(trials.len()) } else { k }];
                *figure = trial.iter().map(|part| part.resampled_median(&mut draws)).sum();
            }
            median(&mut figures)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    let cut = RESAMPLES / 40;
    [medians[cut], medians[RESAMPLES - 1 - cut]]
}

/// The median of a list that is not empty, which it sorts.
fn median(list: &mut [f64]) -> f64 {
    list.sort_by(f64::total_cmp);
    f64::midpoint(list[(list.len() - 1) / 2], list[list.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{reading::Reading, simulation::Board};

    #[test]
    fn a_resampled_median_has_the_distribution_of_drawing_all() {
        let mut draws = Draws::new("resample", 0);
        for n in [1usize, 2, 5, 8, 31, 64] {
            // Skewed, with ties.
            let samples: Vec<u64> = (0..n as u64).map(|i| (i * i / 3) * 1_000_000).collect();
            let sorted = Sorted::new(&Part { times: 1.0, samples_ns: &samples });
            let rounds = 20_000;
            let mut fast: Vec<f64> = (0..rounds).map(|_| sorted.resampled_median(&mut draws)).collect();
            let mut slow: Vec<f64> =
                (0..rounds).map(|_| median(&mut (0..n).map(|_| sorted.ms[draws.below(n)]).collect::<Vec<f64>>())).collect();
            fast.sort_by(f64::total_cmp);
            slow.sort_by(f64::total_cmp);
            // Kolmogorov-Smirnov distance: 1.95 * sqrt(2 / rounds) would be chance once in a thousand.
            let share = |list: &[f64], x: f64| list.partition_point(|&y| y <= x) as f64 / f64::from(rounds);
            let gap = fast.iter().chain(&slow).map(|&x| (share(&fast, x) - share(&slow, x)).abs()).fold(0.0, f64::max);
            assert!(gap < 0.0195, "{n} samples: {gap}");
        }
    }

    #[test]
    fn one_trial_is_as_wide_as_other_processes_are() {
        let spread = Spread::pooled(&[], &[]);
        let summary = median_of_trials(&[&[10_000_000; 500]], &spread).unwrap();
        assert!((summary.median - 10.0).abs() < 1e-12);
        let half: f64 = 0.01 * 3.182_45;
        assert!((summary.ci95[0] / 10.0 - (-half).exp()).abs() < 1e-5 && (summary.ci95[1] / 10.0 - half.exp()).abs() < 1e-5);
        assert_eq!((summary.trials, summary.samples), (1, 500));
        // Noisy samples widen it beyond what the spread says.
        let noisy: Vec<u64> = (0..9).map(|i| 5_000_000 + i * 1_000_000).collect();
        let wide = median_of_trials(&[&noisy], &spread).unwrap();
        assert!(wide.ci95[1] - wide.ci95[0] > 3.0, "{wide:?}");
        assert_eq!(median_of_trials(&[], &spread), None);
        assert_eq!(median_of_trials(&[&[], &[]], &spread), None);
        assert_eq!(median_of_trials(&[&[], &[7]], &spread).unwrap().trials, 1);
    }

    #[test]
    fn a_sum_is_the_sum_of_its_phases() {
        let spread = Spread::pooled(&[], &[]);
        let (ttft, tpot) = ([30_000_000u64; 3], [2_000_000u64, 2_000_000, 9_000_000]);
        let trial = [Part { times: 1.0, samples_ns: &ttft }, Part { times: 31.0, samples_ns: &tpot }];
        let summary = sum_of_trials(&[trial, trial], &spread).unwrap();
        assert!((summary.median - (30.0 + 31.0 * 2.0)).abs() < 1e-9);
        assert_eq!((summary.trials, summary.samples), (2, 12));
        assert_eq!(
            sum_of_trials(&[[Part { times: 1.0, samples_ns: &ttft }, Part { times: 1.0, samples_ns: &[] }]], &spread),
            None
        );
    }

    #[test]
    fn the_same_trials_give_the_same_interval_and_quickly() {
        let mut board = Board::new("speed", 0, 0.01);
        let trials: Vec<Vec<u64>> = (0..5).map(|_| board.samples(10.0, 2000)).collect();
        let trials: Vec<&[u64]> = trials.iter().map(Vec::as_slice).collect();
        let spread = Spread::pooled(&[], &[]);
        let begun = std::time::Instant::now();
        let first = median_of_trials(&trials, &spread);
        let best = (0..5).fold(begun.elapsed(), |best, _| {
            let begun = std::time::Instant::now();
            assert_eq!(median_of_trials(&trials, &spread), first);
            best.min(begun.elapsed())
        });
        assert!(best < std::time::Duration::from_millis(20), "{best:?}");
    }

    /// A study as it is when its front is read: screening in blocks of four with a sentinel, then three more trials of some.
    fn study(board: &mut Board) -> Spread {
        let mut figure = |block: u32, ms: f64| {
            let mut samples = board.samples(ms, 31);
            samples.sort_unstable();
            Reading::new(block, samples[15] as f64 / 1e6).unwrap()
        };
        let sentinel: Vec<Reading> = (0..6).map(|block| figure(block, 20.0)).collect();
        let mut lists: Vec<Vec<Reading>> = (0..12).map(|c| vec![figure(c / 4, 8.0 + f64::from(c))]).collect();
        for block in 3..6 {
            for (c, list) in lists.iter_mut().enumerate().take(4) {
                list.push(figure(block, 8.0 + c as f64));
            }
        }
        let lists: Vec<&[Reading]> = lists.iter().map(Vec::as_slice).collect();
        Spread::pooled(&sentinel, &lists)
    }

    #[test]
    fn trials_noisier_than_the_device_are_believed() {
        let spread = Spread::pooled(&[], &[]);
        let trial = |ms: u64| [ms * 1_000_000; 20];
        let wild = [trial(100), trial(140), trial(101), trial(99), trial(143)];
        let found = median_of_trials(&wild.iter().map(<[u64; 20]>::as_slice).collect::<Vec<_>>(), &spread).unwrap();
        assert!((found.median - 101.0).abs() < 1e-9 && found.ci95[1] > 140.0 && found.ci95[0] < 80.0, "{found:?}");
        // A scatter that the device has is its, not theirs: the interval is the pooled one.
        let calm = [trial(100), trial(101), trial(101), trial(102), trial(100)];
        let found = median_of_trials(&calm.iter().map(<[u64; 20]>::as_slice).collect::<Vec<_>>(), &spread).unwrap();
        let half = spread.half_width(5, 0.01);
        assert!((found.ci95[1] / 101.0 - half.exp()).abs() < 1e-9, "{found:?}");
    }

    /// The share of intervals that hold the truth, on boards with this scatter, for one to six trials. A thousand rounds each, so
    /// that the limits are about the estimator (its standard error is half a percent), not about the seeds.
    fn coverage(sd: f64) -> Vec<f64> {
        let mut factors: Vec<f64> = {
            let mut board = Board::new("truth", 0, 0.0);
            (0..200_001).map(|_| board.sample_factor()).collect()
        };
        let truth = 10.0 * median(&mut factors);
        let covers = |trials: u64, round: u64| {
            let mut board = Board::new("coverage", round * 100 + trials, sd);
            let spread = study(&mut board);
            let lists: Vec<Vec<u64>> = (0..trials).map(|_| board.samples(10.0, 31)).collect();
            let lists: Vec<&[u64]> = lists.iter().map(Vec::as_slice).collect();
            let [low, high] = median_of_trials(&lists, &spread).unwrap().ci95;
            low <= truth && truth <= high
        };
        (1..=6).map(|trials| (0..1000).filter(|&round| covers(trials, round)).count() as f64 / 1000.0).collect()
    }

    // One test per scatter, so that they run side by side.
    #[test]
    fn intervals_cover_the_truth_on_a_calm_board() {
        let shares = coverage(0.003);
        assert!(shares.iter().all(|s| (0.92..=0.99).contains(s)), "{shares:?}");
    }

    #[test]
    fn intervals_cover_the_truth_on_a_usual_board() {
        let shares = coverage(0.01);
        assert!(shares.iter().all(|s| (0.92..=0.99).contains(s)), "{shares:?}");
    }

    #[test]
    fn intervals_cover_the_truth_on_a_noisy_board() {
        let shares = coverage(0.02);
        assert!(shares.iter().all(|s| (0.92..=0.99).contains(s)), "{shares:?}");
    }
}
