//! `host evaluate`: perplexity of a model, of a candidate, or of an artifact.

use crate::{
    cli::Context,
    exit_code,
    failure::Failure,
    model::{self, Located},
    search::sub_network,
};
use edgewise_onnx::{Artifact, MANIFEST_FILE, SubNetwork};
use edgewise_search::Candidate;
use edgewise_supernet::{Checkpoint, Network, Quality, SuperNetwork, Tokenizer, UnknownRanking, Windows, evaluate};
use std::path::{Path, PathBuf};

/// Flags of `host evaluate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Hugging Face folder, .gguf file, prepared super-network, artifact, or `demo`
    model: String,
    /// A sub-network: its configuration as JSON, or a file with it
    #[arg(long, value_name = "CONFIG")]
    candidate: Option<String>,
    /// Text [default: a bundled public-domain text]
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Text for importance scores, where a candidate needs them [default: another bundled text]
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// Tokens of a window
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(2..))]
    window: u32,
    /// Windows, from the start of the text
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    windows: u32,
}

#[derive(serde::Serialize)]
struct Document {
    schema: &'static str,
    perplexity: f64,
    nll: f64,
    tokens: usize,
    parameters: u64,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let windows = Windows { length: self.window as usize, count: self.windows as usize };
        let text = model::held_out_text(self.text.as_deref())?;
        let (quality, parameters) = self.quality(context, &text, windows)?;
        let printer = context.printer;
        if printer.json {
            let Quality { perplexity, nll, tokens } = quality;
            return printer.json(&Document { schema: "edgewise.evaluate/1", perplexity, nll, tokens, parameters });
        }
        printer.data(&format!(
            "perplexity {:.4}, nll {:.5} over {} tokens, {parameters} parameters\n",
            quality.perplexity, quality.nll, quality.tokens
        ))
    }

    fn quality(&self, context: &Context, text: &str, windows: Windows) -> Result<(Quality, u64), Failure> {
        let score = |network: &Network, tokenizer: &Tokenizer, sub: &SubNetwork| -> Result<Quality, Failure> {
            let on = model::evaluation(tokenizer, network.config(), text, windows)?;
            Ok(evaluate(network, sub, &on)?)
        };
        if let Some(config) = &self.candidate {
            let candidate = read_candidate(config)?;
            let sub = sub_network(&candidate);
            let calibration = self.calibration.as_deref();
            let supernet = match &candidate.order {
                None => model::open(&self.model, calibration, &context.home, context.printer)?,
                Some(order) => {
                    let ranking = order.parse().map_err(|e: UnknownRanking| Failure::usage(e.to_string()))?;
                    let sorted = model::open_sorted(&self.model, &[ranking], calibration, &context.home, context.printer)?;
                    let only = sorted.into_values().next();
                    only.ok_or_else(|| Failure::new(exit_code::BUG, "nothing was prepared"))?
                }
            };
            supernet.config().check(&sub).map_err(|e| Failure::usage(e.to_string()))?;
            let network = supernet.network(windows.length)?;
            return Ok((score(&network, &supernet.tokenizer, &sub)?, supernet.config().parameters(&sub)));
        }
        if Path::new(&self.model).join(MANIFEST_FILE).is_file() {
            let artifact = Artifact::open(Path::new(&self.model))?;
            artifact.verify()?;
            let (network, sub, tokenizer) = edgewise_supernet::open_artifact(&artifact, windows.length)?;
            return Ok((score(&network, &tokenizer, &sub)?, artifact.manifest.parameters));
        }
        match model::locate(&self.model, &context.home)? {
            Located::Prepared(folder) => {
                let supernet = SuperNetwork::open(&folder)?;
                let full = supernet.full();
                let network = supernet.network(windows.length)?;
                Ok((score(&network, &supernet.tokenizer, &full)?, supernet.config().parameters(&full)))
            }
            Located::Checkpoint(path) => {
                let checkpoint = Checkpoint::open(&path)?;
                let full = checkpoint.config.full();
                let network = Network::load(&checkpoint.config, &checkpoint, windows.length)?;
                Ok((score(&network, &checkpoint.tokenizer, &full)?, checkpoint.config.parameters(&full)))
            }
        }
    }
}

fn read_candidate(text: &str) -> Result<Candidate, Failure> {
    let file = Path::new(text);
    let json = if text.trim_start().starts_with('{') {
        text.to_owned()
    } else {
        std::fs::read_to_string(file).map_err(|e| Failure::file("read", file, &e))?
    };
    serde_json::from_str(&json).map_err(|e| {
        Failure::usage(format!("not a candidate's configuration: {e}"))
            .hint(r#"for example {"layers":[0,1],"width":64,"kv_groups":[2,2],"mlp":[128,128]}"#)
    })
}
