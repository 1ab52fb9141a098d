//! The command line's grammar.

use crate::{cmd, home::Home, ui::Printer};
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Make language models fit edge hardware: search their sub-networks with the device in the loop.
#[derive(Debug, Parser)]
#[command(name = "host", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print JSON on stdout.
    #[arg(long, global = true)]
    json: bool,
    /// Print nothing but data and errors.
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Show no progress.
    #[arg(long, global = true)]
    no_progress: bool,
    /// Registry of devices, instead of `devices.toml` in the configuration folder.
    #[arg(long, global = true, value_name = "FILE")]
    devices: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Search sub-networks: run or resume a study.
    Search(cmd::search::Args),
    /// Show the Pareto front of a study.
    Front(cmd::front::Args),
    /// Write a study's report, one self-contained HTML page.
    Report(cmd::report::Args),
    /// Write a candidate's ONNX artifact.
    Export(cmd::export::Args),
    /// Measure one artifact on devices.
    Measure(cmd::measure::Args),
    /// Have a device write text.
    Run(cmd::run::Args),
    /// Put the right agent on devices.
    Deploy(cmd::deploy::Args),
    /// Register devices.
    Device(cmd::device::Args),
    /// Kinds of boards.
    Target(cmd::target::Args),
    /// Score a model's parts and write the sorted super-network.
    Prepare(cmd::prepare::Args),
    /// Train a super-network, so that its sub-networks are worth more.
    Finetune(cmd::finetune::Args),
    /// Evaluate a model, a candidate of it, or an artifact.
    Evaluate(cmd::evaluate::Args),
}

/// What every command gets.
pub(crate) struct Context {
    pub(crate) printer: Printer,
    pub(crate) home: Home,
    pub(crate) devices: Option<PathBuf>,
}

impl Cli {
    /// How output is wanted.
    pub(crate) fn printer(&self) -> Printer {
        Printer { json: self.json, quiet: self.quiet, progress: !self.no_progress && !self.quiet }
    }

    /// Runs the command.
    ///
    /// # Errors
    /// A [`crate::failure::Failure`]; anything else is a bug.
    pub(crate) fn run(self, printer: Printer) -> anyhow::Result<()> {
        let context = Context { printer, home: Home::find()?, devices: self.devices };
        match self.command {
            Command::Search(args) => args.run(&context)?,
            Command::Front(args) => args.run(&context)?,
            Command::Report(args) => args.run(&context)?,
            Command::Export(args) => args.run(&context)?,
            Command::Measure(args) => args.run(&context)?,
            Command::Run(args) => args.run(&context)?,
            Command::Deploy(args) => args.run(&context)?,
            Command::Device(args) => args.run(&context)?,
            Command::Target(args) => args.run(&context)?,
            Command::Prepare(args) => args.run(&context)?,
            Command::Finetune(args) => args.run(&context)?,
            Command::Evaluate(args) => args.run(&context)?,
        }
        Ok(())
    }
}
