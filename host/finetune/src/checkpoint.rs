//! Checkpoints: everything that the next step depends on, whole or not at all.
//!
//! A checkpoint is a folder `step-N` with the tensors (variables and both moments of the optimiser) as safetensors and the rest
//! as JSON: the position, the identity of the training, and the hash of the tensors. It is written under another name and
//! renamed when it is on the disk; the last two are kept. Order of data, masks and draws follow from the seed and the
//! position, so that nothing else need be stored.

use crate::{
    Error,
    adamw::{AdamW, Moments, host_values},
};
use candle_core::{Tensor, Var};
use edgewise_onnx::SubNetwork;
use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    borrow::Cow,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

const SCHEMA: &str = "edgewise.finetune-checkpoint/1";
const PREFIX: &str = "step-";
/// What a checkpoint is called while it is written.
const PARTIAL: &str = ".partial-";
const STATE_FILE: &str = "state.json";
const TENSOR_FILE: &str = "state.safetensors";
/// Checkpoints that are kept.
const KEPT: usize = 2;

/// Where a training is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Position {
    /// Updates that are done; the position in the data and of every random stream follows from it.
    pub(crate) steps: u64,
    /// Tokens that the full network was trained on.
    pub(crate) tokens: u64,
    /// Wall-clock time of all runs so far.
    pub(crate) elapsed_s: f64,
    /// The calibrated grid, where there is one.
    pub(crate) grid: Vec<SubNetwork>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    schema: String,
    position: Position,
    updates: u64,
    identity: Value,
    tensors_sha256: String,
}

/// Single-precision numbers on their way into a file.
struct Numbers<'a> {
    shape: Vec<usize>,
    values: Cow<'a, [f32]>,
}

impl View for Numbers<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    fn data_len(&self) -> usize {
        self.values.len() * 4
    }
}

/// Checkpoints of a folder, the oldest first.
fn all(folder: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let step = |path: &Path| path.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse::<u64>().ok();
    let mut found: Vec<(u64, PathBuf)> = entries.filter_map(|e| Some((step(&e.path())?, e.path()))).collect();
    found.sort();
    found
}

/// Removes what a run that was killed left half written; the folder is nobody else's.
pub(crate) fn clear(folder: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    for entry in entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(PARTIAL)) {
        fs::remove_dir_all(entry.path()).map_err(Error::io("remove", &entry.path()))?;
    }
    Ok(())
}

/// The newest checkpoint in a folder, if there is one.
pub fn newest(folder: &Path) -> Option<PathBuf> {
    all(folder).pop().map(|(_, path)| path)
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    // On the disk before the rename is: a power cut must not leave a name without its content.
    File::create(path).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all())).map_err(Error::io("write", path))
}

/// Writes a checkpoint and removes the ones that are too many.
pub(crate) fn save(
    folder: &Path,
    variables: &[(String, Var)],
    optimiser: &AdamW,
    position: &Position,
    identity: &Value,
) -> Result<PathBuf, Error> {
    let mut tensors = Vec::new();
    for ((name, var), Moments { first, second }) in variables.iter().zip(&optimiser.moments) {
        let shape = || var.dims().to_vec();
        tensors.push((format!("value/{name}"), Numbers { shape: shape(), values: host_values(var)?.into() }));
        tensors.push((format!("first/{name}"), Numbers { shape: shape(), values: first.into() }));
        tensors.push((format!("second/{name}"), Numbers { shape: shape(), values: second.into() }));
    }
    let partial = tempfile::Builder::new().prefix(PARTIAL).tempdir_in(folder).map_err(Error::io("make a folder in", folder))?;
    let path = partial.path().join(TENSOR_FILE);
    safetensors::serialize_to_file(tensors, None, &path).map_err(|e| {
        let source = match e {
            safetensors::SafeTensorError::IoError(source) => source,
            other => std::io::Error::other(other.to_string()),
        };
        Error::Io { action: "write", path: path.clone(), source }
    })?;
    File::open(&path).and_then(|file| file.sync_all()).map_err(Error::io("write", &path))?;
    let state = StateFile {
        schema: SCHEMA.into(),
        position: position.clone(),
        updates: optimiser.updates,
        identity: identity.clone(),
        tensors_sha256: sha256(&path)?,
    };
    put(&partial.path().join(STATE_FILE), &serde_json::to_vec_pretty(&state).expect("plain data serialises"))?;
    let target = folder.join(format!("{PREFIX}{}", position.steps));
    // One of the same step is of the same content; a folder cannot be renamed onto another.
    if target.exists() {
        fs::remove_dir_all(&target).map_err(Error::io("replace", &target))?;
    }
    let partial = partial.keep();
    fs::rename(&partial, &target).map_err(Error::io("write", &target))?;
    let found = all(folder);
    for (_, old) in &found[..found.len().saturating_sub(KEPT)] {
        fs::remove_dir_all(old).map_err(Error::io("remove", old))?;
    }
    Ok(target)
}

