//! Which of two candidates is faster, as far as their trials can say.
//!
//! What trials of one block have in common cancels in their differences. The ratio is the least-squares estimate of the model
//! `log = candidate + block + noise` over three candidates, the two and the sentinel: a block that holds both compares them
//! directly, a block that holds one compares it with the sentinel, and both kinds count by what they are worth. Two candidates
//! that nothing connects are compared by their plain means, with the wider scatter of single trials.
//!
//! Rules, so that a verdict is seldom wrong and a comparison ends:
//! - *Faster* or *slower* when the 95 % interval of the ratio lies wholly beyond [`DIFFERENCE`]. This dead zone is what keeps two
//!   equal candidates from being told apart by chance though the question is asked after every trial. When both have had all
//!   their trials it is asked for the last time, and an interval that does not hold 1 is enough.
//! - *Tie* when the interval lies wholly within [`INDIFFERENCE`], or holds 1 when both have had all their trials.
//! - *Undecided* otherwise.

use super::{
    reading::{Reading, residuals, without},
    spread::Spread,
};
use std::collections::BTreeMap;

/// A difference of this share is none that anybody should act on.
pub const DIFFERENCE: f64 = 0.01;
/// Two candidates that are surely closer than this share need no more trials.
pub const INDIFFERENCE: f64 = 0.02;

/// What trials say about a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The first is faster.
    Faster,
    /// The first is slower.
    Slower,
    /// They are not told apart, and more trials would not be worth it.
    Tie,
    /// More trials may tell.
    Undecided,
}

impl Verdict {
    /// The verdict on the pair the other way round.
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::Faster => Self::Slower,
            Self::Slower => Self::Faster,
            same => same,
        }
    }
}

/// A pair compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Latency of the first over that of the second.
    pub ratio: f64,
    /// Its 95 % interval.
    pub ci95: [f64; 2],
    /// Pairs of trials that were compared within a block, directly or by way of the sentinel.
    pub pairs: u32,
    /// What follows.
    pub verdict: Verdict,
}

/// Compares two candidates by their readings on one device; `None` if one has none. A candidate with `most` readings has had all
/// its trials. Either may be the baseline, with the sentinel's readings.
pub fn compare(a: &[Reading], b: &[Reading], sentinel: &[Reading], spread: &Spread, most: usize) -> Option<Comparison> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let sentinel = without(&without(sentinel, a), b);
    let paired = Paired::new(a, b, &sentinel);
    let (difference, half) = match paired.solve() {
        Some((difference, factor)) => {
            // A pair that scatters more than the device's candidates do is judged by its own scatter.
            let (squares, freedom) = residuals(&[a, b, &sentinel]);
            let own = if freedom >= 3.0 { (squares / freedom).sqrt() } else { 0.0 };
            (difference, spread.t_within() * spread.within_block().max(own) * factor.sqrt())
        }
        None => unpaired(a, b, spread),
    };
    let (low, high) = (difference - half, difference + half);
    let last = a.len().min(b.len()) >= most;
    let dead_zone = if last { 0.0 } else { DIFFERENCE.ln_1p() };
    let verdict = if high < -dead_zone {
        Verdict::Faster
    } else if low > dead_zone {
        Verdict::Slower
    } else if last || low.abs().max(high.abs()) < INDIFFERENCE.ln_1p() {
        Verdict::Tie
    } else {
        Verdict::Undecided
    };
    Some(Comparison { ratio: difference.exp(), ci95: [low.exp(), high.exp()], pairs: paired.pairs(), verdict })
}

/// Difference of the means and half the width of its interval, for trials without a common block.
fn unpaired(a: &[Reading], b: &[Reading], spread: &Spread) -> (f64, f64) {
    let mean = |list: &[Reading]| list.iter().map(Reading::log).sum::<f64>() / list.len() as f64;
    let factor = 1.0 / a.len() as f64 + 1.0 / b.len() as f64;
    (mean(a) - mean(b), spread.t_of_one() * spread.of_one_trial() * factor.sqrt())
}

