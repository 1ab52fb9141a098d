//! Who deserves a trial in the next block.
//!
//! Screening gives every candidate one trial. More go only where they can change the front: to its members, until each has the
//! least number a result needs, and to the pair of a candidate and the front member that would dominate it, while their
//! comparison is undecided. A candidate that some front member surely dominates gets nothing, whatever its own interval.

use super::{
    compare::{Verdict, compare},
    reading::Reading,
    spread::Spread,
};
use crate::pareto::{PointError, front};
use std::collections::BTreeSet;

/// Trials that a result on the front should have.
pub const LEAST_TRIALS: u32 = 3;
/// Trials after which a comparison that is still undecided is a tie.
pub const MOST_TRIALS: u32 = 8;

/// How many trials candidates may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// What every front member gets.
    pub least: u32,
    /// What none exceeds.
    pub most: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self { least: LEAST_TRIALS, most: MOST_TRIALS }
    }
}

/// A candidate that has its first result on a device and keeps the constraints.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contender<'a> {
    /// Its values that have no noise, minimised, in the same order for all; there may be none.
    pub exact: &'a [f64],
    /// Its latency as it is reported: the point that the front is made of.
    pub latency: f64,
    /// Its trials. Without any it is taken at its word: its latency is never doubted.
    pub readings: &'a [Reading],
    /// Trials that were made of it, failed ones included, so that what always fails comes to an end.
    pub attempts: u32,
}

/// Contenders with their front.
pub(super) struct Field<'a> {
    contenders: &'a [Contender<'a>],
    sentinel: &'a [Reading],
    spread: &'a Spread,
    rules: Rules,
    /// Members of the front, ascending.
    pub(super) front: Vec<usize>,
}

impl<'a> Field<'a> {
    pub(super) fn new(
        contenders: &'a [Contender<'a>],
        sentinel: &'a [Reading],
        spread: &'a Spread,
        rules: Rules,
    ) -> Result<Self, PointError> {
        let points: Vec<Vec<f64>> = contenders.iter().map(|c| [c.exact, &[c.latency]].concat()).collect();
        Ok(Self { contenders, sentinel, spread, rules, front: front(&points)? })
    }

    pub(super) fn len(&self) -> usize {
        self.contenders.len()
    }

    /// Whether `i` dominates `j` unless it is slower.
    pub(super) fn covers(&self, i: usize, j: usize) -> bool {
        i != j && self.contenders[i].exact.iter().zip(self.contenders[j].exact).all(|(x, y)| x <= y)
    }

    /// Front members that dominate `j` unless they are slower.
    pub(super) fn rivals(&self, j: usize) -> impl Iterator<Item = usize> {
        self.front.iter().copied().filter(move |&i| self.covers(i, j))
    }

    /// Latency of `i` over that of `j`, with the verdict.
    pub(super) fn compare(&self, i: usize, j: usize) -> (f64, Verdict) {
        let (a, b) = (&self.contenders[i], &self.contenders[j]);
        let found = compare(a.readings, b.readings, self.sentinel, self.spread, self.rules.most as usize);
        found.map_or_else(
            || {
                let ratio = a.latency / b.latency;
                (ratio, if ratio < 1.0 { Verdict::Faster } else { Verdict::Slower })
            },
            |c| (c.ratio, c.verdict),
        )
    }

    fn open(&self, i: usize) -> bool {
        self.contenders[i].attempts < self.rules.most && !self.contenders[i].readings.is_empty()
    }

    /// The front member on whose comparison it depends whether `j` is on the front, if that is undecided.
    fn undecided(&self, j: usize) -> Option<usize> {
        let compared: Vec<(usize, (f64, Verdict))> = self.rivals(j).map(|i| (i, self.compare(i, j))).collect();
        if compared.iter().any(|(_, (_, verdict))| *verdict == Verdict::Faster) {
            return None;
        }
        // If the fastest rival does not dominate it, no other does.
        let fastest = compared.into_iter().min_by(|x, y| x.1.0.total_cmp(&y.1.0).then(x.0.cmp(&y.0)));
        fastest.filter(|(_, (_, verdict))| *verdict == Verdict::Undecided).map(|(i, _)| i)
    }
}

