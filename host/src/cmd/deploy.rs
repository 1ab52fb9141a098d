//! `host deploy`: puts the right agent, and ONNX Runtime where it fits, on boards.

use crate::{
    cli::Context,
    devices::{Fleet, RuntimeChoice},
    failure::Failure,
};
use clap::ArgAction;
use std::{fmt::Write, path::PathBuf};

/// Flags of `host deploy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Device to put the agent on; may be given several times
    #[arg(long = "device", value_name = "D", action = ArgAction::Append, required_unless_present = "fleet", conflicts_with = "fleet")]
    device: Vec<String>,
    /// All registered boards
    #[arg(long)]
    fleet: bool,
    /// Runtime that must work in the end; `auto` takes what does
    #[arg(long, value_enum, default_value = "auto")]
    runtime: RuntimeChoice,
    /// ONNX Runtime's library for this host's platform
    #[arg(long, value_name = "FILE")]
    ort_library: Option<PathBuf>,
}

#[derive(serde::Serialize)]
struct Document {
    schema: &'static str,
    devices: Vec<Deployed>,
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
        let fleet = Fleet::load(&context.home, context.devices.as_deref(), self.ort_library.as_deref())?;
        let devices = if self.fleet { fleet.boards() } else { fleet.select(&self.device)? };
        if devices.is_empty() {
            return Err(Failure::usage("no board is registered").hint("host device add NAME --target TARGET --address USER@HOST"));
        }
        let (mut done, mut failed) = (Vec::new(), None);
        for registered in &devices {
            let one = || -> Result<Deployed, Failure> {
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
            match one() {
                Ok(deployed) => done.push(deployed),
                Err(failure) if devices.len() > 1 => {
                    printer.warn(&format!("{}: {failure}", registered.name));
                    failed.get_or_insert(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        if printer.json {
            printer.json(&Document { schema: "edgewise.deploy/1", devices: done })?;
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
