//! Making artifacts: as a folder, in memory, or only as their names. There is one way to make their bytes, and these are
//! three places for them to go, so that host and device agree on a manifest's hash whichever of them makes what.

use crate::{
    Artifact, Assembly, CONFIG_FILE, ChunkedWeights, ContentHash, DATA_FILE, Error, MANIFEST_FILE, MANIFEST_SCHEMA, MODEL_FILE,
    Manifest, ModelConfig, Precision, RowSource, SHARED_DATA_FILE, Source, SubNetwork, SuperNetworkIndex, TOKENIZER_FILE,
    decoder::Decoder,
    graph::{Cut, GraphBuilder, Placed},
    manifest::FileEntry,
    proto::ModelProto,
    rope::rotary_tables,
    slice::{bytes_of, make_little_endian},
    stream::{Fill, through_buffers},
};
use prost::{Message, bytes::Bytes};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

/// Files that an artifact carries as they are.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// Content of `tokenizer.json`, where the model has one.
    pub tokenizer: Option<Vec<u8>>,
    /// `model_type` for `config.json`.
    pub model_type: String,
}

/// What an artifact is called and what belongs to it, without its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct ArtifactDigest {
    /// Its manifest.
    pub manifest: Manifest,
    /// The manifest's hash: the artifact's name.
    pub sha256: ContentHash,
}

/// The tokenizer of every artifact.
enum TokenizerFile {
    /// It is written.
    Content(Vec<u8>),
    /// It is only listed: a device needs none.
    Listed(FileEntry),
}

/// What tensors of the second data file depend on: the width, and the rotary pairs where some are cut.
type SharedKey = (u32, Option<Vec<u32>>);

/// Tensors that depend on nothing else.
#[derive(Clone)]
struct Shared {
    entry: FileEntry,
    /// A file with them is in the folder for it.
    kept: bool,
}

/// Makes artifacts of sub-networks of one super-network.
pub struct ArtifactWriter<'a, W: RowSource> {
    config: &'a ModelConfig,
    weights: &'a W,
    source: Source,
    model_type: String,
    tokenizer: Option<TokenizerFile>,
    rotary: OnceLock<(Vec<f32>, Vec<f32>)>,
    /// Where files of tensors that most candidates share are kept, and what is known of them.
    shared: Option<PathBuf>,
    known: Mutex<BTreeMap<SharedKey, Shared>>,
}

/// Everything of an artifact but its data files.
struct Rest {
    model: Vec<u8>,
    config_json: Vec<u8>,
    manifest: Manifest,
    manifest_json: Vec<u8>,
    sha256: ContentHash,
}

impl<'a> ArtifactWriter<'a, ChunkedWeights> {
    /// Makes the artifacts that the host of this super-network makes. The tokenizer is listed in their manifests, but it is
    /// not there to be written: a folder that this writes is whole for a runtime, not for [`Artifact::open`].
    pub fn on_device(index: &'a SuperNetworkIndex, weights: &'a ChunkedWeights) -> Self {
        let extras = Extras { tokenizer: None, model_type: index.model_type().to_owned() };
        let mut writer = Self::new(index.model(), weights, index.source().clone(), extras);
        writer.tokenizer = index.tokenizer().cloned().map(TokenizerFile::Listed);
        writer
    }
}

impl<'a, W: RowSource> ArtifactWriter<'a, W> {
    /// `weights` are those of the sorted super-network that `config` describes.
    pub fn new(config: &'a ModelConfig, weights: &'a W, source: Source, extras: Extras) -> Self {
        let Extras { tokenizer, model_type } = extras;
        let tokenizer = tokenizer.map(TokenizerFile::Content);
        let (rotary, known) = (OnceLock::new(), Mutex::default());
        Self { config, weights, source, model_type, tokenizer, rotary, shared: None, known }
    }

