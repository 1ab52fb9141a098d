//! The training loop.
//!
//! Every step trains the full model; every second step adds the loss of one random sub-network on
//! the same windows, so that prefixes of neurons and groups, and shallower stacks, stay usable
//! without fine-tuning. All randomness comes from one seeded generator.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use candle_core::backprop::GradStore;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use crate::clock::cpu_seconds;
use crate::eval::{self, Quality};
use crate::model::{Config, Model, SubNet};
use crate::optim::{Optimiser, Schedule};
use crate::{checkpoint, data};

/// Steps at the start of a run with a time budget that the number of steps is estimated from;
/// fewer than the warm-up, whose rates do not depend on that number.
const PILOT_STEPS: usize = 30;

/// Held-out windows of the figures that are printed while training; the end uses all of them.
const PROGRESS_WINDOWS: usize = 16;

/// Windows of the corpus that choose which layers the table of sizes drops.
const CHOOSING_WINDOWS: usize = 12;

/// How long to train.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Budget {
    /// Exactly so many steps.
    Steps(usize),
    /// About so many seconds of processor time, the evaluations left out.
    CpuSeconds(f64),
}

/// What a run is made of besides its texts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) budget: Budget,
    /// Windows per step.
    pub(crate) batch: usize,
    /// Tokens of context.
    pub(crate) sequence: usize,
    pub(crate) learning_rate: f64,
    pub(crate) warm_up: usize,
    /// Steps between two lines of progress; every fifth of them also saves.
    pub(crate) report_every: usize,
}

/// The texts of a run, encoded.
pub(crate) struct Texts<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) train: &'a [u32],
    pub(crate) held_out: &'a [u32],
    /// Checksums and paths of the sources, for `training.json`.
    pub(crate) sources: Value,
}

struct Run<'a> {
    options: Options,
    texts: &'a Texts<'a>,
    model: Model,
    token_bytes: Vec<usize>,
    started: (Instant, f64),
    steps_done: usize,
    tokens: usize,
}

fn backward(model: &Model, windows: &[&[u32]], sub: &SubNet) -> Result<(f64, GradStore)> {
    let loss = model.loss(windows, sub)?;
    let value = f64::from(loss.to_scalar::<f32>()?);
    ensure!(value.is_finite(), "the loss is {value}: lower the learning rate");
    Ok((value, loss.backward()?))
}

/// The mean of what was added since it was last taken.
#[derive(Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    /// Not a number if nothing was added.
    fn take(&mut self) -> f64 {
        let Self { sum, count } = std::mem::take(self);
        sum / count as f64
    }
}

