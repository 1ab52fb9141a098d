//! A prepared super-network.

use crate::{Error, Finetuned, Importance, Network, Placement, sort::descending, tokenizer};
use edgewise_onnx::{
    Artifact, ArtifactWriter, ChunkSource, Extras, MappedWeights, ModelConfig, Source, SubNetwork, SuperNetworkIndex,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// File that makes a folder a super-network.
pub const SUPERNET_FILE: &str = "supernet.json";
/// Version of that file's layout.
pub const SUPERNET_SCHEMA: &str = "edgewise.supernet/1";
/// File in which the hashes of a super-network's chunks are kept, so that they are computed once.
const INDEX_CACHE: &str = "index.cache";

/// The content of `supernet.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuperNetworkFile {
    /// [`SUPERNET_SCHEMA`].
    pub schema: String,
    /// The checkpoint.
    pub source: Source,
    /// Its architecture.
    pub model: ModelConfig,
    /// How scores were made.
    pub method: String,
    /// SHA-256 of the calibration text.
    pub calibration_sha256: String,
    /// Scores in the checkpoint's order.
    pub importance: Importance,
    /// Largest difference of a logit from the checkpoint's; where it was fine-tuned, from that of the network with its adapters.
    pub identity_max_abs_diff: f32,
    /// Largest accepted one.
    pub identity_tolerance: f32,
    /// How the weights were fine-tuned, if they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finetuned: Option<Finetuned>,
}

impl SuperNetworkFile {
    /// Reads what lies in a super-network's folder.
    ///
    /// # Errors
    /// [`Error::NotAModel`], and [`Error::Artifact`] for an architecture that cannot be.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let not = |reason: String| Error::NotAModel { path: folder.to_owned(), reason };
        let path = folder.join(SUPERNET_FILE);
        let bytes = std::fs::read(&path).map_err(|e| not(format!("cannot read {SUPERNET_FILE}: {e}")))?;
        let file: Self = serde_json::from_slice(&bytes).map_err(|e| not(format!("{SUPERNET_FILE}: {e}")))?;
        if file.schema != SUPERNET_SCHEMA {
            return Err(not(format!("its schema is `{}`, this version reads `{SUPERNET_SCHEMA}`", file.schema)));
        }
        file.model.validate()?;
        if !file.importance.fits(&file.model) {
            return Err(not(format!("{SUPERNET_FILE}: its scores are not of its model's parts")));
        }
        Ok(file)
    }

    /// The name of the ranking that neurons and key/value groups are sorted by.
    pub fn ranking(&self) -> &str {
        self.method.split('+').next().unwrap_or_default()
    }

    /// The name of the ranking of layers.
    pub fn layer_ranking(&self) -> &str {
        self.method.split(['+', '/']).nth(1).unwrap_or_default()
    }
}

/// Sorted weights on disk, mapped, with what belongs to them.
pub struct SuperNetwork {
    /// What `supernet.json` says.
    pub file: SuperNetworkFile,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    folder: PathBuf,
    pub(crate) weights: MappedWeights,
    pub(crate) tokenizer_json: Vec<u8>,
}

impl std::fmt::Debug for SuperNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SuperNetwork").field("source", &self.file.source).finish_non_exhaustive()
    }
}

impl SuperNetwork {
    /// Whether the folder says that it is one.
    pub fn is_one(folder: &Path) -> bool {
        folder.join(SUPERNET_FILE).is_file()
    }

