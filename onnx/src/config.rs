//! The architecture of a model and of a sub-network of it.

use crate::Error;
use serde::{Deserialize, Serialize};

/// A Llama-family decoder: RMS norms, rotary positions, grouped key/value heads, a gated (SwiGLU) MLP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of decoder layers.
    pub num_layers: usize,
    /// Query heads per layer.
    pub num_heads: usize,
    /// Key/value heads per layer; divides [`Self::num_heads`].
    pub num_kv_heads: usize,
    /// Dimensions of one head; even.
    pub head_dim: usize,
    /// Neurons of each MLP.
    pub mlp_size: usize,
    /// Longest sequence the model was made for.
    pub max_positions: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies were stretched for long contexts.
    pub rope_scaling: Option<RopeScaling>,
    /// Epsilon of the RMS norms.
    pub norm_eps: f64,
    /// The output projection is the transposed embedding.
    pub tied_embeddings: bool,
    /// The query, key, value and output projections have biases.
    pub attention_bias: bool,
    /// The MLP's projections have biases.
    pub mlp_bias: bool,
    /// Token put before a text, where the model wants one.
    pub bos_token: Option<u32>,
    /// Tokens that end a text.
    pub eos_tokens: Vec<u32>,
}

/// Changes of the rotary frequencies for contexts longer than in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum RopeScaling {
    /// Positions are divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3: low frequencies are divided by `factor`, high ones kept, those between blended.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths over `original_max_positions / low_freq_factor` are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths under `original_max_positions / high_freq_factor` are high frequencies.
        high_freq_factor: f64,
        /// Context length in training, in tokens.
        original_max_positions: f64,
    },
    /// Each frequency is divided by its own number, as GGUF files carry them.
    Divisors {
        /// One for each of the `head_dim / 2` frequencies.
        divisors: Vec<f64>,
    },
}

/// Which part of the sorted super-network is kept.
///
/// Everything but the layers and the rotary pairs is a *prefix* of a sorted dimension; those two are sets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubNetwork {
    /// Kept layers of the super-network, ascending.
    pub layers: Vec<u32>,
    /// Kept dimensions of the residual stream.
    pub width: u32,
    /// Kept key/value groups of each kept layer; each comes with its query heads.
    pub kv_groups: Vec<u32>,
    /// Kept neurons of each kept layer's MLP.
    pub mlp: Vec<u32>,
    /// Kept rotary pairs of every head, ascending; absent where all are kept.
    ///
    /// Rotary positions turn dimension `i` of a head together with `i + head_dim / 2`, so that pairs are what can be cut, and they
    /// are a set, since each has a frequency of its own. Heads then have `2 * pairs.len()` dimensions; of their values, which are not
    /// turned, the first so many are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairs: Option<Vec<u32>>,
}

impl ModelConfig {
    /// Query heads that share one key/value head.
    pub fn heads_per_group(&self) -> usize {
        self.num_heads / self.num_kv_heads
    }

    /// Dimensions of each head of a sub-network.
    pub fn head_size(&self, sub: &SubNetwork) -> usize {
        sub.pairs.as_ref().map_or(self.head_dim, |pairs| 2 * pairs.len())
    }

    /// The network as it is.
    pub fn full(&self) -> SubNetwork {
        SubNetwork {
            layers: (0..self.num_layers as u32).collect(),
            width: self.hidden_size as u32,
            kv_groups: vec![self.num_kv_heads as u32; self.num_layers],
            mlp: vec![self.mlp_size as u32; self.num_layers],
            pairs: None,
        }
    }

