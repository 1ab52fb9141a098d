//! From what the user calls a model to an open super-network, prepared on the fly and cached by hash.

use crate::{exit_code, failure::Failure, home::Home, ui::Printer, ui::Progress};
use edgewise_supernet::{
    CALIBRATION_TEXT, Calibration, Checkpoint, Evaluation, HELD_OUT_TEXT, Method, Ranking, Step, SuperNetwork, Text,
    UnknownRanking, Windows, cache_key, prepare, write_demo,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The name of the bundled model.
pub(crate) const DEMO: &str = "demo";
/// Tokens of a calibration window, and how many windows unless the user says otherwise: 8,192 tokens.
pub(crate) const CALIBRATION: Windows = Windows { length: 512, count: 16 };

/// What a model's name stands for.
pub(crate) enum Located {
    /// A folder or file with a checkpoint.
    Checkpoint(PathBuf),
    /// A prepared super-network.
    Prepared(PathBuf),
}

/// Finds a model by the name the user gave it.
pub(crate) fn locate(model: &str, home: &Home) -> Result<Located, Failure> {
    if model == DEMO {
        let folder = home.cache.join("models").join(DEMO);
        write_demo(&folder)?;
        return Ok(Located::Checkpoint(folder));
    }
    if let Some(name) = model.strip_prefix("hf:") {
        return Err(Failure::usage(format!("`hf:{name}`: this build does not fetch models from the hub"))
            .hint(format!("fetch it with `huggingface-cli download {name} --local-dir DIR` and give --model DIR")));
    }
    let path = PathBuf::from(model);
    Ok(if SuperNetwork::is_one(&path) { Located::Prepared(path) } else { Located::Checkpoint(path) })
}

/// Reads a text file of the user, or takes the bundled one.
pub(crate) fn read_text(path: Option<&Path>, bundled: &str) -> Result<String, Failure> {
    let Some(path) = path else { return Ok(bundled.to_owned()) };
    let bytes = std::fs::read(path).map_err(|e| Failure::file("read", path, &e))?;
    String::from_utf8(bytes)
        .map_err(|_| Failure::usage(format!("`{}` is not UTF-8 text", path.display())).hint("convert it, or choose another text"))
}

/// The calibration text.
pub(crate) fn calibration_text(path: Option<&Path>) -> Result<String, Failure> {
    read_text(path, CALIBRATION_TEXT)
}

/// The held-out text.
pub(crate) fn held_out_text(path: Option<&Path>) -> Result<String, Failure> {
    read_text(path, HELD_OUT_TEXT)
}

/// Prepares a checkpoint into a folder for each method, from so many windows of the text.
pub(crate) fn prepare_into(
    path: &Path,
    text: &str,
    windows: usize,
    targets: &[(Method, &Path)],
    name: Option<&str>,
    printer: Printer,
) -> Result<(), Failure> {
    let mut progress = Progress::new(printer, windows as u64 + 3);
    progress.at("reading the checkpoint");
    let mut checkpoint = Checkpoint::open(path)?;
    if let Some(name) = name {
        name.clone_into(&mut checkpoint.name);
    }
    let text = Text::encode(&checkpoint.tokenizer, text, checkpoint.config.vocab_size)?;
    let length = CALIBRATION.length.min(checkpoint.config.max_positions);
    let calibration = Calibration { text, windows: Windows { length, count: windows } };
    let mut step = |step: Step| match step {
        Step::Load => progress.at("loading the weights"),
        Step::Calibrate(done, count) => {
            progress.done(done as u64);
            progress.at("scoring layers, groups, neurons and width on the calibration text");
            progress.detail(&format!("scoring on the calibration text, window {done} of {count}"));
        }
        Step::Sort => progress.at("sorting the weights"),
        Step::Check => progress.at("checking that the sorted super-network computes the same"),
    };
    prepare(&checkpoint, &calibration, targets, &mut step)?;
    Ok(())
}

/// Opens a model as a super-network, preparing it first where the cache has none; `heads`: its heads shall be cut.
pub(crate) fn open(
    model: &str,
    heads: bool,
    calibration: Option<&Path>,
    home: &Home,
    printer: Printer,
) -> Result<SuperNetwork, Failure> {
    match locate(model, home)? {
        Located::Prepared(folder) => Ok(SuperNetwork::open(&folder)?),
        Located::Checkpoint(path) => {
            let name = (model == DEMO).then_some(DEMO);
            let method = Method { heads, ..Method::default() };
            let mut opened = open_prepared(&path, &[method], calibration, name, home, printer)?;
            opened.pop().ok_or_else(|| Failure::new(exit_code::BUG, "nothing was prepared"))
        }
    }
}

/// Opens the super-network that a candidate is cut from: of the order it names, in which heads stay whole, or the model's own.
pub(crate) fn open_in_order(
    model: &str,
    order: Option<&str>,
    heads: bool,
    calibration: Option<&Path>,
    home: &Home,
    printer: Printer,
) -> Result<SuperNetwork, Failure> {
    let Some(order) = order else { return open(model, heads, calibration, home, printer) };
    let ranking = order.parse().map_err(|e: UnknownRanking| Failure::usage(e.to_string()))?;
    let mut sorted = open_sorted(model, &[ranking], calibration, home, printer)?;
    sorted.remove(order).ok_or_else(|| Failure::new(exit_code::BUG, "nothing was prepared"))
}

/// Opens a model sorted by each of these rankings; a prepared super-network is the checkpoint of the others.
pub(crate) fn open_sorted(
    model: &str,
    rankings: &[Ranking],
    calibration: Option<&Path>,
    home: &Home,
    printer: Printer,
) -> Result<BTreeMap<String, SuperNetwork>, Failure> {
    let (Located::Prepared(path) | Located::Checkpoint(path)) = locate(model, home)?;
    let methods: Vec<Method> = rankings.iter().map(|&parts| Method { parts, ..Method::default() }).collect();
    let name = (model == DEMO).then_some(DEMO);
    let opened = open_prepared(&path, &methods, calibration, name, home, printer)?;
    Ok(rankings.iter().map(ToString::to_string).zip(opened).collect())
}

/// The super-networks of a checkpoint by these methods, from the cache or prepared in one go.
fn open_prepared(
    path: &Path,
    methods: &[Method],
    calibration: Option<&Path>,
    name: Option<&str>,
    home: &Home,
    printer: Printer,
) -> Result<Vec<SuperNetwork>, Failure> {
    if !path.exists() {
        return Err(Failure::new(exit_code::MODEL, format!("there is no model at `{}`", path.display()))
            .hint("give a folder in Hugging Face layout, a .gguf file, a prepared super-network, or `demo`"));
    }
    if path.is_dir() && !path.join("config.json").exists() && !SuperNetwork::is_one(path) {
        // Fails, and says what is missing.
        return Err(Checkpoint::open(path)
            .err()
            .map_or_else(|| Failure::new(exit_code::BUG, "a folder without config.json was opened"), Failure::from));
    }
    let text = calibration_text(calibration)?;
    let cache = home.cache.join("supernets");
    let folder = |&method: &Method| Ok(cache.join(cache_key(path, &text, CALIBRATION, method)?));
    let folders = methods.iter().map(folder).collect::<Result<Vec<PathBuf>, Failure>>()?;
    let missing: Vec<(Method, &Path)> =
        methods.iter().copied().zip(folders.iter().map(PathBuf::as_path)).filter(|(_, f)| !SuperNetwork::is_one(f)).collect();
    if !missing.is_empty() {
        prepare_into(path, &text, CALIBRATION.count, &missing, name, printer)?;
    }
    folders.iter().map(|folder| Ok(SuperNetwork::open(folder)?)).collect()
}

/// What quality is evaluated on.
pub(crate) fn evaluation(
    tokenizer: &edgewise_supernet::Tokenizer,
    config: &edgewise_onnx::ModelConfig,
    text: &str,
    windows: Windows,
) -> Result<Evaluation, Failure> {
    let text = Text::encode(tokenizer, text, config.vocab_size)?;
    check_window(config, windows.length)?;
    Ok(Evaluation { text, windows })
}

/// Refuses windows that are longer than what the model was made for.
pub(crate) fn check_window(config: &edgewise_onnx::ModelConfig, length: usize) -> Result<(), Failure> {
    if length > config.max_positions {
        return Err(Failure::usage(format!(
            "windows of {length} tokens are longer than the model's {} positions",
            config.max_positions
        ))
        .hint("give a smaller --window"));
    }
    Ok(())
}
