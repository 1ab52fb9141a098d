//! `host measure`: the latency of artifacts on devices, side by side.

use super::selection::Selection;
use crate::{
    cli::Context,
    devices::{Fleet, RuntimeChoice},
    doctor::{self, Severity},
    failure::Failure,
    json::{MeasurementDocument, Missing, trial_of},
    measuring::{FINAL_PLAN, TrialSpec, WorkloadSpec},
    parallel::{on_each, settle},
    search::Place,
    shipment::{Fault, Shipment, Way, fastest},
    ui::{Printer, Progress},
    view::{Intervals, Measured},
};
use edgewise_fleet::RegisteredDevice;
use edgewise_onnx::Artifact;
use edgewise_protocol::{Context as Lengths, Form, Stage};
use edgewise_search::{Comparison, MOST_TRIALS, Reading, Role, Spread, Trial, Verdict, compare, seats};
use std::{
    fmt::Write,
    path::PathBuf,
    sync::{Mutex, PoisonError, atomic::AtomicBool},
};

/// Metering lasts this long where it is asked for, in milliseconds.
const ENERGY_MS: u32 = 10_000;

/// Flags of `host measure`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of the artifact; further ones are compared with it, trials interleaved
    #[arg(required = true)]
    artifact: Vec<PathBuf>,
    #[command(flatten)]
    devices: Selection,
    /// What is timed
    #[arg(long, value_name = "prompt=P,gen=G", default_value = "prompt=128,gen=64")]
    workload: WorkloadSpec,
    /// Trials of each artifact, each a process of its own; comparisons that stay open get up to eight
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    trials: u32,
    /// Other prompt lengths to time, such as 32,128,512
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    prompts: Vec<u32>,
    /// Depths at which a token is timed, such as 0,256,1024
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    depths: Vec<u32>,
    /// Measure energy where a device has a meter: a run of its own in each trial
    #[arg(long)]
    energy: bool,
    /// Runtime; `auto` measures what the device can run and keeps the faster
    #[arg(long, value_enum, default_value = "auto")]
    runtime: RuntimeChoice,
    /// Threads of the runtime [default: the device profile's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Seed of the tokens and of the order
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// ONNX Runtime's library for the device's platform
    #[arg(long, value_name = "FILE")]
    ort_library: Option<PathBuf>,
}

#[derive(serde::Serialize)]
struct Document {
    schema: &'static str,
    artifact: String,
    artifact_sha256: String,
    workload: WorkloadSpec,
    measurements: Vec<OfArtifact>,
    comparisons: Vec<ComparisonDocument>,
    devices: Vec<DeviceDocument>,
    missing: Vec<Missing>,
}

#[derive(serde::Serialize)]
struct OfArtifact {
    artifact: String,
    artifact_sha256: String,
    #[serde(flatten)]
    measurement: MeasurementDocument,
}

/// What a device was like before it measured.
#[derive(serde::Serialize)]
struct DeviceDocument {
    device: String,
    score: u32,
    flags: Vec<String>,
}

/// An artifact against the first one.
#[derive(serde::Serialize)]
struct ComparisonDocument {
    device: String,
    artifact: String,
    with: String,
    quantity: &'static str,
    ratio: f64,
    ci95: [f64; 2],
    pairs: u32,
    verdict: &'static str,
}

/// What one device measured: for each artifact its trials.
struct OnDevice {
    trials: Vec<Vec<Trial>>,
    score: u32,
    flags: Vec<String>,
}

/// A time that artifacts are compared by.
struct Quantity {
    name: &'static str,
    of: fn(&Trial) -> f64,
}

