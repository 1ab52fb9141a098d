//! `host search`: runs or resumes a study.

use crate::{
    cli::Context,
    devices::{Fleet, Ready, RuntimeChoice},
    exit_code,
    failure::Failure,
    json::{CandidateDocument, SearchDocument, Timing},
    measuring::{SEARCH_PLAN, Trial, WorkloadSpec},
    model::{self, DEMO},
    scratch::Scratch,
    search::{Dispatcher, Evaluator, Measurer, Observer},
    ui::{Printer, Progress},
    view::View,
};
use clap::ArgAction;
use edgewise_protocol::{Runtime, Stage};
use edgewise_search::{
    Candidate, Constraint, DIAGONAL_LOCAL, Device as StoredDevice, Objective, Settings, Shape, Space, SqliteStudy, StudyStore,
    parse_objectives, sampler,
};
use edgewise_supernet::{SuperNetwork, Windows};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// Candidates that are measured unless the user says otherwise.
const BUDGET: u32 = 16;
/// Objectives unless the user says otherwise.
const OBJECTIVES: [Objective; 2] = [Objective::Perplexity, Objective::TpotMs];
/// Neurons and width are cut in steps of this.
const STEP: u32 = 32;
/// Held-out windows for the quality of a candidate.
const WINDOWS: Windows = Windows { length: 512, count: 4 };

/// Flags of `host search`. Those that are not given take the study's own value when it is resumed, else the default.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Hugging Face folder, .gguf file, prepared super-network, or `demo` [default: demo]
    #[arg(long, value_name = "M")]
    model: Option<String>,
    /// Device to measure on; may be given several times, the search follows the first [default: local]
    #[arg(long = "device", value_name = "D", action = ArgAction::Append)]
    device: Vec<String>,
    /// Candidates to measure, the full network included [default: 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    budget: Option<u32>,
    #[arg(
        long = "objective",
        value_name = "LIST",
        action = ArgAction::Append,
        help = "What to minimise, two or more of perplexity, ttft_ms, tpot_ms, latency_ms, peak_rss_bytes, parameters \
                [default: perplexity,tpot_ms]"
    )]
    objective: Vec<String>,
    /// Limit such as `tpot_ms<=20`; may be given several times
    #[arg(long = "constraint", value_name = "LIMIT", action = ArgAction::Append)]
    constraint: Vec<Constraint>,
    /// What is timed [default: prompt=128,gen=64]
    #[arg(long, value_name = "prompt=P,gen=G")]
    workload: Option<WorkloadSpec>,
    /// diagonal-local, random or nsga2 [default: diagonal-local]
    #[arg(long, value_name = "S")]
    sampler: Option<String>,
    /// default, per-layer, uniform or depth [default: default]
    #[arg(long, value_name = "S")]
    space: Option<String>,
    /// Held-out text for perplexity [default: a bundled public-domain text]
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Text for importance scores [default: another bundled public-domain text]
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// Study to resume, or to make at this path [default: a new one among the studies]
    #[arg(long, value_name = "FILE")]
    study: Option<PathBuf>,
    /// Seed of the proposals and of the tokens that are timed [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Runtime on the devices [default: auto, the faster one on the full network]
    #[arg(long, value_enum)]
    runtime: Option<RuntimeChoice>,
    /// Threads of the runtime [default: the device profile's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Precision of the weights [default: fp32]
    #[arg(long, value_parser = ["fp32"])]
    precision: Option<String>,
    /// ONNX Runtime's library for this host's platform
    #[arg(long, value_name = "FILE")]
    ort_library: Option<PathBuf>,
    /// Print each candidate as a line of JSON when it is done, and the document at the end
    #[arg(long)]
    json_lines: bool,
}

/// What the study decided, or the flags.
struct Choices {
    model: String,
    devices: Vec<String>,
    workload: WorkloadSpec,
    runtime: RuntimeChoice,
    threads: Option<u16>,
    text: Option<PathBuf>,
    calibration: Option<PathBuf>,
    space: String,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let begun = Instant::now();
        let printer = context.printer;
        let cancel = interruptible(printer);
        // What the user typed is checked before anything slow is done.
        let objectives = self.objectives()?;
        if let Some(name) = self.sampler.as_ref().filter(|name| !edgewise_search::SAMPLERS.contains(&name.as_str())) {
            let known = edgewise_search::SAMPLERS.join(", ");
            return Err(Failure::usage(format!("unknown sampler `{name}` (known: {known})")));
        }
        let before = match &self.study {
            Some(path) if path.exists() => {
                let study = SqliteStudy::read(path)?;
                Some((study.settings()?, study.devices()?))
            }
            _ => None,
        };
        let choices = self.choices(before.as_ref().map(|(s, d)| (s, &d[..])))?;
        let fleet = Fleet::load(&context.home, context.devices.as_deref(), self.ort_library.as_deref())?;
        let registered = fleet.select(&choices.devices)?;

