//! One trial's figure with its block.

/// What one trial says about a latency: a positive number of milliseconds, with the block it was measured in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    block: u32,
    log: f64,
}

impl Reading {
    /// A reading, or `None` for a time that is not positive and finite: no device takes no time.
    pub fn new(block: u32, ms: f64) -> Option<Self> {
        (ms.is_finite() && ms > 0.0).then(|| Self { block, log: ms.ln() })
    }

    /// The block of the device's schedule.
    pub const fn block(&self) -> u32 {
        self.block
    }

    /// The time, in milliseconds.
    pub fn ms(&self) -> f64 {
        self.log.exp()
    }

    pub(super) const fn log(&self) -> f64 {
        self.log
    }
}

/// The readings that are not among `others`. The baseline's trials are the sentinel's: they may not count twice.
pub(super) fn without(readings: &[Reading], others: &[Reading]) -> Vec<Reading> {
    readings.iter().filter(|r| !others.contains(r)).copied().collect()
}

/// The residuals of the model `log = candidate + block + noise` by least squares: their sum of squares and its degrees of
/// freedom. Candidates and blocks that say nothing about the noise (one reading each) count for nothing.
pub(super) fn residuals(candidates: &[&[Reading]]) -> (f64, f64) {
    let mut rows: Vec<(usize, u32, f64)> =
        candidates.iter().enumerate().flat_map(|(c, list)| list.iter().map(move |r| (c, r.block, r.log))).collect();
    loop {
        let before = rows.len();
        let lonely = |rows: &[(usize, u32, f64)], c: usize, b: u32| {
            rows.iter().filter(|r| r.0 == c).count() < 2 || rows.iter().filter(|r| r.1 == b).count() < 2
        };
        let kept: Vec<_> = rows.iter().filter(|r| !lonely(&rows, r.0, r.1)).copied().collect();
        rows = kept;
        if rows.len() == before {
            break;
        }
    }
    let mut blocks: Vec<u32> = rows.iter().map(|r| r.1).collect();
    blocks.sort_unstable();
    blocks.dedup();
    // Candidates first, then blocks, as nodes of one graph that readings connect.
    let edges: Vec<(usize, usize, f64)> = rows.iter().map(|&(c, b, y)| (c, blocks.partition_point(|&x| x < b), y)).collect();
    let freedom = edges.len() as f64 - rank(candidates.len(), blocks.len(), &edges) as f64;
    if freedom < 1.0 {
        return (0.0, 0.0);
    }
    let (mut of_candidate, mut of_block) = (vec![0.0; candidates.len()], vec![0.0; blocks.len()]);
    // Each half-step solves one side exactly given the other. Stopping early would only overstate the noise.
    for _ in 0..1000 {
        let mut moved = 0.0f64;
        moved = moved.max(settle(&mut of_block, edges.iter().map(|&(c, b, y)| (b, y - of_candidate[c]))));
        moved = moved.max(settle(&mut of_candidate, edges.iter().map(|&(c, b, y)| (c, y - of_block[b]))));
        if moved < 1e-12 {
            break;
        }
    }
    (edges.iter().map(|&(c, b, y)| (y - of_candidate[c] - of_block[b]).powi(2)).sum(), freedom)
}

/// Sets every effect to the mean of what it should explain, and says how far the furthest moved.
fn settle(effects: &mut [f64], rows: impl Iterator<Item = (usize, f64)>) -> f64 {
    let mut sums = vec![(0.0, 0u32); effects.len()];
    for (at, y) in rows {
        sums[at].0 += y;
        sums[at].1 += 1;
    }
    let mut moved = 0.0f64;
    for (effect, (sum, n)) in effects.iter_mut().zip(sums).filter(|(_, (_, n))| *n > 0) {
        let mean = sum / f64::from(n);
        moved = moved.max((mean - *effect).abs());
        *effect = mean;
    }
    moved
}

/// Number of independent parameters: nodes that have edges, less one for each connected part.
fn rank(candidates: usize, blocks: usize, edges: &[(usize, usize, f64)]) -> usize {
    let mut parent: Vec<usize> = (0..candidates + blocks).collect();
    let mut joined = 0;
    for &(c, b, _) in edges {
        let (x, y) = (root(&mut parent, c), root(&mut parent, candidates + b));
        if x != y {
            parent[x] = y;
            // Every union takes one node into a part: their number is nodes less parts.
            joined += 1;
        }
    }
    joined
}

fn root(parent: &mut [usize], mut node: usize) -> usize {
    while parent[node] != node {
        parent[node] = parent[parent[node]];
        node = parent[node];
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn readings(list: &[(u32, f64)]) -> Vec<Reading> {
        list.iter().map(|&(block, log)| Reading { block, log }).collect()
    }

    #[test]
    fn times_that_cannot_be_are_no_readings() {
        for ms in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Reading::new(0, ms), None);
        }
        let one = Reading::new(3, 2.5).unwrap();
        assert_eq!(one.block(), 3);
        assert!((one.ms() - 2.5).abs() < 1e-12);
    }

    #[test]
    fn two_candidates_in_two_blocks_have_one_degree_of_freedom() {
        // Means 0.5 and 0.5 with an interaction of 0.25 in each cell: 4 * 0.25^2.
        let (a, b) = (readings(&[(0, 0.0), (1, 1.0)]), readings(&[(0, 0.0), (1, 0.0)]));
        let (squares, freedom) = residuals(&[&a, &b]);
        assert!((squares - 0.25).abs() < 1e-9 && (freedom - 1.0).abs() < 1e-12, "{squares} {freedom}");
        // What hangs on by one reading adds nothing, and two parts without a common block are two models.
        let lonely = readings(&[(7, 5.0)]);
        assert_eq!(residuals(&[&a, &b, &lonely]).1.to_bits(), 1f64.to_bits());
        let (c, d) = (readings(&[(5, 0.0), (6, 1.0)]), readings(&[(5, 0.0), (6, 0.0)]));
        assert_eq!(residuals(&[&a, &b, &c, &d]).1.to_bits(), 2f64.to_bits());
        assert_eq!(residuals(&[&lonely]), (0.0, 0.0));
        assert_eq!(residuals(&[]), (0.0, 0.0));
    }

    proptest! {
        #[test]
        fn levels_of_candidates_and_blocks_leave_no_residual(
            cells in proptest::collection::vec((0usize..5, 0u32..6), 0..30),
            levels in proptest::collection::vec(-2.0f64..2.0, 11),
            noise in proptest::collection::vec(-0.1f64..0.1, 30),
        ) {
            let fill = |noise: &[f64]| {
                let mut lists = vec![Vec::new(); 5];
                for (&(c, b), e) in cells.iter().zip(noise) {
                    lists[c].push(Reading { block: b, log: levels[c] + levels[5 + b as usize] + e });
                }
                let lists: Vec<&[Reading]> = lists.iter().map(Vec::as_slice).collect();
                residuals(&lists)
            };
            let (squares, freedom) = fill(&[0.0; 30]);
            prop_assert!(squares < 1e-9, "{}", squares);
            let (noisy, same) = fill(&noise);
            prop_assert_eq!(freedom.to_bits(), same.to_bits());
            prop_assert!(freedom <= cells.len() as f64);
            // Least squares leaves at most the noise itself.
            let whole: f64 = noise.iter().take(cells.len()).map(|e| e * e).sum();
            prop_assert!(noisy <= whole + 1e-9);
        }
    }
}
