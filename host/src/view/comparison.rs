//! What the search buys: its best candidates against fixed recipes at equal measured latency.

use super::View;
use edgewise_search::{Objective, Record, SEARCH, SERIES_PREFIX};
use serde::Serialize;
use std::collections::BTreeSet;

/// Shares by which latency is to fall.
pub(crate) const CUTS: [f64; 2] = [0.22, 0.4];

/// A series at one latency.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct AtCut {
    /// The share by which latency is lower than the full network's.
    pub(crate) less: f64,
    pub(crate) perplexity: Option<f64>,
    /// The best candidate that is at least as fast; the perplexity lies between it and the next.
    pub(crate) id: Option<String>,
}

/// How well a series does on a device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Compared {
    pub(crate) series: String,
    pub(crate) cuts: Vec<AtCut>,
}

impl View {
    /// The search and every recipe at the same cuts of a device's latency; empty if no recipe was measured.
    ///
    /// Every series has candidates here and there, hardly ever one right at a cut, so all are read alike: between the two
    /// neighbours on their front, on a logarithmic scale of perplexity. Each begins with the full network.
    pub(crate) fn compared(&self, device: &str) -> Vec<Compared> {
        let Some((_, objective)) = self.noisy() else { return Vec::new() };
        let Some(full) = self.baseline().and_then(|b| self.value(b, device, objective)) else { return Vec::new() };
        let names: BTreeSet<&str> =
            self.records.iter().flat_map(|r| &r.origins).map(|o| &*o.series).filter(|s| s.starts_with(SERIES_PREFIX)).collect();
        if names.is_empty() {
            return Vec::new();
        }
        let point = |r: &'_ Record| Some((self.value(r, device, objective)?, self.value(r, device, Objective::Perplexity)?));
        let whole = self.baseline().and_then(|r| point(r).map(|(latency, perplexity)| (latency, perplexity, &*r.id)));
        let of = |series: &str| {
            let own = |r: &&Record| r.origins.iter().any(|o| o.series == series) && self.counts(r, device);
            let within = self.records.iter().filter(own);
            let points = within.filter_map(|r| point(r).map(|(latency, perplexity)| (latency, perplexity, &*r.id)));
            let front = front_of(points.chain(whole).collect());
            let at = |less: f64| {
                let latency = (1.0 - less) * full;
                let fastest = front.iter().rfind(|p| p.0 <= latency);
                AtCut { less, perplexity: between(&front, latency), id: fastest.map(|p| p.2.to_owned()) }
            };
            Compared { series: series.to_owned(), cuts: CUTS.map(at).to_vec() }
        };
        std::iter::once(SEARCH).chain(names).map(of).collect()
    }
}

/// A candidate's latency, its perplexity, and its name.
type Point<'a> = (f64, f64, &'a str);

/// Those that no other is faster and better than, the fastest first.
fn front_of(mut points: Vec<Point<'_>>) -> Vec<Point<'_>> {
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut best = f64::INFINITY;
    points.retain(|point| {
        let better = point.1 < best;
        best = best.min(point.1);
        better
    });
    points
}

/// The perplexity at a latency, between the neighbours on a front that is sorted by latency; nothing if none is as fast.
fn between(front: &[Point<'_>], latency: f64) -> Option<f64> {
    let split = front.partition_point(|p| p.0 <= latency);
    let &(before, below, _) = front.get(split.checked_sub(1)?)?;
    let Some(&(after, above, _)) = front.get(split) else { return Some(below) };
    let share = (latency - before) / (after - before);
    Some((below.ln() + share * (above.ln() - below.ln())).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_read_between_its_neighbours() {
        let front = front_of(vec![(30.0, 5.0, "c"), (10.0, 100.0, "a"), (25.0, 70.0, "worse"), (20.0, 10.0, "b")]);
        assert_eq!(front.iter().map(|p| p.2).collect::<String>(), "abc");
        let close = |found: Option<f64>, expected: f64| assert!((found.unwrap() - expected).abs() < 1e-9, "{found:?}");
        close(between(&front, 20.0), 10.0);
        close(between(&front, 15.0), (100.0_f64 * 10.0).sqrt());
        close(between(&front, 40.0), 5.0);
        assert_eq!(between(&front, 9.0), None, "nothing of it is as fast");
        // One that is slower and worse by noise does not spoil a better one before it.
        close(between(&front_of(vec![(10.0, 8.0, "a"), (20.0, 50.0, "b")]), 15.0), 8.0);
    }
}
