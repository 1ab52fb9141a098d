//! From flags to a training that runs, and from its end to a new super-network.

use super::{
    Args,
    args::GridBy,
    shown::{Shown, perplexities},
    students::{GRID_WINDOWS, Students},
};
use crate::{cli::Context, exit_code, failure::Failure, interrupt::interruptible, model};
use edgewise_finetune::{Corpus, Document, Look, Run, Sandwich, draw_from, looks, newest, peek, read_documents, train};
use edgewise_onnx::SubNetwork;
use edgewise_supernet::{CALIBRATION_TEXT, Finetuned, Placement, SuperNetworkFile};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
};

/// Positions that the check of what is written needs.
const LEAST_POSITIONS: usize = 64;
/// File of the working folder that a training holds.
const LOCK: &str = ".lock";

#[derive(serde::Serialize)]
struct ResultDocument<'a> {
    schema: &'static str,
    supernet: String,
    model: &'a str,
    model_sha256: &'a str,
    parent_sha256: &'a str,
    data_sha256: &'a str,
    settings: &'a Value,
    steps: u64,
    tokens: u64,
    sequences: usize,
    trained_parameters: usize,
    parameters: u64,
    elapsed_s: f64,
    identity_max_abs_diff: f64,
    curve: Vec<Look>,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let printer = context.printer;
        element_wise_on_one_thread();
        // What cannot be is refused before anything slow is done.
        self.settings()?;
        if self.output.exists() {
            return Err(Failure::usage(format!("`{}` exists already", self.output.display()))
                .hint("give -o a new name; a super-network is never overwritten"));
        }
        let folder = working_folder(&self.output);
        let resume = self.checkpoint(&folder)?;
        let place = Placement::named(&self.compute, &self.precision)?;
        let cancel = interruptible(printer);
        let (documents, data_sha256) = self.documents()?;
        let heads = !self.head_sizes.is_empty();
        let supernet = model::open(&self.model, heads, self.calibration.as_deref(), &context.home, printer)?;
        let config = supernet.config();
        let settings = self.settings_for(config)?;
        if settings.sequence > config.max_positions {
            let message = format!("sequences of {} tokens for a model of {} positions", settings.sequence, config.max_positions);
            return Err(Failure::usage(message).hint("give a smaller --sequence"));
        }
        let students = Students::new(&self, &supernet, context)?;
        let mut identity = json!({
            "settings": settings,
            "model_sha256": supernet.file.source.sha256,
            "data_sha256": data_sha256,
            "space": self.space,
            "draws": self.draws,
            "grid": self.grid,
            "compute": self.compute,
            "precision": self.precision,
        });
        if !students.found().is_empty() {
            identity["found"] = json!(students.found());
        }
        if self.grid_by == GridBy::Magnitude {
            identity["grid_by"] = json!("magnitude");
        }
        if heads {
            identity["head_sizes"] = json!(self.head_sizes);
        }
        // What was begun with other settings is refused before anything slow is done.
        let resumed = resume.as_ref().map(|path| peek(path, &identity)).transpose()?;
        let corpus = Corpus::new(&documents, &supernet.tokenizer, config, settings.sequence, settings.loss_on, settings.seed)?;
        drop(documents);
        let validation = students.validation(&self, &supernet)?;

        let positions = settings.sequence.max(validation.on.windows.length).max(GRID_WINDOWS.length).max(LEAST_POSITIONS);
        let mut network = supernet.network_to(positions, &place)?;
        network.make_trainable(&settings.trainable, settings.seed)?;
        let trained_parameters = network.variables().iter().map(|(_, var)| var.elem_count()).sum();
        let _turn = take(&folder)?;
        let grid = match &resumed {
            Some((steps, grid)) => {
                printer.note(&format!("going on after {steps} steps"));
                grid.clone()
            }
            None => students.grid(&self, context, &supernet, &network, &corpus, &cancel)?,
        };
        let (draws, seed) = (self.draws, settings.seed);
        let from_space = |group: u64| students.draw(&supernet, seed, group, draws);
        let from_grid = |group: u64| draw_from(&grid, seed, group, draws);
        let draws: &(dyn Fn(u64) -> Vec<SubNetwork> + Sync) = if grid.is_empty() { &from_space } else { &from_grid };
        let sandwich = Sandwich { full: supernet.full(), smallest: students.smallest.clone(), draws };
        let run = Run {
            network: &network,
            corpus: &corpus,
            sandwich,
            settings: &settings,
            validation: &validation,
            folder: &folder,
            checkpoint_every: self.checkpoint_every,
            identity: &identity,
            grid: &grid,
            resume,
            cancel: &cancel,
        };
        let mut shown = Shown::new(printer);
        let ended = train(&run, &mut |event| shown.hear(&event));
        drop(shown);
        let outcome = ended.map_err(|error| resumable(error.into(), &folder))?;
        if outcome.stopped {
            let message = format!("stopped by the user after {} steps", outcome.steps);
            return Err(resumable(Failure::new(exit_code::INTERRUPTED, message), &folder));
        }
        let record = Finetuned {
            parent_sha256: supernet.file.source.sha256.clone(),
            settings: identity.clone(),
            data_sha256: data_sha256.clone(),
            steps: outcome.steps,
            tokens: outcome.tokens,
            trained: grid.clone(),
        };
        if !place.is_exact() {
            let mut exact = supernet.network(positions)?;
            exact.make_trainable(&settings.trainable, settings.seed)?;
            exact.take_over(&network)?;
            network = exact;
        }
        let file = supernet.write_finetuned(&mut network, record, &outcome.log, &self.output)?;
        // All that it held is in the new super-network; one that cannot be removed does no harm.
        if let Err(error) = std::fs::remove_dir_all(&folder) {
            printer.warn(&format!("cannot remove `{}`: {error}", folder.display()));
        }
        let curve = looks(&outcome.log);
        if printer.json {
            return printer.json(&ResultDocument {
                schema: "edgewise.finetune/1",
                supernet: self.output.display().to_string(),
                model: &file.source.name,
                model_sha256: &file.source.sha256,
                parent_sha256: &supernet.file.source.sha256,
                data_sha256: &data_sha256,
                settings: &identity,
                steps: outcome.steps,
                tokens: outcome.tokens,
                sequences: corpus.sequences(),
                trained_parameters,
                parameters: config.parameters(&supernet.full()),
                elapsed_s: outcome.elapsed_s,
                identity_max_abs_diff: f64::from(file.identity_max_abs_diff),
                curve,
            });
        }
        printer.note(&summary(&file, outcome.steps, outcome.elapsed_s, &curve));
        printer.data(&format!("{}\n", self.output.display()))
    }

    /// The checkpoint to go on from, if the user wants to.
    fn checkpoint(&self, folder: &Path) -> Result<Option<PathBuf>, Failure> {
        match (newest(folder), self.resume) {
            (Some(path), true) => Ok(Some(path)),
            (None, false) => Ok(None),
            (Some(path), false) => Err(Failure::usage(format!("there is a checkpoint already: `{}`", path.display()))
                .hint(format!("go on from it with --resume, or remove `{}`", folder.display()))),
            (None, true) => Err(Failure::usage(format!("there is no checkpoint in `{}`", folder.display()))
                .hint("begin without --resume; -o must name what the earlier run was to write")),
        }
    }

    /// The training data, and the hash of all files.
    fn documents(&self) -> Result<(Vec<Document>, String), Failure> {
        if self.data.is_empty() {
            let document = Document { prompt: String::new(), answer: CALIBRATION_TEXT.to_owned() };
            return Ok((vec![document], hex::encode(Sha256::digest(CALIBRATION_TEXT))));
        }
        let (mut all, mut hashes) = (Vec::new(), Vec::new());
        for path in &self.data {
            let (documents, bytes) = read_documents(path)?;
            all.extend(documents);
            hashes.push(hex::encode(Sha256::digest(&bytes)));
        }
        let hash = match &hashes[..] {
            [one] => one.clone(),
            several => hex::encode(Sha256::digest(several.join("\n"))),
        };
        Ok((all, hash))
    }
}

