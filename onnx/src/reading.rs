//! The weights of an artifact, read back: `[in, out]` for projections, as the graph holds them.

use crate::{Artifact, DATA_FILE, ElementType, Error, MODEL_FILE, SHARED_DATA_FILE, TensorView, Weights, proto::ModelProto};
use memmap2::Mmap;
use prost::{Message, bytes::Bytes};
use std::{collections::BTreeMap, fs::File};

/// Single-precision initializers of an artifact; large ones stay in the mapped data files.
pub struct ArtifactWeights {
    data: [Mmap; 2],
    entries: BTreeMap<String, (Vec<usize>, Place)>,
}

enum Place {
    Inline(Bytes),
    Data(usize, std::ops::Range<usize>),
}

impl ArtifactWeights {
    /// Reads the graph's list of initializers and maps the data file.
    ///
    /// # Errors
    /// [`Error::NotAnArtifact`] if the graph is damaged or points outside the data file.
    pub fn open(artifact: &Artifact) -> Result<Self, Error> {
        let bad = |reason: String| Error::NotAnArtifact { path: artifact.folder.clone(), reason };
        let path = artifact.folder.join(MODEL_FILE);
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let model = ModelProto::decode(&bytes[..]).map_err(|e| bad(format!("{MODEL_FILE}: {e}")))?;
        let map = |name: &str| {
            let path = artifact.folder.join(name);
            let file = File::open(&path).map_err(Error::io("open", &path))?;
            // SAFETY: the map is only read, and every bit pattern is a number; see `MappedWeights`.
            unsafe { Mmap::map(&file) }.map_err(Error::io("map", &path))
        };
        let data = [map(DATA_FILE)?, map(SHARED_DATA_FILE)?];
        let mut entries = BTreeMap::new();
        for tensor in model.graph.into_iter().flat_map(|g| g.initializer) {
            let name = tensor.name().to_owned();
            if tensor.data_type() != crate::proto::tensor_proto::DataType::Float as i32 {
                continue;
            }
            let shape: Option<Vec<usize>> = tensor.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
            let shape = shape.ok_or_else(|| bad(format!("`{name}` has a negative dimension")))?;
            let size = shape.iter().try_fold(4usize, |n, &d| n.checked_mul(d));
            let place = if tensor.external_data.is_empty() {
                Place::Inline(tensor.raw_data.unwrap_or_default())
            } else {
                let find = |key: &str| {
                    tensor.external_data.iter().find(|e| e.key() == key).map(crate::proto::StringStringEntryProto::value)
                };
                let number = |key: &str| find(key).and_then(|v| v.parse::<usize>().ok());
                let file = [DATA_FILE, SHARED_DATA_FILE].iter().position(|f| find("location") == Some(f));
                let range = number("offset").zip(number("length")).and_then(|(o, l)| Some(o..o.checked_add(l)?));
                let place = file.zip(range).filter(|(file, range)| range.end <= data[*file].len());
                let (file, range) = place.ok_or_else(|| bad(format!("`{name}` lies outside its data file")))?;
                Place::Data(file, range)
            };
            let length = match &place {
                Place::Inline(bytes) => bytes.len(),
                Place::Data(_, range) => range.len(),
            };
            if size != Some(length) {
                return Err(bad(format!("`{name}` has {length} bytes, its shape {shape:?} needs another number")));
            }
            entries.insert(name, (shape, place));
        }
        Ok(Self { data, entries })
    }
}