    /// Keeps in `folder` what artifacts of the same width and heads share, so that it is written and hashed once; artifacts on the same
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
        self.write_expecting(sub, folder, None)
    }

    /// As [`Self::write`], but only the artifact with this name gets its graph and manifest.
    ///
    /// # Errors
    /// Those of [`Self::write`], and [`Error::OtherArtifact`].
    pub fn write_checked(&self, sub: &SubNetwork, folder: &Path, expected: &ContentHash) -> Result<Artifact, Error> {
        self.write_expecting(sub, folder, Some(expected))
    }

    fn write_expecting(&self, sub: &SubNetwork, folder: &Path, expected: Option<&ContentHash>) -> Result<Artifact, Error> {
        let (model, plan) = self.plan(sub)?;
        fs::create_dir_all(folder).map_err(Error::io("make", folder))?;
        let manifest_path = folder.join(MANIFEST_FILE);
        match fs::remove_file(&manifest_path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("replace", &manifest_path)(e)),
            _ => {}
        }
        let data = self.write_data(&plan, 0, &folder.join(DATA_FILE))?;
        let shared = self.write_shared(&plan, sub, &folder.join(SHARED_DATA_FILE))?;
        let rest = self.rest(sub, model, &plan, [data, shared])?;
        expected.map_or(Ok(()), |expected| check(expected, &rest.sha256))?;
        let put = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            fs::write(&path, bytes).map_err(Error::io("write", &path))
        };
        put(CONFIG_FILE, &rest.config_json)?;
        if let Some(TokenizerFile::Content(tokenizer)) = &self.tokenizer {
            put(TOKENIZER_FILE, tokenizer)?;
        }
        put(MODEL_FILE, &rest.model)?;
        put(MANIFEST_FILE, &rest.manifest_json)?;
        Ok(Artifact { folder: folder.to_owned(), sha256: rest.sha256.to_string(), manifest: rest.manifest })
    }

    /// What [`Self::write`] would make, without making it. What most candidates share is hashed once.
    ///
    /// # Errors
    /// [`Error::BadSubNetwork`], [`Error::MissingTensor`], [`Error::BadTensor`].
    pub fn digest(&self, sub: &SubNetwork) -> Result<ArtifactDigest, Error> {
        let (model, plan) = self.plan(sub)?;
        let hash = |file: usize| through_buffers(self, &plan.in_file(file), |_| Ok(()));
        let shared = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let key = shared_key(sub);
            if let Some(shared) = known.get(&key) {
                shared.entry.clone()
            } else {
                let entry = hash(1)?;
                known.insert(key, Shared { entry: entry.clone(), kept: false });
                entry
            }
        };
        let rest = self.rest(sub, model, &plan, [hash(0)?, shared])?;
        Ok(ArtifactDigest { manifest: rest.manifest, sha256: rest.sha256 })
    }

    /// Makes the artifact of `sub` in memory, with the files that a runtime needs. Every byte is hashed. Runs on five threads
    /// of its own and on rayon's.
    ///
    /// # Errors
    /// [`Error::BadSubNetwork`], [`Error::MissingTensor`], [`Error::BadTensor`], [`Error::Memory`].
    pub fn assemble(&self, sub: &SubNetwork) -> Result<Assembly, Error> {
        let (model, plan) = self.plan(sub)?;
        let (data, shared, entries) = crate::assembly::fill(self, &plan)?;
        let rest = self.rest(sub, model, &plan, entries)?;
        Ok(Assembly { model: rest.model, data, shared, manifest: rest.manifest, sha256: rest.sha256 })
    }

    /// As [`Self::assemble`], for whoever knows the artifact's name.
    ///
    /// # Errors
    /// Those of [`Self::assemble`], and [`Error::OtherArtifact`].
    pub fn assemble_checked(&self, sub: &SubNetwork, expected: &ContentHash) -> Result<Assembly, Error> {
        let made = self.assemble(sub)?;
        check(expected, &made.sha256).map(|()| made)
    }

    /// Sizes of both data files of the artifact of `sub`, in bytes: nearly all that it takes in memory or on disk.
    ///
    /// # Errors
    /// [`Error::BadSubNetwork`].
    pub fn data_bytes(&self, sub: &SubNetwork) -> Result<[u64; 2], Error> {
        let (_, plan) = self.plan(sub)?;
        Ok([0, 1].map(|file| plan.in_file(file).last().map_or(0, |last| last.offset + last.bytes)))
    }

    /// The graph, without small tensors, and where tensors go.
    fn plan(&self, sub: &SubNetwork) -> Result<(ModelProto, GraphBuilder), Error> {
        Decoder::build(self.config, sub, [DATA_FILE, SHARED_DATA_FILE])
    }

    /// Completes an artifact whose data files are made.
    fn rest(&self, sub: &SubNetwork, mut model: ModelProto, plan: &GraphBuilder, data: [FileEntry; 2]) -> Result<Rest, Error> {
        if let Some(graph) = &mut model.graph {
            for (index, cut) in &plan.inline {
                let elements = graph.initializer[*index].dims.iter().product::<i64>() as usize;
                let mut values = vec![0.0; elements];
                self.cut(cut, &mut values)?;
                graph.initializer[*index].raw_data = Some(Bytes::copy_from_slice(bytes_of(&values)));
            }
        }
        let (model, config_json) = (model.encode_to_vec(), self.config_json(sub));
        let [data, shared] = data;
        let mut files = BTreeMap::from([
            (DATA_FILE.to_owned(), data),
            (SHARED_DATA_FILE.to_owned(), shared),
            (CONFIG_FILE.to_owned(), FileEntry::of(&config_json)),
            (MODEL_FILE.to_owned(), FileEntry::of(&model)),
        ]);
        match &self.tokenizer {
            None => {}
            Some(TokenizerFile::Content(bytes)) => drop(files.insert(TOKENIZER_FILE.to_owned(), FileEntry::of(bytes))),
            Some(TokenizerFile::Listed(entry)) => drop(files.insert(TOKENIZER_FILE.to_owned(), entry.clone())),
        }
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
        let manifest_json = manifest.to_bytes();
        Ok(Rest { model, config_json, sha256: ContentHash::of(&manifest_json), manifest, manifest_json })
    }

    /// Links the tensors that most candidates share, or writes them where that is not possible.
    fn write_shared(&self, plan: &GraphBuilder, sub: &SubNetwork, path: &Path) -> Result<FileEntry, Error> {
        let key = shared_key(sub);
        let file = self.shared.as_ref().map(|folder| folder.join(shared_name(&key)));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(file), Some(Shared { entry, kept: true })) = (&file, known.get(&key)) {
            // The artifact's folder may hold a file of another candidate.
            let _ = fs::remove_file(path);
            if fs::hard_link(file, path).is_ok() {
                return Ok(entry.clone());
            }
        }
        let entry = self.write_data(plan, 1, path)?;
        // Without a link the next artifact just writes its own.
        let kept = file.is_some_and(|file| fs::hard_link(path, file).is_ok());
        known.insert(key, Shared { entry: entry.clone(), kept });
        Ok(entry)
    }

    /// Writes a data file.
    fn write_data(&self, plan: &GraphBuilder, number: usize, path: &Path) -> Result<FileEntry, Error> {
        // Never into a file that another folder may be linked to.
        let _ = fs::remove_file(path);
        let mut file = File::create(path).map_err(Error::io("make", path))?;
        through_buffers(self, &plan.in_file(number), |bytes| file.write_all(bytes).map_err(Error::io("write", path)))
    }

    /// Fills `into`, which has the size of the tensor, with numbers as a file holds them.
    fn cut(&self, cut: &Cut, into: &mut [f32]) -> Result<(), Error> {
        let rotary = || self.rotary.get_or_init(|| rotary_tables(self.config, self.config.max_positions));
        match cut {
            Cut::Vector { source, kept } => self.weights.rows(source)?.expect(source, &[kept.of])?.elements(kept, into),
            Cut::Matrix { source, rows, columns, transposed } => {
                let view = self.weights.rows(source)?.expect(source, &[rows.of, columns.of])?;
                if *transposed { view.cut_transposed(rows, columns, into) } else { view.cut(rows, columns, into) }
            }
            Cut::Cosines(pairs) => turns_of(pairs.as_deref(), &rotary().0, self.config.head_dim / 2, into),
            Cut::Sines(pairs) => turns_of(pairs.as_deref(), &rotary().1, self.config.head_dim / 2, into),
        }
        make_little_endian(into);
        Ok(())
    }

    /// A configuration that tools of the Hugging Face family read. Sizes that differ between layers stand as lists under
    /// `edgewise`; the plain keys then hold the largest.
    fn config_json(&self, sub: &SubNetwork) -> Vec<u8> {
        let config = self.config;
        let groups = sub.kv_groups.iter().copied().max().unwrap_or(1);
        let mut json = serde_json::json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": self.model_type,
            "vocab_size": config.vocab_size,
            "hidden_size": sub.width,
            "num_hidden_layers": sub.layers.len(),
            "num_attention_heads": groups as usize * config.heads_per_group(),
            "num_key_value_heads": groups,
            "head_dim": config.head_size(sub),
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
        if let Some(pairs) = &sub.pairs {
            // Scores are scaled, and frequencies counted, as in whole heads.
            json["edgewise"]["rotary_pairs"] = serde_json::json!(pairs);
            json["edgewise"]["source_head_dim"] = serde_json::json!(config.head_dim);
        }
        let mut bytes = serde_json::to_vec_pretty(&json).expect("JSON values always serialise");
        bytes.push(b'\n');
        bytes
    }
}

