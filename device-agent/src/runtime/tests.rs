//! Both runtimes on the same small artifact: they must agree with each other, and with themselves in other portions.

use super::{CausalModel, Library, Model, load};
use edgewise_protocol::{ErrorCode, Runtime};
use std::{fs, io::Write, path::Path};

const TOKENS: [u32; 12] = [3, 14, 15, 92, 65, 35, 89, 79, 32, 38, 46, 26];

/// Logits after each of the portions that `TOKENS` is fed in.
fn logits(model: &mut dyn CausalModel, portions: &[usize]) -> Vec<Vec<f32>> {
    model.reset();
    let mut rest = &TOKENS[..];
    portions
        .iter()
        .map(|&n| {
            let (now, later) = rest.split_at(n);
            rest = later;
            model.feed(now).unwrap().to_vec()
        })
        .collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

fn tiny() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    edgewise_onnx::testing::write_tiny(dir.path()).unwrap();
    dir
}

/// Sub-networks have another number of heads in each layer, ...
fn tiny_sub_network() -> tempfile::TempDir {
    tiny_part(&edgewise_onnx::testing::tiny_sub_network())
}

/// ... and may have smaller ones.
fn tiny_narrow_heads() -> tempfile::TempDir {
    tiny_part(&edgewise_onnx::testing::tiny_narrow_heads())
}

fn tiny_part(sub: &edgewise_onnx::SubNetwork) -> tempfile::TempDir {
    use edgewise_onnx::testing::{tiny_config, write_artifact};
    let dir = tempfile::tempdir().unwrap();
    write_artifact(dir.path(), &tiny_config(), sub).unwrap();
    dir
}

fn open(runtime: Runtime, dir: &Path, threads: u16) -> Box<dyn CausalModel> {
    load(runtime, &Library::Default, file(dir), threads, &[]).unwrap()
}

fn file(dir: &Path) -> Model {
    Model::File(dir.join("model.onnx"))
}

/// Says visibly when a test of ONNX Runtime cannot run here.
fn has_ort() -> bool {
    let there = cfg!(feature = "ort") && std::env::var_os("ORT_DYLIB_PATH").is_some();
    if !there {
        // Not through the test harness, which swallows what passing tests print.
        std::io::stderr().write_all(b"SKIPPED: needs the feature `ort` and ORT_DYLIB_PATH\n").unwrap();
    }
    there
}

fn portions_do_not_matter(runtime: Runtime) {
    for dir in [tiny(), tiny_sub_network(), tiny_narrow_heads()] {
        let mut model = open(runtime, dir.path(), 1);
        let whole = logits(&mut *model, &[12]);
        let split = logits(&mut *model, &[5, 1, 1, 1, 4]);
        assert_eq!(whole[0].len(), 97);
        let difference = largest_difference(&whole[0], split.last().unwrap());
        assert!(difference < 1e-4, "{runtime:?}: {difference}");
        assert_eq!(whole, logits(&mut *model, &[12]), "a reset forgets everything");
        let spread = largest_difference(&whole[0], &split[0]);
        assert!(spread > 1e-2, "other tokens give other logits: {spread}");
    }
}

#[test]
fn tract_steps_like_it_prefills() {
    portions_do_not_matter(Runtime::Tract);
}

#[test]
fn ort_steps_like_it_prefills() {
    if has_ort() {
        portions_do_not_matter(Runtime::Ort);
    }
}

#[test]
fn both_runtimes_agree() {
    if !has_ort() {
        return;
    }
    for dir in [tiny(), tiny_sub_network(), tiny_narrow_heads()] {
        let portions = [7, 1, 1, 3];
        let tract = logits(&mut *open(Runtime::Tract, dir.path(), 1), &portions);
        let ort = logits(&mut *open(Runtime::Ort, dir.path(), 1), &portions);
        for (step, (a, b)) in tract.iter().zip(&ort).enumerate() {
            let difference = largest_difference(a, b);
            assert!(difference < 1e-4, "step {step}: {difference}");
        }
    }
}

