//! `host measure`: the latency of one artifact on devices.

use crate::{
    cli::Context,
    devices::{Fleet, RuntimeChoice},
    failure::Failure,
    json::{MeasurementDocument, Samples, record_of},
    measuring::{FINAL_PLAN, Shipment, Trial, WorkloadSpec},
    ui::Progress,
};
use clap::ArgAction;
use edgewise_onnx::Artifact;
use edgewise_search::MeasurementRecord;
use std::{fmt::Write, path::PathBuf, sync::atomic::AtomicBool};

/// Flags of `host measure`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of the artifact
    artifact: PathBuf,
    /// Device to measure on; may be given several times [default: local]
    #[arg(long = "device", value_name = "D", action = ArgAction::Append, conflicts_with = "fleet")]
    device: Vec<String>,
    /// All registered boards
    #[arg(long)]
    fleet: bool,
    /// What is timed
    #[arg(long, value_name = "prompt=P,gen=G", default_value = "prompt=128,gen=64")]
    workload: WorkloadSpec,
    /// Runtime; `auto` measures what the device can run and keeps the faster
    #[arg(long, value_enum, default_value = "auto")]
    runtime: RuntimeChoice,
    /// Threads of the runtime [default: the device profile's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Seed of the tokens
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// ONNX Runtime's library for this host's platform
    #[arg(long, value_name = "FILE")]
    ort_library: Option<PathBuf>,
}

#[derive(serde::Serialize)]
struct Document {
    schema: &'static str,
    artifact: String,
    artifact_sha256: String,
    workload: WorkloadSpec,
    measurements: Vec<MeasurementDocument>,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let printer = context.printer;
        let artifact = Artifact::open(&self.artifact)?;
        artifact.verify()?;
        self.workload.check(artifact.manifest.model.max_positions)?;
        let fleet = Fleet::load(&context.home, context.devices.as_deref(), self.ort_library.as_deref())?;
        let devices = if self.fleet {
            fleet.boards()
        } else if self.device.is_empty() {
            fleet.select(&[edgewise_fleet::LOCAL.to_owned()])?
        } else {
            fleet.select(&self.device)?
        };
        if devices.is_empty() {
            return Err(Failure::usage("no board is registered").hint("host device add NAME --target TARGET --address USER@HOST"));
        }
        let probe = artifact.probe()?;
        if probe.is_none() {
            printer.warn("the artifact has no probe.json, so its numerics are not checked on the device");
        }
        let shipment = Shipment::new(artifact, probe)?;
        let mut progress = Progress::new(printer, devices.len() as u64);
        let mut records: Vec<MeasurementRecord> = Vec::new();
        let mut failed: Option<Failure> = None;
        let cancel = AtomicBool::new(false);
        for (done, registered) in devices.iter().enumerate() {
            progress.at(&format!("measuring on {}", registered.name));
            let one = || -> Result<MeasurementRecord, Failure> {
                let mut ready = fleet.ready(registered, self.runtime, self.threads, printer)?;
                let sent = shipment.send(&mut ready, &cancel)? + ready.bytes_sent;
                let runtimes = ready.runtimes.clone();
                let mut warn = |text: String| printer.warn(&format!("{}: {text}", registered.name));
                let trial = Trial { workload: self.workload, plan: FINAL_PLAN, seed: self.seed };
                let found = shipment.measure_fastest(&mut ready, &runtimes, trial, &mut |_| {}, &mut warn, &cancel)?;
                ready.device.close();
                let precision = shipment.artifact.manifest.precision.name();
                Ok(record_of(found, &registered.name, precision, shipment.artifact.bytes(), sent))
            };
            match one() {
                Ok(record) => records.push(record),
                // With several boards one that fails does not take the others' results away.
                Err(failure) if devices.len() > 1 => {
                    progress.line(&format!("warning: {}: {failure}", registered.name));
                    failed.get_or_insert(failure);
                }
                Err(failure) => return Err(failure),
            }
            progress.done(done as u64 + 1);
        }
        drop(progress);
        if printer.json {
            let measurement = |r: &MeasurementRecord| MeasurementDocument {
                samples_ms: Some(Samples::of(r)),
                ..MeasurementDocument::new(r, self.workload)
            };
            printer.json(&Document {
                schema: "edgewise.measure/1",
                artifact: self.artifact.display().to_string(),
                artifact_sha256: shipment.artifact.sha256.clone(),
                workload: self.workload,
                measurements: records.iter().map(measurement).collect(),
            })?;
        } else {
            let mut out = String::new();
            for r in &records {
                let (ttft, tpot) = (r.ttft_ms, r.tpot_ms);
                let _ = writeln!(
                    out,
                    "{}: {} {}: ttft {:.3} ms [{:.3}, {:.3}], tpot {:.3} ms [{:.3}, {:.3}], peak memory {:.0} MB{}{}",
                    r.device,
                    r.runtime,
                    r.precision,
                    ttft.median,
                    ttft.ci95[0],
                    ttft.ci95[1],
                    tpot.median,
                    tpot.ci95[0],
                    tpot.ci95[1],
                    r.peak_rss_bytes as f64 / 1e6,
                    if r.flags.is_empty() { "" } else { ", flags: " },
                    r.flags.join(", "),
                );
            }
            printer.data(&out)?;
        }
        failed.map_or(Ok(()), Err)
    }
}