/// Trains a model and writes it to `directory`; progress goes to `log`.
pub(crate) fn train(
    config: Config,
    options: Options,
    texts: &Texts<'_>,
    directory: &Path,
    log: &mut impl Write,
) -> Result<Quality> {
    ensure!(options.warm_up > PILOT_STEPS, "the warm-up must be longer than {PILOT_STEPS} steps");
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let model = Model::new(config, &mut rng)?;
    let mut optimiser = Optimiser::new(model.vars())?;
    writeln!(log, "{} parameters, {} training tokens", model.parameters(), texts.train.len())?;
    let mut run = Run {
        options,
        texts,
        token_bytes: data::token_bytes(texts.tokenizer)?,
        model,
        started: (Instant::now(), cpu_seconds()),
        steps_done: 0,
        tokens: 0,
    };
    let mut windows = data::Windows::new(texts.train, options.sequence + 1)?;
    let mut schedule = Schedule {
        peak: options.learning_rate,
        warm_up: options.warm_up,
        steps: match options.budget {
            Budget::Steps(steps) => steps,
            Budget::CpuSeconds(_) => usize::MAX,
        },
    };
    let (mut full, mut part, mut norm) = (Mean::default(), Mean::default(), Mean::default());
    while run.steps_done < schedule.steps {
        let step = run.steps_done;
        let batch = windows.batch(options.batch, &mut rng);
        let (loss, mut grads) = backward(&run.model, &batch, &SubNet::full(run.model.config()))?;
        full.add(loss);
        if step % 2 == 1 {
            let sub = SubNet::random(run.model.config(), &mut rng);
            let (loss, more) = backward(&run.model, &batch, &sub)?;
            optimiser.add(&mut grads, &more)?;
            part.add(loss);
        }
        norm.add(optimiser.step(&mut grads, schedule.rate(step))?);
        run.steps_done += 1;
        run.tokens += options.batch * options.sequence;
        if let (Budget::CpuSeconds(budget), PILOT_STEPS) = (options.budget, run.steps_done) {
            let per_step = (cpu_seconds() - run.started.1) / PILOT_STEPS as f64;
            schedule.steps = ((budget / per_step) as usize).max(options.warm_up + 1);
            writeln!(log, "{per_step:.3} CPU-s per step: {} steps (repeat with --steps)", schedule.steps)?;
        }
        if run.steps_done.is_multiple_of(options.report_every) || run.steps_done == schedule.steps {
            let quality = run.held_out(Some(PROGRESS_WINDOWS))?;
            writeln!(
                log,
                "step {}/{} train {:.4} sub {:.4} grad {:.3} | held out: {:.4} bits/byte, perplexity {:.2} | CPU {:.0} s",
                run.steps_done,
                schedule.steps,
                full.take(),
                part.take(),
                norm.take(),
                quality.bits_per_byte(),
                quality.perplexity(),
                cpu_seconds() - run.started.1,
            )?;
            log.flush()?;
            if run.steps_done.is_multiple_of(5 * options.report_every) {
                checkpoint::save(directory, &run.model, texts.tokenizer, &run.account(quality, &Value::Null))?;
            }
        }
    }
    run.finish(directory, log)
}

impl Run<'_> {
    fn windows<'t>(&self, ids: &'t [u32]) -> Vec<&'t [u32]> {
        data::evaluation_windows(ids, self.options.sequence)
    }

    fn held_out(&self, limit: Option<usize>) -> Result<Quality> {
        let windows = self.windows(self.texts.held_out);
        // Spread over the text: its parts are by different authors.
        let stride = limit.map_or(1, |limit| windows.len().div_ceil(limit).max(1));
        let chosen: Vec<&[u32]> = windows.into_iter().step_by(stride).collect();
        eval::evaluate(&self.model, &SubNet::full(self.model.config()), &chosen, &self.token_bytes)
    }

    fn finish(&self, directory: &Path, log: &mut impl Write) -> Result<Quality> {
        let quality = self.held_out(None)?;
        let train = self.windows(self.texts.train);
        let stride = train.len().div_ceil(CHOOSING_WINDOWS).max(1);
        let choosing: Vec<&[u32]> = train.into_iter().step_by(stride).collect();
        let sizes = eval::by_size(&self.model, &self.windows(self.texts.held_out), &choosing, &self.token_bytes)?;
        let account = self.account(quality, &sizes);
        checkpoint::save(directory, &self.model, self.texts.tokenizer, &account)?;
        writeln!(log, "{}", serde_json::to_string_pretty(&account)?)?;
        Ok(quality)
    }

    /// `training.json`.
    fn account(&self, quality: Quality, sizes: &Value) -> Value {
        json!({
            "schema": "edgewise.training/1",
            "seed": self.options.seed,
            "steps": self.steps_done,
            "tokens": self.tokens,
            "batch": self.options.batch,
            "sequence": self.options.sequence,
            "learning_rate": self.options.learning_rate,
            "warm_up": self.options.warm_up,
            "parameters": self.model.parameters(),
            "wall_seconds": self.started.0.elapsed().as_secs_f64().round(),
            "cpu_seconds": (cpu_seconds() - self.started.1).round(),
            "sources": self.texts.sources,
            "held_out": {
                "tokens": quality.tokens,
                "bytes": quality.bytes,
                "nll_per_token": quality.per_token(),
                "perplexity": quality.perplexity(),
                "bits_per_byte": quality.bits_per_byte(),
            },
            "by_size": sizes,
        })
    }
}

#[cfg(test)]
mod tests;
