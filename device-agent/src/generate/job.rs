//! What a request for text must satisfy before a worker is started for it.

use crate::{
    error::wire,
    limits::{MAX_POSITIONS, MAX_PROVIDERS, MAX_STOPS, MAX_THREADS},
    material::check_source,
};
use edgewise_protocol::{ErrorCode, GenerateJob, WireError};

/// Checks everything about a job that needs no model.
///
/// # Errors
/// [`ErrorCode::BadRequest`].
pub(crate) fn check_job(job: &GenerateJob) -> Result<(), WireError> {
    check_source(&job.source)?;
    let sampling = job.sampling;
    let positions = (job.prompt.len() as u64).saturating_add(u64::from(job.max_tokens));
    let rules = [
        (!job.prompt.is_empty(), "the prompt has no tokens"),
        (job.max_tokens >= 1, "no tokens are asked for"),
        (positions <= u64::from(MAX_POSITIONS), "the sequence is too long"),
        (job.prompt.iter().chain(&job.stop).all(|&token| token < job.vocabulary), "a token is beyond the vocabulary"),
        (job.stop.len() <= MAX_STOPS, "too many tokens would end the text"),
        (sampling.temperature >= 0.0 && sampling.temperature.is_finite(), "the temperature is no number of 0 or more"),
        (sampling.top_p > 0.0 && sampling.top_p <= 1.0, "the nucleus is no probability over 0"),
        (job.threads <= MAX_THREADS, "too many threads"),
        (job.providers.len() <= MAX_PROVIDERS, "too many execution providers"),
        (job.deadline_ms >= 1, "the deadline is 0"),
    ];
    match rules.into_iter().find(|(holds, _)| !holds) {
        Some((_, broken)) => Err(wire(ErrorCode::BadRequest, broken)),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use edgewise_protocol::{ArtifactFile, BlobId, OrtLibrary, Provider, Runtime, Sampling, Source};

    pub(in crate::generate) fn job() -> GenerateJob {
        GenerateJob {
            source: Source::Files(vec![ArtifactFile { name: "model.onnx".into(), blob: BlobId([0; 32]), size: 1 }]),
            runtime: Runtime::Tract,
            ort: OrtLibrary::Default,
            providers: vec![Provider::Cpu],
            threads: 1,
            prompt: vec![1, 2, 3],
            max_tokens: 5,
            stop: vec![0],
            vocabulary: 10,
            sampling: Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 },
            deadline_ms: 1000,
            lease_wait_ms: 1000,
        }
    }

    /// What is wrong with a job, and a word of what is said of it.
    type Change = (fn(&mut GenerateJob), &'static str);

    #[test]
    fn jobs_that_make_no_sense_are_refused() {
        check_job(&job()).unwrap();
        let changes: [Change; 12] = [
            (|j| j.prompt.clear(), "no tokens"),
            (|j| j.max_tokens = 0, "no tokens are asked for"),
            (|j| j.max_tokens = u32::MAX, "too long"),
            (|j| j.prompt[2] = 10, "beyond the vocabulary"),
            (|j| j.stop[0] = 10, "beyond the vocabulary"),
            (|j| j.stop = vec![0; MAX_STOPS + 1], "would end"),
            (|j| j.sampling.temperature = -1.0, "temperature"),
            (|j| j.sampling.temperature = f32::NAN, "temperature"),
            (|j| j.sampling.top_p = 0.0, "nucleus"),
            (|j| j.sampling.top_p = f32::NAN, "nucleus"),
            (|j| j.deadline_ms = 0, "deadline"),
            (|j| j.providers = vec![Provider::Cpu; MAX_PROVIDERS + 1], "providers"),
        ];
        for (change, words) in changes {
            let mut job = job();
            change(&mut job);
            let error = check_job(&job).unwrap_err();
            assert!(error.code == ErrorCode::BadRequest && error.message.contains(words), "{words}: {error:?}");
        }
    }
}
