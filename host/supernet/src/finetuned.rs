//! A super-network made of another one by training: the same layout, other weights, and a record of how they came about.

use crate::{
    Error, Network, SUPERNET_FILE, SuperNetwork, SuperNetworkFile, checkpoint_sha256,
    prepare::{IDENTITY_TOKENS, identity},
    written::{self, Partial, WEIGHTS_FILE},
};
use candle_core::{DType, Device, Tensor};
use edgewise_onnx::{Source, SubNetwork, TensorView, Weights, tensors};
use safetensors::{Dtype, View};
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// The log of a fine-tuning, beside the weights that came of it.
pub const FINETUNE_LOG: &str = "finetune.jsonl";

/// How fine-tuned weights came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finetuned {
    /// The `source.sha256` of the super-network that was trained.
    pub parent_sha256: String,
    /// Every setting that the result depends on.
    pub settings: serde_json::Value,
    /// SHA-256 of the training data.
    pub data_sha256: String,
    /// Updates of the weights.
    pub steps: u64,
    /// Tokens that the full network was trained on; each sub-network saw as many.
    pub tokens: u64,
    /// The sub-networks that draws came from, ordered by size, where they did not come from a whole space: who searches the
    /// result does well to look at them first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trained: Vec<SubNetwork>,
}

/// A tensor on its way into a file.
enum Written<'a> {
    /// As it was trained.
    Trained(Tensor),
    /// As it lies in the parent's file.
    Kept(TensorView<'a>),
}

impl View for Written<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Self::Trained(_) => Dtype::F32,
            Self::Kept(view) => written::dtype(view.element),
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Self::Trained(tensor) => tensor.dims(),
            Self::Kept(view) => view.shape,
        }
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Trained(tensor) => View::data(tensor),
            Self::Kept(view) => view.bytes.into(),
        }
    }

    fn data_len(&self) -> usize {
        match self {
            Self::Trained(tensor) => tensor.elem_count() * DType::F32.size_in_bytes(),
            Self::Kept(view) => view.bytes.len(),
        }
    }
}

impl SuperNetwork {
    /// Merges what was trained of `network`, which was loaded from here, and writes the result into `folder`, which must not
    /// exist and appears whole or not at all. Trained tensors are written in single precision, the others bit for bit.
    ///
    /// The merged network must compute what the network with its adapters computes; `supernet.json` says how exactly it does,
    /// and its scores stay those of the parent, whose order the weights keep.
    ///
    /// # Errors
    /// [`Error::Identity`], [`Error::Io`], [`Error::NotFinite`].
    pub fn write_finetuned(
        &self,
        network: &mut Network,
        record: Finetuned,
        log: &[u8],
        folder: &Path,
    ) -> Result<SuperNetworkFile, Error> {
        let vocabulary = self.config().vocab_size as u64;
        let count = IDENTITY_TOKENS.min(network.positions()) as u64;
        let sample: Vec<u32> = (0..count).map(|i| ((i * 7919 + 13) * 31 % vocabulary) as u32).collect();
        let logits = |network: &Network| network.logits(&network.hidden(&self.full(), &sample, None)?);
        let reference = logits(network)?.detach();
        let changed: BTreeSet<String> = network.merge()?.into_iter().collect();
        let (difference, tolerance) = identity(&reference, &logits(network)?)?;

        let mut trained = BTreeMap::new();
        network.for_each_tensor(&mut |name, tensor| {
            if changed.contains(&name) {
                trained.insert(name, tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu)?);
            }
            Ok(())
        })?;
        let mut all = Vec::new();
        for (name, _) in tensors(self.config()) {
            let written = match trained.remove(&name) {
                Some(tensor) => {
                    let count = tensor.flatten_all()?.to_vec1::<f32>()?.iter().filter(|v| !v.is_finite()).count();
                    if count > 0 {
                        return Err(Error::NotFinite { name, count });
                    }
                    Written::Trained(tensor)
                }
                None => Written::Kept(self.weights.tensor(&name)?),
            };
            all.push((name, written));
        }

        let partial = Partial::beside(folder)?;
        written::safetensors(all, &partial.path().join(WEIGHTS_FILE))?;
        let file = SuperNetworkFile {
            source: Source { name: self.file.source.name.clone(), sha256: checkpoint_sha256(partial.path())? },
            identity_max_abs_diff: difference,
            identity_tolerance: tolerance,
            finetuned: Some(record),
            ..self.file.clone()
        };
        partial.put("tokenizer.json", &self.tokenizer_json)?;
        partial.put(FINETUNE_LOG, log)?;
        partial.put(SUPERNET_FILE, &serde_json::to_vec(&file).expect("plain data serialises"))?;
        partial.finish()?;
        Ok(file)
    }
}
