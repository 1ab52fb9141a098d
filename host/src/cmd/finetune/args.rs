//! The flags of `host finetune`, and the settings that they make.

use crate::failure::Failure;
use clap::{ArgAction, ValueEnum};
use edgewise_finetune::{Budget, Distillation, LossOn, Schedule, Settings};
use edgewise_onnx::ModelConfig;
use edgewise_supernet::{Lora, Projection, Trainable, ops::Divergence};
use std::path::PathBuf;

/// Time to train in unless the user says otherwise.
const MINUTES: f64 = 10.0;
/// Rank of adapters unless the user says otherwise.
const RANK: usize = 32;
/// What the learning rate falls to, as a share of its peak.
const FLOOR: f64 = 0.1;

/// How sub-networks learn from the full network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Distill {
    /// KL divergence of the sub-network from the full one.
    ForwardKl,
    /// KL divergence of the full network from the sub-network.
    ReverseKl,
    /// Half of each.
    SymmetricKl,
    /// Jensen-Shannon divergence.
    Js,
    /// They learn from the data alone.
    None,
}

/// What a calibrated grid keeps of each size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum GridBy {
    /// The lowest perplexity on the data.
    Perplexity,
    /// The largest sum of absolute weights; takes no time.
    Magnitude,
}

/// Which tokens of an instruction count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Counted {
    /// Prompt and answer.
    All,
    /// The answer.
    Answer,
}

/// Flags of `host finetune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Prepared super-network, Hugging Face folder, .gguf file, or `demo`
    #[arg(value_name = "SUPERNET")]
    pub(super) model: String,
    /// Folder for the new super-network; must not exist. Checkpoints are kept in DIR.training until it does
    #[arg(short, long, value_name = "DIR")]
    pub(super) output: PathBuf,
    /// Text to learn from: .txt, .jsonl with `text`, or instructions (.json, .jsonl with instruction, input, output); may be
    /// given several times [default: a bundled public-domain text]
    #[arg(long = "data", value_name = "FILE", action = ArgAction::Append)]
    pub(super) data: Vec<PathBuf>,
    /// Tokens of instructions that a loss is taken on
    #[arg(long, value_enum, default_value = "all")]
    loss_on: Counted,
    /// Held-out text for the curves [default: another bundled public-domain text]
    #[arg(long, value_name = "FILE")]
    pub(super) text: Option<PathBuf>,
    /// Text for importance scores, where the model is not prepared yet [default: a bundled public-domain text]
    #[arg(long, value_name = "FILE")]
    pub(super) calibration: Option<PathBuf>,

    /// Train every weight, instead of adapters of low rank
    #[arg(long, help_heading = "What is trained", conflicts_with_all = ["lora_rank", "lora_alpha", "lora_dropout", "lora_targets"])]
    full: bool,
    /// Rank of the adapters [default: 32, or what fits a smaller model]
    #[arg(long, value_name = "R", help_heading = "What is trained")]
    lora_rank: Option<usize>,
    /// Adapters are scaled by alpha over rank [default: twice the rank]
    #[arg(long, value_name = "A", help_heading = "What is trained")]
    lora_alpha: Option<f64>,
    /// Share of an adapter's inputs that are dropped [default: 0; worth something where data are seen several times]
    #[arg(long, value_name = "P", help_heading = "What is trained")]
    lora_dropout: Option<f32>,
    /// Projections with an adapter: some of q,k,v,o,gate,up,down [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "What is trained")]
    lora_targets: Vec<Projection>,

    /// Space of the sub-networks, as of `host search`: default, per-layer, uniform, depth, small, medium, hw-gpt-bench or
    /// llama-joint
    #[arg(long, value_name = "S", default_value = "default", help_heading = "Sub-networks")]
    pub(super) space: String,
    /// Sub-networks may have smaller attention heads as well, of one size for the whole network: these, and the full one
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = crate::space::head_size, help_heading = "Sub-networks")]
    pub(super) head_sizes: Vec<u32>,
    /// Sub-networks that are trained with the full network and the smallest one, spread over the sizes between them
    #[arg(long, value_name = "K", default_value_t = 1, help_heading = "Sub-networks")]
    pub(super) draws: usize,
    /// Draw them from a calibrated grid of this many sizes, for each the best of a few; 0 draws from the space
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Sub-networks")]
    pub(super) grid: usize,
    /// What makes one the best of its size in a calibrated grid
    #[arg(long, value_enum, default_value = "perplexity", requires = "grid", help_heading = "Sub-networks")]
    pub(super) grid_by: GridBy,
    /// Train what a search of this model found: draw from the front of quality against size of this study, whose smallest takes
    /// the smallest one's place
    #[arg(long, value_name = "FILE", conflicts_with = "grid", help_heading = "Sub-networks")]
    pub(super) study: Option<PathBuf>,
    /// Of that study this one alone, and nothing else beside the full network
    #[arg(long, value_name = "ID", requires = "study", help_heading = "Sub-networks")]
    pub(super) candidate: Option<String>,
    /// How they learn from the full network
    #[arg(long, value_enum, default_value = "forward-kl", help_heading = "Sub-networks")]
    distill: Distill,
    /// What logits are divided by where they are compared
    #[arg(long, value_name = "T", default_value_t = 0.9, help_heading = "Sub-networks")]
    temperature: f64,
    /// Weight of the data in a sub-network's loss, ...
    #[arg(long, value_name = "W", default_value_t = 1.0, help_heading = "Sub-networks")]
    ce_weight: f64,
    /// ... and of the full network
    #[arg(long, value_name = "W", default_value_t = 1.0, help_heading = "Sub-networks")]
    distill_weight: f64,

    /// Updates of the weights
    #[arg(long, value_name = "N", conflicts_with = "minutes", help_heading = "Training")]
    steps: Option<u64>,
    /// Time to train in; the learning rate follows the clock [default: 10, without --steps]
    #[arg(long, value_name = "M", help_heading = "Training")]
    minutes: Option<f64>,
    /// Highest learning rate
    #[arg(long, value_name = "RATE", default_value_t = 2e-3, help_heading = "Training")]
    lr: f64,
    /// Steps in which it rises; then it falls to a tenth along a cosine
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = "Training")]
    warmup: u64,
    /// Decay of matrices
    #[arg(long, value_name = "W", default_value_t = 0.01, help_heading = "Training")]
    weight_decay: f64,
    /// Largest norm of a gradient; 0 for any
    #[arg(long, value_name = "NORM", default_value_t = 1.0, help_heading = "Training")]
    clip: f64,
    /// Sequences that share their sub-networks
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Training")]
    batch: usize,
    /// Groups of such sequences in one update, each with sub-networks of its own
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Training")]
    accumulate: usize,
    /// Tokens of a sequence
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Training")]
    sequence: usize,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Training")]
    pub(super) seed: u64,
    /// Where to compute: cpu, or cuda and metal where the program was built with that feature
    #[arg(long, value_name = "NAME", default_value = "cpu", value_parser = ["cpu", "cuda", "metal"], help_heading = "Training")]
    pub(super) compute: String,
    /// Precision of weights that are not trained; bf16 and fp16 on accelerators only
    #[arg(long, value_name = "P", default_value = "fp32", value_parser = ["fp32", "bf16", "fp16"], help_heading = "Training")]
    pub(super) precision: String,

    /// Steps between two checkpoints; 0 for none but at Ctrl-C
    #[arg(long, value_name = "N", default_value_t = 50, help_heading = "Progress")]
    pub(super) checkpoint_every: u64,
    /// Go on from the newest checkpoint in DIR.training
    #[arg(long, help_heading = "Progress")]
    pub(super) resume: bool,
    /// Steps between two looks at the held-out text; 0 for none but at the beginning and the end
    #[arg(long, value_name = "N", default_value_t = 50, help_heading = "Progress")]
    pub(super) validate_every: u64,
}

