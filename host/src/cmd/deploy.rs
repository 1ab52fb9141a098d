//! `host deploy`: puts the right agent, and ONNX Runtime where it fits, on boards.

use super::selection::Selection;
use crate::{
    cli::Context,
    devices::{Fleet, RuntimeChoice},
    failure::Failure,
    json::Missing,
    parallel::{on_each, settle},
    ui::Progress,
};
use edgewise_fleet::RegisteredDevice;
use std::{fmt::Write, path::PathBuf};

/// Flags of `host deploy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    devices: Selection,
    /// Runtime that must work in the end; `auto` takes what does
    #[arg(long, value_enum, default_value = "auto")]
    runtime: RuntimeChoice,
    /// ONNX Runtime's library for the boards' platform
    #[arg(long, value_name = "FILE")]
    ort_library: Option<PathBuf>,
    /// Fetch ONNX Runtime for boards that could run it and lack it, from the Python package index
    #[arg(long, conflicts_with = "ort_library")]
    fetch_ort: bool,
}

#[derive(serde::Serialize)]
struct Document {
    schema: &'static str,
    devices: Vec<Deployed>,
    missing: Vec<Missing>,
}

#[derive(serde::Serialize)]
struct Deployed {
    device: String,
    agent: Option<String>,
    triple: String,
    bytes_sent: u64,
    runtimes: Vec<&'static str>,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let printer = context.printer;
        let fleet = Fleet::load(&context.home, context.devices.as_deref(), self.ort_library.as_deref())?.fetching(self.fetch_ort);
        let names = self.devices.names(&fleet)?.ok_or_else(|| {
            Failure::usage("which device?").hint("name it with --device, a group with --group, or say --fleet for all boards")
        })?;
        let devices = names.iter().map(|name| fleet.get(name)).collect::<Result<Vec<_>, _>>()?;
        let mut progress = Progress::new(printer, devices.len() as u64);
        let one = |registered: &RegisteredDevice| -> Result<Deployed, Failure> {
            let (mut device, _) = fleet.device(registered)?;
            let report = device.deploy().map_err(|e| Failure::from(e).about(&registered.name))?;
            drop(device);
            let mut ready = fleet.ready(registered, self.runtime, None, printer)?;
            let triple = ready.device.hello()?.triple;
            ready.device.close();
            Ok(Deployed {
                device: registered.name.clone(),
                agent: report.as_ref().map(|r| r.path.clone()),
                triple,
                bytes_sent: report.map_or(0, |r| r.bytes_sent) + ready.bytes_sent,
                runtimes: ready.runtimes.iter().map(|r| r.name()).collect(),
            })
        };
        let mut ended = 0;
        let outcomes = on_each(&devices, one, |outcome| {
            ended += 1;
            progress.done(ended);
            if let (Err(failure), true) = (&outcome.result, devices.len() > 1) {
                progress.line(&format!("warning: {}: {failure}", outcome.device));
            }
        });
        drop(progress);
        let (done, missing, failed) = settle(outcomes)?;
        let done: Vec<Deployed> = done.into_iter().map(|(_, deployed)| deployed).collect();
        if printer.json {
            printer.json(&Document { schema: "edgewise.deploy/1", devices: done, missing })?;
        } else {
            let mut out = String::new();
            for d in &done {
                let place = d.agent.as_deref().unwrap_or("comes with this program");
                let runtimes = d.runtimes.join(", ");
                let _ = writeln!(out, "{}: {} at {place}, {} bytes sent, runs {runtimes}", d.device, d.triple, d.bytes_sent);
            }
            printer.data(&out)?;
        }
        failed.map_or(Ok(()), Err)
    }
}
