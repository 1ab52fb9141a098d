//! What a sampler may know: the proposals so far, in order, and what became of them.

use crate::{
    candidate::Candidate,
    pareto::{PointError, sort_fronts},
};
use std::collections::HashSet;

/// What became of a proposal.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Nothing yet.
    Pending,
    /// It could not be evaluated or measured.
    Failed,
    /// It has values.
    Measured {
        /// One finite value per objective of the search, minimised.
        values: Vec<f64>,
        /// How far constraints are broken; 0 if none is.
        violation: f64,
    },
}

/// One proposal.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// What was proposed.
    pub candidate: Candidate,
    /// What became of it.
    pub outcome: Outcome,
}

/// All proposals of one search in the order they were made, the baseline first.
///
/// Where a study has several devices, the caller decides which values its search follows (one device's, or those of all).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    proposals: Vec<Proposal>,
}

impl History {
    /// An empty history.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next proposal.
    pub fn push(&mut self, candidate: Candidate, outcome: Outcome) {
        self.proposals.push(Proposal { candidate, outcome });
    }

    /// The proposals in order.
    pub fn proposals(&self) -> &[Proposal] {
        &self.proposals
    }

    /// The number of proposals.
    pub fn len(&self) -> usize {
        self.proposals.len()
    }

    /// Whether nothing was proposed yet.
    pub fn is_empty(&self) -> bool {
        self.proposals.is_empty()
    }

    /// The same proposals, with outcomes only for the first `known`.
    ///
    /// A search that evaluates proposal n while proposal n-1 is still measured must ask for it with `as_of(n - 1)`, and ask so
    /// again when it resumes: which results had already arrived by chance may not change what is proposed.
    #[must_use]
    pub fn as_of(&self, known: usize) -> Self {
        let mut out = self.clone();
        out.proposals.iter_mut().skip(known).for_each(|t| t.outcome = Outcome::Pending);
        out
    }

    pub(crate) fn proposed(&self) -> HashSet<&Candidate> {
        self.proposals.iter().map(|t| &t.candidate).collect()
    }

    /// Measured proposals of `within` in fronts under constrained dominance: one that keeps the constraints comes before every
    /// one that does not, and those are ordered by how far they break them.
    pub(crate) fn fronts(&self, within: &[usize]) -> Result<Vec<Vec<usize>>, PointError> {
        let mut feasible: Vec<(usize, &[f64])> = Vec::new();
        let mut broken: Vec<(f64, usize)> = Vec::new();
        for &index in within {
            match self.proposals.get(index).map(|t| &t.outcome) {
                Some(Outcome::Measured { values, violation }) if *violation <= 0.0 => feasible.push((index, values)),
                Some(Outcome::Measured { violation, .. }) => broken.push((*violation, index)),
                _ => {}
            }
        }
        let points: Vec<&[f64]> = feasible.iter().map(|(_, values)| *values).collect();
        let mut fronts: Vec<Vec<usize>> =
            sort_fronts(&points)?.into_iter().map(|f| f.into_iter().map(|k| feasible[k].0).collect()).collect();
        broken.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for group in broken.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
            fronts.push(group.iter().map(|(_, index)| *index).collect());
        }
        Ok(fronts)
    }

    pub(crate) fn values(&self, index: usize) -> Option<&[f64]> {
        match &self.proposals.get(index)?.outcome {
            Outcome::Measured { values, .. } => Some(values),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History {
        let mut h = History::new();
        let measured = |values: [f64; 2], violation| Outcome::Measured { values: values.to_vec(), violation };
        let outcomes = [
            measured([1.0, 9.0], 0.5),
            measured([2.0, 2.0], 0.0),
            Outcome::Failed,
            measured([3.0, 3.0], 0.0),
            measured([1.0, 1.0], 0.1),
            Outcome::Pending,
        ];
        for (i, outcome) in outcomes.into_iter().enumerate() {
            h.push(
                Candidate { layers: vec![i as u32], width: 1, kv_groups: vec![1], mlp: vec![1], head_size: None, order: None },
                outcome,
            );
        }
        h
    }

    #[test]
    fn keeping_the_constraints_comes_first() {
        let all: Vec<usize> = (0..6).collect();
        assert_eq!(history().fronts(&all).unwrap(), [[1], [3], [4], [0]]);
    }

    #[test]
    fn as_of_hides_later_results() {
        let hidden = history().as_of(2);
        assert_eq!(hidden.len(), 6);
        assert_eq!(hidden.values(1), Some([2.0, 2.0].as_slice()));
        assert!(hidden.proposals()[2..].iter().all(|t| t.outcome == Outcome::Pending));
    }

    #[test]
    fn values_that_cannot_be_compared_are_an_error() {
        let mut h = history();
        h.push(h.proposals()[0].candidate.clone(), Outcome::Measured { values: vec![f64::NAN, 1.0], violation: 0.0 });
        assert!(h.fronts(&[1, 6]).is_err());
    }
}
