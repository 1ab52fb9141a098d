use super::{ChunkedWeights, SuperNetworkIndex, content::Content};
use crate::{
    ArtifactWriter, ContentHash, ElementType, Error, Extras, MANIFEST_FILE, MAX_RECIPE_BYTES, MODEL_FILE, MappedWeights,
    ModelConfig, Precision, Recipe, RopeScaling, RowSource, Source, SubNetwork, TOKENIZER_FILE, TensorView, Weights, names,
    tensors,
    testing::{tiny_config, tiny_narrow_heads, tiny_sub_network, write_tiny_checkpoint},
};
use half::{bf16, f16};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::LazyLock,
    time::{Duration, UNIX_EPOCH},
};

/// Weights of a checkpoint in memory.
struct Dense(BTreeMap<String, (ElementType, Vec<usize>, Vec<u8>)>);

impl Weights for Dense {
    fn tensor(&self, name: &str) -> Result<TensorView<'_>, Error> {
        let (element, shape, bytes) = self.0.get(name).ok_or_else(|| Error::MissingTensor(name.to_owned()))?;
        Ok(TensorView { element: *element, shape, bytes })
    }
}

/// Different numbers in every tensor and row; `element` says what a tensor is made of.
fn dense(config: &ModelConfig, element: impl Fn(&str) -> ElementType) -> Dense {
    let mut number = 0u32;
    let tensors = tensors(config).map(|(name, shape)| {
        let element = element(&name);
        let mut bytes = Vec::new();
        for _ in 0..shape.iter().product::<usize>() {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = (number >> 8) as f32 / (1u32 << 23) as f32 - 1.0;
            match element {
                ElementType::F32 => bytes.extend(value.to_le_bytes()),
                ElementType::F16 => bytes.extend(f16::from_f32(value).to_le_bytes()),
                ElementType::Bf16 => bytes.extend(bf16::from_f32(value).to_le_bytes()),
            }
        }
        (name, (element, shape, bytes))
    });
    Dense(tensors.collect())
}

fn source() -> Source {
    Source { name: "tiny".into(), sha256: "0".repeat(64) }
}

fn extras() -> Extras {
    Extras { tokenizer: Some(b"{}".to_vec()), model_type: "llama".into() }
}

/// The index of `weights`, and a folder with the chunks as a device keeps them.
fn shipped(config: &ModelConfig, weights: &impl Weights, limit: u64) -> (SuperNetworkIndex, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (index, sources) = SuperNetworkIndex::of_chunks(config, weights, &source(), &extras(), limit).unwrap();
    for source in sources {
        fs::write(folder.path().join(source.chunk.sha256.to_string()), source.pieces.concat()).unwrap();
    }
    (index, folder)
}

fn open(index: &SuperNetworkIndex, folder: &Path) -> Result<ChunkedWeights, Error> {
    ChunkedWeights::open(index, |hash| folder.join(hash.to_string()))
}

/// Makes the artifact in every way, on the host and on the device, and compares all bytes. Returns its name.
fn all_ways_agree(config: &ModelConfig, weights: &Dense, sub: &SubNetwork, limit: u64) -> ContentHash {
    let folder = tempfile::tempdir().unwrap();
    let (index, chunks) = shipped(config, weights, limit);
    // As the device reads it.
    let index = SuperNetworkIndex::parse(&index.to_bytes()).unwrap();
    let chunked = open(&index, chunks.path()).unwrap();
    chunked.verify().unwrap();
    let host = ArtifactWriter::new(config, weights, source(), extras());
    let device = ArtifactWriter::on_device(&index, &chunked);

    let written = host.write(sub, &folder.path().join("host")).unwrap();
    written.verify().unwrap();
    let sha256: ContentHash = written.sha256.parse().unwrap();
    // The second digest knows the shared tensors; so does that of a writer that has written.
    for digest in [host.digest(sub), device.digest(sub), device.digest(sub)] {
        let digest = digest.unwrap();
        assert_eq!((digest.sha256, digest.manifest), (sha256, written.manifest.clone()));
    }
    for assembly in [host.assemble(sub), device.assemble_checked(sub, &sha256)] {
        let assembly = assembly.unwrap();
        assert_eq!((assembly.sha256, &assembly.manifest), (sha256, &written.manifest));
        assert_eq!(ContentHash::of(&assembly.manifest.to_bytes()), sha256);
        for (name, bytes) in assembly.files() {
            assert!(bytes == fs::read(written.folder.join(name)).unwrap(), "{name}");
            assert!(name == MODEL_FILE || (bytes.as_ptr() as usize).is_multiple_of(4096), "{name} begins within a page");
        }
        let sizes = host.data_bytes(sub).unwrap();
        assert_eq!(sizes, [assembly.data.len() as u64, assembly.shared.len() as u64]);
    }
    let copy = device.write_checked(sub, &folder.path().join("device"), &sha256).unwrap();
    for name in written.manifest.files.keys().map(String::as_str).chain([MANIFEST_FILE]) {
        let (host, device) = (fs::read(written.folder.join(name)), fs::read(copy.folder.join(name)));
        if name == TOKENIZER_FILE {
            assert!(host.is_ok() && device.is_err(), "a device has no tokenizer");
        } else {
            assert!(host.unwrap() == device.unwrap(), "{name}");
        }
    }
    sha256
}