impl Weights for ArtifactWeights {
    fn tensor(&self, name: &str) -> Result<TensorView<'_>, Error> {
        let (shape, place) = self.entries.get(name).ok_or_else(|| Error::MissingTensor(name.to_owned()))?;
        let bytes = match place {
            Place::Inline(bytes) => &bytes[..],
            Place::Data(file, range) => &self.data[*file][range.clone()],
        };
        Ok(TensorView { element: ElementType::F32, shape, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        MappedWeights, names,
        testing::{tiny_config, tiny_narrow_heads, tiny_sub_network, write_artifact, write_tiny_checkpoint},
    };
    use proptest::prelude::*;

    #[test]
    fn an_artifact_holds_the_prefixes_of_the_super_network() {
        let (made, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (config, sub) = (tiny_config(), tiny_sub_network());
        let artifact = write_artifact(made.path(), &config, &sub).unwrap();
        write_tiny_checkpoint(source.path(), 1).unwrap();
        let (cut, whole) = (ArtifactWeights::open(&artifact).unwrap(), MappedWeights::open(source.path()).unwrap());
        // Layer 1 of the artifact is layer 2 of the super-network, with 80 neurons of 80 and width 40 of 48.
        let name = names::weight(1, "mlp.down_proj");
        let view = cut.tensor(&name).unwrap();
        assert_eq!(view.shape, [80, 40]);
        let original = whole.tensor(&names::weight(2, "mlp.down_proj")).unwrap();
        let value = |bytes: &[u8], at: usize| f32::from_le_bytes(bytes[at * 4..at * 4 + 4].try_into().unwrap());
        for (input, output) in [(0, 0), (79, 0), (3, 39), (79, 39)] {
            let (a, b) = (value(view.bytes, input * 40 + output), value(original.bytes, output * 80 + input));
            assert_eq!(a.to_bits(), b.to_bits());
        }
        artifact.verify().unwrap();
    }

    #[test]
    fn heads_keep_their_pairs_with_the_turns_of_each_and_the_first_values() {
        let (made, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let config = tiny_config();
        let artifact = write_artifact(made.path(), &config, &tiny_narrow_heads()).unwrap();
        artifact.verify().unwrap();
        write_tiny_checkpoint(source.path(), 1).unwrap();
        let (cut, whole) = (ArtifactWeights::open(&artifact).unwrap(), MappedWeights::open(source.path()).unwrap());
        let numbers = |view: TensorView<'_>| -> Vec<f32> {
            view.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
        };
        // Layer 2 of the artifact is layer 3 of the super-network: two groups of two heads, of six dimensions each.
        let part = |part: &str, shape: [usize; 2]| {
            let view = cut.tensor(&names::weight(2, part)).unwrap();
            assert_eq!(view.shape, shape, "{part}");
            (numbers(view), numbers(whole.tensor(&names::weight(3, part)).unwrap()))
        };
        let [q, k, v, o] = names::ATTENTION;
        for (name, rows, dims) in [(q, 24, [0, 2, 3, 4, 6, 7]), (k, 12, [0, 2, 3, 4, 6, 7]), (v, 12, [0, 1, 2, 3, 4, 5])] {
            let (cut, whole) = part(name, [40, rows]);
            for (row, input) in (0..rows).flat_map(|row| [0, 1, 39].map(|input| (row, input))) {
                let from = row / 6 * 8 + dims[row % 6];
                assert_eq!(cut[input * rows + row].to_bits(), whole[from * 48 + input].to_bits(), "{name} {row} {input}");
            }
        }
        let (cut_output, output) = part(o, [24, 40]);
        for (column, row) in (0..24).flat_map(|column| [0, 1, 39].map(|row| (column, row))) {
            assert_eq!(cut_output[column * 40 + row].to_bits(), output[row * 48 + column / 6 * 8 + column % 6].to_bits());
        }
        let (cosines, sines) = crate::rotary_tables(&config, config.max_positions);
        for (name, table) in [("rotary.cos", cosines), ("rotary.sin", sines)] {
            let view = cut.tensor(name).unwrap();
            assert_eq!(view.shape, [256, 3]);
            let kept = table.chunks_exact(4).flat_map(|row| [row[0], row[2], row[3]]).map(f32::to_bits);
            assert!(numbers(view).into_iter().map(f32::to_bits).eq(kept), "{name}");
        }
        let text = std::fs::read_to_string(artifact.folder.join(crate::CONFIG_FILE)).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&json["head_dim"], &json["edgewise"]["rotary_pairs"]), (&6.into(), &serde_json::json!([0, 2, 3])));
    }

    #[test]
    fn the_same_candidate_gives_the_same_bytes() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [a, b] = folders.map(|f| write_artifact(f.path(), &tiny_config(), &tiny_sub_network()).unwrap());
        assert_eq!(a.sha256, b.sha256);
        assert_eq!(a.manifest, b.manifest);
    }

    #[test]
    fn artifacts_share_what_depends_on_width_and_heads_alone() {
        let folder = tempfile::tempdir().unwrap();
        write_tiny_checkpoint(folder.path(), 1).unwrap();
        let weights = MappedWeights::open(folder.path()).unwrap();
        let config = tiny_config();
        let source = crate::Source { name: "tiny".into(), sha256: "0".repeat(64) };
        let writer = || crate::ArtifactWriter::new(&config, &weights, source.clone(), crate::Extras::default());
        let kept = folder.path().join("kept");
        std::fs::create_dir(&kept).unwrap();
        let sharing = writer().sharing(&kept);
        let narrow = crate::SubNetwork { width: 32, ..config.full() };
        let less = crate::SubNetwork { mlp: vec![64; 4], ..config.full() };
        let other_pairs = crate::SubNetwork { pairs: Some(vec![0, 1, 2]), ..tiny_sub_network() };
        let heads = [tiny_narrow_heads(), other_pairs, crate::SubNetwork { layers: vec![0, 1, 2], ..tiny_narrow_heads() }];
        for (at, sub) in [config.full(), less, narrow, tiny_sub_network(), config.full()].iter().chain(&heads).enumerate() {
            let shared = sharing.write(sub, &folder.path().join("a")).unwrap();
            let alone = writer().write(sub, &folder.path().join(format!("b{at}"))).unwrap();
            assert_eq!(shared.sha256, alone.sha256);
            shared.verify().unwrap();
        }
        assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 5);
    }

    #[test]
    fn a_changed_byte_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let artifact = write_artifact(folder.path(), &tiny_config(), &tiny_sub_network()).unwrap();
        let path = folder.path().join(DATA_FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(artifact.verify().unwrap_err().to_string().contains("model.onnx_data` was changed"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn hostile_graphs_are_errors_or_whole(flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6), cut in any::<u16>()) {
            let folder = tempfile::tempdir().unwrap();
            let artifact = write_artifact(folder.path(), &tiny_config(), &tiny_sub_network()).unwrap();
            let path = folder.path().join(MODEL_FILE);
            let mut bytes = std::fs::read(&path).unwrap();
            for (at, value) in flips { let at = at % bytes.len(); bytes[at] = value; }
            if cut.is_multiple_of(3) { bytes.truncate(usize::from(cut) % bytes.len()); }
            std::fs::write(&path, bytes).unwrap();
            if let Ok(weights) = ArtifactWeights::open(&artifact) {
                for name in weights.entries.keys() { prop_assert!(weights.tensor(name).is_ok()); }
            }
        }
    }
}
