//! The `host` command: searches sub-networks of a language model with the device in the loop.

mod cli;
mod cmd;
mod devices;
mod doctor;
mod exit_code;
mod expected;
mod failure;
mod home;
mod importance;
mod interrupt;
mod json;
mod measuring;
mod model;
mod ort_library;
mod parallel;
mod scratch;
mod search;
mod shipment;
mod space;
mod tasks;
mod ui;
mod view;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let printer = cli.printer();
    match cli.run(printer) {
        Ok(()) => ExitCode::from(exit_code::OK),
        Err(error) => {
            let failure = error
                .downcast::<failure::Failure>()
                .unwrap_or_else(|bug| failure::Failure::new(exit_code::BUG, format!("{bug:#}")));
            // Errors are shown even with --quiet.
            ui::Printer { quiet: false, ..printer }.note(ui::render(&failure).trim_end());
            ExitCode::from(failure.code)
        }
    }
}
