//! How far apart two processes of the same candidate are on one device.
//!
//! One candidate's two or three trials say next to nothing about their own scatter, but all candidates of a device together
//! do: the scatter is the device's (memory layout, other processes, timers), and a share of the time. So it is pooled.
//!
//! Two figures, because two questions are asked:
//! - *Within a block* (for comparisons): residuals of `log = candidate + block + noise` by least squares over everything that was
//!   tried more than once; the sentinel ties the blocks together. Its own movement from block to block is no evidence here.
//! - *Of one trial* (for the interval of a result): the same and the sentinel's successive differences, but never less than
//!   those say, because a result that was measured in few blocks holds what those blocks had in common. Successive differences
//!   see jumps and do not see a slow drift, which is the sentinel's own report.
//!
//! While there is little evidence, an assumed scatter of 1 % counts for what is lacking to three degrees of freedom.

use super::{
    reading::{Reading, residuals, without},
    student::t975,
};

/// What is assumed of a device of which nothing was measured twice, as a standard deviation of logarithms.
const ASSUMED: f64 = 0.01;
/// The assumption counts for as many degrees of freedom as are lacking to this.
const ASSUMED_UP_TO: f64 = 3.0;

/// Variance with what it rests on.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pool {
    squares: f64,
    freedom: f64,
}

impl Pool {
    /// With the assumption for what it lacks.
    fn filled(self) -> Self {
        let lacking = (ASSUMED_UP_TO - self.freedom).max(0.0);
        Self { squares: self.squares + ASSUMED * ASSUMED * lacking, freedom: self.freedom + lacking }
    }

    fn variance(&self) -> f64 {
        self.squares / self.freedom
    }
}

/// The scatter of one latency on one device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    within: f64,
    of_one: f64,
    freedom: f64,
    t_within: f64,
    t_of_one: f64,
    repeated: Option<f64>,
}

impl Spread {
    /// Pools the scatter over the sentinel's readings and those of every candidate. Trials of one candidate in another form or
    /// with another runtime are another candidate here. The baseline may be among them with the sentinel's readings, which count
    /// once.
    pub fn pooled(sentinel: &[Reading], candidates: &[&[Reading]]) -> Self {
        let own: Vec<Vec<Reading>> = candidates.iter().map(|list| without(list, sentinel)).collect();
        let all: Vec<&[Reading]> = std::iter::once(sentinel).chain(own.iter().map(Vec::as_slice)).collect();
        let (squares, freedom) = residuals(&all);
        let repeats = Pool { squares, freedom };
        let jumps = successive(sentinel);
        let within = repeats.filled();
        let of_one = Pool { squares: squares + jumps.0 * jumps.1, freedom: freedom + jumps.1 }.filled();
        // Two or three sentinels may lie apart by chance.
        let floor = if sentinel.len() > 3 { jumps.0 } else { 0.0 };
        Self {
            within: within.variance().sqrt(),
            of_one: of_one.variance().max(floor).sqrt(),
            freedom: within.freedom,
            t_within: t975(within.freedom),
            t_of_one: t975(of_one.freedom),
            repeated: (freedom >= ASSUMED_UP_TO).then(|| repeats.variance().sqrt()),
        }
    }

    /// Standard deviation of the logarithms of trials within a block: about the share by which two processes differ.
    pub const fn within_block(&self) -> f64 {
        self.within
    }

    /// Standard deviation of the logarithm of any one trial.
    pub const fn of_one_trial(&self) -> f64 {
        self.of_one
    }

    /// Degrees of freedom behind [`Spread::within_block`], assumed ones included.
    pub const fn freedom(&self) -> f64 {
        self.freedom
    }

    /// [`Spread::within_block`] from repeated trials alone, where there are enough of them. The sentinel's own movement is not
    /// in it, so it can be judged by this.
    pub const fn of_repeats(&self) -> Option<f64> {
        self.repeated
    }

    /// Half the width of the 95 % interval of the logarithm of the median of `trials` trials that scatter by `sd`.
    pub(super) fn half_width(&self, trials: usize, sd: f64) -> f64 {
        self.t_of_one * sd * median_factor(trials)
    }

    /// Quantile for a difference of single trials.
    pub(super) const fn t_of_one(&self) -> f64 {
        self.t_of_one
    }

