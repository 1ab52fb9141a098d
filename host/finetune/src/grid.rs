//! The calibrated grid: for each of some sizes the best sub-network of a few, found before training (arXiv 2410.06479).

use crate::Error;
use edgewise_onnx::SubNetwork;
use edgewise_supernet::{Evaluation, Network, evaluate, ops::mix};
use std::sync::atomic::{AtomicBool, Ordering};

/// What makes a sub-network the best of its size.
#[derive(Debug, Clone, Copy)]
pub enum Criterion<'a> {
    /// The lowest perplexity on this text.
    Perplexity(&'a Evaluation),
    /// The largest sum of absolute weights: no text is looked at, and nothing is computed with the network.
    Magnitude,
}

impl Criterion<'_> {
    /// The lower the better; `None` for a sub-network that cannot be the best.
    fn cost(self, network: &Network, sub: &SubNetwork) -> Result<Option<f64>, Error> {
        match self {
            Self::Magnitude => Ok(Some(-network.weight_magnitude(sub)?)),
            Self::Perplexity(on) => match evaluate(network, sub, on) {
                Ok(quality) => Ok(Some(quality.nll)),
                // Cut too deep, a network may overflow.
                Err(edgewise_supernet::Error::Logits) => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    }
}

/// Of each bin the best sub-network; a bin without candidates, or whose candidates' numbers overflow, has none. `progress` is
/// told how many candidates are done. `None` if it was cancelled.
///
/// # Errors
/// The network's.
pub fn calibrate(
    network: &Network,
    bins: &[Vec<SubNetwork>],
    criterion: Criterion<'_>,
    progress: &mut dyn FnMut(usize),
    cancel: &AtomicBool,
) -> Result<Option<Vec<SubNetwork>>, Error> {
    let (mut out, mut done) = (Vec::new(), 0);
    for bin in bins {
        let mut best: Option<(f64, &SubNetwork)> = None;
        for sub in bin {
            if cancel.load(Ordering::SeqCst) {
                return Ok(None);
            }
            if let Some(cost) = criterion.cost(network, sub)?
                && best.is_none_or(|(least, _)| cost < least)
            {
                best = Some((cost, sub));
            }
            done += 1;
            progress(done);
        }
        out.extend(best.map(|(_, sub)| sub.clone()));
    }
    Ok(Some(out))
}

/// `count` members of a grid that is ordered by size, one of each of `count` parts of it; the same for the same seed and group.
pub fn draw_from(grid: &[SubNetwork], seed: u64, group: u64, count: usize) -> Vec<SubNetwork> {
    let stream = mix(seed, group);
    (0..count)
        .filter_map(|part| {
            let (from, to) = (part * grid.len() / count, (part + 1) * grid.len() / count);
            let choice = mix(stream, part as u64) % (to - from).max(1) as u64;
            grid[from..to.max(from)].get(choice as usize).cloned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_one_of_each_part() {
        let grid: Vec<SubNetwork> =
            (1..=9).map(|width| SubNetwork { layers: vec![0], width, kv_groups: vec![1], mlp: vec![1], pairs: None }).collect();
        let mut seen = [false; 9];
        for group in 0..100 {
            let drawn = draw_from(&grid, 4, group, 3);
            assert_eq!(drawn, draw_from(&grid, 4, group, 3));
            let widths: Vec<u32> = drawn.iter().map(|s| s.width).collect();
            assert!(widths.iter().zip([1..=3, 4..=6, 7..=9]).all(|(w, part)| part.contains(w)), "{widths:?}");
            for width in widths {
                seen[width as usize - 1] = true;
            }
        }
        assert!(seen.iter().all(|s| *s), "{seen:?}");
        assert_eq!(draw_from(&grid[..1], 4, 0, 3).len(), 1);
        assert!(draw_from(&[], 4, 0, 3).is_empty());
    }
}
