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
    /// The candidate that has it; a recipe's value lies between two.
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
    /// The search has to show a candidate that is fast enough. A recipe is a ladder that may have no rung right there, so it gets
    /// what lies between its neighbouring rungs on a logarithmic scale of perplexity: the doubt is the recipe's benefit.
    pub(crate) fn compared(&self, device: &str) -> Vec<Compared> {
        let Some((_, objective)) = self.noisy() else { return Vec::new() };
        let Some(full) = self.baseline().and_then(|b| self.value(b, device, objective)) else { return Vec::new() };
        let names: BTreeSet<&str> =
            self.records.iter().flat_map(|r| &r.origins).map(|o| &*o.series).filter(|s| s.starts_with(SERIES_PREFIX)).collect();
        if names.is_empty() {
            return Vec::new();
        }
        let point = |r: &'_ Record| Some((self.value(r, device, objective)?, self.value(r, device, Objective::Perplexity)?));
        let of = |series: &str| -> Vec<(f64, f64, &str)> {
            let own = |r: &&Record| r.origins.iter().any(|o| o.series == series) && self.counts(r, device);
            let within = self.records.iter().filter(own);
            within.filter_map(|r| point(r).map(|(latency, perplexity)| (latency, perplexity, &*r.id))).collect()
        };
        let searched = of(SEARCH);
        let best = |less: f64| {
            let fast = searched.iter().filter(|p| p.0 <= (1.0 - less) * full);
            let best = fast.min_by(|a, b| a.1.total_cmp(&b.1));
            AtCut { less, perplexity: best.map(|p| p.1), id: best.map(|p| p.2.to_owned()) }
        };
        let mut out = vec![Compared { series: SEARCH.to_owned(), cuts: CUTS.map(best).to_vec() }];
        let whole = self.baseline().and_then(point);
        for name in names {
            // Every recipe begins with the full network.
            let mut ladder: Vec<(f64, f64)> = of(name).into_iter().map(|p| (p.0, p.1)).chain(whole).collect();
            ladder.sort_by(|a, b| a.0.total_cmp(&b.0));
            let cuts = CUTS.map(|less| AtCut { less, perplexity: between(&ladder, (1.0 - less) * full), id: None });
            out.push(Compared { series: name.to_owned(), cuts: cuts.to_vec() });
        }
        out
    }
}

/// The perplexity at a latency, between the neighbours of a ladder that is sorted by latency; the best that is as fast, if that
/// is better.
fn between(ladder: &[(f64, f64)], latency: f64) -> Option<f64> {
    let split = ladder.partition_point(|p| p.0 <= latency);
    let fast = ladder[..split].iter().map(|p| p.1).min_by(f64::total_cmp)?;
    let Some(&(after, above)) = ladder.get(split) else { return Some(fast) };
    let (before, below) = ladder[split - 1];
    let share = (latency - before) / (after - before);
    let inside = (below.ln() + share * (above.ln() - below.ln())).exp();
    Some(inside.min(fast))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ladder_is_read_between_its_rungs() {
        let ladder = [(10.0, 100.0), (20.0, 10.0), (30.0, 5.0)];
        let close = |found: Option<f64>, expected: f64| assert!((found.unwrap() - expected).abs() < 1e-9, "{found:?}");
        close(between(&ladder, 20.0), 10.0);
        close(between(&ladder, 15.0), (100.0_f64 * 10.0).sqrt());
        close(between(&ladder, 40.0), 5.0);
        assert_eq!(between(&ladder, 9.0), None, "nothing of it is as fast");
        // A rung that is slower and worse by noise does not spoil a better one before it.
        close(between(&[(10.0, 8.0), (20.0, 50.0)], 15.0), 8.0);
    }
}