/// The blocks of a comparison: per block and candidate (first, second, sentinel) the sum and number of logarithms.
struct Paired {
    blocks: BTreeMap<u32, [(f64, f64); 3]>,
}

impl Paired {
    fn new(a: &[Reading], b: &[Reading], sentinel: &[Reading]) -> Self {
        let mut blocks: BTreeMap<u32, [(f64, f64); 3]> = BTreeMap::new();
        for (k, list) in [a, b, sentinel].into_iter().enumerate() {
            for reading in list {
                let cell = &mut blocks.entry(reading.block()).or_default()[k];
                cell.0 += reading.log();
                cell.1 += 1.0;
            }
        }
        Self { blocks }
    }

    fn pairs(&self) -> u32 {
        let count = |has: [bool; 3]| {
            let here = |cells: &&[(f64, f64); 3]| cells.iter().zip(has).all(|(cell, has)| (cell.1 > 0.0) == has);
            self.blocks.values().filter(here).count() as u32
        };
        let direct = count([true, true, true]) + count([true, true, false]);
        // A block with one of them needs a partner among the blocks with the other; the rest pairs with direct blocks.
        direct + count([true, false, true]).min(count([false, true, true]))
    }

    /// The difference of the first two by least squares and the factor of its variance, or `None` where nothing connects them.
    ///
    /// With the block effects eliminated, a block of `m` readings adds `diag(n) - n n' / m` to the matrix of the normal equations
    /// and `sum - n * mean` to their right side. The sentinel is the origin, so two equations are left.
    fn solve(&self) -> Option<(f64, f64)> {
        let (mut aa, mut bb, mut ab, mut ra, mut rb) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for [(sum_a, a), (sum_b, b), (sum_s, s)] in self.blocks.values() {
            let m = a + b + s;
            let mean = (sum_a + sum_b + sum_s) / m;
            aa += a - a * a / m;
            bb += b - b * b / m;
            ab -= a * b / m;
            ra += sum_a - a * mean;
            rb += sum_b - b * mean;
        }
        let determinant = aa * bb - ab * ab;
        if determinant > 1e-9 {
            return Some(((ra * (bb + ab) - rb * (aa + ab)) / determinant, (aa + bb + 2.0 * ab) / determinant));
        }
        // Without the sentinel only the difference is determined: both rows say the same.
        (ab < -1e-9).then(|| ((ra - rb) / (aa - ab), 2.0 / (aa - ab)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::simulation::{BASELINE, Board};
    use proptest::prelude::*;

    fn reading(block: u32, log: f64) -> Reading {
        Reading::new(block, log.exp()).unwrap()
    }

    #[test]
    fn blocks_cancel_and_count_by_what_they_are_worth() {
        let spread = Spread::pooled(&[], &[]);
        // Block 1 is slower by a half, block 2 twice as slow; a is 10 % slower than b, b 20 % slower than the sentinel.
        let block = [0.0, 1.5f64.ln(), 2f64.ln()];
        let list = |level: f64, blocks: &[u32]| blocks.iter().map(|&b| reading(b, level + block[b as usize])).collect::<Vec<_>>();
        let (a, b) = (1.32f64.ln(), 1.2f64.ln());
        let half = |c: Comparison| (c.ci95[1] / c.ratio).ln() / (spread.t_within() * 0.01);
        let direct = compare(&list(a, &[0, 2]), &list(b, &[0, 2]), &[], &spread, 8).unwrap();
        assert!((direct.ratio - 1.1).abs() < 1e-9 && (half(direct) - 1.0).abs() < 1e-9, "{direct:?}");
        assert_eq!((direct.pairs, direct.verdict), (2, Verdict::Slower));
        // A sentinel in the same blocks has nothing to add; by way of it alone, one pair costs twice the variance.
        let with = compare(&list(a, &[0, 2]), &list(b, &[0, 2]), &list(0.0, &[0, 1, 2]), &spread, 8).unwrap();
        assert!((half(with) - 1.0).abs() < 1e-9 && with.pairs == 2, "{with:?}");
        let chain = compare(&list(a, &[0]), &list(b, &[1]), &list(0.0, &[0, 1]), &spread, 8).unwrap();
        assert!((chain.ratio - 1.1).abs() < 1e-9 && (half(chain) - 2.0).abs() < 1e-9 && chain.pairs == 1, "{chain:?}");
        let both = compare(&list(a, &[0, 1]), &list(b, &[0, 2]), &list(0.0, &[0, 1, 2]), &spread, 8).unwrap();
        assert!((both.ratio - 1.1).abs() < 1e-9 && half(both) < 2f64.sqrt() && both.pairs == 2, "{both:?}");
        // The baseline is the sentinel: its readings may not count twice.
        let sentinel = list(0.0, &[0, 1, 2]);
        let baseline = compare(&sentinel, &list(b, &[0, 2]), &sentinel, &spread, 8).unwrap();
        assert!((baseline.ratio - 1.0 / 1.2).abs() < 1e-9 && (half(baseline) - 1.0).abs() < 1e-9, "{baseline:?}");
        // Nothing in common: no more than the plain ratio, blocks included.
        let apart = compare(&list(a, &[0]), &list(b, &[2]), &[], &spread, 8).unwrap();
        assert!((apart.ratio - 0.55).abs() < 1e-9 && apart.pairs == 0, "{apart:?}");
        assert_eq!(compare(&[], &list(b, &[0]), &[], &spread, 8), None);
    }

    #[test]
    fn a_pair_noisier_than_the_device_is_judged_by_its_own_noise() {
        let mut calm = Board::new("calm", 0, 0.002);
        let (sentinel, others) = calm.blocks(8, &[10.0, 10.0, 12.0]);
        let lists: Vec<&[Reading]> = others.iter().map(Vec::as_slice).collect();
        let spread = Spread::pooled(&sentinel, &lists);
        let shaken: Vec<Reading> = others[0]
            .iter()
            .map(|r| Reading::new(r.block(), r.ms() * if r.block() % 2 == 0 { 1.1 } else { 1.0 }).unwrap())
            .collect();
        let width = |c: Option<Comparison>| c.map(|c| c.ci95[1] / c.ci95[0]).unwrap();
        let quiet = width(compare(&others[0], &others[1], &sentinel, &spread, 8));
        let noisy = width(compare(&shaken, &others[1], &sentinel, &spread, 8));
        assert!(quiet < 1.006 && noisy > 1.04, "{quiet} {noisy}");
    }

    /// Trials in block after block until there is a verdict, on a board that also has other candidates.
    fn until_decided(board: &mut Board, ratio: f64) -> (Verdict, usize) {
        let latencies = [10.0 * ratio, 10.0, 13.0, 7.0];
        let (mut sentinel, mut lists) = board.blocks(3, &latencies);
        loop {
            // The others are done after three trials.
            let all: Vec<&[Reading]> = lists.iter().map(Vec::as_slice).collect();
            let spread = Spread::pooled(&sentinel, &all);
            let found = compare(&lists[0], &lists[1], &sentinel, &spread, 8).unwrap();
            if found.verdict != Verdict::Undecided {
                return (found.verdict, lists[0].len());
            }
            assert!(lists[0].len() < 8, "no end");
            let (s, pair) = board.block(sentinel.len() as u32, &latencies[..2]);
            sentinel.push(s);
            lists.iter_mut().zip(pair).for_each(|(list, r)| list.push(r));
        }
    }

    #[test]
    fn three_percent_are_told_apart_and_equals_are_a_tie() {
        for (n, sd) in [0.005, 0.01].into_iter().enumerate() {
            let (mut right, mut wrong, mut trials, rounds) = (0, 0, 0, 500u64);
            for round in 0..rounds {
                let mut board = Board::new("three percent", round + 1000 * n as u64, sd).with_blocks(0.02).with_drift(0.002);
                let ratio = if round % 2 == 0 { 1.03 } else { 1.0 / 1.03 };
                let (verdict, used) = until_decided(&mut board, ratio);
                right += u32::from(verdict == if ratio > 1.0 { Verdict::Slower } else { Verdict::Faster });
                trials += used;
                let (verdict, _) = until_decided(&mut board, 1.0);
                wrong += u32::from(verdict != Verdict::Tie);
            }
            let share = |count: u32| f64::from(count) / rounds as f64;
            assert!(share(right) >= 0.95, "{sd}: {} told apart", share(right));
            assert!(share(wrong) <= 0.05, "{sd}: {} of equals called different", share(wrong));
            assert!(trials < if n == 0 { 4 } else { 7 } * rounds as usize, "{sd}: {trials} trials in {rounds} rounds");
        }
    }

    /// On a board twice as noisy as those above most comparisons have all their trials; the last look must not see ghosts.
    #[test]
    fn a_noisy_board_is_asked_for_the_last_time_without_a_dead_zone() {
        let (mut right, mut wrong, rounds) = (0, 0, 500u64);
        for round in 0..rounds {
            let mut board = Board::new("noisy", round, 0.02).with_blocks(0.02).with_drift(0.002);
            right += u32::from(until_decided(&mut board, 1.03).0 == Verdict::Slower);
            wrong += u32::from(until_decided(&mut board, 1.0).0 != Verdict::Tie);
        }
        let share = |count: u32| f64::from(count) / rounds as f64;
        assert!(share(right) >= 0.7, "{} told apart", share(right));
        // The interval itself fails in one of twenty, and there are earlier looks.
        assert!(share(wrong) <= 0.08, "{} of equals called different", share(wrong));
    }

    #[test]
    fn intervals_of_the_ratio_cover_it() {
        for (n, sd) in [0.003, 0.01, 0.02].into_iter().enumerate() {
            let rounds = 600u64;
            let covered = (0..rounds).filter(|round| {
                let mut board = Board::new("ratio", round + 1000 * n as u64, sd).with_blocks(0.01);
                // The pair met in blocks of its own and in one together.
                let (sentinel, lists) = board.blocks(5, &[10.0, 12.0, 15.0, BASELINE]);
                let spread = Spread::pooled(&sentinel, &lists.iter().map(Vec::as_slice).collect::<Vec<_>>());
                let [low, high] = compare(&lists[0][..3], &lists[1][2..], &sentinel, &spread, 8).unwrap().ci95;
                low <= 10.0 / 12.0 && 10.0 / 12.0 <= high
            });
            let share = covered.count() as f64 / rounds as f64;
            assert!((0.93..=0.99).contains(&share), "{sd}: {share}");
        }
    }

    proptest! {
        #[test]
        fn the_other_way_round_is_the_reverse(
            cells in proptest::collection::vec((0u32..6, 0usize..3, -0.1f64..0.1), 0..24), most in 1usize..9,
        ) {
            let mut lists = [Vec::new(), Vec::new(), Vec::new()];
            for (block, k, log) in cells {
                lists[k].push(reading(block, log));
            }
            let [a, b, sentinel] = lists;
            let spread = Spread::pooled(&sentinel, &[&a, &b]);
            let (there, back) = (compare(&a, &b, &sentinel, &spread, most), compare(&b, &a, &sentinel, &spread, most));
            prop_assert_eq!(there.is_some(), back.is_some());
            if let (Some(there), Some(back)) = (there, back) {
                prop_assert!((there.ratio * back.ratio - 1.0).abs() < 1e-9);
                prop_assert!((there.ci95[0] * back.ci95[1] - 1.0).abs() < 1e-9);
                prop_assert_eq!((there.verdict, there.pairs), (back.verdict.reversed(), back.pairs));
                prop_assert!(there.ci95[0] <= there.ratio && there.ratio <= there.ci95[1]);
            }
        }
    }
}
