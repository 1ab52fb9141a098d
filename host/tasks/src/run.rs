//! Asking a model all questions of a plan.

use crate::{Answer, Likelihood, Outcome, Plan, Request};

/// What answers requests.
pub trait Scorer {
    /// Why it could not.
    type Error;

    /// How likely each continuation is after the context, in their order.
    ///
    /// # Errors
    /// Its own.
    fn likelihoods(&mut self, context: &str, continuations: &[String]) -> Result<Vec<Likelihood>, Self::Error>;

    /// The text that follows a context, each time with the likeliest token, up to one of `stop`, which is left out, or to
    /// `max_tokens`.
    ///
    /// # Errors
    /// Its own.
    fn generate(&mut self, context: &str, stop: &[String], max_tokens: usize) -> Result<String, Self::Error>;
}

/// Asks all questions, those of a subject one after the other, since their prompts begin alike. `done` hears how many have been
/// answered. Outcomes come in the order of the file.
///
/// # Errors
/// The scorer's.
///
/// # Panics
/// If the scorer gives more or fewer likelihoods than there are continuations.
pub fn run<S: Scorer>(plan: &Plan, scorer: &mut S, mut done: impl FnMut(usize)) -> Result<Vec<Outcome>, S::Error> {
    let mut order: Vec<usize> = (0..plan.questions.len()).collect();
    order.sort_by_key(|&at| plan.questions[at].item.subject.as_deref());
    let mut outcomes = Vec::with_capacity(order.len());
    for (count, at) in order.into_iter().enumerate() {
        done(count);
        let question = &plan.questions[at];
        let mut answer = Answer::default();
        for request in question.requests() {
            match request {
                Request::Choice { context, continuations } => {
                    let found = scorer.likelihoods(&context, &continuations)?;
                    assert_eq!(found.len(), continuations.len(), "a scorer answers for each continuation");
                    answer.likelihoods.extend(found);
                }
                Request::Generate { context, stop, max_tokens } => answer.text = scorer.generate(&context, &stop, max_tokens)?,
            }
        }
        outcomes.push(question.judge(plan.task, answer));
    }
    outcomes.sort_by_key(|outcome| outcome.row);
    Ok(outcomes)
}