        let mut timing = Timing::default();
        let supernet = &model::open(&choices.model, choices.calibration.as_deref(), &context.home, printer)?;
        choices.workload.check(supernet.config().max_positions)?;
        let text = model::held_out_text(choices.text.as_deref())?;
        let windows = Windows { length: WINDOWS.length.min(supernet.config().max_positions), ..WINDOWS };
        let evaluation = model::evaluation(&supernet.tokenizer, supernet.config(), &text, windows)?;
        let network = supernet.network(windows.length)?;
        let settings = self.settings(&choices, supernet, &text, before.as_ref().map(|(settings, _)| settings), objectives)?;
        timing.prepare_s = begun.elapsed().as_secs_f64();

        // A study that exists is opened before anything is connected: it says what is measured already, and with which runtime.
        // A new one is made when every device has answered, so that a mistyped address leaves no empty study behind.
        let path = self.study_path(context, &settings)?;
        let resumed = if path.exists() { Some(SqliteStudy::resume(&path, &settings)?) } else { None };
        let runtimes = resumed.as_ref().map(|s| chosen_runtimes(s)).transpose()?.unwrap_or_default();
        let connecting = Instant::now();
        let mut measurers = Vec::new();
        for device in &registered {
            printer.note(&format!("connecting to {}", device.name));
            measurers.push(Measurer {
                runtime: runtimes.get(&device.name).copied(),
                ready: fleet.ready(device, choices.runtime, choices.threads, printer)?,
                trial: Trial { workload: choices.workload, plan: SEARCH_PLAN, seed: settings.seed },
                cancel: &cancel,
                warnings: Vec::new(),
            });
        }
        let mut study = match resumed {
            Some(study) => study,
            None => SqliteStudy::create(&path, &settings)?,
        };
        study.set_budget(settings.budget)?;
        measurers.iter().try_for_each(|m| store_device(&mut study, &m.ready))?;
        printer.note(&format!("study: {}", path.display()));
        timing.transfer_s += connecting.elapsed().as_secs_f64();

        let scratch = Scratch::new(&context.home.cache)?;
        let artifacts = supernet.artifacts().sharing(scratch.path());
        let evaluator =
            Evaluator { network: &network, artifacts: &artifacts, evaluation: &evaluation, folder: scratch.path().to_owned() };
        let config = supernet.config().clone();
        let count = Arc::new(move |c: &Candidate| config.parameters(&crate::search::sub_network(c)));
        let sampler = sampler(&settings.sampler, settings.space.clone(), count)?;
        let overlapped = !registered.iter().any(|d| d.shares_host);
        let mut shown = Shown::new(printer, self.json_lines, settings.budget, &choices.devices[0]);
        let outcome =
            Dispatcher { study: &mut study, sampler: &*sampler, evaluator: &evaluator, observer: &mut shown, cancel: &cancel }
                .run(measurers, timing);
        drop(shown);
        let finished = outcome.map_err(|failure| resumable(failure, &path))?;
        let mut timing = finished.timing;
        timing.wall_s = begun.elapsed().as_secs_f64();
        // With boards, evaluation and measurement run at the same time; then only what was timed itself can be added up.
        timing.overhead_s = if overlapped {
            timing.export_s + timing.transfer_s
        } else {
            (timing.wall_s - timing.prepare_s - timing.evaluate_s - timing.measure_s).max(0.0)
        };
        timing.overhead_share = timing.overhead_s / timing.wall_s;

