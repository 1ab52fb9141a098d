//! Statistics of latency samples: medians, their 95 % intervals, steadiness and drift.
//!
//! Contract: nothing assumes a normal distribution of samples. Latencies have a long right tail, so the location is the
//! median and its interval comes from order statistics. Samples are nanoseconds; estimates are milliseconds.

use edgewise_protocol::Estimate;

/// Runs in one of the two windows that are compared to tell whether times are steady.
pub(crate) const WINDOW: usize = 5;
/// Largest change between two windows, as a share, that counts as steady.
pub(crate) const STEADY_SHARE: f64 = 0.02;
/// Largest trend over one window, as a share of the median, that counts as steady.
pub(crate) const TREND_SHARE: f64 = 0.01;
/// Change between the first and the last third of the samples, as a share, that counts as drift.
pub(crate) const DRIFT_SHARE: f64 = 0.02;

/// Fewest samples whose extremes enclose the median with a probability of 95 %.
const FEWEST_FOR_INTERVAL: usize = 6;
/// Up to here binomial probabilities are summed exactly; above, the normal approximation errs by less than a rank.
const EXACT_UP_TO: usize = 60;

/// The median; the mean of the middle two of an even number. `None` without samples.
pub(crate) fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    median_of_sorted(&sorted)
}

fn median_of_sorted(sorted: &[f64]) -> Option<f64> {
    let n = sorted.len();
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(sorted[n / 2]),
        _ => Some(f64::midpoint(sorted[n / 2 - 1], sorted[n / 2])),
    }
}

/// How many samples lie outside the 95 % interval of the median at each end: the interval goes from the sorted sample of this
/// index to the one of the mirrored index. `None` where even the extremes do not enclose it with 95 %.
pub(crate) fn interval_trim(n: usize) -> Option<usize> {
    if n < FEWEST_FOR_INTERVAL {
        return None;
    }
    if n > EXACT_UP_TO {
        let n = n as f64;
        // The lower end is the sample of rank floor((n - z sqrt n) / 2), counted from 1.
        return Some(((n - 1.959_964 * n.sqrt()) / 2.0).floor() as usize - 1);
    }
    // P(the median lies below sorted[k]) is the probability of at most k heads in n tosses.
    let mut term = 0.5_f64.powi(n as i32);
    let mut tail = 0.0;
    let mut trim = None;
    for k in 0..n / 2 {
        tail += term;
        if 2.0 * tail > 0.05 {
            break;
        }
        trim = Some(k);
        term *= (n - k) as f64 / (k + 1) as f64;
    }
    trim
}

/// Median and 95 % interval of `samples` in nanoseconds. With fewer than six samples the interval is their range, which holds
/// less than 95 %. `None` without samples.
pub(crate) fn estimate(samples: &[u64]) -> Option<Estimate> {
    let mut sorted: Vec<f64> = samples.iter().map(|&ns| ns as f64 / 1e6).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len();
    let trim = interval_trim(n).unwrap_or(0);
    Some(Estimate { median: median_of_sorted(&sorted)?, low: sorted[trim], high: sorted[n - 1 - trim], n: n as u32 })
}

/// Median distance of the samples from their median, as a share of it. `None` without samples, or if the median is 0.
pub(crate) fn spread(samples: &[u64]) -> Option<f64> {
    let samples: Vec<f64> = samples.iter().map(|&ns| ns as f64).collect();
    let middle = median(&samples)?;
    let distances: Vec<f64> = samples.iter().map(|sample| (sample - middle).abs()).collect();
    (middle > 0.0).then(|| median(&distances).map(|distance| distance / middle))?
}

