//! `host run`: text that a device writes, token by token.

use crate::{
    cli::Context,
    devices::{Fleet, RuntimeChoice},
    exit_code,
    failure::Failure,
    interrupt::interruptible,
    json::ProviderDocument,
    measuring::LEASE_MS,
    shipment::{Fault, Shipment, Way},
    ui::{Printer, Progress},
};
use edgewise_fleet::{Error, LOCAL, Written};
use edgewise_onnx::Artifact;
use edgewise_protocol::{Ended, Form, GenerateJob, Generation, Sampling, Stage};
use edgewise_supernet::{Text, TextStream, open_tokenizer};
use std::{
    io::{Read, stdin},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

/// Loading the model, and everything else that does not depend on the number of tokens, in milliseconds.
const SLACK_MS: u32 = 600_000;
/// The most that one token may take, in milliseconds.
const TOKEN_MS: u32 = 10_000;

/// Flags of `host run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of the artifact
    artifact: PathBuf,
    /// Text to go on from; `-` reads it from stdin
    prompt: String,
    /// Device
    #[arg(long, value_name = "D", default_value = LOCAL)]
    device: String,
    /// Tokens at most
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// 0 takes the most likely token; higher is more varied
    #[arg(long, value_name = "T", default_value_t = 0.0, value_parser = temperature)]
    temperature: f32,
    /// Draw from this many of the most likely tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 40)]
    top_k: u32,
    /// Draw from the most likely tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 0.95, value_parser = probability)]
    top_p: f32,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Runtime; `auto` takes the first of the device profile's that works
    #[arg(long, value_enum, default_value = "auto")]
    runtime: RuntimeChoice,
    /// Threads of the runtime [default: the device profile's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// ONNX Runtime's library for the device's platform
    #[arg(long, value_name = "FILE")]
    ort_library: Option<PathBuf>,
}

#[derive(serde::Serialize)]
struct Document {
    schema: &'static str,
    device: String,
    artifact: String,
    artifact_sha256: String,
    runtime: &'static str,
    runtime_version: String,
    precision: &'static str,
    threads: u16,
    providers: Vec<ProviderDocument>,
    emulated: bool,
    prompt_tokens: usize,
    text: String,
    tokens: u32,
    /// `stop`: the model ended it; `length`: it has as many tokens as were asked for.
    ended: &'static str,
    ttft_ms: f64,
    /// `null` for a text of one token.
    tpot_ms: Option<f64>,
    tokens_per_second: Option<f64>,
    load_ms: f64,
    peak_rss_bytes: u64,
    bytes_sent: u64,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let printer = context.printer;
        let artifact = Artifact::open(&self.artifact)?;
        artifact.verify()?;
        let model = artifact.manifest.model.clone();
        let precision = artifact.manifest.precision.name();
        let tokenizer = open_tokenizer(&artifact)?;
        let prompt = Text::encode(&tokenizer, &self.prompt()?, model.vocab_size)?.tokens;
        let room = model.max_positions.saturating_sub(prompt.len());
        if prompt.is_empty() || room == 0 {
            let message = format!("the prompt has {} tokens, the model {} positions", prompt.len(), model.max_positions);
            return Err(Failure::usage(message).hint("give a prompt of at least one token that leaves room for an answer"));
        }
        let fleet = Fleet::load(&context.home, context.devices.as_deref(), self.ort_library.as_deref())?;
        let registered = fleet.get(&self.device)?;
        let cancel = interruptible(printer);
        let about = |error: Error| match error {
            Error::Cancelled { .. } => Failure::new(exit_code::INTERRUPTED, "stopped by the user"),
            error => Failure::from(error).about(&registered.name),
        };
        let mut progress = Progress::new(printer, 1);
        progress.at(&format!("getting {} ready", registered.name));
        let mut ready = fleet.ready(&registered, self.runtime, self.threads, printer)?;
        let shipment = Shipment::of_artifact(artifact, None);
        shipment.send(&mut ready, Way::Files, None, &cancel).map_err(|fault| match fault {
            Fault::Device(error) => about(error),
            fault => fault.into(),
        })?;
        let max_tokens = self.max_tokens.min(u32::try_from(room).unwrap_or(u32::MAX));
        let job = GenerateJob {
            source: shipment.source(Way::Files, Form::Files)?,
            runtime: ready.runtimes[0],
            ort: ready.ort.clone(),
            providers: ready.providers.clone(),
            threads: ready.threads,
            max_tokens,
            stop: model.eos_tokens.clone(),
            vocabulary: u32::try_from(model.vocab_size).unwrap_or(u32::MAX),
            sampling: Sampling { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p, seed: self.seed },
            deadline_ms: SLACK_MS.saturating_add(max_tokens.saturating_mul(TOKEN_MS)),
            lease_wait_ms: LEASE_MS,
            prompt,
        };
        let mut answer =
            Answer { stream: TextStream::after(&tokenizer, &job.prompt)?, text: String::new(), printer, failed: None };
        let mut progress = Some(progress);
        let mut hear = |written: Written<'_>| match written {
            Written::Progress(at) => {
                if let (Stage::Lease, Some(holder), Some(progress)) = (at.stage, &at.note, &mut progress) {
                    progress.line(&format!("{}: waiting for its turn ({holder})", registered.name));
                }
            }
            Written::Tokens(tokens) => {
                // A bar would be drawn into the text.
                progress = None;
                answer.add(tokens, &cancel);
            }
        };
        let outcome = ready.device.generate(&job, &mut hear, &cancel);
        drop(progress);
        let bytes_sent = ready.device.bytes_sent();
        ready.device.close();
        let text = answer.end()?;
        let made = outcome.map_err(about)?;
        if !printer.json {
            printer.note(&format!("{}: {}", registered.name, summary(&made)));
            return Ok(());
        }
        printer.json(&Document {
            schema: "edgewise.run/1",
            device: registered.name.clone(),
            artifact: self.artifact.display().to_string(),
            artifact_sha256: shipment.sha256.clone(),
            runtime: made.runtime.name(),
            precision,
            threads: made.threads,
            providers: made.providers.iter().map(ProviderDocument::from).collect(),
            emulated: made.emulated,
            prompt_tokens: job.prompt.len(),
            text,
            tokens: made.tokens,
            ended: match made.ended {
                Ended::Stop => "stop",
                Ended::Length => "length",
            },
            ttft_ms: made.prefill_ns as f64 / 1e6,
            tpot_ms: tpot_ms(&made),
            tokens_per_second: tpot_ms(&made).map(|ms| 1e3 / ms),
            load_ms: made.load_ns as f64 / 1e6,
            peak_rss_bytes: made.peak_rss_bytes,
            bytes_sent,
            runtime_version: made.runtime_version,
        })
    }

    fn prompt(&self) -> Result<String, Failure> {
        if self.prompt != "-" {
            return Ok(self.prompt.clone());
        }
        let mut text = String::new();
        let failed = |e: std::io::Error| Failure::usage("cannot read the prompt from stdin").hint(e.to_string());
        stdin().lock().read_to_string(&mut text).map_err(failed)?;
        Ok(text)
    }
}