        let view = View::read(&study)?;
        if printer.json || self.json_lines {
            printer.json(&SearchDocument::new(&view, &path.display().to_string(), timing)?)?;
        } else {
            for device in &choices.devices {
                printer.data(&crate::cmd::front::table(&view, device, &[])?)?;
            }
            printer.note(&format!("\nreport: host report {}", path.display()));
        }
        finished.lost.map_or(Ok(()), Err)
    }

    fn objectives(&self) -> Result<Option<Vec<Objective>>, Failure> {
        if self.objective.is_empty() {
            return Ok(None);
        }
        let found = parse_objectives(&self.objective.join(",")).map_err(|e| Failure::usage(e.to_string()))?;
        if !found.contains(&Objective::Perplexity) {
            return Err(
                Failure::usage("perplexity must be among the objectives").hint("for example: --objective perplexity,tpot_ms")
            );
        }
        Ok(Some(found))
    }

    fn choices(&self, before: Option<(&Settings, &[StoredDevice])>) -> Result<Choices, Failure> {
        fn detail<T: serde::de::DeserializeOwned>(before: Option<(&Settings, &[StoredDevice])>, key: &str) -> Option<T> {
            before.and_then(|(s, _)| serde_json::from_value(s.details.get(key)?.clone()).ok())
        }
        let absolute = |path: &PathBuf| std::path::absolute(path).map_err(|e| Failure::file("use", path, &e));
        let file = |given: &Option<PathBuf>, key: &str| match given {
            Some(path) => absolute(path).map(Some),
            None => Ok(detail::<String>(before, key).filter(|t| !t.is_empty()).map(PathBuf::from)),
        };
        let model = match &self.model {
            // A path means the same from wherever the study is resumed.
            Some(model) if model != DEMO && !model.starts_with("hf:") => absolute(&PathBuf::from(model))?.display().to_string(),
            Some(model) => model.clone(),
            None => detail(before, "model").unwrap_or_else(|| DEMO.to_owned()),
        };
        let devices = if self.device.is_empty() {
            let known: Vec<String> = before.map(|(_, d)| d.iter().map(|d| d.name.clone()).collect()).unwrap_or_default();
            if known.is_empty() { vec![edgewise_fleet::LOCAL.to_owned()] } else { known }
        } else {
            self.device.clone()
        };
        Ok(Choices {
            model,
            devices,
            workload: self.workload.or_else(|| detail(before, "workload")).unwrap_or_default(),
            runtime: self.runtime.or_else(|| detail(before, "runtime")).unwrap_or(RuntimeChoice::Auto),
            threads: self.threads.or_else(|| detail::<Option<u16>>(before, "threads").flatten()),
            text: file(&self.text, "text")?,
            calibration: file(&self.calibration, "calibration")?,
            space: self.space.clone().or_else(|| detail(before, "space")).unwrap_or_else(|| "default".to_owned()),
        })
    }

    fn settings(
        &self,
        choices: &Choices,
        supernet: &SuperNetwork,
        text: &str,
        known: Option<&Settings>,
        objectives: Option<Vec<Objective>>,
    ) -> Result<Settings, Failure> {
        let config = supernet.config();
        let shape = Shape {
            layers: config.num_layers as u32,
            width: config.hidden_size as u32,
            kv_groups: config.num_kv_heads as u32,
            mlp: config.mlp_size as u32,
        };
        let path = |p: &Option<PathBuf>| p.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
        let details = serde_json::json!({
            "model": choices.model,
            "model_name": supernet.file.source.name,
            "model_sha256": supernet.file.source.sha256,
            "model_parameters": config.parameters(&supernet.full()),
            "model_shape": { "layers": shape.layers, "width": shape.width, "kv_groups": shape.kv_groups, "mlp": shape.mlp },
            "importance": supernet.file.method,
            "calibration": path(&choices.calibration),
            "calibration_sha256": supernet.file.calibration_sha256,
            "text": path(&choices.text),
            "text_sha256": hex::encode(Sha256::digest(text.as_bytes())),
            "workload": choices.workload,
            "runtime": choices.runtime,
            "threads": choices.threads,
            "precision": "fp32",
            "space": choices.space,
            "program": concat!("edgewise ", env!("CARGO_PKG_VERSION")),
        });
        let serde_json::Value::Object(details) = details else { unreachable!("an object was written") };
        Ok(Settings {
            seed: self.seed.or(known.map(|s| s.seed)).unwrap_or(0),
            sampler: self
                .sampler
                .clone()
                .or_else(|| known.map(|s| s.sampler.clone()))
                .unwrap_or_else(|| DIAGONAL_LOCAL.to_owned()),
            space: Space::preset(&choices.space, shape, STEP, supernet.layer_order())?,
            objectives: objectives.or_else(|| known.map(|s| s.objectives.clone())).unwrap_or_else(|| OBJECTIVES.to_vec()),
            constraints: match known {
                Some(s) if self.constraint.is_empty() => s.constraints.clone(),
                _ => self.constraint.clone(),
            },
            budget: self.budget.or(known.map(|s| s.budget)).unwrap_or(BUDGET),
            details: details.into_iter().collect(),
        })
    }

    fn study_path(&self, context: &Context, settings: &Settings) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.study {
            return Ok(path.clone());
        }
        let folder = &context.home.studies;
        std::fs::create_dir_all(folder).map_err(|e| Failure::file("make", folder, &e))?;
        let name = settings.details.get("model_name").and_then(|n| n.as_str()).unwrap_or("model");
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
        Ok(folder.join(format!("{}-{}.study", name.to_lowercase(), crate::json::now_ms())))
    }
}

