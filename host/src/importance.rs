//! What a study keeps of its super-network's importance scores: enough to be shown, small enough to be read with every study.

use edgewise_supernet::SuperNetworkFile;
use serde::{Deserialize, Serialize};

/// Among a study's details: the summary. Older studies have none.
pub(crate) const DETAIL: &str = "importance_scores";
/// Parts of equal size that the neurons of a layer are summed up in.
const PARTS: usize = 10;

/// Scores of layers, key/value groups and neurons; larger matters more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Summary {
    /// How neurons and groups are ranked.
    pub(crate) ranking: String,
    /// How layers are ranked.
    pub(crate) layer_ranking: String,
    pub(crate) layers: Vec<Layer>,
}

/// Scores of one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layer {
    /// The layer's own.
    pub(crate) score: f64,
    /// Its key/value groups', in the checkpoint's order.
    pub(crate) kv_groups: Vec<f64>,
    /// Means over tenths of its neurons, the most important tenth first; fewer parts where there are fewer neurons.
    pub(crate) neurons: Vec<f64>,
}

impl Summary {
    pub(crate) fn of(file: &SuperNetworkFile) -> Self {
        let scores = &file.importance;
        let layers = scores.layers.iter().zip(&scores.kv_groups).zip(&scores.neurons);
        Self {
            ranking: file.ranking().to_owned(),
            layer_ranking: file.layer_ranking().to_owned(),
            layers: layers
                .map(|((score, groups), neurons)| Layer {
                    score: rounded(*score),
                    kv_groups: groups.iter().copied().map(rounded).collect(),
                    neurons: means(neurons),
                })
                .collect(),
        }
    }
}

/// The mean of each part, largest first.
fn means(scores: &[f64]) -> Vec<f64> {
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let parts = PARTS.min(sorted.len());
    let part = |n: usize| &sorted[n * sorted.len() / parts..(n + 1) * sorted.len() / parts];
    (0..parts).map(|n| rounded(part(n).iter().sum::<f64>() / part(n).len() as f64)).collect()
}

/// Five digits: a picture shows no more, and a study of a deep network stays small.
fn rounded(score: f64) -> f64 {
    format!("{score:.4e}").parse().unwrap_or(score)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_of_equal_size_and_the_largest_comes_first() {
        let scores: Vec<f64> = (0..25).map(|n| f64::from(n * 7 % 25)).collect();
        let found = means(&scores);
        assert_eq!(found.len(), 10);
        // 24 and 23; the last part holds 2, 1 and 0.
        assert_eq!((found[0], found[9]), (23.5, 1.0));
        assert!(found.is_sorted_by(|a, b| a > b), "{found:?}");
        assert_eq!(means(&[1.0, 3.0]), [3.0, 1.0]);
        assert_eq!((rounded(0.123_456_789), rounded(-3.0)), (0.12346, -3.0));
    }
}
