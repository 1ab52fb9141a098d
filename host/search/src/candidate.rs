//! One configuration of a sub-network, in the exact JSON shape of the command line's `config`.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Which layers of the super-network are kept, and how wide each of them is.
///
/// `kv_groups` and `mlp` have one entry per *kept* layer, in the order of `layers`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// Numbers of the kept layers in the full network, ascending.
    pub layers: Vec<u32>,
    /// Width of the residual stream.
    pub width: u32,
    /// Key/value groups of each kept layer.
    pub kv_groups: Vec<u32>,
    /// Neurons of the feed-forward part of each kept layer.
    pub mlp: Vec<u32>,
    /// Dimensions of every attention head, where they are fewer than the full network's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_size: Option<u32>,
    /// The ranking by which its super-network is sorted, where that is not the study's own: sizes say how many parts are kept,
    /// this says which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
}

/// Why a configuration is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CandidateError {
    /// No layer is kept.
    #[error("no layer is kept")]
    NoLayers,
    /// Layer numbers repeat or go down.
    #[error("layer {0} is not above the one before it")]
    LayersNotAscending(u32),
    /// A per-layer list has another length than the list of layers.
    #[error("`{name}` has {found} entries for {layers} layers")]
    WrongLength {
        /// The list.
        name: &'static str,
        /// Its length.
        found: usize,
        /// Number of kept layers.
        layers: usize,
    },
    /// Rotary positions turn dimensions of a head in pairs.
    #[error("`head_size` is {0}, it must be even")]
    OddHead(u32),
    /// A size is zero.
    #[error("`{0}` holds a zero")]
    Zero(&'static str),
}

impl Candidate {
    /// The name of the configuration: `c-` and the first 12 hexadecimal digits of the SHA-256 of its canonical JSON (the
    /// fields in the order of this type, no white space).
    pub fn id(&self) -> String {
        // Serialising lists of integers into memory has no way to fail.
        let json = serde_json::to_vec(self).unwrap_or_default();
        format!("c-{}", &hex::encode(Sha256::digest(json))[..12])
    }

    /// Takes layers away, by their places among those that are kept.
    pub(crate) fn drop_layers(&mut self, places: std::ops::Range<usize>) {
        self.layers.drain(places.clone());
        self.kv_groups.drain(places.clone());
        self.mlp.drain(places);
    }

    /// Checks what holds for every configuration of every space.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), CandidateError> {
        let layers = self.layers.len();
        if layers == 0 {
            return Err(CandidateError::NoLayers);
        }
        if let Some(pair) = self.layers.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(CandidateError::LayersNotAscending(pair[1]));
        }
        for (name, list) in [("kv_groups", &self.kv_groups), ("mlp", &self.mlp)] {
            if list.len() != layers {
                return Err(CandidateError::WrongLength { name, found: list.len(), layers });
            }
            if list.contains(&0) {
                return Err(CandidateError::Zero(name));
            }
        }
        match self.head_size {
            _ if self.width == 0 => Err(CandidateError::Zero("width")),
            Some(0) => Err(CandidateError::Zero("head_size")),
            Some(odd) if !odd.is_multiple_of(2) => Err(CandidateError::OddHead(odd)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Candidate {
        Candidate {
            layers: vec![0, 1, 3],
            width: 512,
            kv_groups: vec![3, 3, 2],
            mlp: vec![1536, 1024, 1024],
            head_size: None,
            order: None,
        }
    }

    #[test]
    fn json_is_the_documented_shape_and_the_id_is_stable() {
        let json = r#"{"layers":[0,1,3],"width":512,"kv_groups":[3,3,2],"mlp":[1536,1024,1024]}"#;
        assert_eq!(serde_json::to_string(&sample()).unwrap(), json);
        assert_eq!(serde_json::from_str::<Candidate>(json).unwrap(), sample());
        // Written down, not computed: an id is stored in studies and printed, so it may never change.
        assert_eq!(sample().id(), "c-280dd492c765");
        let other = Candidate { order: Some("magnitude".to_owned()), ..sample() };
        let json = json.replace('}', r#","order":"magnitude"}"#);
        assert_eq!(serde_json::to_string(&other).unwrap(), json);
        assert_ne!(other.id(), sample().id());
        let other = Candidate { head_size: Some(48), ..sample() };
        assert_eq!(serde_json::from_str::<Candidate>(&serde_json::to_string(&other).unwrap()).unwrap(), other);
        assert_ne!(other.id(), sample().id());
    }

    #[test]
    fn broken_configurations_are_named() {
        let broken = |change: fn(&mut Candidate)| {
            let mut c = sample();
            change(&mut c);
            c.check().unwrap_err().to_string()
        };
        assert_eq!(sample().check(), Ok(()));
        assert_eq!(broken(|c| c.layers.clear()), "no layer is kept");
        assert_eq!(broken(|c| c.layers[2] = 1), "layer 1 is not above the one before it");
        assert_eq!(broken(|c| c.mlp.truncate(2)), "`mlp` has 2 entries for 3 layers");
        assert_eq!(broken(|c| c.kv_groups[0] = 0), "`kv_groups` holds a zero");
        assert_eq!(broken(|c| c.width = 0), "`width` holds a zero");
        assert_eq!(broken(|c| c.head_size = Some(0)), "`head_size` holds a zero");
        assert_eq!(broken(|c| c.head_size = Some(33)), "`head_size` is 33, it must be even");
    }
}
