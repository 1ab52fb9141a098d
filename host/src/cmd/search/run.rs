//! From flags to a search that runs, and from its end to what is printed.

use super::{
    Args,
    baselines::{self, Baselines},
    opening::Opening,
    shown::Shown,
};
use crate::{
    cli::Context,
    devices::Fleet,
    failure::Failure,
    interrupt::interruptible,
    json::{Missing, SearchDocument, Timing},
    measuring::{SEARCH_PLAN, TrialSpec},
    model,
    scratch::Scratch,
    search::{Dispatcher, Evaluator, Explorer, Lane, Tasks, candidate},
    shipment::{Freight, Freights},
    view::View,
};
use edgewise_protocol::{Context as Lengths, Form, Runtime};
use edgewise_search::{
    Candidate, DIAGONAL_LOCAL, Guided, LEAST_TRIALS, Objective, ParameterCount, Rules, Sampler, Settings, SqliteStudy,
    StudyStore, sampler,
};
use edgewise_supernet::{Evaluation, Network, Reference, SuperNetwork, Windows};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// Held-out windows for the quality of a candidate.
const WINDOWS: Windows = Windows { length: 512, count: 4 };
/// Unless the user says how many trials there shall be, those after the screening take at most as long as the screening.
const RACE_SHARE: f64 = 1.0;
/// Metering lasts this long where it is asked for, in milliseconds.
const ENERGY_MS: u32 = 5_000;

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
        baselines::named(self.baselines.as_deref(), &[])?;
        let before = match &self.study {
            Some(path) if path.exists() => {
                let study = SqliteStudy::read(path)?;
                Some((study.settings()?, study.devices()?))
            }
            _ => None,
        };
        let fleet = Fleet::load(&context.home, context.devices.as_deref(), self.ort_library.as_deref())?;
        let choices = self.choices(&fleet, before.as_ref().map(|(s, d)| (s, &d[..])), objectives.as_deref())?;
        let registered = choices.devices.iter().map(|name| fleet.get(name)).collect::<Result<Vec<_>, _>>()?;

        let mut timing = Timing::default();
        let heads = !choices.head_sizes.is_empty();
        let supernet = &model::open(&choices.model, heads, choices.calibration.as_deref(), &context.home, printer)?;
        choices.workload.check(&Lengths::default(), supernet.config().max_positions)?;
        let text = model::held_out_text(choices.text.as_deref())?;
        let windows = Windows { length: WINDOWS.length.min(supernet.config().max_positions), ..WINDOWS };
        let evaluation = model::evaluation(&supernet.tokenizer, supernet.config(), &text, windows)?;
        let positions = choices.tasks.positions(windows.length, supernet.config().max_positions);
        let network = supernet.network(positions)?;
        let settings = self.settings(&choices, supernet, &text, before.as_ref().map(|(settings, _)| settings), objectives)?;
        let config = supernet.config().clone();
        let count: ParameterCount = Arc::new(move |c: &Candidate| crate::search::parameters(c, &config));

        // A study that exists is opened before anything is connected: it says what is measured already, and with which runtime.
        let path = self.study_path(context, &settings)?;
        let resumed = if path.exists() { Some(SqliteStudy::resume(&path, &settings)?) } else { None };
        let runtimes = resumed.as_ref().map(|s| chosen_runtimes(s)).transpose()?.unwrap_or_default();
        // What was begun with recipes goes on with them.
        let begun_with = resumed.as_ref().map(StudyStore::records).transpose()?.unwrap_or_default();
        let names = baselines::named(self.baselines.as_deref(), &begun_with)?;
        let baselines = Baselines::new(&names, &choices, &settings, supernet, count.clone(), context)?;
        let freights = Freights {
            own: Freight::of(supernet)?,
            others: baselines
                .supernets
                .iter()
                .map(|(order, of)| Ok((order.clone(), Freight::of(of)?)))
                .collect::<Result<_, Failure>>()?,
        };
        timing.prepare_s = begun.elapsed().as_secs_f64();
        let lanes = registered.iter().map(|device| Lane {
            registered: device.clone(),
            fleet: &fleet,
            choice: choices.runtime,
            allow_emulated: choices.allow_emulated,
            threads: choices.threads,
            printer,
            freights: &freights,
            trial: TrialSpec {
                workload: choices.workload,
                plan: SEARCH_PLAN,
                seed: settings.seed,
                context: Lengths::default(),
                energy_ms: if self.energy { ENERGY_MS } else { 0 },
            },
            way: self.ship.way(),
            screening: screening_form(&settings),
            runtime: runtimes.get(&device.name).copied(),
            ttft_ms: None,
            cancel: &cancel,
        });
        let lanes: Vec<Lane<'_>> = lanes.collect();
        let names: Vec<&str> = registered.iter().map(|d| d.name.as_str()).collect();
        printer.note(&format!("connecting to {}", names.join(", ")));

        let scratch = Scratch::new(&context.home.cache)?;
        let artifacts = supernet.artifacts().sharing(scratch.path());
        let evaluator = Evaluator {
            supernet,
            network: &network,
            artifacts: &artifacts,
            others: &baselines.supernets,
            loaded: Mutex::default(),
            freights: &freights,
            evaluation: &evaluation,
            reference: reference(&settings, &network, supernet, &evaluation)?,
            tasks: Tasks {
                plans: &choices.tasks.plans,
                tokenizer: &supernet.tokenizer,
                max_length: choices.tasks.max_length,
                cancel: &cancel,
            },
            positions,
            folder: scratch.path().to_owned(),
        };
        let explorer: Box<dyn Sampler> = if settings.sampler == DIAGONAL_LOCAL {
            Box::new(Guided::new(settings.space.clone(), count.clone(), self.explore as usize))
        } else {
            sampler(&settings.sampler, settings.space.clone(), count.clone())?
        };
        // What was trained is worth a look in any case.
        let trained = supernet.file.finetuned.iter().flat_map(|f| &f.trained).map(candidate);
        let first = trained.filter(|c| settings.space.contains(c)).collect();
        let sampler = sampler(&settings.sampler, settings.space.clone(), count.clone())?;
        let overlapped = !registered.iter().any(|d| d.shares_host);
        let total = settings.budget + baselines.candidates.len() as u32;
        let mut shown = Shown::new(printer, self.json_lines, total, &choices.devices[0]);
        let mut opening = Opening { path: path.clone(), settings: &settings, resumed, fleet: &fleet, printer };
        let outcome = Dispatcher {
            sampler: &*sampler,
            evaluator: &evaluator,
            observer: &mut shown,
            opening: &mut opening,
            explorer: Explorer { sampler: &*explorer, first, parameters: count, count: self.explore as usize },
            baselines: baselines.candidates,
            rules: Rules { least: self.trials.unwrap_or(LEAST_TRIALS), most: self.most_trials() },
            race_share: self.trials.is_none().then_some(RACE_SHARE),
            patience: self.patience.map(|minutes| Duration::from_secs(60 * u64::from(minutes))),
            cancel: &cancel,
        }
        .run(lanes, timing);
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

        let view = View::read(&*finished.study)?;
        if printer.json || self.json_lines {
            let missing = finished.lost.iter().map(|(device, failure)| Missing::new(device, failure)).collect();
            printer.json(&SearchDocument::new(&view, &path.display().to_string(), missing, timing)?)?;
        } else {
            for device in &view.devices {
                printer.data(&crate::cmd::front::table(&view, &device.name, &[])?)?;
                printer.data(&crate::cmd::front::comparison_table(&view, &device.name))?;
            }
            printer.data(&crate::cmd::front::portability_table(&view))?;
            for (device, failure) in &finished.lost {
                printer.warn(&format!("{device} is missing: {failure}"));
            }
            printer.note(&format!("\nreport: host report {}", path.display()));
        }
        finished.lost.into_iter().next().map_or(Ok(()), |(_, failure)| Err(failure))
    }

    /// One trial is the screening; then nothing races.
    fn most_trials(&self) -> u32 {
        if self.trials == Some(1) { 1 } else { Rules::default().most.max(self.trials.unwrap_or_default()) }
    }
}