#[test]
fn host_and_device_make_the_same_artifact_in_every_way() {
    let mixed = |name: &str| if name.contains("norm") { ElementType::F32 } else { ElementType::Bf16 };
    let kinds: [fn(&str) -> ElementType; 4] = [|_| ElementType::F32, |_| ElementType::F16, |_| ElementType::Bf16, mixed];
    let mut names = std::collections::BTreeSet::new();
    for (flags, kind) in kinds.into_iter().enumerate() {
        let config = ModelConfig {
            tied_embeddings: flags % 2 == 0,
            attention_bias: flags >= 2,
            mlp_bias: flags == 3,
            rope_scaling: (flags == 1).then_some(RopeScaling::Divisors { divisors: vec![1.0, 1.1, 0.1 + 0.2, 1e-7 + 3.0] }),
            ..tiny_config()
        };
        let weights = dense(&config, kind);
        for sub in [config.full(), tiny_sub_network(), tiny_narrow_heads(), smallest()] {
            // Chunks of a few rows, and one for everything.
            for limit in [1111, 1 << 30] {
                names.insert(all_ways_agree(&config, &weights, &sub, limit));
            }
        }
        // Every row a chunk.
        names.insert(all_ways_agree(&config, &weights, &smallest(), 1));
    }
    assert_eq!(names.len(), 16, "chunks change no artifact, everything else does");
}

/// So small that its layers have no data file to speak of.
fn smallest() -> SubNetwork {
    SubNetwork { layers: vec![1], width: 1, kv_groups: vec![1], mlp: vec![1], pairs: None }
}

#[test]
fn small_tensors_share_chunks() {
    let config = tiny_config();
    let weights = dense(&config, |_| ElementType::F32);
    let (index, sources) = SuperNetworkIndex::of(&config, &weights, &source(), &extras()).unwrap();
    assert_eq!(sources.len(), 1);
    assert_eq!(index.bytes(), config.parameters(&config.full()) * 4);
    let (index, _) = SuperNetworkIndex::of_chunks(&config, &weights, &source(), &extras(), 20_000).unwrap();
    let (last, all) = index.chunks().split_last().unwrap();
    // A row has 320 bytes at most.
    assert!(all.iter().all(|chunk| (19_680..=20_000).contains(&chunk.bytes)) && last.bytes <= 20_000);
}

#[test]
fn a_chunk_source_can_be_read_from_anywhere() {
    let config = tiny_config();
    let weights = dense(&config, |_| ElementType::Bf16);
    let (index, sources) = SuperNetworkIndex::of_chunks(&config, &weights, &source(), &extras(), 30_000).unwrap();
    assert_eq!(index.sources(&weights).unwrap().len(), sources.len());
    let several = sources.iter().find(|source| source.pieces.len() > 3).expect("small tensors share chunks");
    let whole = several.pieces.concat();
    assert_eq!(ContentHash::of(&whole), several.chunk.sha256);
    for offset in [0, 1, 9_000, whole.len() - 1, whole.len(), whole.len() + 5] {
        for length in [0, 1, 10_000, whole.len()] {
            let mut got = vec![0; length];
            let n = several.read_at(offset as u64, &mut got);
            let expected = &whole[offset.min(whole.len())..whole.len().min(offset + length).max(offset.min(whole.len()))];
            assert_eq!(got[..n], *expected, "{length} from {offset}");
        }
    }
    assert_eq!(several.read_at(u64::MAX, &mut [0; 4]), 0);
}