const QUANTITIES: [Quantity; 2] =
    [Quantity { name: "ttft_ms", of: |t| t.ttft_ms.median }, Quantity { name: "tpot_ms", of: |t| t.tpot_ms.median }];

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let printer = context.printer;
        let lengths = Lengths { prompts: self.prompts.clone(), depths: self.depths.clone() };
        let shipments = self.artifact.iter().map(|path| self.open(path, &lengths, printer)).collect::<Result<Vec<_>, _>>()?;
        let fleet = Fleet::load(&context.home, context.devices.as_deref(), self.ort_library.as_deref())?;
        let names = self.devices.names(&fleet)?.unwrap_or_else(|| vec![edgewise_fleet::LOCAL.to_owned()]);
        let devices = names.iter().map(|name| fleet.get(name)).collect::<Result<Vec<_>, _>>()?;
        let spec = TrialSpec {
            workload: self.workload,
            plan: FINAL_PLAN,
            seed: self.seed,
            context: lengths,
            energy_ms: if self.energy { ENERGY_MS } else { 0 },
        };
        // Each board's thread says where it is.
        let shown = Mutex::new(Progress::new(printer, devices.len() as u64));
        let progress = || shown.lock().unwrap_or_else(PoisonError::into_inner);
        progress().at(&format!("measuring on {}", names.join(", ")));
        let mut done = 0;
        let outcomes = on_each(
            &devices,
            |device| self.on_device(&fleet, device, &shipments, &spec, printer, &|text| progress().at(text)),
            |outcome| {
                let mut progress = progress();
                done += 1;
                progress.done(done);
                // With several boards one that fails does not take the others' results away.
                if let (Err(failure), true) = (&outcome.result, devices.len() > 1) {
                    progress.line(&format!("warning: {}: {failure}", outcome.device));
                }
            },
        );
        drop(shown);
        let (found, missing, failed) = settle(outcomes)?;
        self.show(printer, &shipments, &found, missing)?;
        failed.map_or(Ok(()), Err)
    }

    fn open(&self, path: &std::path::Path, lengths: &Lengths, printer: Printer) -> Result<Shipment, Failure> {
        let artifact = Artifact::open(path)?;
        artifact.verify()?;
        self.workload.check(lengths, artifact.manifest.model.max_positions)?;
        let probe = artifact.probe()?;
        if probe.is_none() {
            printer.warn(&format!("{} has no probe.json, so its numerics are not checked on the device", path.display()));
        }
        Ok(Shipment::of_artifact(artifact, probe))
    }

    fn on_device(
        &self,
        fleet: &Fleet,
        registered: &RegisteredDevice,
        shipments: &[Shipment],
        spec: &TrialSpec,
        printer: Printer,
        at: &dyn Fn(&str),
    ) -> Result<OnDevice, Failure> {
        let cancel = AtomicBool::new(false);
        let about = |fault: Fault| Failure::from(fault).about(&registered.name);
        let mut ready = fleet.ready(registered, self.runtime, self.threads, printer)?;
        let health = ready.device.examine().map_err(|e| about(e.into()))?;
        let findings = doctor::examine(&health, &ready.description);
        for finding in findings.iter().filter(|f| f.severity == Severity::Problem) {
            printer.warn(&format!("{}: {}; {}", registered.name, finding.observed, finding.meaning));
        }
        let mut trials: Vec<Vec<Trial>> = vec![Vec::new(); shipments.len()];
        let ids: Vec<String> = (0..shipments.len()).map(|i| i.to_string()).collect();
        let mut runtimes = ready.runtimes.clone();
        let mut sent_before = 0;
        let mut waits_for: Option<String> = None;
        let mut tell = |progress: &edgewise_protocol::Progress| {
            // Without a word nobody would know why nothing happens.
            if let (Stage::Lease, Some(holder)) = (progress.stage, &progress.note)
                && waits_for.as_ref() != Some(holder)
            {
                printer.note(&format!("{}: waiting for its turn ({holder})", registered.name));
                waits_for = Some(holder.clone());
            }
        };
        for block in 0.. {
            let wanted = self.wanted(block, &trials);
            if wanted.is_empty() {
                break;
            }
            at(&self.block(&registered.name, block));
            let others: Vec<&str> = wanted.iter().map(|&i| ids[i].as_str()).collect();
            for seat in seats(self.seed, block, &ids[0], &others) {
                let which: usize = seat.id.parse().unwrap_or_default();
                let shipment = &shipments[which];
                shipment.send(&mut ready, Way::Files, None, &cancel).map_err(about)?;
                let measured = fastest(
                    &runtimes,
                    |m| spec.workload.latency_ms(m.ttft.median, m.tpot.median),
                    |runtime| shipment.measure(&mut ready, (Way::Files, Form::Files), runtime, spec, &mut tell, &cancel),
                    |text| printer.warn(&format!("{}: {text}", registered.name)),
                )
                .map_err(about)?;
                runtimes = vec![measured.runtime];
                let place = Place { id: seat.id.to_owned(), block, seat: seat.seat, role: Role::Final };
                let sent = ready.device.bytes_sent();
                trials[which].push(trial_of(measured, &registered.name, &place, Form::Files, shipment, sent - sent_before));
                sent_before = sent;
            }
        }
        ready.device.close();
        Ok(OnDevice { trials, score: doctor::score(&findings), flags: doctor::session_flags(&findings) })
    }

    /// Where a device is, for people.
    fn block(&self, device: &str, block: u32) -> String {
        if block < self.trials {
            format!("{device}: trial {} of {}", block + 1, self.trials)
        } else {
            format!("{device}: trial {}, since it is still open which is faster; {} at most", block + 1, self.most_trials())
        }
    }

    fn most_trials(&self) -> u32 {
        MOST_TRIALS.max(self.trials)
    }

    /// Artifacts that get a trial in this block, besides the first. Empty when all is done.
    fn wanted(&self, block: u32, trials: &[Vec<Trial>]) -> Vec<usize> {
        if block < self.trials {
            return (0..trials.len()).collect();
        }
        let most = self.most_trials();
        let open = |i: &usize| {
            let undecided = |c: Comparison| c.verdict == Verdict::Undecided;
            QUANTITIES.iter().any(|q| against_first(trials, *i, q, most).is_some_and(undecided))
        };
        if block >= most || self.trials == 1 { Vec::new() } else { (1..trials.len()).filter(open).collect() }
    }

    fn show(
        &self,
        printer: Printer,
        shipments: &[Shipment],
        found: &[(String, OnDevice)],
        missing: Vec<Missing>,
    ) -> Result<(), Failure> {
        let further = f64::from(self.workload.generated_tokens) - 1.0;
        let name = |at: usize| self.artifact[at].display().to_string();
        let (mut measurements, mut comparisons, mut text) = (Vec::new(), Vec::new(), String::new());
        for (device, on_device) in found {
            let sets: Vec<Vec<&Trial>> = on_device.trials.iter().map(|set| set.iter().collect()).collect();
            let intervals = Intervals::of_trials(&sets, |t| self.workload.latency_ms(t.ttft_ms.median, t.tpot_ms.median));
            for (at, set) in sets.into_iter().enumerate() {
                let Some(m) = Measured::of(set, further, &intervals) else { continue };
                let label = if shipments.len() > 1 { format!("{device}: {}", name(at)) } else { device.clone() };
                let _ = writeln!(text, "{label}: {}", line(&m));
                measurements.push(OfArtifact {
                    artifact: name(at),
                    artifact_sha256: shipments[at].sha256.clone(),
                    measurement: MeasurementDocument::new(&m).with_samples(&m),
                });
            }
            for at in 1..shipments.len() {
                for quantity in &QUANTITIES {
                    let Some(c) = against_first(&on_device.trials, at, quantity, self.most_trials()) else { continue };
                    let [low, high] = c.ci95.map(|x| (x - 1.0) * 100.0);
                    let difference = (c.ratio - 1.0) * 100.0;
                    let verdict = word(c.verdict);
                    let _ = writeln!(
                        text,
                        "{device}: {} against {}: {} {difference:+.2} % [{low:+.2}, {high:+.2}]: {verdict}",
                        name(at),
                        name(0),
                        quantity.name.trim_end_matches("_ms"),
                    );
                    comparisons.push(ComparisonDocument {
                        device: device.clone(),
                        artifact: name(at),
                        with: name(0),
                        quantity: quantity.name,
                        ratio: c.ratio,
                        ci95: c.ci95,
                        pairs: c.pairs,
                        verdict,
                    });
                }
            }
        }
        if !printer.json {
            return printer.data(&text);
        }
        let devices = found
            .iter()
            .map(|(device, d)| DeviceDocument { device: device.clone(), score: d.score, flags: d.flags.clone() })
            .collect();
        printer.json(&Document {
            schema: "edgewise.measure/1",
            artifact: name(0),
            artifact_sha256: shipments[0].sha256.clone(),
            workload: self.workload,
            measurements,
            comparisons,
            devices,
            missing,
        })
    }
}

