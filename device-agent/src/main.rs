//! See the library.

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    device_agent::main(device_agent::Cli::parse())
}