#[test]
fn chunks_that_are_not_as_the_index_says_are_named() {
    let config = tiny_config();
    let weights = dense(&config, |_| ElementType::F32);
    let (index, folder) = shipped(&config, &weights, 20_000);
    let victim = folder.path().join(index.chunks()[2].sha256.to_string());
    let sub = config.full();
    let sha256 = ArtifactWriter::new(&config, &weights, source(), extras()).digest(&sub).unwrap().sha256;

    let good = fs::read(&victim).unwrap();
    let mut bytes = good.clone();
    bytes[5000] ^= 1;
    fs::write(&victim, &bytes).unwrap();
    let chunked = open(&index, folder.path()).unwrap();
    let error = chunked.verify().unwrap_err().to_string();
    assert!(error.contains(&index.chunks()[2].sha256.to_string()) && error.contains("has the hash"), "{error}");
    // Without a look at the chunks, the artifact's name tells.
    let device = ArtifactWriter::on_device(&index, &chunked);
    let other = device.assemble_checked(&sub, &sha256).unwrap_err();
    assert!(matches!(other, Error::OtherArtifact { expected, found } if expected == sha256 && found != sha256), "{other}");
    let target = tempfile::tempdir().unwrap();
    assert!(matches!(device.write_checked(&sub, target.path(), &sha256), Err(Error::OtherArtifact { .. })));
    assert!(!target.path().join(MANIFEST_FILE).exists() && !target.path().join(MODEL_FILE).exists());

    fs::write(&victim, &good[1..]).unwrap();
    let error = open(&index, folder.path()).unwrap_err().to_string();
    assert!(error.contains(&format!("has {} bytes, the index says {}", good.len() - 1, good.len())), "{error}");
    fs::remove_file(&victim).unwrap();
    let error = open(&index, folder.path()).unwrap_err();
    assert!(matches!(&error, Error::BadChunk { path, .. } if *path == victim), "{error}");
    assert!(error.to_string().contains("cannot be opened"), "{error}");
}

#[test]
fn equal_chunks_are_one_file() {
    let config = ModelConfig { tied_embeddings: false, ..tiny_config() };
    let mut weights = dense(&config, |_| ElementType::F32);
    for name in [names::EMBEDDING, names::OUTPUT] {
        weights.0.get_mut(name).unwrap().2.fill(0);
    }
    let (index, folder) = shipped(&config, &weights, 192);
    assert!(fs::read_dir(folder.path()).unwrap().count() + 2 * 90 < index.chunks().len());
    all_ways_agree(&config, &weights, &tiny_sub_network(), 192);
}

#[test]
fn an_index_is_of_weights_that_fit() {
    let config = tiny_config();
    let mut weights = dense(&config, |_| ElementType::F32);
    let make = |weights: &Dense| SuperNetworkIndex::of(&config, weights, &source(), &extras()).map(|(index, _)| index);
    let index = make(&weights).unwrap();
    let name = names::weight(3, "mlp.down_proj");
    weights.0.get_mut(&name).unwrap().1.swap(0, 1);
    assert!(matches!(make(&weights), Err(Error::BadTensor { .. })));
    assert!(matches!(index.sources(&weights), Err(Error::BadTensor { .. })));
    let half = dense(&config, |name| if name == names::FINAL_NORM { ElementType::F16 } else { ElementType::F32 });
    assert!(index.sources(&half).unwrap_err().to_string().contains("model.norm.weight"));
    weights.0.remove(&name);
    assert!(matches!(make(&weights), Err(Error::MissingTensor(missing)) if missing == name));
}

#[test]
fn the_cache_is_used_for_the_same_files_only() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("index.json");
    let (config, source, extras) = (tiny_config(), source(), extras());
    write_tiny_checkpoint(folder.path(), 1).unwrap();
    let get = |extras: &Extras| {
        let weights = MappedWeights::open(folder.path()).unwrap();
        let (index, sources) = SuperNetworkIndex::cached(&cache, &config, &weights, &source, extras).unwrap();
        assert!(sources.iter().all(|s| ContentHash::of(&s.pieces.concat()) == s.chunk.sha256), "sources are what chunks say");
        index
    };
    let first = get(&extras);
    let kept = fs::read(&cache).unwrap();
    // A cache that is used is not written again.
    let long_ago = UNIX_EPOCH + Duration::from_secs(1);
    fs::File::options().write(true).open(&cache).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(get(&extras), first);
    assert_eq!(fs::metadata(&cache).unwrap().modified().unwrap(), long_ago);
    // Damaged, cut off, empty: made again, to the same bytes.
    for damage in [0, 30, kept.len() / 2, kept.len() - 1] {
        let mut bytes = kept.clone();
        bytes[damage] ^= 4;
        for bad in [&bytes[..], &kept[..damage]] {
            fs::write(&cache, bad).unwrap();
            assert_eq!(get(&extras), first);
            assert!(fs::read(&cache).unwrap() == kept);
        }
    }
    let other = Extras { model_type: "mistral".into(), ..extras.clone() };
    assert_eq!(get(&other).model_type(), "mistral");
    write_tiny_checkpoint(folder.path(), 2).unwrap();
    let second = get(&extras);
    assert_ne!(second.chunks(), first.chunks());
    assert_eq!(second.tensors(), first.tensors());
}

