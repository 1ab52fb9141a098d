//! Whether a device is still the one it was: the baseline's trials over time.
//!
//! Nothing is rescaled by them. Where the sentinel moved, the session is flagged, and whoever reads its results is told.

use crate::{noise::Spread, store::Trial};

/// A movement of this share is none, however calm the device is.
const FLOOR: f64 = 0.03;
/// Movements below this many standard deviations between trials are noise.
const SPREADS: f64 = 3.0;

/// One sentinel against the device's first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SentinelPoint {
    /// Its block.
    pub block: u32,
    /// When it was stored, in milliseconds since 1970.
    pub at_ms: u64,
    /// Time to the first token over the first sentinel's.
    pub ttft_ratio: f64,
    /// Time per output token over the first sentinel's.
    pub tpot_ratio: f64,
    /// Whether one of them is further from 1 than noise.
    pub moved: bool,
}

/// The sentinels among these trials of one device, in the order of blocks. `ttft` and `tpot` are the device's spreads of the two
/// latencies. A sentinel that took no time, or follows one that did, is left out: it has no ratio.
pub fn sentinel_series<'a>(trials: impl IntoIterator<Item = &'a Trial>, ttft: &Spread, tpot: &Spread) -> Vec<SentinelPoint> {
    let mut sentinels: Vec<&Trial> = trials.into_iter().filter(|t| t.is_sentinel()).collect();
    sentinels.sort_by_key(|t| t.block);
    let Some(first) = sentinels.first().copied() else { return Vec::new() };
    let point = |t: &&Trial| {
        let ttft_ratio = t.ttft_ms.median / first.ttft_ms.median;
        let tpot_ratio = t.tpot_ms.median / first.tpot_ms.median;
        let moved = has_moved(ttft_ratio, ttft) || has_moved(tpot_ratio, tpot);
        SentinelPoint { block: t.block, at_ms: t.at_ms, ttft_ratio, tpot_ratio, moved }
    };
    let known = |p: &SentinelPoint| [p.ttft_ratio, p.tpot_ratio].iter().all(|r| r.is_finite() && *r > 0.0);
    sentinels.iter().map(point).filter(known).collect()
}

/// Judged by what repeats of candidates scatter within blocks: the sentinel's own movement may not excuse itself.
fn has_moved(ratio: f64, spread: &Spread) -> bool {
    (ratio - 1.0).abs() > FLOOR.max(SPREADS * spread.of_repeats().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        noise::Reading,
        store::{Estimate, Form, Role},
    };

    fn trial(block: u32, seat: u32, ttft: f64, tpot: f64) -> Trial {
        let estimate = |median| Estimate { median, ci95: [median, median], n: 1 };
        Trial {
            device: "pi".to_owned(),
            block,
            seat,
            role: Role::Screen,
            form: Form::Memory,
            runtime: String::new(),
            precision: String::new(),
            ttft_ms: estimate(ttft),
            tpot_ms: estimate(tpot),
            peak_rss_bytes: 0,
            artifact_bytes: 0,
            bytes_sent: 0,
            converged: true,
            flags: Vec::new(),
            at_ms: 100 * u64::from(block),
            ttft_ns: Vec::new(),
            tpot_ns: Vec::new(),
            warmup_ns: Vec::new(),
            energy: None,
            extra: serde_json::Value::Null,
        }
    }

    #[test]
    fn ratios_are_to_the_first_block_and_candidates_are_no_sentinels() {
        let spread = Spread::pooled(&[], &[]);
        let trials = [trial(4, 0, 208.0, 10.1), trial(0, 1, 1.0, 1.0), trial(2, 0, 202.0, 9.5), trial(0, 0, 200.0, 10.0)];
        let series = sentinel_series(&trials, &spread, &spread);
        let expected = [(0, 0, 1.0, 1.0, false), (2, 200, 1.01, 0.95, true), (4, 400, 1.04, 1.01, true)];
        assert_eq!(series.len(), 3);
        for (p, (block, at_ms, ttft, tpot, moved)) in series.iter().zip(expected) {
            assert_eq!((p.block, p.at_ms, p.moved), (block, at_ms, moved));
            assert!((p.ttft_ratio - ttft).abs() < 1e-12 && (p.tpot_ratio - tpot).abs() < 1e-12, "{p:?}");
        }
        assert_eq!(sentinel_series(&trials[1..2], &spread, &spread), []);
        assert_eq!(sentinel_series(&[trial(0, 0, 0.0, 1.0), trial(1, 0, 1.0, 1.0)], &spread, &spread), []);
    }

    #[test]
    fn a_noisy_device_is_allowed_more() {
        let list = |level: f64, sign: f64| {
            let ms = |block: u32| level * (1.0 + sign * if block.is_multiple_of(2) { 0.02 } else { -0.02 });
            (0..6).filter_map(|block| Reading::new(block, ms(block))).collect::<Vec<_>>()
        };
        let (sentinel, candidate) = (list(10.0, 1.0), list(8.0, -1.0));
        let noisy = Spread::pooled(&sentinel, &[&candidate]);
        assert!(noisy.of_repeats().is_some_and(|sd| sd > 0.015), "{noisy:?}");
        let trials = [trial(0, 0, 100.0, 10.0), trial(1, 0, 104.0, 10.0)];
        let calm = Spread::pooled(&[], &[]);
        assert!(sentinel_series(&trials, &calm, &calm)[1].moved);
        assert!(!sentinel_series(&trials, &noisy, &calm)[1].moved);
    }
}
