//! Opening what users call a model.

use crate::{
    Error, SuperNetwork, SuperNetworkFile,
    gguf::{DenseWeights, Gguf},
    hf_config, tokenizer,
};
use edgewise_onnx::{MappedWeights, ModelConfig, TensorView, Weights};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};
use tokenizers::Tokenizer;

/// A pre-trained model: architecture, weights in Hugging Face's layout, tokenizer.
pub struct Checkpoint {
    /// Name for people.
    pub name: String,
    /// SHA-256 of the weight file, or of the list of their hashes where there are several.
    pub sha256: String,
    /// The architecture.
    pub config: ModelConfig,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    weights: Storage,
}

enum Storage {
    Mapped(MappedWeights),
    Dense(DenseWeights),
}

impl Weights for Checkpoint {
    fn tensor(&self, name: &str) -> Result<TensorView<'_>, edgewise_onnx::Error> {
        match &self.weights {
            Storage::Mapped(weights) => weights.tensor(name),
            Storage::Dense(weights) => weights.tensor(name),
        }
    }
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint").field("name", &self.name).field("sha256", &self.sha256).finish_non_exhaustive()
    }
}

impl Checkpoint {
    /// Reads a folder in Hugging Face layout, a prepared super-network or a GGUF file.
    ///
    /// # Errors
    /// Any of [`Error`]; each names the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if path.is_dir() {
            return Self::open_folder(path);
        }
        let not = |reason: &str| Error::NotAModel { path: path.to_owned(), reason: reason.to_owned() };
        if !path.exists() {
            return Err(not("there is no such file or folder"));
        }
        let mut magic = [0; 4];
        let known = File::open(path).and_then(|mut f| f.read_exact(&mut magic)).is_ok() && &magic == b"GGUF";
        if !known {
            return Err(not("it is a file, but not a GGUF one"));
        }
        let gguf = Gguf::open(path)?;
        let config = gguf.config()?;
        Ok(Self {
            name: gguf.name().unwrap_or_else(|| stem(path)),
            sha256: checkpoint_sha256(path)?,
            tokenizer: gguf.tokenizer()?,
            weights: Storage::Dense(gguf.weights(&config)?),
            config,
        })
    }

    fn open_folder(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("config.json");
        let config = match std::fs::read_to_string(&path) {
            // A super-network is a checkpoint, too, of which `supernet.json` says the architecture.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && SuperNetwork::is_one(folder) => {
                SuperNetworkFile::read(folder)?.model
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NotAModel { path: folder.to_owned(), reason: "the folder has no config.json".into() });
            }
            other => hf_config::parse(&other.map_err(Error::io("read", &path))?, &path)?,
        };
        let weights = MappedWeights::open(folder)?;
        let tokenizer = tokenizer::read(&folder.join("tokenizer.json"), folder)?;
        Ok(Self { name: stem(folder), sha256: checkpoint_sha256(folder)?, config, tokenizer, weights: Storage::Mapped(weights) })
    }
}

fn stem(path: &Path) -> String {
    path.canonicalize()
        .ok()
        .and_then(|p| p.file_stem().map(|s| s.to_string_lossy().into_owned()))
        .unwrap_or_else(|| path.display().to_string())
}

/// SHA-256 of a checkpoint's weights: of the file itself, or, for several files, of the lines `hash name`.
///
/// # Errors
/// [`Error::Io`], and [`Error::Artifact`] if the folder holds no safetensors.
pub fn checkpoint_sha256(path: &Path) -> Result<String, Error> {
    let files: Vec<PathBuf> = if path.is_dir() {
        MappedWeights::open(path)?.paths().into_iter().map(Path::to_owned).collect()
    } else {
        vec![path.to_owned()]
    };
    let hashes = files.iter().map(|file| file_sha256(file)).collect::<Result<Vec<_>, _>>()?;
    if let [one] = &hashes[..] {
        return Ok(one.clone());
    }
    let mut all = Sha256::new();
    for (file, hash) in files.iter().zip(&hashes) {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        all.update(format!("{hash} {name}\n"));
    }
    Ok(hex::encode(all.finalize()))
}

fn file_sha256(path: &Path) -> Result<String, Error> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let n = file.read(&mut buffer).map_err(Error::io("read", path))?;
        if n == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..n]);
    }
}
