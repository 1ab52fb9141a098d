//! What comes next: the full network, a look around on the host, the search's own candidates, and at last fixed recipes.
//!
//! A proposal follows from the seed and from what the study holds, so that a resumed search goes on as if it had not stopped.

use super::Run;
use crate::{
    failure::Failure,
    search::state::{Quality, Work},
    view::View,
};
use edgewise_search::{Candidate, EXPLORE, History, Objective, Origin, Outcome, ParameterCount, Sampler, propose, spread_first};

/// A search that the host makes alone before devices measure: for quality and size, which takes no device. What devices then
/// measure first are candidates that are worth it.
pub(crate) struct Explorer<'a> {
    pub(crate) sampler: &'a dyn Sampler,
    /// What is looked at first.
    pub(crate) first: Vec<Candidate>,
    pub(crate) parameters: ParameterCount,
    /// Candidates to look at; none, if 0.
    pub(crate) count: usize,
}

impl Run<'_, '_> {
    /// Proposes the next candidate when everything it may know about is known.
    pub(super) fn propose(&mut self, budget: usize) -> Result<(), Failure> {
        let next = self.state.work.len();
        let ahead = self.state.schedule.ahead();
        let Some(lead) = self.state.lead() else { return Ok(()) };
        if self.state.complete || !self.state.knows(next.saturating_sub(ahead)) {
            return Ok(());
        }
        let position = self.state.searched;
        if !self.state.exhausted && position < budget {
            let settings = self.study.settings()?;
            if position == 0 {
                return self.search(settings.space.full());
            }
            let view = View::read(&*self.study)?;
            // Once devices measure what was found, nothing more is looked at.
            if position == 1 && self.state.explored < self.of.explorer.count {
                // Each look knows of all before; the evaluator is never ahead of itself.
                if self.state.knows(next)
                    && let Some(candidate) = self.look(&view, settings.seed)?
                {
                    self.of.observer.exploring(self.state.explored, self.of.explorer.count);
                    let origin = Origin { series: EXPLORE.to_owned(), position: self.state.explored as u32 };
                    self.state.explored += 1;
                    return self.add(candidate, &origin, false);
                }
                if !self.state.knows(next) {
                    return Ok(());
                }
            }
            let candidate = if let Some(candidate) = self.found(&view)? {
                Some(candidate)
            } else {
                let history = view.history(&self.state.members[lead].name).as_of(position.saturating_sub(ahead));
                propose(self.of.sampler, settings.seed, &history)?
            };
            if let Some(candidate) = candidate {
                return self.search(candidate);
            }
        }
        self.state.exhausted = true;
        let view = View::read(&*self.study)?;
        let stored = |origin: &Origin| view.records.iter().any(|r| r.origins.contains(origin));
        while let Some((origin, candidate)) = self.of.baselines.pop_front() {
            if !stored(&origin) {
                return self.add(candidate, &origin, true);
            }
        }
        self.state.complete = true;
        Ok(())
    }

    /// The next candidate of the search's own series.
    fn search(&mut self, candidate: Candidate) -> Result<(), Failure> {
        let origin = Origin::search(self.state.searched as u32);
        self.state.searched += 1;
        self.add(candidate, &origin, true)
    }

    /// The next candidate to look at on the host.
    fn look(&self, view: &View, seed: u64) -> Result<Option<Candidate>, Failure> {
        let mut history = History::new();
        let full = view.baseline().into_iter();
        for record in full.chain(view.explored()) {
            let size = (self.of.explorer.parameters)(&record.candidate) as f64;
            let outcome = match view.value(record, "", Objective::Perplexity) {
                Some(perplexity) => Outcome::Measured { values: vec![perplexity, size], violation: 0.0 },
                None => Outcome::Failed,
            };
            history.push(record.candidate.clone(), outcome);
        }
        let known = |c: &Candidate| history.proposals().iter().any(|p| p.candidate == *c);
        match self.of.explorer.first.iter().find(|c| !known(c)) {
            Some(candidate) => Ok(Some(candidate.clone())),
            None => Ok(propose(self.of.explorer.sampler, seed, &history)?),
        }
    }

    /// The first of what was found on the host that the search has not taken up.
    fn found(&self, view: &View) -> Result<Option<Candidate>, Failure> {
        let size = |c: &Candidate| (self.of.explorer.parameters)(c) as f64;
        let Some(full) = view.baseline() else { return Ok(None) };
        let known: Vec<_> = view
            .explored()
            .into_iter()
            .filter_map(|r| Some((r, [view.value(r, "", Objective::Perplexity)?, size(&r.candidate)])))
            .collect();
        let points: Vec<[f64; 2]> = known.iter().map(|(_, point)| *point).collect();
        let order = spread_first(&points, size(&full.candidate)).map_err(edgewise_search::SamplerError::from)?;
        Ok(order.into_iter().map(|at| known[at].0).find(|r| !r.is_searched()).map(|r| r.candidate.clone()))
    }

    /// Stores a proposal, and has done with it what is not done or under way for another series.
    fn add(&mut self, candidate: Candidate, origin: &Origin, measured: bool) -> Result<(), Failure> {
        let id = self.study.propose(&candidate, origin)?;
        let known = self.state.index_of(&id);
        let index = known.unwrap_or(self.state.work.len());
        if known.is_none() {
            self.state.work.push(Work { id, candidate, quality: Quality::Open, shipment: None, measured: false, told: false });
        }
        let work = &mut self.state.work[index];
        if measured && !work.measured {
            (work.measured, work.told) = (true, false);
            // A look at its quality took no tasks.
            if work.quality == Quality::Known && self.of.evaluator.asks() {
                work.quality = Quality::Unasked;
            }
            for member in &mut self.state.members {
                member.pending.insert(index);
            }
        }
        Ok(())
    }
}