    /// Checks that the numbers fit each other and are of a size that a real model has.
    ///
    /// # Errors
    /// [`Error::BadConfig`] naming the first contradiction.
    pub fn validate(&self) -> Result<(), Error> {
        let positive = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_layers),
            ("num_attention_heads", self.num_heads),
            ("num_key_value_heads", self.num_kv_heads),
            ("head_dim", self.head_dim),
            ("intermediate_size", self.mlp_size),
            ("max_position_embeddings", self.max_positions),
        ];
        for (name, value) in positive {
            if value == 0 || value > 1 << 24 {
                return Err(Error::BadConfig(format!("{name} is {value}")));
            }
        }
        if !self.num_heads.is_multiple_of(self.num_kv_heads) {
            return Err(Error::BadConfig(format!(
                "{} attention heads cannot share {} key/value heads evenly",
                self.num_heads, self.num_kv_heads
            )));
        }
        let attention = self.num_heads as u64 * self.head_dim as u64;
        if attention > 1 << 24 {
            return Err(Error::BadConfig(format!(
                "{} attention heads of {} are {attention} wide",
                self.num_heads, self.head_dim
            )));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(Error::BadConfig(format!("head_dim {} is odd, rotary positions need pairs", self.head_dim)));
        }
        let sane = |value: f64| value.is_finite() && value > 0.0;
        if !sane(self.rope_theta) || !sane(self.norm_eps) {
            return Err(Error::BadConfig(format!(
                "rope_theta {} and rms_norm_eps {} must be positive",
                self.rope_theta, self.norm_eps
            )));
        }
        match &self.rope_scaling {
            Some(RopeScaling::Linear { factor }) if !sane(*factor) => Err(Error::BadConfig(format!("rope factor is {factor}"))),
            Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions })
                if !(sane(*factor)
                    && sane(*low_freq_factor)
                    && sane(*original_max_positions)
                    && high_freq_factor > low_freq_factor) =>
            {
                Err(Error::BadConfig("llama3 rope scaling has factors that contradict each other".into()))
            }
            Some(RopeScaling::Divisors { divisors })
                if divisors.len() != self.head_dim / 2 || !divisors.iter().all(|d| sane(*d)) =>
            {
                Err(Error::BadConfig(format!("{} rotary divisors for a head of {}", divisors.len(), self.head_dim)))
            }
            _ => Ok(()),
        }
    }

    /// Number of parameters of a sub-network; a tied embedding counts once.
    pub fn parameters(&self, sub: &SubNetwork) -> u64 {
        let width = u64::from(sub.width);
        let head = self.head_size(sub) as u64;
        let group = self.heads_per_group() as u64;
        let embedding = self.vocab_size as u64 * width * if self.tied_embeddings { 1 } else { 2 };
        let layers: u64 = sub
            .kv_groups
            .iter()
            .zip(&sub.mlp)
            .map(|(&groups, &mlp)| {
                let kv = u64::from(groups) * head;
                let query = kv * group;
                let mlp = u64::from(mlp);
                let attention_bias = if self.attention_bias { query + 2 * kv + width } else { 0 };
                let mlp_bias = if self.mlp_bias { 2 * mlp + width } else { 0 };
                2 * width + 2 * width * query + 2 * width * kv + 3 * width * mlp + attention_bias + mlp_bias
            })
            .sum();
        embedding + layers + width
    }

    /// Checks that `sub` is a part of this model.
    ///
    /// # Errors
    /// [`Error::BadSubNetwork`] naming the first thing that does not fit.
    pub fn check(&self, sub: &SubNetwork) -> Result<(), Error> {
        let bad = |what: String| Err(Error::BadSubNetwork(what));
        if sub.layers.is_empty() {
            return bad("no layer is kept".into());
        }
        if !sub.layers.is_sorted_by(|a, b| a < b) {
            return bad("layers are not ascending and distinct".into());
        }
        if let Some(last) = sub.layers.last().filter(|&&l| l as usize >= self.num_layers) {
            return bad(format!("layer {last} of a model with {} layers", self.num_layers));
        }
        if sub.kv_groups.len() != sub.layers.len() || sub.mlp.len() != sub.layers.len() {
            return bad(format!(
                "{} layers, but kv_groups for {} and mlp for {}",
                sub.layers.len(),
                sub.kv_groups.len(),
                sub.mlp.len()
            ));
        }
        let within = |value: u32, most: usize| value >= 1 && value as usize <= most;
        if !within(sub.width, self.hidden_size) {
            return bad(format!("width {} of {}", sub.width, self.hidden_size));
        }
        if let Some(groups) = sub.kv_groups.iter().find(|g| !within(**g, self.num_kv_heads)) {
            return bad(format!("{groups} key/value groups of {}", self.num_kv_heads));
        }
        if let Some(mlp) = sub.mlp.iter().find(|m| !within(**m, self.mlp_size)) {
            return bad(format!("{mlp} neurons of {}", self.mlp_size));
        }
        sub.pairs.as_ref().map_or(Ok(()), |pairs| self.check_pairs(pairs))
    }

    /// Every network has one description: a list of all pairs is refused.
    fn check_pairs(&self, pairs: &[u32]) -> Result<(), Error> {
        let (all, bad) = (self.head_dim / 2, |what: String| Err(Error::BadSubNetwork(what)));
        if !pairs.is_sorted_by(|a, b| a < b) {
            return bad("rotary pairs are not ascending and distinct".into());
        }
        match pairs.last() {
            None => bad("no rotary pair is kept".into()),
            Some(&last) if last as usize >= all => bad(format!("rotary pair {last} of heads with {all}")),
            Some(_) if pairs.len() == all => bad("rotary pairs are listed though all are kept".into()),
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{tiny_config, tiny_sub_network};

    #[test]
    fn rotary_pairs_are_a_set_that_is_named_only_where_it_is_smaller() {
        let config = tiny_config();
        let with = |pairs: &[u32]| SubNetwork { pairs: Some(pairs.to_vec()), ..tiny_sub_network() };
        for (pairs, problem) in [
            (&[][..], "no rotary pair is kept"),
            (&[1, 0], "not ascending"),
            (&[2, 2], "not ascending"),
            (&[0, 4], "rotary pair 4 of heads with 4"),
            (&[0, 1, 2, 3], "though all are kept"),
        ] {
            let error = config.check(&with(pairs)).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        let cut = with(&[1, 3]);
        config.check(&cut).unwrap();
        assert_eq!((config.head_size(&cut), config.head_size(&config.full())), (4, 8));
        // Half of 8 dimensions, each a row or column of 40: of 12 query heads in two matrices, of 6 key/value heads in two.
        let (whole, half) = (config.parameters(&tiny_sub_network()), config.parameters(&cut));
        assert_eq!(whole - half, 4 * 40 * (2 * 12 + 2 * 6));
        // Nothing is said where nothing is cut, so that no hash changes.
        let json = serde_json::to_string(&tiny_sub_network()).unwrap();
        assert_eq!(json, r#"{"layers":[0,2,3],"width":40,"kv_groups":[3,1,2],"mlp":[64,80,33]}"#);
        assert_eq!(serde_json::from_str::<SubNetwork>(&serde_json::to_string(&cut).unwrap()).unwrap(), cut);
    }
}
