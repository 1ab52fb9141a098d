//! `host prepare`: importance scores and the sorted super-network.

use crate::{
    cli::Context,
    failure::Failure,
    model::{self, Located},
};
use edgewise_supernet::{HeadImportance, LayerRanking, Method, Ranking, SuperNetwork};
use std::path::PathBuf;

/// Flags of `host prepare`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Hugging Face folder, .gguf file, or `demo`
    model: String,
    /// Folder for the super-network; must not exist
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Text for importance scores [default: a bundled public-domain text]
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// Windows of 512 tokens that are read of it; memory does not depend on how many
    #[arg(long, value_name = "N", default_value_t = model::CALIBRATION.count as u32, value_parser = clap::value_parser!(u32).range(1..))]
    calibration_windows: u32,
    /// How neurons and key/value groups are ranked: contribution, fluctuation, magnitude, or how activations are aggregated over
    /// tokens and then windows, such as mean-mean or norm-variance
    #[arg(long, value_name = "RANKING", default_value_t)]
    importance: Ranking,
    /// How layers are ranked: block (block importance), or loss (each is dropped and the loss looked at, which takes longer)
    #[arg(long, value_name = "RANKING", default_value_t)]
    layer_importance: LayerRanking,
    /// Also score the dimensions of attention heads, so that `host search` and `host finetune` can cut them with --head-sizes;
    /// given a checkpoint they do this themselves
    #[arg(long)]
    heads: bool,
}

#[derive(serde::Serialize)]
struct Document<'a> {
    schema: &'static str,
    supernet: String,
    model: &'a str,
    model_sha256: &'a str,
    method: &'a str,
    calibration_sha256: &'a str,
    calibration_tokens: usize,
    layers: &'a [f64],
    kv_groups: &'a [Vec<f64>],
    neurons: &'a [Vec<f64>],
    width: &'a [f64],
    #[serde(skip_serializing_if = "Option::is_none")]
    heads: Option<&'a HeadImportance>,
    identity_max_abs_diff: f64,
    identity_tolerance: f64,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        if self.output.exists() {
            return Err(Failure::usage(format!("`{}` exists already", self.output.display()))
                .hint("give -o a new name; a super-network is never overwritten"));
        }
        let path = match model::locate(&self.model, &context.home)? {
            Located::Checkpoint(path) => path,
            Located::Prepared(path) => {
                return Err(Failure::usage(format!("`{}` is a prepared super-network already", path.display())));
            }
        };
        let text = model::calibration_text(self.calibration.as_deref())?;
        let name = (self.model == model::DEMO).then_some(model::DEMO);
        let method = Method { parts: self.importance, layers: self.layer_importance, heads: self.heads };
        model::prepare_into(
            &path,
            &text,
            self.calibration_windows as usize,
            &[(method, self.output.as_path())],
            name,
            context.printer,
        )?;
        let supernet = SuperNetwork::open(&self.output)?;
        let file = &supernet.file;
        if context.printer.json {
            return context.printer.json(&Document {
                schema: "edgewise.prepare/1",
                supernet: self.output.display().to_string(),
                model: &file.source.name,
                model_sha256: &file.source.sha256,
                method: &file.method,
                calibration_sha256: &file.calibration_sha256,
                calibration_tokens: file.importance.tokens,
                layers: &file.importance.layers,
                kv_groups: &file.importance.kv_groups,
                neurons: &file.importance.neurons,
                width: &file.importance.width,
                heads: file.importance.heads.as_ref(),
                identity_max_abs_diff: f64::from(file.identity_max_abs_diff),
                identity_tolerance: f64::from(file.identity_tolerance),
            });
        }
        context.printer.note(&format!(
            "scored {} tokens; sorted and original logits differ by at most {:.1e} (accepted: {:.1e})",
            file.importance.tokens, file.identity_max_abs_diff, file.identity_tolerance
        ));
        context.printer.data(&format!("{}\n", self.output.display()))
    }
}
