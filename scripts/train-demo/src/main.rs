//! Trains the bundled demo model from scratch, on the processor.
//!
//! ```text
//! scripts/make-texts
//! RAYON_NUM_THREADS=1 nice target/release/train-demo --cpu-seconds 2400
//! ```
//!
//! The corpus comes from `scripts/make-texts`; the result is a directory in Hugging Face layout.
//! The same texts, options and number of steps give the same weights on the same kind of
//! processor with one thread.

mod checkpoint;
mod clock;
mod data;
mod eval;
mod model;
mod optim;
mod train;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::model::Config;
use crate::train::{Budget, Options, Texts};

/// Train the bundled demo model from scratch.
#[derive(Parser)]
struct Args {
    /// Training corpus, made by scripts/make-texts.
    #[arg(long, default_value = "target/demo-corpus/train.txt")]
    corpus: PathBuf,
    /// Text that the model is scored on and never trained on.
    #[arg(long, default_value = "host/assets/heldout.txt")]
    held_out: PathBuf,
    /// Directory for the model.
    #[arg(long, short, default_value = "host/assets/demo")]
    output: PathBuf,
    /// Processor time to train for, in seconds; the number of steps is fixed after a short pilot.
    #[arg(long, default_value_t = 2400.0, conflicts_with = "steps")]
    cpu_seconds: f64,
    /// Train for exactly this many steps instead.
    #[arg(long)]
    steps: Option<usize>,
    /// Seed of the weights, the order of the windows and the sub-networks.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Windows per step.
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// Tokens of context.
    #[arg(long, default_value_t = 256)]
    sequence: usize,
    /// Size of the vocabulary.
    #[arg(long, default_value_t = 2048)]
    vocab: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 3e-3)]
    learning_rate: f64,
    /// Steps of warm-up.
    #[arg(long, default_value_t = 100)]
    warm_up: usize,
    /// Steps between two lines of progress.
    #[arg(long, default_value_t = 100)]
    report_every: usize,
}

/// A file's name, size and checksum. Paths are left out: they differ between machines.
fn source(path: &Path, text: &str) -> Value {
    json!({
        "file": path.file_name().map(|name| name.to_string_lossy()),
        "bytes": text.len(),
        "sha256": hex::encode(Sha256::digest(text.as_bytes())),
    })
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.batch > 0 && args.report_every > 0, "--batch and --report-every must be at least 1");
    let corpus = data::read_text(&args.corpus).context("run scripts/make-texts first")?;
    let held_out = data::read_text(&args.held_out)?;
    let tokenizer = data::train_tokenizer(&corpus, args.vocab)?;
    let texts = Texts {
        tokenizer: &tokenizer,
        train: &data::encode_works(&tokenizer, &corpus)?,
        held_out: &data::encode(&tokenizer, &held_out)?,
        sources: json!({
            "corpus": source(&args.corpus, &corpus),
            "held_out": source(&args.held_out, &held_out),
        }),
    };
    let options = Options {
        seed: args.seed,
        budget: args.steps.map_or(Budget::CpuSeconds(args.cpu_seconds), Budget::Steps),
        batch: args.batch,
        sequence: args.sequence,
        learning_rate: args.learning_rate,
        warm_up: args.warm_up,
        report_every: args.report_every,
    };
    let mut log = std::io::stdout();
    train::train(Config::demo(args.vocab), options, &texts, &args.output, &mut log)?;
    Ok(())
}