/// The buffers are unmapped once a model is loaded: a runtime that still looked at them would crash here.
fn memory_is_like_files(runtime: Runtime) {
    use edgewise_onnx::{
        ArtifactWriter, Extras, MappedWeights, Source,
        testing::{tiny_config, tiny_narrow_heads, tiny_sub_network, write_tiny_checkpoint},
    };
    let dir = tempfile::tempdir().unwrap();
    write_tiny_checkpoint(dir.path(), 1).unwrap();
    let (config, weights) = (tiny_config(), MappedWeights::open(dir.path()).unwrap());
    let source = Source { name: "tiny".into(), sha256: "0".repeat(64) };
    let writer = ArtifactWriter::new(&config, &weights, source, Extras { tokenizer: None, model_type: "llama".into() });
    for sub in [config.full(), tiny_sub_network(), tiny_narrow_heads()] {
        let folder = tempfile::tempdir().unwrap();
        writer.write(&sub, folder.path()).unwrap();
        let files = logits(&mut *open(runtime, folder.path(), 1), &[7, 1, 4]);
        let assembly = Box::new(writer.assemble(&sub).unwrap());
        let mut model = load(runtime, &Library::Default, Model::Memory(assembly), 1, &[]).unwrap();
        assert_eq!(files, logits(&mut *model, &[7, 1, 4]), "{runtime:?}: bit for bit");
    }
}

#[test]
fn tract_runs_from_memory() {
    memory_is_like_files(Runtime::Tract);
}

#[test]
fn ort_runs_from_memory() {
    if has_ort() {
        memory_is_like_files(Runtime::Ort);
    }
}

#[test]
fn threads_do_not_change_logits() {
    let dir = tiny();
    let one = logits(&mut *open(Runtime::Tract, dir.path(), 1), &[12]);
    let two = logits(&mut *open(Runtime::Tract, dir.path(), 2), &[12]);
    assert!(largest_difference(&one[0], &two[0]) < 1e-5);
}

#[test]
fn a_broken_model_is_rejected_by_both() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.onnx");
    for bytes in [&b"no model"[..], b""] {
        fs::write(&path, bytes).unwrap();
        let error = load(Runtime::Tract, &Library::Default, Model::File(path.clone()), 1, &[]).err().unwrap();
        assert_eq!(error.code, ErrorCode::ModelRejected, "{error}");
        if has_ort() {
            let error = load(Runtime::Ort, &Library::Default, Model::File(path.clone()), 1, &[]).err().unwrap();
            assert_eq!(error.code, ErrorCode::ModelRejected, "{error}");
        }
    }
}

#[test]
fn a_missing_weight_file_is_rejected() {
    let dir = tiny();
    fs::remove_file(dir.path().join("model.onnx_data")).unwrap();
    let error = load(Runtime::Tract, &Library::Default, file(dir.path()), 1, &[]).err().unwrap();
    assert_eq!(error.code, ErrorCode::ModelRejected, "{error}");
}

#[test]
fn a_library_that_is_none_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("libonnxruntime.so");
    fs::write(&text, "not a library").unwrap();
    for path in [text.as_path(), Path::new("/nowhere/libonnxruntime.so")] {
        let error = super::version(Runtime::Ort, &Library::File(path.display().to_string())).unwrap_err();
        assert_eq!(error.code, ErrorCode::RuntimeUnavailable, "{error}");
    }
    if cfg!(feature = "ort") {
        // Any library that is there and is not ONNX Runtime.
        let error = super::version(Runtime::Ort, &Library::File("libc.so.6".into())).unwrap_err();
        assert_eq!(error.code, ErrorCode::RuntimeUnavailable);
        assert!(error.message.contains("OrtGetApiBase") || error.message.contains("libc.so.6"), "{error}");
    }
}
