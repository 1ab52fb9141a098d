//! Asking a network the questions of a task.

use crate::{exit_code, failure::Failure};
use edgewise_onnx::SubNetwork;
use edgewise_supernet::{Error, Network, Tokenizer};
use edgewise_tasks::{Likelihood, Outcome, Plan, Report};
use std::sync::atomic::{AtomicBool, Ordering};

/// Longest prompt of a task unless the user says otherwise, in tokens.
pub(crate) const MAX_LENGTH: usize = 8192;

/// What came of a task.
pub(crate) struct Asked {
    pub(crate) report: Report,
    pub(crate) outcomes: Vec<Outcome>,
    /// Longest prompt in tokens.
    pub(crate) max_length: usize,
    /// Prompts that were longer and lost their beginning.
    pub(crate) truncated: usize,
}

/// Why not all questions were answered.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The network could not.
    Network(Error),
    /// The user wanted no more.
    Cancelled,
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Network(error)
    }
}

impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Network(error) => error.into(),
            Stopped::Cancelled => Self::new(exit_code::INTERRUPTED, "stopped by the user"),
        }
    }
}

/// Asks a sub-network all questions of a plan, until `cancel` is set. `done` hears how many have been answered.
pub(crate) fn ask(
    plan: &Plan,
    network: &Network,
    sub: &SubNetwork,
    tokenizer: &Tokenizer,
    max_length: usize,
    cancel: Option<&AtomicBool>,
    done: impl FnMut(usize),
) -> Result<Asked, Stopped> {
    let scorer = edgewise_supernet::Scorer::new(network, sub, tokenizer, max_length)?;
    let mut answering = Answering { scorer, cancel };
    let outcomes = edgewise_tasks::run(plan, &mut answering, done)?;
    Ok(Asked {
        report: Report::new(plan, &outcomes),
        outcomes,
        max_length: answering.scorer.max_length(),
        truncated: answering.scorer.truncated(),
    })
}

/// The network as what tasks ask.
struct Answering<'a> {
    scorer: edgewise_supernet::Scorer<'a>,
    cancel: Option<&'a AtomicBool>,
}

impl Answering<'_> {
    fn goes_on(&self) -> Result<(), Stopped> {
        if self.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed)) { Err(Stopped::Cancelled) } else { Ok(()) }
    }
}

impl edgewise_tasks::Scorer for Answering<'_> {
    type Error = Stopped;

    fn likelihoods(&mut self, context: &str, continuations: &[String]) -> Result<Vec<Likelihood>, Stopped> {
        self.goes_on()?;
        let found = self.scorer.likelihoods(context, continuations)?.into_iter();
        Ok(found.map(|f| Likelihood { log_likelihood: f.log_likelihood, greedy: f.greedy, tokens: f.tokens }).collect())
    }

    fn generate(&mut self, context: &str, stop: &[String], max_tokens: usize) -> Result<String, Stopped> {
        self.goes_on()?;
        Ok(self.scorer.generate(context, stop, max_tokens)?)
    }
}
