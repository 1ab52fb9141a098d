//! Writing an artifact's folder and opening one.

use crate::{
    CONFIG_FILE, DATA_FILE, Error, MANIFEST_FILE, MANIFEST_SCHEMA, MODEL_FILE, Manifest, ModelConfig, PROBE_FILE, Precision,
    ProbeFile, Source, SubNetwork, TOKENIZER_FILE, Weights,
    decoder::Decoder,
    graph::Cut,
    manifest::FileEntry,
    rope::rotary_tables,
    slice::little_endian,
};
use prost::{Message, bytes::Bytes};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::mpsc,
};

/// Tensors that are prepared ahead of the one being written.
const AHEAD: usize = 2;

/// An artifact on disk.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// Its folder.
    pub folder: PathBuf,
    /// SHA-256 of its manifest, in hexadecimal: the artifact's name.
    pub sha256: String,
    /// Its manifest.
    pub manifest: Manifest,
}

impl Artifact {
    /// Opens an artifact and checks that its files are there with the sizes that the manifest says. Their hashes are checked
    /// by whoever ships or stores them.
    ///
    /// # Errors
    /// [`Error::NotAnArtifact`] saying what is wrong.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let (manifest, bytes) = Manifest::read(folder)?;
        let bad = |reason: String| Error::NotAnArtifact { path: folder.to_owned(), reason };
        for needed in [MODEL_FILE, DATA_FILE] {
            if !manifest.files.contains_key(needed) {
                return Err(bad(format!("its manifest does not list `{needed}`")));
            }
        }
        for (name, entry) in &manifest.files {
            let found = fs::metadata(folder.join(name)).map_err(|e| bad(format!("`{name}`: {e}")))?.len();
            if found != entry.bytes {
                return Err(bad(format!("`{name}` has {found} bytes, the manifest says {}", entry.bytes)));
            }
        }
        Ok(Self { folder: folder.to_owned(), sha256: hex::encode(Sha256::digest(&bytes)), manifest })
    }

    /// Recomputes the hash of every file.
    ///
    /// # Errors
    /// [`Error::NotAnArtifact`] naming the first file whose bytes are not those of the manifest.
    pub fn verify(&self) -> Result<(), Error> {
        for (name, entry) in &self.manifest.files {
            let path = self.folder.join(name);
            let mut file = File::open(&path).map_err(Error::io("open", &path))?;
            let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
            loop {
                let n = file.read(&mut buffer).map_err(Error::io("read", &path))?;
                if n == 0 {
                    break;
                }
                hash.update(&buffer[..n]);
            }
            if hex::encode(hash.finalize()) != entry.sha256 {
                let reason = format!("`{name}` was changed after the artifact was made");
                return Err(Error::NotAnArtifact { path: self.folder.clone(), reason });
            }
        }
        Ok(())
    }

    /// Total size of its files, in bytes.
    pub fn bytes(&self) -> u64 {
        self.manifest.files.values().map(|f| f.bytes).sum()
    }

    /// The host's reference logits, where they were stored beside it.
    ///
    /// # Errors
    /// [`Error::NotAnArtifact`] if the file is damaged.
    pub fn probe(&self) -> Result<Option<ProbeFile>, Error> {
        ProbeFile::read(&self.folder)
    }

    /// Stores reference logits beside the artifact.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_probe(&self, probe: &ProbeFile) -> Result<(), Error> {
        let path = self.folder.join(PROBE_FILE);
        let bytes = serde_json::to_vec(probe).expect("a probe has no map");
        fs::write(&path, bytes).map_err(Error::io("write", &path))
    }
}

/// Files that an artifact carries as they are.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// Content of `tokenizer.json`, where the model has one.
    pub tokenizer: Option<Vec<u8>>,
    /// `model_type` for `config.json`.
    pub model_type: String,
}

/// Makes artifacts of sub-networks of one super-network.
pub struct ArtifactWriter<'a, W: Weights> {
    config: &'a ModelConfig,
    weights: &'a W,
    source: Source,
    extras: Extras,
    rotary: (Vec<f32>, Vec<f32>),
}

impl<'a, W: Weights> ArtifactWriter<'a, W> {
    /// `weights` are those of the sorted super-network that `config` describes.
    pub fn new(config: &'a ModelConfig, weights: &'a W, source: Source, extras: Extras) -> Self {
        Self { config, weights, source, extras, rotary: rotary_tables(config, config.max_positions) }
    }