/// Artifact `at` against the first one, which sits in every block.
fn against_first(trials: &[Vec<Trial>], at: usize, quantity: &Quantity, most: u32) -> Option<Comparison> {
    let readings =
        |set: &Vec<Trial>| -> Vec<Reading> { set.iter().filter_map(|t| Reading::new(t.block, (quantity.of)(t))).collect() };
    let all: Vec<Vec<Reading>> = trials.iter().map(readings).collect();
    let spread = Spread::pooled(&all[0], &all[1..].iter().map(Vec::as_slice).collect::<Vec<_>>());
    compare(&all[at], &all[0], &all[0], &spread, most as usize)
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Faster => "faster",
        Verdict::Slower => "slower",
        // What is still open when it is shown is a tie.
        Verdict::Tie | Verdict::Undecided => "tie",
    }
}

fn line(m: &Measured<'_>) -> String {
    let last = m.last();
    let (ttft, tpot) = (m.ttft_ms, m.tpot_ms);
    let mut out = format!(
        "{} {}: ttft {:.3} ms [{:.3}, {:.3}], tpot {:.3} ms [{:.3}, {:.3}], {} trials, peak memory {:.0} MB",
        last.runtime,
        last.precision,
        ttft.median,
        ttft.ci95[0],
        ttft.ci95[1],
        tpot.median,
        tpot.ci95[0],
        tpot.ci95[1],
        m.trials.len(),
        m.peak_rss_bytes as f64 / 1e6,
    );
    if let Some(energy) = m.energy {
        let _ = write!(out, ", {:.4} J per token ({})", energy.joules_per_token, energy.sensor);
    }
    if !m.flags.is_empty() {
        let _ = write!(out, ", flags: {}", m.flags.join(", "));
    }
    out
}
