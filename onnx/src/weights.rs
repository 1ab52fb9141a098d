//! Where an artifact's weights come from: named tensors in Hugging Face's layout, best as views of mapped files.

use crate::Error;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, Metadata},
    path::{Path, PathBuf},
};

/// Element types that weights may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ElementType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
}

impl ElementType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// A tensor where it lies.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// Type of the elements.
    pub element: ElementType,
    /// Dimensions, outermost first.
    pub shape: &'a [usize],
    /// Little-endian elements in row-major order.
    pub bytes: &'a [u8],
}

/// Named tensors, `[out, in]` for projections.
pub trait Weights: Sync {
    /// The tensor with this name.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] where there is none.
    fn tensor(&self, name: &str) -> Result<TensorView<'_>, Error>;
}

/// Names of tensors in Hugging Face's Llama layout.
pub mod names {
    /// `[vocabulary, width]`.
    pub const EMBEDDING: &str = "model.embed_tokens.weight";
    /// `[width]`.
    pub const FINAL_NORM: &str = "model.norm.weight";
    /// `[vocabulary, width]`; absent where the embedding serves.
    pub const OUTPUT: &str = "lm_head.weight";
    /// Projections of the attention with their place in the layer.
    pub const ATTENTION: [&str; 4] = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"];
    /// Projections of the MLP with their place in the layer.
    pub const MLP: [&str; 3] = ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];
    /// Norms of a layer.
    pub const NORMS: [&str; 2] = ["input_layernorm", "post_attention_layernorm"];

    /// The weight of a layer's part.
    pub fn weight(layer: usize, part: &str) -> String {
        format!("model.layers.{layer}.{part}.weight")
    }

    /// The bias of a layer's part.
    pub fn bias(layer: usize, part: &str) -> String {
        format!("model.layers.{layer}.{part}.bias")
    }
}

struct Entry {
    file: usize,
    element: ElementType,
    shape: Vec<usize>,
    range: std::ops::Range<usize>,
}

struct Opened {
    path: PathBuf,
    map: Mmap,
    /// Of the file that is mapped, whatever lies at the path by now.
    metadata: Metadata,
}

/// Safetensors files of a folder, mapped into memory.
pub struct MappedWeights {
    files: Vec<Opened>,
    entries: BTreeMap<String, Entry>,
}

impl std::fmt::Debug for MappedWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MappedWeights").field("files", &self.paths()).field("tensors", &self.entries.len()).finish()
    }
}

impl MappedWeights {
    /// Maps `model.safetensors`, or the files that `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Safetensors`] naming the file that is missing, truncated or of an unknown element type.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let index = folder.join("model.safetensors.index.json");
        if !index.exists() {
            return Self::from_files(&[folder.join("model.safetensors")]);
        }
        let bad = |reason: String| Error::Safetensors { path: index.clone(), reason };
        let text = std::fs::read_to_string(&index).map_err(Error::io("read", &index))?;
        let json: serde_json::Value = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
        let map = json["weight_map"].as_object().ok_or_else(|| bad("it has no `weight_map`".into()))?;
        let mut shards = BTreeSet::new();
        for shard in map.values() {
            let name = shard.as_str().ok_or_else(|| bad("`weight_map` holds something that is no file name".into()))?;
            if Path::new(name).file_name().is_none_or(|file| file != name) {
                return Err(bad(format!("shard `{name}` is not a plain file name")));
            }
            shards.insert(folder.join(name));
        }
        Self::from_files(&shards.into_iter().collect::<Vec<_>>())
    }

    fn from_files(paths: &[PathBuf]) -> Result<Self, Error> {
        let mut weights = Self { files: Vec::new(), entries: BTreeMap::new() };
        for path in paths {
            weights.add(path)?;
        }
        Ok(weights)
    }

    fn add(&mut self, path: &Path) -> Result<(), Error> {
        let bad = |reason: String| Error::Safetensors { path: path.to_owned(), reason };
        let file = File::open(path).map_err(Error::io("open", path))?;
        let metadata = file.metadata().map_err(Error::io("look at", path))?;
        // SAFETY: the map is only read; a file that another process changes meanwhile gives wrong numbers, not wrong types,
        // since every element type accepts every bit pattern. Truncation meanwhile is the one fault that is not caught.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io("map", path))?;
        let (header, tensors) = SafeTensors::read_metadata(&map).map_err(|e| bad(e.to_string()))?;
        let start = header + 8;
        for (name, info) in tensors.tensors() {
            let element = match info.dtype {
                Dtype::F32 => ElementType::F32,
                Dtype::F16 => ElementType::F16,
                Dtype::BF16 => ElementType::Bf16,
                // Buffers that some exporters leave in (masks, rotary tables) are of no use here.
                _ => continue,
            };
            let range = start + info.data_offsets.0..start + info.data_offsets.1;
            let expected = info.shape.iter().try_fold(element.size(), |n, &d| n.checked_mul(d));
            if range.end > map.len() || expected != Some(range.len()) {
                return Err(bad(format!("tensor `{name}` lies outside the file or has the wrong size")));
            }
            let entry = Entry { file: self.files.len(), element, shape: info.shape.clone(), range };
            if self.entries.insert(name.clone(), entry).is_some() {
                return Err(bad(format!("tensor `{name}` is also in another file")));
            }
        }
        self.files.push(Opened { path: path.to_owned(), map, metadata });
        Ok(())
    }

    /// The mapped files.
    pub fn paths(&self) -> Vec<&Path> {
        self.files.iter().map(|file| file.path.as_path()).collect()
    }

    /// The mapped files and what the file system said of them when they were opened.
    pub(crate) fn opened(&self) -> impl Iterator<Item = (&Path, &Metadata)> {
        self.files.iter().map(|file| (file.path.as_path(), &file.metadata))
    }

    /// Whether there is such a tensor.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Names of all tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }
}

impl Weights for MappedWeights {
    fn tensor(&self, name: &str) -> Result<TensorView<'_>, Error> {
        let entry = self.entries.get(name).ok_or_else(|| Error::MissingTensor(name.to_owned()))?;
        let bytes = &self.files[entry.file].map[entry.range.clone()];
        Ok(TensorView { element: entry.element, shape: &entry.shape, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::write_tiny_checkpoint;
    use proptest::prelude::*;

    #[test]
    fn a_truncated_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        write_tiny_checkpoint(folder.path(), 1).unwrap();
        let path = folder.path().join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
        let error = MappedWeights::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains("model.safetensors` is not a valid safetensors file"), "{error}");
    }

    #[test]
    fn an_index_cannot_leave_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("model.safetensors.index.json");
        std::fs::write(&index, r#"{"weight_map":{"a":"../secret"}}"#).unwrap();
        assert!(MappedWeights::open(folder.path()).unwrap_err().to_string().contains("not a plain file name"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn hostile_files_are_errors(flips in proptest::collection::vec((0usize..4000, any::<u8>()), 1..8), cut in 0usize..4000) {
            let folder = tempfile::tempdir().unwrap();
            write_tiny_checkpoint(folder.path(), 1).unwrap();
            let path = folder.path().join("model.safetensors");
            let mut bytes = std::fs::read(&path).unwrap();
            for (at, value) in flips { let at = at % bytes.len(); bytes[at] = value; }
            if cut > 2000 { bytes.truncate(cut % bytes.len()); }
            std::fs::write(&path, &bytes).unwrap();
            // Either refused, or every tensor it lists can be read to its end.
            if let Ok(weights) = MappedWeights::open(folder.path()) {
                for name in weights.names() { prop_assert!(weights.tensor(name).is_ok()); }
            }
        }
    }
}
