//! What a measurement must satisfy before a worker is started for it.

use crate::{
    error::wire,
    limits::{DEPTH_ROUND, MAX_POINTS, MAX_POSITIONS, MAX_PROVIDERS, MAX_RETRIES, MAX_THREADS},
    material::check_source,
};
use edgewise_protocol::{ErrorCode, MeasureJob, WireError};

/// Checks everything about a job that needs no model.
///
/// # Errors
/// [`ErrorCode::BadRequest`].
pub(crate) fn check_job(job: &MeasureJob) -> Result<(), WireError> {
    check_source(&job.source)?;
    let workload = job.workload;
    let positions = workload.prompt_tokens.saturating_add(workload.generated_tokens);
    let plan = &job.plan;
    let context = &job.context;
    // After the cache is filled, one token does not count, and up to a round of them does.
    let deepest = context.depths.iter().max().map_or(0, |depth| depth.saturating_add(1 + DEPTH_ROUND as u32));
    let longest = context.prompts.iter().max().copied().unwrap_or(0);
    let probe = job.probe.iter().flat_map(|probe| &probe.points);
    let rules = [
        (workload.prompt_tokens >= 1, "the prompt has no tokens"),
        (workload.generated_tokens >= 2, "fewer than 2 generated tokens: there is no time per token to measure"),
        (positions <= MAX_POSITIONS, "the sequence is too long"),
        (context.prompts.len() + context.depths.len() <= MAX_POINTS, "too many other prompt lengths and depths"),
        (context.prompts.iter().all(|&tokens| tokens >= 1), "another prompt length has no tokens"),
        (longest.max(deepest) <= MAX_POSITIONS, "another prompt length or depth is too long"),
        (plan.retries <= MAX_RETRIES, "too many retries"),
        (!plan.gate.max_celsius.is_nan() && plan.gate.max_rise_celsius >= 0.0, "the gate's temperatures are no numbers"),
        (job.vocabulary >= 1, "the vocabulary is empty"),
        (job.threads <= MAX_THREADS, "too many threads"),
        (job.providers.len() <= MAX_PROVIDERS, "too many execution providers"),
        (job.deadline_ms >= 1, "the deadline is 0"),
        (plan.min_warmup_ms <= plan.max_warmup_ms, "the warm-up's least time is over its most"),
        (plan.min_time_ms <= plan.max_time_ms, "the timing's least time is over its most"),
        (plan.target_half_width > 0.0 && plan.target_half_width.is_finite(), "the target width is no positive number"),
        (job.probe.as_ref().is_none_or(|probe| probe.tolerance >= 0.0), "the probe's tolerance is no number of 0 or more"),
        (job.probe.as_ref().is_none_or(|probe| !probe.points.is_empty()), "the probe has no points"),
        (probe.clone().all(|point| !point.feed.is_empty()), "a point of the probe feeds no token"),
        (probe.clone().all(|point| !point.expect.is_empty()), "a point of the probe expects no logit"),
        (
            probe
                .flat_map(|point| point.feed.iter().chain(point.expect.iter().map(|(entry, _)| entry)))
                .all(|&id| id < job.vocabulary),
            "the probe names a token beyond the vocabulary",
        ),
    ];
    match rules.into_iter().find(|(holds, _)| !holds) {
        Some((_, broken)) => Err(wire(ErrorCode::BadRequest, broken)),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use edgewise_onnx::MAX_RECIPE_BYTES;
    use edgewise_protocol::{
        ArtifactFile, BlobId, Context, Form, Gate, MeasurePlan, OrtLibrary, Probe, ProbePoint, Runtime, Source, Workload,
    };

    pub(in crate::measure) fn job() -> MeasureJob {
        MeasureJob {
            source: Source::Files(vec![ArtifactFile { name: "model.onnx".into(), blob: BlobId([0; 32]), size: 1 }]),
            runtime: Runtime::Tract,
            ort: OrtLibrary::Default,
            providers: Vec::new(),
            threads: 1,
            workload: Workload { prompt_tokens: 4, generated_tokens: 9 },
            context: Context::default(),
            energy_ms: 0,
            plan: MeasurePlan {
                min_warmup_ms: 100,
                max_warmup_ms: 1000,
                min_samples: 15,
                min_time_ms: 100,
                max_time_ms: 2000,
                target_half_width: 0.01,
                retries: 0,
                gate: Gate { max_celsius: 60.0, max_rise_celsius: 3.0, max_rest_ms: 0 },
            },
            probe: None,
            vocabulary: 10,
            seed: 0,
            deadline_ms: 1000,
            lease_wait_ms: 0,
        }
    }

    #[test]
    fn every_rule_can_be_broken() {
        check_job(&job()).unwrap();
        let point = || ProbePoint { feed: vec![1], expect: vec![(2, 0.5)] };
        let probe = |change: fn(&mut Probe)| {
            let mut probe = Probe { points: vec![point()], tolerance: 0.1 };
            change(&mut probe);
            Some(probe)
        };
        check_job(&MeasureJob { probe: probe(|_| {}), ..job() }).unwrap();
        let recipe = |size| Source::Recipe { bytes: vec![0; size], form: Form::Memory };
        check_job(&MeasureJob { source: recipe(MAX_RECIPE_BYTES), ..job() }).unwrap();
        let large = check_job(&MeasureJob { source: recipe(MAX_RECIPE_BYTES + 1), ..job() }).unwrap_err();
        assert_eq!(large.code, ErrorCode::BadRequest);
        let broken: [fn(&mut MeasureJob); 18] = [
            |job| job.source = Source::Files(vec![]),
            |job| job.context.prompts = vec![1; MAX_POINTS + 1],
            |job| job.context.prompts = vec![0],
            |job| job.context.prompts = vec![MAX_POSITIONS + 1],
            |job| job.context.depths = vec![u32::MAX],
            |job| job.plan.retries = MAX_RETRIES + 1,
            |job| job.plan.gate.max_celsius = f32::NAN,
            |job| job.plan.gate.max_rise_celsius = -1.0,
            |job| job.workload.prompt_tokens = 0,
            |job| job.workload.generated_tokens = 1,
            |job| job.workload.prompt_tokens = u32::MAX,
            |job| job.vocabulary = 0,
            |job| job.threads = u16::MAX,
            |job| job.deadline_ms = 0,
            |job| job.plan.min_warmup_ms = 1001,
            |job| job.plan.min_time_ms = 2001,
            |job| job.plan.target_half_width = f32::NAN,
            |job| job.plan.target_half_width = 0.0,
        ];
        for (index, change) in broken.iter().enumerate() {
            let mut job = job();
            change(&mut job);
            assert_eq!(check_job(&job).unwrap_err().code, ErrorCode::BadRequest, "rule {index}");
        }
        let broken: [fn(&mut Probe); 6] = [
            |probe| probe.points.clear(),
            |probe| probe.tolerance = f32::NAN,
            |probe| probe.points[0].feed.clear(),
            |probe| probe.points[0].expect.clear(),
            |probe| probe.points[0].feed.push(10),
            |probe| probe.points[0].expect[0].0 = 10,
        ];
        for (index, change) in broken.into_iter().enumerate() {
            let error = check_job(&MeasureJob { probe: probe(change), ..job() }).unwrap_err();
            assert_eq!(error.code, ErrorCode::BadRequest, "probe rule {index}");
        }
    }
}
