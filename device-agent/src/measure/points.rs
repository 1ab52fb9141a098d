//! Latency against the length of the context: the prefill at other prompt lengths, the decode at other depths.

use super::{pace::Pace, session::Session};
use crate::{
    clock::TickClock,
    error::wire,
    limits::{DEPTH_ROUND, MAX_POINT_SAMPLES},
    stats,
};
use edgewise_protocol::{ErrorCode, MeasureJob, MeasurePlan, Point, WireError};

/// Samples of each point at least, unless its time ends before: the fewest whose interval leaves an outlier out at each end.
const FEWEST: u32 = 9;

/// Tokens that the points need, all of them from the beginning of a sequence.
pub(super) fn tokens_needed(job: &MeasureJob) -> u32 {
    let deepest = job.context.depths.iter().max().map_or(0, |depth| depth + 1 + DEPTH_ROUND as u32);
    job.context.prompts.iter().copied().max().unwrap_or(0).max(deepest)
}

/// Times the prefill at each prompt length of the job, then the decode at each depth.
pub(super) fn measure<C: TickClock>(session: &mut Session<'_, C>, tokens: &[u32]) -> Result<(Vec<Point>, Vec<Point>), WireError> {
    // The main figures get the plan's least time; a curve is read as a whole and can do with less for each of its points.
    let plan = MeasurePlan { min_samples: FEWEST, min_time_ms: session.job.plan.min_time_ms / 4, ..session.job.plan };
    let context = &session.job.context;
    let prefill_at = context.prompts.iter().map(|&length| prefill(session, &plan, &tokens[..length as usize], length));
    let prefill_at = prefill_at.collect::<Result<_, _>>()?;
    let decode_at = context.depths.iter().map(|&depth| decode(session, &plan, tokens, depth)).collect::<Result<_, _>>()?;
    Ok((prefill_at, decode_at))
}

fn prefill<C: TickClock>(
    session: &mut Session<'_, C>,
    plan: &MeasurePlan,
    prompt: &[u32],
    length: u32,
) -> Result<Point, WireError> {
    // Memory of this size is asked for the first time.
    session.prefill(prompt)?;
    let mut pace = Pace::start(session.clock, plan, MAX_POINT_SAMPLES);
    loop {
        pace.record(session.prefill(prompt)?);
        if pace.verdict(false).is_some() {
            return point(length, pace.into_samples());
        }
    }
}

/// Rounds of filling the cache, one token that does not count, since it pays for the change of kernels, and those that do.
fn decode<C: TickClock>(
    session: &mut Session<'_, C>,
    plan: &MeasurePlan,
    tokens: &[u32],
    depth: u32,
) -> Result<Point, WireError> {
    let (fill, after) = tokens.split_at(depth as usize);
    let begin = |session: &mut Session<'_, C>| -> Result<(), WireError> {
        session.model.reset();
        if !fill.is_empty() {
            session.step(fill)?;
        }
        session.step(&after[..1]).map(drop)
    };
    begin(session)?;
    // Filling the cache may take longer than a point's whole time, which is for the tokens.
    let mut pace = Pace::start(session.clock, plan, MAX_POINT_SAMPLES);
    loop {
        for token in &after[1..=DEPTH_ROUND] {
            pace.record(session.step(&[*token])?);
            if pace.verdict(false).is_some() {
                return point(depth, pace.into_samples());
            }
        }
        begin(session)?;
    }
}

fn point(tokens: u32, samples_ns: Vec<u64>) -> Result<Point, WireError> {
    let estimate =
        stats::estimate(&samples_ns).ok_or_else(|| wire(ErrorCode::Internal, "a point of the context ended without samples"))?;
    Ok(Point { tokens, estimate, samples_ns })
}
