//! From a checkpoint to a super-network on disk.

use crate::{
    Checkpoint, Error, Importance, Network, SUPERNET_FILE, SUPERNET_SCHEMA, SuperNetworkFile, Text, Windows, checkpoint_sha256,
    importance::Statistics,
    method::Method,
    sort::{self, Orders},
    written::{Partial, WEIGHTS_FILE},
};
use candle_core::{DType, Tensor};
use edgewise_onnx::{MappedWeights, Source};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Largest accepted difference of a logit between checkpoint and sorted super-network, as a share of the largest logit.
/// Sums run in another order; the rest is exact.
const IDENTITY_TOLERANCE: f32 = 1e-3;
/// Tokens of the identity check.
pub(crate) const IDENTITY_TOKENS: usize = 64;

/// Text to take importance scores from.
#[derive(Debug, Clone)]
pub struct Calibration {
    /// The text.
    pub text: Text,
    /// Which windows of it.
    pub windows: Windows,
}

/// What [`prepare`] is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Reading the checkpoint's tensors.
    Load,
    /// Running the calibration text: windows done, of how many.
    Calibrate(usize, usize),
    /// Writing the sorted weights.
    Sort,
    /// Comparing the super-network with the checkpoint.
    Check,
}

/// A super-network that was just written.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Its folder.
    pub folder: PathBuf,
    /// What its `supernet.json` says.
    pub file: SuperNetworkFile,
}

/// A name for the super-network that these inputs give: the checkpoint's weights, configuration and tokenizer, the text, the
/// windows, and the method of the scores.
///
/// # Errors
/// [`Error::Io`] if the checkpoint cannot be read, [`Error::Artifact`] if its folder holds no weights.
pub fn cache_key(checkpoint: &Path, text: &str, windows: Windows, method: Method) -> Result<String, Error> {
    let mut hash = Sha256::new();
    hash.update(format!("{method} {} {} {}\n", checkpoint_sha256(checkpoint)?, windows.length, windows.count));
    for name in ["config.json", "tokenizer.json"] {
        hash.update(std::fs::read(checkpoint.join(name)).unwrap_or_default());
    }
    hash.update(text);
    Ok(hex::encode(&hash.finalize()[..16]))
}

/// Scores the checkpoint on the calibration text and writes a sorted super-network for each method into its folder, which must
/// not exist; it appears whole or not at all. All methods come from one pass over the text.
///
/// # Errors
/// [`Error::NotFinite`], [`Error::ShortText`], [`Error::Io`], [`Error::Identity`].
pub fn prepare(
    checkpoint: &Checkpoint,
    calibration: &Calibration,
    targets: &[(Method, &Path)],
    progress: &mut dyn FnMut(Step),
) -> Result<Vec<Prepared>, Error> {
    let config = &checkpoint.config;
    progress(Step::Load);
    let positions = calibration.windows.length.max(IDENTITY_TOKENS);
    let windows = calibration.text.windows(calibration.windows)?;
    let positions = positions.max(windows[0].len());
    let network = Network::load(config, checkpoint, positions)?;
    let count = windows.len();
    let heads = targets.iter().any(|(method, _)| method.heads);
    let statistics = Statistics::gather(&network, &windows, heads, &mut |done| progress(Step::Calibrate(done, count)))?;
    let scores = |(method, folder): &(Method, _)| {
        let scores = statistics.scores(&network, *method, &calibration.text, calibration.windows)?;
        Ok((*method, *folder, scores))
    };
    let scored = targets.iter().map(scores).collect::<Result<Vec<(Method, &Path, Importance)>, Error>>()?;
    let tokens: Vec<u32> = windows[0].iter().copied().take(IDENTITY_TOKENS).collect();
    let logits = network.logits(&network.hidden(&config.full(), &tokens, None)?)?;
    drop((network, statistics));
    let reference = Reference { tokens, logits, positions };
    scored
        .into_iter()
        .map(|(method, folder, scores)| write(checkpoint, calibration, method, scores, &reference, folder, progress))
        .collect()
}

/// What the checkpoint computes.
struct Reference {
    tokens: Vec<u32>,
    logits: Tensor,
    positions: usize,
}

fn write(
    checkpoint: &Checkpoint,
    calibration: &Calibration,
    method: Method,
    scores: Importance,
    reference: &Reference,
    folder: &Path,
    progress: &mut dyn FnMut(Step),
) -> Result<Prepared, Error> {
    let config = &checkpoint.config;
    progress(Step::Sort);
    let partial = Partial::beside(folder)?;
    sort::write(config, checkpoint, &Orders::new(config, &scores), &partial.path().join(WEIGHTS_FILE))?;

    progress(Step::Check);
    let weights = MappedWeights::open(partial.path())?;
    let sorted = Network::load(config, &weights, reference.positions)?;
    let logits = sorted.logits(&sorted.hidden(&config.full(), &reference.tokens, None)?)?;
    let (difference, tolerance) = identity(&reference.logits, &logits)?;

    let file = SuperNetworkFile {
        schema: SUPERNET_SCHEMA.into(),
        source: Source { name: checkpoint.name.clone(), sha256: checkpoint.sha256.clone() },
        model: config.clone(),
        method: method.to_string(),
        calibration_sha256: calibration.text.sha256.clone(),
        importance: scores,
        identity_max_abs_diff: difference,
        identity_tolerance: tolerance,
        finetuned: None,
    };
    let tokenizer =
        checkpoint.tokenizer.to_string(false).map_err(|e| Error::Tokenizer { path: folder.to_owned(), reason: e.to_string() })?;
    partial.put("tokenizer.json", tokenizer.as_bytes())?;
    partial.put(SUPERNET_FILE, &serde_json::to_vec(&file).expect("plain data serialises"))?;
    match partial.finish() {
        // Another process may have been faster with the same inputs.
        Err(_) if folder.join(SUPERNET_FILE).exists() => {}
        finished => finished?,
    }
    Ok(Prepared { folder: folder.to_owned(), file })
}

/// The largest difference of a logit from the reference, and the largest accepted one.
///
/// # Errors
/// [`Error::Identity`] if it is larger.
pub(crate) fn identity(reference: &Tensor, logits: &Tensor) -> Result<(f32, f32), Error> {
    let single = |x: Tensor| x.max_all()?.to_dtype(DType::F32)?.to_scalar::<f32>();
    let difference = single((logits - reference)?.abs()?)?;
    let tolerance = IDENTITY_TOLERANCE * single(reference.abs()?)?.max(1.0);
    if difference.is_nan() || difference > tolerance {
        return Err(Error::Identity { difference, tolerance });
    }
    Ok((difference, tolerance))
}