fn sha256(path: &Path) -> Result<String, Error> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    std::io::copy(&mut file, &mut hash).map_err(Error::io("read", path))?;
    Ok(hex::encode(hash.finalize()))
}

/// The first key at which two settings differ, with both values.
fn difference(stored: &Value, given: &Value, key: &str) -> Option<(String, String, String)> {
    if let (Value::Object(a), Value::Object(b)) = (stored, given) {
        let mut keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
        return keys.find_map(|k| {
            let name = if key.is_empty() { k.clone() } else { format!("{key}.{k}") };
            difference(a.get(k).unwrap_or(&Value::Null), b.get(k).unwrap_or(&Value::Null), &name)
        });
    }
    (stored != given).then(|| (key.to_owned(), stored.to_string(), given.to_string()))
}

/// Checks that a checkpoint is of this training, and gives its number of steps and its calibrated grid.
///
/// # Errors
/// [`Error::Damaged`], [`Error::OtherSettings`].
pub fn peek(path: &Path, identity: &Value) -> Result<(u64, Vec<SubNetwork>), Error> {
    state(path, identity).map(|state| (state.position.steps, state.position.grid))
}

fn state(path: &Path, identity: &Value) -> Result<StateFile, Error> {
    let damaged = |reason: String| Error::Damaged { path: path.to_owned(), reason };
    let bytes = fs::read(path.join(STATE_FILE)).map_err(|e| damaged(format!("cannot read {STATE_FILE}: {e}")))?;
    let state: StateFile = serde_json::from_slice(&bytes).map_err(|e| damaged(format!("{STATE_FILE}: {e}")))?;
    if state.schema != SCHEMA {
        return Err(damaged(format!("its schema is `{}`, this version reads `{SCHEMA}`", state.schema)));
    }
    // The way through text may change the last bit of a number; both have gone it.
    let identity = serde_json::from_str(&identity.to_string()).map_err(|e| damaged(e.to_string()))?;
    if let Some((key, stored, given)) = difference(&state.identity, &identity, "") {
        return Err(Error::OtherSettings { path: path.to_owned(), key, stored, given });
    }
    Ok(state)
}

