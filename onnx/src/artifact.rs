//! Writing an artifact's folder and opening one.

use crate::{
    CONFIG_FILE, DATA_FILE, Error, MANIFEST_FILE, MANIFEST_SCHEMA, MODEL_FILE, Manifest, ModelConfig, PROBE_FILE, Precision,
    ProbeFile, SHARED_DATA_FILE, Source, SubNetwork, TOKENIZER_FILE, Weights,
    decoder::Decoder,
    graph::{ALIGNMENT, Cut, GraphBuilder, Placed},
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
    sync::{Mutex, PoisonError, mpsc},
};

/// Tensors in memory at a time: one being cut, one being hashed, one being written.
const BUFFERS: usize = 3;
/// What stands between two tensors.
const PADDING: [u8; ALIGNMENT as usize] = [0; ALIGNMENT as usize];

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
        for needed in [MODEL_FILE, DATA_FILE, SHARED_DATA_FILE] {
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
    /// Where files of tensors that depend on the width alone are kept, and what is there.
    shared: Option<PathBuf>,
    known: Mutex<BTreeMap<u32, FileEntry>>,
}

impl<'a, W: Weights> ArtifactWriter<'a, W> {
    /// `weights` are those of the sorted super-network that `config` describes.
    pub fn new(config: &'a ModelConfig, weights: &'a W, source: Source, extras: Extras) -> Self {
        let rotary = rotary_tables(config, config.max_positions);
        Self { config, weights, source, extras, rotary, shared: None, known: Mutex::default() }
    }

    /// Keeps in `folder` what artifacts of the same width share, so that it is written and hashed once; artifacts on the same
    /// file system get links to it.
    #[must_use]
    pub fn sharing(self, folder: &Path) -> Self {
        Self { shared: Some(folder.to_owned()), ..self }
    }

    /// Writes the artifact of `sub` into `folder`, which is made if needed. `model.onnx` and the manifest come last, so that
    /// a folder with a manifest is whole.
    ///
    /// # Errors
    /// [`Error::BadSubNetwork`], [`Error::MissingTensor`], [`Error::BadTensor`], and [`Error::Io`] when the disk is full.
    pub fn write(&self, sub: &SubNetwork, folder: &Path) -> Result<Artifact, Error> {
        let (mut model, builder) = Decoder::build(self.config, sub, [DATA_FILE, SHARED_DATA_FILE])?;
        fs::create_dir_all(folder).map_err(Error::io("make", folder))?;
        let manifest_path = folder.join(MANIFEST_FILE);
        match fs::remove_file(&manifest_path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("replace", &manifest_path)(e)),
            _ => {}
        }
        let mut files = BTreeMap::new();
        files.insert(DATA_FILE.to_owned(), self.write_data(&builder, 0, &folder.join(DATA_FILE))?);
        files.insert(SHARED_DATA_FILE.to_owned(), self.shared_data(&builder, sub.width, &folder.join(SHARED_DATA_FILE))?);
        if let Some(graph) = &mut model.graph {
            for (index, cut) in &builder.inline {
                let elements = graph.initializer[*index].dims.iter().product::<i64>() as usize;
                let mut values = vec![0.0; elements];
                self.cut(cut, &mut values)?;
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

    /// Links the tensors that depend on the width alone, or writes them where that is not possible.
    fn shared_data(&self, plan: &GraphBuilder, width: u32, path: &Path) -> Result<FileEntry, Error> {
        let kept = self.shared.as_ref().map(|folder| folder.join(format!("width-{width}")));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(kept), Some(entry)) = (&kept, known.get(&width)) {
            // The artifact's folder may hold a file of another candidate.
            let _ = fs::remove_file(path);
            if fs::hard_link(kept, path).is_ok() {
                return Ok(entry.clone());
            }
        }
        let entry = self.write_data(plan, 1, path)?;
        // Without a link the next artifact just writes its own.
        if kept.is_some_and(|kept| fs::hard_link(path, kept).is_ok()) {
            known.insert(width, entry.clone());
        }
        Ok(entry)
    }

    /// Streams a data file: one thread cuts tensors, one hashes them, this one writes. The few buffers go round, because
    /// fresh memory for every tensor costs more than the cutting.
    fn write_data(&self, plan: &GraphBuilder, file: usize, path: &Path) -> Result<FileEntry, Error> {
        // Never into a file that another folder may be linked to.
        let _ = fs::remove_file(path);
        let placed: Vec<&Placed> = plan.placed.iter().filter(|p| p.file == file).collect();
        let placed = &placed[..];
        let mut file = File::create(path).map_err(Error::io("make", path))?;
        let (give_back, empty) = mpsc::channel::<Vec<f32>>();
        let (cut, to_hash) = mpsc::channel::<Result<Vec<f32>, Error>>();
        let (hashed, to_write) = mpsc::channel::<Result<Vec<f32>, Error>>();
        for _ in 0..BUFFERS {
            give_back.send(Vec::new()).expect("the receiver lives");
        }
        std::thread::scope(|scope| {
            // A thread whose neighbour is gone (an error, a full disk) ends as well.
            scope.spawn(move || {
                for (placed, mut buffer) in placed.iter().zip(empty) {
                    buffer.resize(placed.bytes as usize / 4, 0.0);
                    let made = self.cut(&placed.cut, &mut buffer).map(|()| buffer);
                    if made.is_err() | cut.send(made).is_err() {
                        return;
                    }
                }
            });
            let hasher = scope.spawn(move || {
                let (mut hash, mut at) = (Sha256::new(), 0);
                for (placed, made) in placed.iter().zip(to_hash) {
                    if let Ok(values) = &made {
                        hash.update(&PADDING[..(placed.offset - at) as usize]);
                        hash.update(little_endian(values));
                        at = placed.offset + placed.bytes;
                    }
                    if hashed.send(made).is_err() {
                        break;
                    }
                }
                hash
            });
            let mut at = 0;
            for placed in placed {
                let values = to_write.recv().expect("one result comes for each tensor")?;
                for piece in [&PADDING[..(placed.offset - at) as usize], &little_endian(&values)] {
                    file.write_all(piece).map_err(Error::io("write", path))?;
                }
                at = placed.offset + placed.bytes;
                // The cutting thread may be done already.
                let _ = give_back.send(values);
            }
            drop(give_back);
            let hash = hasher.join().expect("hashing does not panic");
            Ok(FileEntry { sha256: hex::encode(hash.finalize()), bytes: at })
        })
    }

    /// Fills `into`, which has the size of the tensor.
    fn cut(&self, cut: &Cut, into: &mut [f32]) -> Result<(), Error> {
        match cut {
            Cut::Vector { source, of } => self.weights.tensor(source)?.expect(source, &[*of])?.prefix(into),
            Cut::Matrix { source, rows, columns, of, transposed } => {
                let view = self.weights.tensor(source)?.expect(source, of)?;
                if *transposed { view.corner_transposed(*rows, into) } else { view.corner(*columns, into) }
            }
            Cut::Cosines => into.copy_from_slice(&self.rotary.0),
            Cut::Sines => into.copy_from_slice(&self.rotary.1),
        }
        Ok(())
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