/// Half the distance between the quartiles, as a share of their middle: what [`spread`] is for samples that crowd around their
/// median, and steady also for those that come in two crowds. `None` without samples, or if they are 0.
pub(crate) fn dispersion(samples: &[u64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let (low, high) = (*sorted.get(samples.len() / 4)? as f64, *sorted.get(3 * samples.len() / 4)? as f64);
    (low + high > 0.0).then(|| (high - low) / (high + low))
}

/// Whether the standard deviation of `values` is at most `share` of their mean.
pub(crate) fn agree(values: impl Iterator<Item = f64> + Clone, share: f64) -> bool {
    let n = values.clone().count().max(1) as f64;
    let mean = values.clone().sum::<f64>() / n;
    let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / n;
    variance.sqrt() <= share * mean
}

/// Whether the interval is known and half of it is at most `share` of the median.
pub(crate) fn narrow_enough(estimate: &Estimate, share: f32) -> bool {
    interval_trim(estimate.n as usize).is_some() && (estimate.high - estimate.low) / 2.0 <= f64::from(share) * estimate.median
}

/// Whether the last runs were steady: the medians of the last two windows of `window` runs agree within [`STEADY_SHARE`], and
/// the trend over both is below [`TREND_SHARE`] per window. Never with fewer runs than two windows, or windows below 2.
pub(crate) fn is_steady(runs: &[u64], window: usize) -> bool {
    let Some(start) = runs.len().checked_sub(2 * window) else { return false };
    if window < 2 {
        return false;
    }
    let recent: Vec<f64> = runs[start..].iter().map(|&ns| ns as f64).collect();
    let (Some(before), Some(after)) = (median(&recent[..window]), median(&recent[window..])) else { return false };
    relative_change(before, after) < STEADY_SHARE && trend(&recent).abs() * window as f64 <= TREND_SHARE * after.max(1.0)
}

/// Theil–Sen slope per run: the median of the slopes of all pairs, which a few outliers cannot bend.
fn trend(values: &[f64]) -> f64 {
    let slopes: Vec<f64> = values
        .iter()
        .enumerate()
        .flat_map(|(i, a)| values[i + 1..].iter().zip(1..).map(move |(b, gap)| (b - a) / f64::from(gap)))
        .collect();
    median(&slopes).unwrap_or(0.0)
}

/// Whether the last third of `samples` differs from the first by more than [`DRIFT_SHARE`]. Never with fewer than nine.
pub(crate) fn drifts(samples: &[f64]) -> bool {
    let third = samples.len() / 3;
    if third < 3 {
        return false;
    }
    match (median(&samples[..third]), median(&samples[samples.len() - third..])) {
        (Some(first), Some(last)) => relative_change(first, last) > DRIFT_SHARE,
        _ => false,
    }
}

/// Samples of several rounds, each divided by the median of its position over all rounds. Tokens grow dearer with their
/// depth; only what is left after this can be told from a drift in time. Rounds may be cut short.
pub(crate) fn without_depth(samples: &[u64], per_round: usize) -> Vec<f64> {
    let at_depth: Vec<f64> = (0..per_round)
        .map(|depth| {
            let same: Vec<f64> = samples.iter().skip(depth).step_by(per_round.max(1)).map(|&ns| ns as f64).collect();
            median(&same).unwrap_or(1.0).max(1.0)
        })
        .collect();
    samples.iter().zip(at_depth.iter().cycle()).map(|(&ns, depth)| ns as f64 / depth).collect()
}

fn relative_change(from: f64, to: f64) -> f64 {
    (to - from).abs() / from.abs().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;
    use proptest::prelude::*;

    #[test]
    fn trims_are_those_of_the_published_table() {
        // Ranks of the two-sided 95 % interval of the median (Conover's table), as samples cut at each end.
        for (n, trim) in [
            (5, None),
            (6, Some(0)),
            (8, Some(0)),
            (9, Some(1)),
            (10, Some(1)),
            (15, Some(3)),
            (20, Some(5)),
            (25, Some(7)),
            (30, Some(9)),
            (50, Some(17)),
        ] {
            assert_eq!(interval_trim(n), trim, "n = {n}");
        }
    }

    #[test]
    fn the_approximation_joins_the_exact_sum() {
        let exact = interval_trim(60).unwrap();
        let above = interval_trim(61).unwrap();
        assert!(above == exact || above == exact + 1, "{exact} {above}");
        assert_eq!(interval_trim(100), Some(39));
    }

    #[test]
    fn intervals_cover_the_median_as_often_as_they_claim() {
        let mut random = SplitMix::new(7);
        for n in [9, 25, 80] {
            // Exponential-like tail over a floor of 1 ms; the true median is 1 ms + ln 2.
            let truth = 1.0 + std::f64::consts::LN_2;
            let covered = (0..4000)
                .filter(|_| {
                    let samples: Vec<u64> = (0..n)
                        .map(|_| {
                            let unit = (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
                            ((1.0 - (1.0 - unit).ln()) * 1e6) as u64
                        })
                        .collect();
                    let e = estimate(&samples).unwrap();
                    e.low <= truth && truth <= e.high
                })
                .count();
            assert!((3760..3990).contains(&covered), "n = {n}: {covered} of 4000");
        }
    }

    #[test]
    fn estimates_are_in_milliseconds() {
        let samples: Vec<u64> = (1..=9).map(|i| i * 1_000_000).collect();
        assert_eq!(estimate(&samples), Some(Estimate { median: 5.0, low: 2.0, high: 8.0, n: 9 }));
        assert_eq!(estimate(&[]), None);
    }

    #[test]
    fn spreads_are_shares_and_ignore_outliers() {
        assert_eq!(spread(&[90, 100, 110, 100, 9_000]), Some(0.1));
        assert_eq!(spread(&[100; 9]), Some(0.0));
        assert_eq!((spread(&[]), spread(&[0, 0])), (None, None));
        for n in 4..40 {
            let two_crowds: Vec<u64> = (0..n).map(|i| if i % 2 == 0 { 100 } else { 300 }).collect();
            assert_eq!(dispersion(&two_crowds), Some(0.5), "n = {n}");
        }
        assert_eq!((dispersion(&[]), dispersion(&[0, 0])), (None, None));
    }

    #[test]
    fn agreement_is_relative() {
        assert!(agree([1.0, 1.0, 1.0].into_iter(), 0.0));
        assert!(agree([96.0, 104.0].into_iter(), 0.05) && !agree([94.0, 106.0].into_iter(), 0.05));
        assert!(!agree([1.0, f64::INFINITY].into_iter(), 0.05), "what is not known agrees with nothing");
    }

    #[test]
    fn few_samples_are_never_narrow() {
        let five = estimate(&[1_000_000; 5]).unwrap();
        assert!(!narrow_enough(&five, 1.0));
        assert!(narrow_enough(&estimate(&[1_000_000; 6]).unwrap(), 0.001));
        assert!(!narrow_enough(&estimate(&[1_000_000, 900_000, 1_000_000, 1_100_000, 1_000_000, 1_000_000]).unwrap(), 0.05));
    }

    #[test]
    fn steadiness_needs_two_like_windows_and_no_trend() {
        assert!(!is_steady(&[100; 9], WINDOW));
        assert!(is_steady(&[100; 10], WINDOW));
        assert!(!is_steady(&[100, 100, 100, 100, 100, 103, 103, 103, 103, 103], WINDOW), "a step");
        let sliding: Vec<u64> = (0..10).map(|i| 100_000 - 300 * i).collect();
        assert!(!is_steady(&sliding, WINDOW), "windows differ by 1.5 %, but the slope is 1.5 % per window");
        let outlier = [100, 101, 100, 900, 100, 100, 101, 100, 100, 101];
        assert!(is_steady(&outlier, WINDOW), "one outlier is not a trend");
    }

    #[test]
    fn drift_is_seen_and_depth_is_not_drift() {
        let steady: Vec<f64> = vec![10.0; 30];
        assert!(!drifts(&steady));
        let moved: Vec<f64> = (0..30).map(|i| if i < 15 { 10.0 } else { 10.5 }).collect();
        assert!(drifts(&moved));
        // Three rounds of ten tokens that grow dearer by 5 % a token: nothing drifts in time.
        let rounds: Vec<u64> = (0..30).map(|i| 1000 + 50 * (i % 10)).collect();
        assert!(!drifts(&without_depth(&rounds, 10)));
        let hot: Vec<u64> = (0..30).map(|i| (1000 + 50 * (i % 10)) * if i >= 20 { 11 } else { 10 }).collect();
        assert!(drifts(&without_depth(&hot, 10)));
    }

    proptest! {
        #[test]
        fn intervals_enclose_the_median(samples in proptest::collection::vec(1u64..1 << 40, 1..200)) {
            let e = estimate(&samples).unwrap();
            prop_assert!(e.low <= e.median && e.median <= e.high);
            prop_assert_eq!(e.n as usize, samples.len());
        }

        #[test]
        fn nothing_panics(samples in proptest::collection::vec(any::<u64>(), 0..60), window in 0usize..9, per_round in 0usize..9) {
            is_steady(&samples, window);
            drifts(&without_depth(&samples, per_round));
        }
    }
}