/// Puts a checkpoint's numbers into variables and optimiser, and gives its position.
pub(crate) fn load(path: &Path, variables: &[(String, Var)], optimiser: &mut AdamW, identity: &Value) -> Result<Position, Error> {
    let state = state(path, identity)?;
    let damaged = |reason: String| Error::Damaged { path: path.to_owned(), reason };
    let bytes = fs::read(path.join(TENSOR_FILE)).map_err(|e| damaged(format!("cannot read {TENSOR_FILE}: {e}")))?;
    if hex::encode(Sha256::digest(&bytes)) != state.tensors_sha256 {
        return Err(damaged(format!("{TENSOR_FILE} is not the file that was written")));
    }
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(format!("{TENSOR_FILE}: {e}")))?;
    let numbers = |kind: &str, name: &str, shape: &[usize]| -> Result<Vec<f32>, Error> {
        let view = tensors.tensor(&format!("{kind}/{name}")).map_err(|e| damaged(format!("{kind} of `{name}`: {e}")))?;
        if view.dtype() != Dtype::F32 || view.shape() != shape {
            return Err(damaged(format!("{kind} of `{name}` has shape {:?}, not {shape:?}", view.shape())));
        }
        Ok(view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    };
    for ((name, var), moments) in variables.iter().zip(&mut optimiser.moments) {
        let value = numbers("value", name, var.dims())?;
        var.set(&Tensor::from_vec(value, var.shape(), var.device())?)?;
        *moments = Moments { first: numbers("first", name, var.dims())?, second: numbers("second", name, var.dims())? };
    }
    optimiser.updates = state.updates;
    Ok(state.position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use serde_json::json;

    fn variables(seed: f32) -> Vec<(String, Var)> {
        let values: Vec<f32> = (0..6).map(|i| seed + i as f32 / 3.0).collect();
        vec![("w".into(), Var::from_vec(values, (2, 3), &Device::Cpu).unwrap())]
    }

    fn position(steps: u64) -> Position {
        Position { steps, tokens: 256 * steps, elapsed_s: 1.5, grid: Vec::new() }
    }

    fn identity() -> Value {
        json!({ "settings": { "rank": 8, "lr": 0.1 }, "data": "x" })
    }

    #[test]
    fn what_was_saved_comes_back_bit_for_bit_and_two_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let before = variables(0.1);
        let mut optimiser = AdamW::new(&before, 0.1);
        for steps in 1..=4 {
            let gradient = (before[0].1.as_tensor() * 0.3).unwrap();
            optimiser.update(&before, &[gradient], 0.01, 1.0).unwrap();
            save(folder.path(), &before, &optimiser, &position(steps), &identity()).unwrap();
        }
        assert_eq!(all(folder.path()).iter().map(|c| c.0).collect::<Vec<_>>(), [3, 4]);
        let after = variables(9.0);
        let mut restored = AdamW::new(&after, 0.1);
        let newest = newest(folder.path()).unwrap();
        assert_eq!(load(&newest, &after, &mut restored, &identity()).unwrap(), position(4));
        assert_eq!(host_values(&before[0].1).unwrap(), host_values(&after[0].1).unwrap());
        assert_eq!((optimiser.moments, optimiser.updates), (restored.moments, restored.updates));
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 2, "no partial ones: {left:?}");
    }

    #[test]
    fn other_settings_and_damage_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let vars = variables(0.1);
        let mut optimiser = AdamW::new(&vars, 0.1);
        let path = save(folder.path(), &vars, &optimiser, &position(1), &identity()).unwrap();
        let mut load = |identity: &Value| load(&path, &vars, &mut optimiser, identity).unwrap_err().to_string();
        let error = load(&json!({ "settings": { "rank": 16, "lr": 0.1 }, "data": "x" }));
        assert!(error.contains("another `settings.rank`: 8, not 16"), "{error}");
        let error = load(&json!({ "settings": { "rank": 8, "lr": 0.1 } }));
        assert!(error.contains("`data`: \"x\", not null"), "{error}");

        let tensors = path.join(TENSOR_FILE);
        let whole = fs::read(&tensors).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for content in [&flipped[..], &whole[..whole.len() - 1], &[]] {
            fs::write(&tensors, content).unwrap();
            assert!(load(&identity()).contains("is not the file that was written"));
        }
        fs::remove_file(&tensors).unwrap();
        assert!(load(&identity()).contains("cannot read state.safetensors"));
        fs::write(path.join(STATE_FILE), "{").unwrap();
        assert!(load(&identity()).contains("damaged: state.json"));

        fs::create_dir(folder.path().join(".partial-killed")).unwrap();
        clear(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the checkpoint stays");
    }
}