/// Indices of the contenders that get a trial in the next block, ascending; none when all is decided.
///
/// It depends on its arguments alone. To finish a block that was interrupted, give it what was known before that block began.
/// The baseline may be among the contenders, with the sentinel's readings; where it is chosen, the block's sentinel is its trial.
///
/// # Errors
/// [`PointError`] where contenders cannot be compared.
pub fn race(contenders: &[Contender<'_>], sentinel: &[Reading], spread: &Spread, rules: Rules) -> Result<Vec<usize>, PointError> {
    let field = Field::new(contenders, sentinel, spread, rules)?;
    let mut chosen: BTreeSet<usize> = field.front.iter().copied().filter(|&i| contenders[i].attempts < rules.least).collect();
    // As long as the device's scatter is an assumption, comparisons are too wide to ask by; the front's own trials come first.
    let known = spread.of_repeats().is_some() || chosen.is_empty();
    for j in (0..field.len()).filter(|_| known) {
        if let Some(i) = field.undecided(j) {
            chosen.extend([i, j]);
        }
    }
    Ok(chosen.into_iter().filter(|&i| field.open(i)).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::noise::simulation::Board;
    use proptest::prelude::*;

    /// A search's candidates on a board: screened in blocks, then raced.
    pub(in crate::noise) struct Rally {
        pub(in crate::noise) quality: Vec<f64>,
        pub(in crate::noise) latency: Vec<f64>,
        pub(in crate::noise) sentinel: Vec<Reading>,
        pub(in crate::noise) lists: Vec<Vec<Reading>>,
        attempts: Vec<u32>,
        blocks: u32,
    }

    impl Rally {
        pub(in crate::noise) fn screened(board: &mut Board, points: &[(f64, f64)]) -> Self {
            let mut rally = Self {
                quality: points.iter().map(|p| p.0).collect(),
                latency: points.iter().map(|p| p.1).collect(),
                sentinel: Vec::new(),
                lists: vec![Vec::new(); points.len()],
                attempts: vec![0; points.len()],
                blocks: 0,
            };
            let all: Vec<usize> = (0..points.len()).collect();
            all.chunks(4).for_each(|chunk| rally.run(board, chunk, |_| true));
            rally
        }

        fn run(&mut self, board: &mut Board, who: &[usize], works: impl Fn(usize) -> bool) {
            let latencies: Vec<f64> = who.iter().map(|&i| self.latency[i]).collect();
            let (sentinel, readings) = board.block(self.blocks, &latencies);
            self.blocks += 1;
            self.sentinel.push(sentinel);
            for (&i, reading) in who.iter().zip(readings) {
                self.attempts[i] += 1;
                if works(i) || self.lists[i].is_empty() {
                    self.lists[i].push(reading);
                }
            }
        }

        pub(in crate::noise) fn with<T>(&self, then: impl FnOnce(&[Contender<'_>], &[Reading], &Spread) -> T) -> T {
            let lists: Vec<&[Reading]> = self.lists.iter().map(Vec::as_slice).collect();
            let spread = Spread::pooled(&self.sentinel, &lists);
            let middle = |list: &[Reading]| {
                let mut ms: Vec<f64> = list.iter().map(Reading::ms).collect();
                ms.sort_by(f64::total_cmp);
                f64::midpoint(ms[(ms.len() - 1) / 2], ms[ms.len() / 2])
            };
            let contenders: Vec<Contender<'_>> = (0..lists.len())
                .map(|i| Contender {
                    exact: std::slice::from_ref(&self.quality[i]),
                    latency: middle(lists[i]),
                    readings: lists[i],
                    attempts: self.attempts[i],
                })
                .collect();
            then(&contenders, &self.sentinel, &spread)
        }

        /// Races to the end; the number of blocks it took.
        pub(in crate::noise) fn finish(&mut self, board: &mut Board, works: impl Fn(usize) -> bool) -> u32 {
            for round in 0..1000 {
                let next = self.with(|c, s, spread| race(c, s, spread, Rules::default()).unwrap());
                if next.is_empty() {
                    return round;
                }
                self.run(board, &next, &works);
            }
            panic!("the race does not end");
        }

        pub(in crate::noise) fn trials(&self) -> Vec<usize> {
            self.lists.iter().map(Vec::len).collect()
        }
    }

    #[test]
    fn only_what_decides_the_front_is_tried_again() {
        for round in 0..40 {
            let mut board = Board::new("race", round, 0.008).with_blocks(0.02).with_drift(0.003);
            // Members 0, 1 and 2; 3 is dominated by a tenth, 4 by far, 5 is within a percent of 1 with worse quality.
            let points = [(10.0, 10.0), (11.0, 8.0), (12.0, 6.0), (12.5, 6.7), (13.0, 9.0), (11.5, 8.02)];
            let mut rally = Rally::screened(&mut board, &points);
            rally.finish(&mut board, |_| true);
            let trials = rally.trials();
            assert_eq!(trials[4], 1, "round {round}: clearly dominated");
            assert!(trials[3] <= 2, "round {round}: {trials:?}");
            assert!(trials[..3].iter().all(|n| (3..=8).contains(n)), "round {round}: {trials:?}");
            assert!(trials[5] > 1, "round {round}: {trials:?}");
        }
    }

    #[test]
    fn clearly_dominated_candidates_never_get_another_trial() {
        for round in 0..60 {
            let mut board = Board::new("dominated", round, 0.01).with_blocks(0.03);
            let mut points = vec![(10.0, 10.0), (11.0, 8.0), (12.0, 6.0)];
            // Worse in quality and slower by a sixth and more, all over the field.
            points.extend((0..12).map(|i| (11.1 + 0.2 * f64::from(i), 9.4 + 0.5 * f64::from(i))));
            let mut rally = Rally::screened(&mut board, &points);
            rally.finish(&mut board, |_| true);
            assert!(rally.trials()[3..].iter().all(|&n| n == 1), "round {round}: {:?}", rally.trials());
        }
    }

    #[test]
    fn what_always_fails_comes_to_an_end() {
        let mut board = Board::new("failing", 0, 0.01);
        let mut rally = Rally::screened(&mut board, &[(10.0, 10.0), (11.0, 9.9), (12.0, 6.0)]);
        let blocks = rally.finish(&mut board, |i| i != 1);
        assert!(blocks <= MOST_TRIALS, "{blocks} blocks");
        assert_eq!((rally.trials()[1], rally.attempts[1]), (1, MOST_TRIALS));
    }

    #[test]
    fn contenders_of_other_shapes_are_an_error() {
        let spread = Spread::pooled(&[], &[]);
        let contender = |exact, latency| Contender { exact, latency, readings: &[], attempts: 0 };
        let rules = Rules::default();
        assert!(race(&[contender(&[1.0], 1.0), contender(&[], 1.0)], &[], &spread, rules).is_err());
        assert!(race(&[contender(&[1.0], f64::NAN)], &[], &spread, rules).is_err());
        assert_eq!(race(&[], &[], &spread, rules), Ok(Vec::new()));
        assert_eq!(race(&[contender(&[1.0], 1.0)], &[], &spread, rules), Ok(Vec::new()), "nothing to try again");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_race_ends_within_its_rules(
            points in proptest::collection::vec(((0u32..5).prop_map(f64::from), 5.0f64..6.0), 1..14), seed in any::<u64>(),
            failing in any::<u8>(),
        ) {
            let mut board = Board::new("ends", seed, 0.01);
            let mut rally = Rally::screened(&mut board, &points);
            let blocks = rally.finish(&mut board, |i| failing & (1 << (i % 8)) == 0);
            prop_assert!(blocks <= points.len() as u32 * MOST_TRIALS);
            prop_assert!(rally.attempts.iter().all(|n| (1..=MOST_TRIALS).contains(n)));
            rally.with(|contenders, sentinel, spread| {
                let field = Field::new(contenders, sentinel, spread, Rules::default()).unwrap();
                for &i in &field.front {
                    prop_assert!(contenders[i].attempts >= LEAST_TRIALS);
                }
                Ok(())
            })?;
        }
    }
}
