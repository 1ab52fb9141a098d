//! How the parts of a network are scored: a method has a name that users give and files keep.
//!
//! Activations are first aggregated over the tokens of a window, then over windows, each by mean, norm or variance: the grid that
//! Minitron (arXiv 2407.14679) and the authors of sub-network search (arXiv 2410.06479) compare.

use std::{fmt, str::FromStr};

/// Moves when scores change under an unchanged name, so that caches made before are not found.
const VERSION: u32 = 2;

/// What many numbers become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Aggregate {
    /// The mean of absolute values.
    Mean,
    /// The Euclidean norm.
    Norm,
    /// The variance.
    Variance,
}

impl Aggregate {
    pub(crate) const ALL: [Self; 3] = [Self::Mean, Self::Norm, Self::Variance];

    const fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Norm => "norm",
            Self::Variance => "variance",
        }
    }
}

/// Scores of neurons and key/value groups. Larger matters more; the order that they give is the order of a sorted super-network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Ranking {
    /// Root mean square of what a cut removes, the input of the contracting projection, times the norm of the column that it
    /// meets: the energy that goes missing. Without fine-tuning the best of all on real models.
    #[default]
    Contribution,
    /// Variance instead of mean square, times the column's squared norm: what a constant could not replace (as in FLAP,
    /// arXiv 2312.11983).
    Fluctuation,
    /// Euclidean norm of all weights of a part; no text is looked at.
    Magnitude,
    /// Activations alone, aggregated over the tokens of a window and then over windows.
    Activation(Aggregate, Aggregate),
}

impl Ranking {
    /// Every ranking, in the order they are listed for people.
    pub fn all() -> impl Iterator<Item = Self> {
        let activation = Aggregate::ALL.into_iter().flat_map(|s| Aggregate::ALL.map(|b| Self::Activation(s, b)));
        [Self::Contribution, Self::Fluctuation, Self::Magnitude].into_iter().chain(activation)
    }
}

impl fmt::Display for Ranking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contribution => f.write_str("contribution"),
            Self::Fluctuation => f.write_str("fluctuation"),
            Self::Magnitude => f.write_str("magnitude"),
            Self::Activation(tokens, windows) => write!(f, "{}-{}", tokens.name(), windows.name()),
        }
    }
}

/// Scores of layers: a prior for which ones to drop first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LayerRanking {
    /// One minus the mean cosine between a layer's input and output (block importance of ShortGPT, arXiv 2403.03853).
    #[default]
    Block,
    /// How much the negative log-likelihood of a token rises when the layer is dropped. Takes a pass per layer.
    Loss,
}

impl fmt::Display for LayerRanking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Block => "block",
            Self::Loss => "loss",
        })
    }
}

/// No ranking has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{name}` (known: {known})")]
pub struct UnknownRanking {
    what: &'static str,
    name: String,
    known: String,
}

fn named<T: fmt::Display>(what: &'static str, name: &str, all: impl Iterator<Item = T>) -> Result<T, UnknownRanking> {
    let mut known = Vec::new();
    for one in all {
        let its = one.to_string();
        if its == name {
            return Ok(one);
        }
        known.push(its);
    }
    Err(UnknownRanking { what, name: name.to_owned(), known: known.join(", ") })
}

impl FromStr for Ranking {
    type Err = UnknownRanking;

    fn from_str(name: &str) -> Result<Self, UnknownRanking> {
        named("ranking", name, Self::all())
    }
}

impl FromStr for LayerRanking {
    type Err = UnknownRanking;

    fn from_str(name: &str) -> Result<Self, UnknownRanking> {
        named("ranking of layers", name, [Self::Block, Self::Loss].into_iter())
    }
}

/// How all parts are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Method {
    /// Neurons and key/value groups.
    pub parts: Ranking,
    /// Layers.
    pub layers: LayerRanking,
    /// Whether dimensions of heads are scored as well, and those of values sorted, so that heads can be cut. Always by what they
    /// contribute.
    pub heads: bool,
}

impl fmt::Display for Method {
    /// The name that `supernet.json` keeps.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}{}/{VERSION}", self.parts, self.layers, if self.heads { "+heads" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        let names: Vec<String> = Ranking::all().map(|r| r.to_string()).collect();
        assert_eq!(names.len(), 12);
        for (ranking, name) in Ranking::all().zip(&names) {
            assert_eq!(name.parse(), Ok(ranking));
            assert_eq!(names.iter().filter(|n| *n == name).count(), 1);
        }
        let error = "loudness".parse::<Ranking>().unwrap_err().to_string();
        assert!(names.iter().all(|name| error.contains(name)), "{error}");
        assert_eq!(Method::default().to_string(), "contribution+block/2");
        assert_eq!(Method { heads: true, ..Method::default() }.to_string(), "contribution+block+heads/2");
        assert_eq!("loss".parse(), Ok(LayerRanking::Loss));
        assert!("last".parse::<LayerRanking>().is_err());
    }
}