/// A valid index.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let config = tiny_config();
    let weights = dense(&config, |_| ElementType::F32);
    let (index, _) = SuperNetworkIndex::of_chunks(&config, &weights, &source(), &extras(), 20_000).unwrap();
    index.to_bytes()
});

type Edit = fn(&mut Content);

#[test]
fn what_contradicts_itself_is_no_index() {
    let edits: [(&str, Edit); 13] = [
        ("its schema is `x`", |c| c.schema = "x".into()),
        ("num_hidden_layers is 0", |c| c.model.num_layers = 0),
        ("the configuration has 150994946", |c| c.model.num_layers = 1 << 24),
        ("rotary tables of", |c| (c.model.max_positions, c.model.head_dim) = (1 << 24, 1 << 20)),
        ("attention heads of 16777214 are", |c| c.model.head_dim = (1 << 24) - 2),
        ("weight `model.embed_tokens.weight` has shape [97, 48]", |c| c.model.vocab_size = 1 << 24),
        ("tensor `model.norm.weight` stands where `model.embed_tokens.weight` belongs", |c| c.tensors.swap(0, 1)),
        ("tensor `x` stands where", |c| c.tensors[7].name = "x".into()),
        ("a chunk ends within a row", |c| c.tensors[0].element = ElementType::F16),
        ("hold less than its tensors", |c| c.chunks.truncate(3)),
        ("hold more than its tensors", |c| c.chunks.push(c.chunks[0])),
        ("a chunk is empty or too large", |c| c.chunks[1].bytes = u64::MAX),
        ("tokenizer: `x` is not a SHA-256", |c| c.tokenizer.as_mut().unwrap().sha256 = "x".into()),
    ];
    let parse = |content: &Content| SuperNetworkIndex::parse(&serde_json::to_vec(content).unwrap());
    let content: Content = serde_json::from_slice(&BYTES).unwrap();
    parse(&content).unwrap();
    for (expected, edit) in edits {
        let mut content = content.clone();
        edit(&mut content);
        let error = parse(&content).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}: {expected}");
    }
    for bad in [&b""[..], b"{}", b"[]", b"null", &vec![b'['; 100_000], &vec![b' '; super::MAX_INDEX_BYTES + 1]] {
        assert!(matches!(SuperNetworkIndex::parse(bad), Err(Error::BadIndex(_))));
    }
    let doubled = String::from_utf8(BYTES.clone()).unwrap().replacen('{', r#"{"chunks":[],"#, 1);
    assert!(SuperNetworkIndex::parse(doubled.as_bytes()).unwrap_err().to_string().contains("duplicate field"));
}

#[test]
fn recipes_are_small_and_fit_one_super_network() {
    let layers = 32;
    let sub = SubNetwork {
        layers: (0..layers).collect(),
        width: 16_384,
        kv_groups: vec![128; layers as usize],
        mlp: vec![53_248; layers as usize],
        pairs: None,
    };
    let (index, artifact) = (ContentHash::of(b"a"), ContentHash::of(b"b"));
    let recipe = Recipe { index, artifact, precision: Precision::Fp32, sub };
    let bytes = recipe.to_bytes();
    assert!(bytes.len() < 4096, "{}", bytes.len());
    assert_eq!(Recipe::parse(&bytes).unwrap(), recipe);

    let config = tiny_config();
    let (super_network, _) = SuperNetworkIndex::of(&config, &dense(&config, |_| ElementType::F32), &source(), &extras()).unwrap();
    let name = super_network.sha256();
    assert!(matches!(recipe.check(&super_network, &name), Err(Error::BadRecipe(_))));
    let misfit = Recipe { index: name, ..recipe.clone() };
    assert!(matches!(misfit.check(&super_network, &name), Err(Error::BadSubNetwork(_))));
    Recipe { sub: tiny_sub_network(), ..misfit }.check(&super_network, &name).unwrap();

    let long = [bytes.clone(), vec![b' '; MAX_RECIPE_BYTES]].concat();
    let other = String::from_utf8(bytes).unwrap().replace("recipe/1", "recipe/2").into_bytes();
    for bad in [&b""[..], b"{}", &long, &other] {
        assert!(matches!(Recipe::parse(bad), Err(Error::BadRecipe(_))));
    }
}