    /// Quantile for a difference within blocks.
    pub(super) const fn t_within(&self) -> f64 {
        self.t_within
    }
}

/// Variance by the mean squared difference of successive readings, and its degrees of freedom (von Neumann's ratio).
fn successive(sentinel: &[Reading]) -> (f64, f64) {
    let mut sorted: Vec<&Reading> = sentinel.iter().collect();
    sorted.sort_by_key(|r| r.block());
    let n = sorted.len() as f64;
    if n < 2.0 {
        return (0.0, 0.0);
    }
    let squares: f64 = sorted.windows(2).map(|w| (w[1].log() - w[0].log()).powi(2)).sum();
    (squares / (2.0 * (n - 1.0)), 2.0 * (n - 1.0).powi(2) / (3.0 * n - 4.0))
}

/// Standard deviation of the median of `n` normal numbers with standard deviation 1.
fn median_factor(n: usize) -> f64 {
    // From the moments of normal order statistics; beyond them the limit, which is a little too much.
    const FACTORS: [f64; 9] = [1.0, 1.0, std::f64::consts::FRAC_1_SQRT_2, 0.6698, 0.5460, 0.5356, 0.4634, 0.4587, 0.4096];
    FACTORS.get(n).copied().unwrap_or_else(|| (std::f64::consts::FRAC_PI_2 / n as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{draws::Draws, simulation::Board};

    #[test]
    fn the_factors_of_the_median() {
        let mut draws = Draws::new("factors", 0);
        for n in 1..13 {
            let mut squares = 0.0;
            for _ in 0..40_000 {
                let mut list: Vec<f64> = (0..n).map(|_| draws.normal()).collect();
                list.sort_by(f64::total_cmp);
                squares += f64::midpoint(list[(n - 1) / 2], list[n / 2]).powi(2);
            }
            let found = (squares / 40_000.0).sqrt();
            let slack = if n < 9 { 0.99..1.01 } else { 0.98..1.1 };
            assert!(slack.contains(&(median_factor(n) / found)), "{n}: {} for {found}", median_factor(n));
        }
    }

    #[test]
    fn nothing_measured_twice_is_the_assumption() {
        let one = [Reading::new(0, 10.0).unwrap()];
        for spread in [Spread::pooled(&[], &[]), Spread::pooled(&one, &[&one, &[Reading::new(0, 3.0).unwrap()]])] {
            assert!((spread.within_block() - 0.01).abs() < 1e-12 && (spread.of_one_trial() - 0.01).abs() < 1e-12);
            assert!((spread.freedom() - 3.0).abs() < 1e-12);
            assert_eq!(spread.of_repeats(), None);
        }
    }

    #[test]
    fn finds_the_scatter_of_a_board() {
        for (sd, block_sd) in [(0.003, 0.0), (0.01, 0.0), (0.01, 0.03), (0.02, 0.05)] {
            let (mut within, mut of_one) = (0.0, 0.0);
            let rounds = 60;
            for round in 0..rounds {
                let mut board = Board::new("spread", round, sd).with_blocks(block_sd).with_drift(0.002);
                let latencies: Vec<f64> = (0..6).map(|i| 10.0 + f64::from(i)).collect();
                let (sentinel, lists) = board.blocks(12, &latencies);
                let lists: Vec<&[Reading]> = lists.iter().map(Vec::as_slice).collect();
                let spread = Spread::pooled(&sentinel, &lists);
                within += spread.within_block() / sd;
                of_one += spread.of_one_trial() / sd.hypot(block_sd);
            }
            let (within, of_one) = (within / f64::from(rounds as u32), of_one / f64::from(rounds as u32));
            assert!((0.97..1.03).contains(&within), "{sd} {block_sd}: within {within}");
            assert!((0.9..1.3).contains(&of_one), "{sd} {block_sd}: of one {of_one}");
        }
    }

    #[test]
    fn the_baseline_among_the_candidates_counts_once() {
        let mut board = Board::new("once", 0, 0.01);
        let (sentinel, lists) = board.blocks(6, &[11.0, 12.0]);
        let others: Vec<&[Reading]> = lists.iter().map(Vec::as_slice).collect();
        let with: Vec<&[Reading]> = std::iter::once(sentinel.as_slice()).chain(others.iter().copied()).collect();
        assert_eq!(Spread::pooled(&sentinel, &with), Spread::pooled(&sentinel, &others));
    }
}