/// Keeps candle from sharing element-wise operations among threads, unless the user wants it to: they wait for each other in a
/// busy loop, and a backward pass consists of thousands of small ones. Products and the operations of our own are shared as ever.
fn element_wise_on_one_thread() {
    const THREADS: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(THREADS).is_none() {
        // SAFETY: the program has no other thread yet that could read the environment.
        unsafe { std::env::set_var(THREADS, "1") };
    }
}

/// Where checkpoints and the log are until the new super-network is there: beside it.
fn working_folder(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".training");
    PathBuf::from(name)
}

/// Makes the working folder, and holds it for as long as what this returns lives: the system lets go of it however the program
/// ends.
fn take(folder: &Path) -> Result<File, Failure> {
    std::fs::create_dir_all(folder).map_err(|e| Failure::file("make", folder, &e))?;
    let path = folder.join(LOCK);
    let lock = File::create(&path).map_err(|e| Failure::file("make", &path, &e))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Failure::usage(format!("another training is at work in `{}`", folder.display()))
            .hint("wait for it to end, or give -o a new name")),
        Err(TryLockError::Error(e)) => Err(Failure::file("lock", &path, &e)),
    }
}

/// Adds how to go on, if there is a checkpoint to go on from.
fn resumable(mut failure: Failure, folder: &Path) -> Failure {
    if let Some(path) = newest(folder) {
        let resume = format!("`{}` is kept; the same command with --resume goes on from it", path.display());
        failure.hint = Some(match failure.hint.take() {
            Some(hint) => format!("{hint}\nhint: {resume}"),
            None => resume,
        });
    }
    failure
}

fn summary(file: &SuperNetworkFile, steps: u64, elapsed_s: f64, curve: &[Look]) -> String {
    let look = |look: Option<&Look>| look.map_or_else(String::new, |look| perplexities(&look.validation));
    format!(
        "{steps} steps in {elapsed_s:.0} s; perplexity before: {}; after: {}\nmerged and trained logits differ by at most {:.1e} \
         (accepted: {:.1e})",
        look(curve.first()),
        look(curve.last()),
        file.identity_max_abs_diff,
        file.identity_tolerance
    )
}