/// Runtimes that the baseline decided in an earlier run, by device.
fn chosen_runtimes(study: &dyn StudyStore) -> Result<BTreeMap<String, Runtime>, Failure> {
    let view = View::read(study)?;
    let measured = view.baseline().map(|b| &b.measurements[..]).unwrap_or_default();
    let known = |name: &str| [Runtime::Ort, Runtime::Tract].into_iter().find(|r| r.name() == name);
    Ok(measured.iter().filter_map(|m| Some((m.device.clone(), known(&m.runtime)?))).collect())
}

fn store_device(study: &mut dyn StudyStore, ready: &Ready) -> Result<(), Failure> {
    let mut fingerprint = ready.description.fingerprint.clone();
    for status in &ready.description.runtimes {
        let state = status.version.clone().or_else(|| status.problem.clone()).unwrap_or_default();
        fingerprint.insert(format!("runtime_{}", status.runtime.name()), state);
    }
    study.store_device(&StoredDevice {
        name: ready.registered.name.clone(),
        target: ready.registered.target.clone(),
        fingerprint,
    })?;
    Ok(())
}

/// Sets a flag on the first Ctrl-C; the second ends the program.
fn interruptible(printer: Printer) -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    let handler = move || {
        if set.swap(true, Ordering::SeqCst) {
            #[expect(clippy::exit, reason = "the user asked twice; what is stored is durable already")]
            std::process::exit(i32::from(exit_code::INTERRUPTED));
        }
        printer.note("stopping; press Ctrl-C again to stop at once");
    };
    if ctrlc::set_handler(handler).is_err() {
        printer.warn("Ctrl-C will end the program at once");
    }
    flag
}

/// Adds how to go on, if there is something to go on with.
fn resumable(mut failure: Failure, path: &Path) -> Failure {
    let resume = format!("what was measured is stored; go on with --study {}", path.display());
    failure.hint = Some(match failure.hint.take() {
        Some(hint) => format!("{hint}\nhint: {resume}"),
        None => resume,
    });
    failure
}

/// Shows how the search goes.
struct Shown {
    printer: Printer,
    lines: bool,
    total: u32,
    device: String,
    progress: Progress,
    best: String,
    done: u64,
}

impl Shown {
    fn new(printer: Printer, lines: bool, total: u32, device: &str) -> Self {
        let progress = Progress::new(printer, u64::from(total));
        Self { printer, lines, total, device: device.to_owned(), progress, best: String::new(), done: 0 }
    }
}

impl Observer for Shown {
    fn evaluating(&mut self, position: usize, id: &str) {
        self.progress.detail(&format!("candidate {} of {}: evaluating {id}{}", position + 1, self.total, self.best));
    }

    fn measuring(&mut self, position: usize, id: &str, device: &str, progress: Option<&edgewise_protocol::Progress>) {
        let stage = match progress.map(|p| p.stage) {
            None => "sending",
            Some(Stage::Load) => "loading",
            Some(Stage::Probe) => "checking",
            Some(Stage::Warm) => "warming up",
            Some(Stage::Prefill) => "timing the prompt",
            Some(Stage::Decode) => "timing tokens",
        };
        let (at, total, best) = (position + 1, self.total, &self.best);
        self.progress.detail(&format!("candidate {at} of {total}: {stage} {id} on {device}{best}"));
    }

    fn finished(&mut self, id: &str, view: &View) -> Result<(), Failure> {
        self.done += 1;
        self.progress.done(self.done);
        let Some(record) = view.records.iter().find(|r| r.id == id) else { return Ok(()) };
        if self.lines {
            self.printer.json(&CandidateDocument::new(record, view.workload))?;
        }
        let base = view.baseline().and_then(|b| view.value(b, &self.device, Objective::TpotMs));
        let found = |o| view.value(record, &self.device, o);
        let line = match (found(Objective::Perplexity), found(Objective::TtftMs), found(Objective::TpotMs)) {
            (Some(perplexity), Some(ttft), Some(tpot)) => {
                let relative = base.map(|b| format!(" ({:+.0} %)", (tpot / b - 1.0) * 100.0)).unwrap_or_default();
                format!("perplexity {perplexity:.2}, ttft {ttft:.2} ms, tpot {tpot:.3} ms{relative}")
            }
            _ => record.failures.first().map_or_else(|| "no result".to_owned(), |f| format!("{}: {}", f.status, f.message)),
        };
        if self.printer.progress {
            self.progress.line(&format!("[{}/{}] {id}: {line}", self.done, self.total));
        }
        let front = view.front(&self.device, &[])?;
        self.best = format!(", front {}", front.ids.len());
        Ok(())
    }

    fn warning(&mut self, device: &str, text: &str) {
        self.progress.line(&format!("warning: {device}: {text}"));
    }

    fn lost(&mut self, device: &str, failure: &Failure) {
        self.progress.line(&format!("warning: {device}: {failure}"));
    }
}