/// The text as far as it came: on stdout at once, unless a document is wanted at the end.
struct Answer<'a> {
    stream: TextStream<'a>,
    text: String,
    printer: Printer,
    failed: Option<Failure>,
}

impl Answer<'_> {
    /// What goes wrong here is told at the end; the device need not write on for nobody.
    fn add(&mut self, tokens: &[u32], cancel: &AtomicBool) {
        for &token in tokens {
            let done = self.stream.push(token).map_err(Failure::from).and_then(|piece| self.show(&piece));
            if let Err(failure) = done {
                self.failed.get_or_insert(failure);
                cancel.store(true, Ordering::Relaxed);
            }
        }
    }

    fn show(&mut self, piece: &str) -> Result<(), Failure> {
        if self.printer.json {
            self.text.push_str(piece);
            return Ok(());
        }
        if piece.is_empty() { Ok(()) } else { self.printer.data(piece) }
    }

    fn end(mut self) -> Result<String, Failure> {
        if let Some(failure) = self.failed.take() {
            return Err(failure);
        }
        let rest = self.stream.rest()?;
        self.show(&rest)?;
        if !self.printer.json {
            self.printer.data("\n")?;
        }
        Ok(self.text)
    }
}

fn tpot_ms(made: &Generation) -> Option<f64> {
    (made.steps > 0).then(|| made.decode_ns as f64 / 1e6 / f64::from(made.steps))
}

fn summary(made: &Generation) -> String {
    let speed = tpot_ms(made).map(|ms| format!(", then {:.1} tokens/s", 1e3 / ms)).unwrap_or_default();
    format!(
        "{} tokens, the first after {:.0} ms{speed} ({} {}, {} threads{})",
        made.tokens,
        made.prefill_ns as f64 / 1e6,
        made.runtime.name(),
        made.runtime_version,
        made.threads,
        if made.emulated { ", emulated" } else { "" },
    )
}

fn temperature(text: &str) -> Result<f32, String> {
    let value: f32 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if value >= 0.0 && value.is_finite() { Ok(value) } else { Err("a temperature is 0 or more".into()) }
}

fn probability(text: &str) -> Result<f32, String> {
    let value: f32 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if value > 0.0 && value <= 1.0 { Ok(value) } else { Err("a probability over 0 and up to 1 is needed".into()) }
}
