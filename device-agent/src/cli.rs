//! The command line. People rarely see it: the host starts the agent.

use crate::{
    error::ServeError,
    serve::{ServeOptions, serve},
    worker,
};
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The Edgewise agent: runs and times models on this device for a host.
#[derive(Debug, Parser)]
#[command(name = "device-agent", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a host over standard input and output
    Serve {
        /// Folder for models; made if missing, and may be deleted whenever no agent runs
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
        /// Bytes of models to keep; what was not used for longest goes first, and what is in use never [default: the smaller
        /// of 8 GiB and half of what the disk has free with an empty store]
        #[arg(long, value_name = "BYTES")]
        store_budget: Option<u64>,
        /// A word of the emulator's command that this program itself was started with, for starting workers the same way; once
        /// for each word
        #[arg(long, allow_hyphen_values = true, value_name = "WORD")]
        runner: Vec<String>,
        /// What stands for `/` where sensors are read
        #[arg(long, env = "EDGEWISE_SENSORS_ROOT", default_value = "/", hide = true, value_name = "DIR")]
        sensors_root: PathBuf,
    },
    /// Carry out one order of a serving agent
    #[command(hide = true)]
    Worker,
    /// Print the SHA-256 of a file
    Hash {
        /// The file
        file: PathBuf,
    },
}

/// Runs the command and says on standard error what went wrong.
pub fn main(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Serve { store, store_budget: budget, runner, sensors_root: sensors } => {
            serve(ServeOptions { store, budget, runner, sensors }).map_err(anyhow::Error::from)
        }
        Command::Worker => worker::run(),
        Command::Hash { file } => print_hash(&file),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut stderr = io::stderr().lock();
            // Where even this fails nobody is left to tell.
            let _ = writeln!(stderr, "error: {error}");
            for cause in error.chain().skip(1) {
                let _ = writeln!(stderr, "  caused by: {cause}");
            }
            ExitCode::from(error.downcast_ref::<ServeError>().map_or(1, ServeError::exit_code))
        }
    }
}

fn print_hash(path: &Path) -> anyhow::Result<()> {
    let mut file = File::open(path).with_context(|| format!("cannot open `{}`", path.display()))?;
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher).with_context(|| format!("cannot read `{}`", path.display()))?;
    writeln!(io::stdout(), "{}", hex::encode(hasher.finalize())).context("cannot write to standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