    /// Writes the artifact of `sub` into `folder`, which is made if needed. `model.onnx` and the manifest come last, so that
    /// a folder with a manifest is whole.
    ///
    /// # Errors
    /// [`Error::BadSubNetwork`], [`Error::MissingTensor`], [`Error::BadTensor`], and [`Error::Io`] when the disk is full.
    pub fn write(&self, sub: &SubNetwork, folder: &Path) -> Result<Artifact, Error> {
        let (mut model, builder) = Decoder::build(self.config, sub, DATA_FILE)?;
        fs::create_dir_all(folder).map_err(Error::io("make", folder))?;
        let manifest_path = folder.join(MANIFEST_FILE);
        match fs::remove_file(&manifest_path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("replace", &manifest_path)(e)),
            _ => {}
        }
        let mut files = BTreeMap::new();
        files.insert(DATA_FILE.to_owned(), self.write_data(&builder, &folder.join(DATA_FILE))?);
        if let Some(graph) = &mut model.graph {
            for (index, cut) in &builder.inline {
                let values = self.cut(cut)?;
                graph.initializer[*index].raw_data = Some(Bytes::copy_from_slice(&little_endian(&values)));
            }
        }
        let mut put = |name: &str, bytes: &[u8]| -> Result<(), Error> {
            let path = folder.join(name);
            fs::write(&path, bytes).map_err(Error::io("write", &path))?;
            files.insert(name.to_owned(), entry(bytes));
            Ok(())
        };
        put(CONFIG_FILE, &self.config_json(sub))?;
        if let Some(tokenizer) = &self.extras.tokenizer {
            put(TOKENIZER_FILE, tokenizer)?;
        }
        put(MODEL_FILE, &model.encode_to_vec())?;
        let manifest = Manifest {
            schema: MANIFEST_SCHEMA.into(),
            producer: concat!("edgewise ", env!("CARGO_PKG_VERSION")).into(),
            source: self.source.clone(),
            candidate: sub.clone(),
            precision: Precision::Fp32,
            parameters: self.config.parameters(sub),
            model: self.config.clone(),
            files,
        };
        let bytes = manifest.to_bytes();
        fs::write(&manifest_path, &bytes).map_err(Error::io("write", &manifest_path))?;
        Ok(Artifact { folder: folder.to_owned(), sha256: hex::encode(Sha256::digest(&bytes)), manifest })
    }

    /// Streams the data file: while one tensor is hashed and written, the next ones are cut.
    fn write_data(&self, plan: &crate::graph::GraphBuilder, path: &Path) -> Result<FileEntry, Error> {
        let mut file = File::create(path).map_err(Error::io("make", path))?;
        let (sender, receiver) = mpsc::sync_channel::<Result<Vec<f32>, Error>>(AHEAD);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for placed in &plan.placed {
                    if sender.send(self.cut(&placed.cut)).is_err() {
                        return;
                    }
                }
            });
            let (mut hash, mut at) = (Sha256::new(), 0);
            let zeros = [0; 4096];
            for placed in &plan.placed {
                let values = receiver.recv().expect("the cutting thread sends one result per tensor")?;
                let bytes = little_endian(&values);
                debug_assert_eq!(bytes.len() as u64, placed.bytes);
                for piece in [&zeros[..(placed.offset - at) as usize], &bytes] {
                    hash.update(piece);
                    file.write_all(piece).map_err(Error::io("write", path))?;
                }
                at = placed.offset + placed.bytes;
            }
            debug_assert_eq!(at, plan.data_bytes());
            Ok(FileEntry { sha256: hex::encode(hash.finalize()), bytes: at })
        })
    }

    fn cut(&self, cut: &Cut) -> Result<Vec<f32>, Error> {
        Ok(match cut {
            Cut::Vector { source, length, of } => self.weights.tensor(source)?.expect(source, &[*of])?.prefix(*length),
            Cut::Matrix { source, rows, columns, of, transposed } => {
                let view = self.weights.tensor(source)?.expect(source, of)?;
                if *transposed { view.corner_transposed(*rows, *columns) } else { view.corner(*rows, *columns) }
            }
            Cut::Cosines => self.rotary.0.clone(),
            Cut::Sines => self.rotary.1.clone(),
        })
    }

    /// A configuration that tools of the Hugging Face family read. Sizes that differ between layers stand as lists under
    /// `edgewise`; the plain keys then hold the largest.
    fn config_json(&self, sub: &SubNetwork) -> Vec<u8> {
        let config = self.config;
        let groups = sub.kv_groups.iter().copied().max().unwrap_or(1);
        let json = serde_json::json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": self.extras.model_type,
            "vocab_size": config.vocab_size,
            "hidden_size": sub.width,
            "num_hidden_layers": sub.layers.len(),
            "num_attention_heads": groups as usize * config.heads_per_group(),
            "num_key_value_heads": groups,
            "head_dim": config.head_dim,
            "intermediate_size": sub.mlp.iter().copied().max().unwrap_or(1),
            "max_position_embeddings": config.max_positions,
            "rope_theta": config.rope_theta,
            "rms_norm_eps": config.norm_eps,
            "hidden_act": "silu",
            "tie_word_embeddings": config.tied_embeddings,
            "attention_bias": config.attention_bias,
            "mlp_bias": config.mlp_bias,
            "bos_token_id": config.bos_token,
            "eos_token_id": config.eos_tokens,
            "torch_dtype": "float32",
            "edgewise": { "num_key_value_heads": sub.kv_groups, "intermediate_size": sub.mlp, "source_layers": sub.layers },
        });
        let mut bytes = serde_json::to_vec_pretty(&json).expect("JSON values always serialise");
        bytes.push(b'\n');
        bytes
    }
}

fn entry(bytes: &[u8]) -> FileEntry {
    FileEntry { sha256: hex::encode(Sha256::digest(bytes)), bytes: bytes.len() as u64 }
}