    /// Opens what [`crate::prepare`] wrote.
    ///
    /// # Errors
    /// [`Error::NotAModel`], [`Error::Artifact`], [`Error::Tokenizer`].
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let file = SuperNetworkFile::read(folder)?;
        let path = folder.join("tokenizer.json");
        let tokenizer_json = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let tokenizer =
            tokenizer::parse(&tokenizer_json).map_err(|reason| Error::Tokenizer { path: folder.to_owned(), reason })?;
        Ok(Self { file, tokenizer, folder: folder.to_owned(), weights: MappedWeights::open(folder)?, tokenizer_json })
    }

    /// The architecture.
    pub fn config(&self) -> &ModelConfig {
        &self.file.model
    }

    /// Loads the weights for evaluation; sequences may have up to `positions` tokens.
    ///
    /// # Errors
    /// [`Error::Artifact`], [`Error::NotFinite`].
    pub fn network(&self, positions: usize) -> Result<Network, Error> {
        Network::load(self.config(), &self.weights, positions)
    }

    /// As [`Self::network`], to a place of the caller's choice.
    ///
    /// # Errors
    /// As [`Self::network`], and candle's where the place has no room.
    pub fn network_to(&self, positions: usize, to: &Placement) -> Result<Network, Error> {
        Network::load_to(self.config(), &self.weights, positions, to)
    }

    /// What makes artifacts of its sub-networks.
    pub fn artifacts(&self) -> ArtifactWriter<'_, MappedWeights> {
        ArtifactWriter::new(self.config(), &self.weights, self.file.source.clone(), self.extras())
    }

    /// What a device is sent of it once, so that it can make the artifacts itself: the index, and where its chunks' bytes are.
    /// Hashes are kept beside the weights.
    ///
    /// # Errors
    /// [`Error::Artifact`].
    pub fn index(&self) -> Result<(SuperNetworkIndex, Vec<ChunkSource<'_>>), Error> {
        let (source, extras) = (&self.file.source, self.extras());
        let cache = self.folder.join(INDEX_CACHE);
        match SuperNetworkIndex::cached(&cache, self.config(), &self.weights, source, &extras) {
            // The super-network may lie where nothing can be written; then its hashes are computed anew.
            Err(edgewise_onnx::Error::Io { .. }) => Ok(SuperNetworkIndex::of(self.config(), &self.weights, source, &extras)?),
            made => Ok(made?),
        }
    }

    fn extras(&self) -> Extras {
        Extras { tokenizer: Some(self.tokenizer_json.clone()), model_type: "llama".into() }
    }

    /// The network as a whole.
    pub fn full(&self) -> SubNetwork {
        self.config().full()
    }

    /// The rotary pairs that heads of `size` dimensions keep, ascending: the most important ones. `None` where heads stay whole.
    ///
    /// # Errors
    /// [`Error::HeadSize`]; [`Error::NoHeadScores`] if the super-network was not prepared for smaller heads.
    pub fn pairs(&self, size: u32) -> Result<Option<Vec<u32>>, Error> {
        let of = self.config().head_dim;
        if size == 0 || !size.is_multiple_of(2) || size as usize > of {
            return Err(Error::HeadSize { size, of });
        }
        if size as usize == of {
            return Ok(None);
        }
        let scores = &self.file.importance.heads.as_ref().ok_or(Error::NoHeadScores)?.pairs;
        let mut kept: Vec<u32> = descending(scores)[..size as usize / 2].iter().map(|&pair| pair as u32).collect();
        kept.sort_unstable();
        Ok(Some(kept))
    }

    /// Layers from the least important to the most.
    pub fn layer_order(&self) -> Vec<u32> {
        let scores = &self.file.importance.layers;
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        order.sort_by(|&a, &b| scores[a as usize].total_cmp(&scores[b as usize]));
        order
    }
}

/// Opens an artifact for evaluation on the host: its network, which sub-network of that it is (all of it), its tokenizer.
///
/// # Errors
/// [`Error::Artifact`], [`Error::Tokenizer`], [`Error::NotFinite`].
pub fn open_artifact(artifact: &Artifact, positions: usize) -> Result<(Network, SubNetwork, Tokenizer), Error> {
    let (network, whole) = Network::load_artifact(artifact, positions)?;
    Ok((network, whole, tokenizer::open_tokenizer(artifact)?))
}
