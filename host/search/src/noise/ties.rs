//! The front with what cannot be told apart from it.

use super::{
    compare::Verdict,
    race::{Contender, Field, Rules},
    reading::Reading,
    spread::Spread,
};
use crate::pareto::PointError;

/// A member of the front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontMember {
    /// Which contender it is.
    pub index: usize,
    /// Contenders it is tied with, ascending: other members that are not surely faster or slower, and candidates off the front
    /// that this member would dominate, if it were surely faster, and that no member surely dominates.
    pub ties: Vec<usize>,
}

/// The front of the contenders' reported values, ascending, each member with its ties. A comparison that is undecided when it
/// is shown is a tie.
///
/// # Errors
/// [`PointError`] where contenders cannot be compared.
pub fn ties(
    contenders: &[Contender<'_>],
    sentinel: &[Reading],
    spread: &Spread,
    rules: Rules,
) -> Result<Vec<FrontMember>, PointError> {
    let field = Field::new(contenders, sentinel, spread, rules)?;
    let mut out: Vec<FrontMember> = field.front.iter().map(|&index| FrontMember { index, ties: Vec::new() }).collect();
    let open = |verdict| matches!(verdict, Verdict::Tie | Verdict::Undecided);
    for j in 0..field.len() {
        let on_front = field.front.binary_search(&j).is_ok();
        let dominated = !on_front && field.rivals(j).any(|i| field.compare(i, j).1 == Verdict::Faster);
        for member in out.iter_mut().filter(|m| m.index != j && !dominated) {
            if (on_front || field.covers(member.index, j)) && open(field.compare(member.index, j).1) {
                member.ties.push(j);
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{race::tests::Rally, simulation::Board};

    #[test]
    fn ties_are_those_of_the_truth() {
        let (mut found, rounds) = (0, 40);
        for round in 0..rounds {
            let mut board = Board::new("ties", round, 0.006).with_blocks(0.02);
            // 0 and 1 are as fast as each other, so is 3 as 2 with worse quality; 4 is dominated by 2 and by nobody else's noise.
            let points = [(10.0, 10.0), (11.0, 9.999), (12.0, 6.0), (12.5, 6.0), (13.0, 7.0)];
            let mut rally = Rally::screened(&mut board, &points);
            rally.finish(&mut board, |_| true);
            rally.with(|contenders, sentinel, spread| {
                let shown = ties(contenders, sentinel, spread, Rules::default()).unwrap();
                let tied = |i: usize| shown.iter().find(|m| m.index == i).map(|m| m.ties.clone());
                assert!(shown.iter().all(|m| !m.ties.contains(&4) && m.index != 4), "round {round}: {shown:?}");
                assert!(shown.iter().all(|m| m.ties.iter().all(|&j| (j < 2) == (m.index < 2))), "round {round}: {shown:?}");
                // Which of two equals is on the front is chance; that they are tied is not.
                let first = tied(0) == Some(vec![1]) && tied(1).is_none_or(|t| t == [0]);
                let second = tied(2) == Some(vec![3]) && tied(3).is_none_or(|t| t == [2]);
                found += u32::from(first && second);
            });
        }
        assert!(found >= 38, "{found} of {rounds}");
    }

    #[test]
    fn without_readings_nothing_is_tied() {
        let contender = |exact, latency| Contender { exact, latency, readings: &[], attempts: 1 };
        let contenders = [contender(&[1.0], 2.0), contender(&[2.0], 1.99), contender(&[3.0], 1.991)];
        let shown = ties(&contenders, &[], &Spread::pooled(&[], &[]), Rules::default()).unwrap();
        assert_eq!(shown, [FrontMember { index: 0, ties: Vec::new() }, FrontMember { index: 1, ties: Vec::new() }]);
    }
}