impl<W: RowSource> Fill for ArtifactWriter<'_, W> {
    fn fill(&self, placed: &Placed, into: &mut [f32]) -> Result<(), Error> {
        self.cut(&placed.cut, into)
    }
}

fn shared_key(sub: &SubNetwork) -> SharedKey {
    (sub.width, sub.pairs.clone())
}

/// The name of the file that is kept for it.
fn shared_name((width, pairs): &SharedKey) -> String {
    match pairs {
        None => format!("width-{width}"),
        // A list may be longer than a file's name.
        Some(pairs) => format!("width-{width}-pairs-{}", ContentHash::of(format!("{pairs:?}").as_bytes())),
    }
}

/// Of a table `[positions, all]` the columns `pairs`, or all.
fn turns_of(pairs: Option<&[u32]>, table: &[f32], all: usize, into: &mut [f32]) {
    let Some(pairs) = pairs else { return into.copy_from_slice(table) };
    for (row, into) in table.chunks_exact(all).zip(into.chunks_exact_mut(pairs.len())) {
        into.iter_mut().zip(pairs).for_each(|(value, &pair)| *value = row[pair as usize]);
    }
}

fn check(expected: &ContentHash, found: &ContentHash) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::OtherArtifact { expected: *expected, found: *found }) }
}