/// What the divergence from the full network is taken from, where it is an objective or a limit.
fn reference(
    settings: &Settings,
    network: &Network,
    supernet: &SuperNetwork,
    evaluation: &Evaluation,
) -> Result<Option<Reference>, Failure> {
    Ok(if asks_for(settings, Objective::Kl) { Some(Reference::new(network, &supernet.full(), evaluation)?) } else { None })
}

/// Whether an objective or a limit needs it.
fn asks_for(settings: &Settings, objective: Objective) -> bool {
    settings.objectives.contains(&objective) || settings.constraints.iter().any(|c| c.objective == objective)
}

/// Where memory is an objective or a limit, candidates are screened in the form they ship in: from memory they take more.
fn screening_form(settings: &Settings) -> Form {
    if asks_for(settings, Objective::PeakRssBytes) { Form::Files } else { Form::Memory }
}

/// Runtimes that the baseline decided in an earlier run, by device.
fn chosen_runtimes(study: &dyn StudyStore) -> Result<BTreeMap<String, Runtime>, Failure> {
    let view = View::read(study)?;
    let measured = view.baseline().map(|b| &b.trials[..]).unwrap_or_default();
    let known = |name: &str| [Runtime::Ort, Runtime::Tract].into_iter().find(|r| r.name() == name);
    Ok(measured.iter().filter_map(|t| Some((t.device.clone(), known(&t.runtime)?))).collect())
}

/// Adds how to go on, if there is something to go on with.
fn resumable(mut failure: Failure, path: &Path) -> Failure {
    if !path.exists() {
        return failure;
    }
    let resume = format!("what was measured is stored; go on with --study {}", path.display());
    failure.hint = Some(match failure.hint.take() {
        Some(hint) => format!("{hint}\nhint: {resume}"),
        None => resume,
    });
    failure
}