/// Any part of [`tiny_config`].
fn any_sub_network() -> impl Strategy<Value = SubNetwork> {
    let set = |sizes: std::ops::RangeInclusive<usize>| proptest::sample::subsequence(vec![0u32, 1, 2, 3], sizes);
    (set(1..=4), 1u32..=48, proptest::option::of(set(1..=3))).prop_flat_map(|(layers, width, pairs)| {
        let n = layers.len();
        let sizes = (proptest::collection::vec(1u32..=3, n), proptest::collection::vec(1u32..=80, n));
        sizes.prop_map(move |(kv_groups, mlp)| {
            let (layers, pairs) = (layers.clone(), pairs.clone());
            SubNetwork { layers, width, kv_groups, mlp, pairs }
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_part_is_the_same_on_host_and_device(sub in any_sub_network(), limit in 1u64..30_000, flags in 0u8..8, kind in 0usize..3) {
        let config = ModelConfig {
            tied_embeddings: flags & 1 > 0, attention_bias: flags & 2 > 0, mlp_bias: flags & 4 > 0, ..tiny_config()
        };
        let element = [ElementType::F32, ElementType::F16, ElementType::Bf16][kind];
        all_ways_agree(&config, &dense(&config, |_| element), &sub, limit);
    }

    #[test]
    fn numbers_of_a_configuration_survive_to_the_last_bit(
        theta in 1e-3f64..1e9, epsilon in 1e-12f64..1.0, divisors in proptest::collection::vec(1e-6f64..1e6, 4),
    ) {
        let rope_scaling = Some(RopeScaling::Divisors { divisors });
        let config = ModelConfig { rope_theta: theta, norm_eps: epsilon, rope_scaling, ..tiny_config() };
        let weights = dense(&config, |_| ElementType::F16);
        let (index, _) = SuperNetworkIndex::of(&config, &weights, &source(), &extras()).unwrap();
        let again = SuperNetworkIndex::parse(&index.to_bytes()).unwrap();
        prop_assert_eq!(again.model(), &config);
        prop_assert_eq!(again.sha256(), index.sha256());
        prop_assert_eq!(again, index);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn hostile_indices_are_errors_or_whole(flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4), cut in any::<u16>()) {
        let mut bytes = BYTES.clone();
        for (at, value) in flips { let at = at % bytes.len(); bytes[at] = value; }
        if cut.is_multiple_of(3) { bytes.truncate(usize::from(cut) % bytes.len()); }
        if let Ok(index) = SuperNetworkIndex::parse(&bytes) {
            let tensors: u64 = index.tensors().iter().map(|t| (t.shape.iter().product::<usize>() * t.element.size()) as u64).sum();
            prop_assert_eq!(index.bytes(), tensors);
        }
    }

    #[test]
    fn hostile_digits_are_errors_or_whole(at in any::<usize>(), digit in b'0'..=b'9', repeat in 0usize..20) {
        let mut bytes = BYTES.clone();
        let digits: Vec<usize> = (0..bytes.len()).filter(|&i| bytes[i].is_ascii_digit()).collect();
        let at = digits[at % digits.len()];
        bytes.splice(at..=at, std::iter::repeat_n(digit, repeat));
        if let Ok(index) = SuperNetworkIndex::parse(&bytes) {
            prop_assert_eq!(SuperNetworkIndex::parse(&index.to_bytes()).unwrap(), index);
        }
    }

    #[test]
    fn hostile_recipes_are_errors_or_recipes(flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4), sub in any_sub_network()) {
        let (index, artifact) = (ContentHash::of(b"a"), ContentHash::of(b"b"));
        let mut bytes = Recipe { index, artifact, precision: Precision::Fp32, sub }.to_bytes();
        for (at, value) in flips { let at = at % bytes.len(); bytes[at] = value; }
        if let Ok(recipe) = Recipe::parse(&bytes) {
            prop_assert_eq!(Recipe::parse(&recipe.to_bytes()).unwrap(), recipe);
        }
    }
}

#[test]
fn tensors_of_chunks_are_those_of_the_files() {
    let config = tiny_config();
    let weights = dense(&config, |_| ElementType::Bf16);
    let (index, folder) = shipped(&config, &weights, 500);
    let chunked = open(&index, folder.path()).unwrap();
    for (name, shape) in tensors(&config) {
        let (whole, rows) = (weights.tensor(&name).unwrap(), chunked.rows(&name).unwrap());
        assert_eq!(rows.shape(), shape);
        let size = shape.last().unwrap() * 2;
        let all: Vec<u8> = (0..whole.bytes.len() / size).flat_map(|row| rows.row(row).to_vec()).collect();
        assert!(all == whole.bytes, "{name}");
    }
    assert!(matches!(chunked.rows("x"), Err(Error::MissingTensor(_))));
}