impl Args {
    /// The settings, checked as far as they can be without a model.
    pub(super) fn settings(&self) -> Result<Settings, Failure> {
        self.settings_of(RANK)
    }

    /// The settings for a model: adapters that are not asked for are no wider than its projections.
    pub(super) fn settings_for(&self, config: &ModelConfig) -> Result<Settings, Failure> {
        let narrowest = config.hidden_size.min(config.mlp_size).min(config.num_kv_heads * config.head_dim);
        self.settings_of(RANK.min(narrowest))
    }

    fn settings_of(&self, rank: usize) -> Result<Settings, Failure> {
        let trainable = if self.full {
            Trainable::Full
        } else {
            let rank = self.lora_rank.unwrap_or(rank);
            let mut targets = self.lora_targets.clone();
            if targets.is_empty() {
                targets = Projection::ALL.to_vec();
            }
            // Their order makes no difference, and must make none to who resumes.
            targets.sort_unstable();
            Trainable::Lora(Lora {
                rank,
                alpha: self.lora_alpha.unwrap_or(2.0 * rank as f64),
                dropout: self.lora_dropout.unwrap_or(0.0),
                targets,
            })
        };
        let distillation = match self.distill {
            Distill::ForwardKl => Some(Divergence::ForwardKl),
            Distill::ReverseKl => Some(Divergence::ReverseKl),
            Distill::SymmetricKl => Some(Divergence::SymmetricKl),
            Distill::Js => Some(Divergence::JensenShannon),
            Distill::None => None,
        };
        let settings = Settings {
            trainable,
            distillation: distillation.map(|kind| Distillation {
                kind,
                temperature: self.temperature,
                weight: self.distill_weight,
                ce_weight: self.ce_weight,
            }),
            schedule: Schedule { peak: self.lr, warm_up: self.warmup, floor: FLOOR },
            weight_decay: self.weight_decay,
            clip: self.clip,
            batch: self.batch,
            accumulate: self.accumulate,
            sequence: self.sequence,
            budget: match self.steps {
                Some(steps) => Budget::Steps(steps),
                None => Budget::Minutes(self.minutes.unwrap_or(MINUTES)),
            },
            loss_on: match self.loss_on {
                Counted::All => LossOn::All,
                Counted::Answer => LossOn::Answer,
            },
            seed: self.seed,
        };
        settings.check()?;
        Ok(settings)
    }
}
