//! The flags of `host search`.

use crate::{cmd::selection::Selection, devices::RuntimeChoice, measuring::WorkloadSpec, shipment::Way};
use clap::ArgAction;
use edgewise_search::Constraint;
use std::path::PathBuf;

/// How candidates travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Ship {
    /// The super-network once, then recipes; whole artifacts where a device lacks the room.
    Recipe,
    /// Whole artifacts.
    Artifact,
}

impl Ship {
    pub(super) fn way(self) -> Way {
        match self {
            Self::Recipe => Way::Recipe,
            Self::Artifact => Way::Files,
        }
    }
}

/// Flags of `host search`. Those that are not given take the study's own value when it is resumed, else the default.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Hugging Face folder, .gguf file, prepared super-network, or `demo` [default: demo]
    #[arg(long, value_name = "M")]
    pub(super) model: Option<String>,
    #[command(flatten)]
    pub(super) devices: Selection,
    /// Candidates to measure, the full network included [default: 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) budget: Option<u32>,
    #[arg(
        long = "objective",
        value_name = "LIST",
        action = ArgAction::Append,
        help = "What to minimise, two or more of perplexity, kl, task_error, ttft_ms, tpot_ms, latency_ms, peak_rss_bytes, \
                parameters; kl is the divergence from the full network on the same text, which tells candidates apart on fewer \
                tokens; task_error is one minus the mean score on the tasks of --task \
                [default: perplexity,tpot_ms]"
    )]
    pub(super) objective: Vec<String>,
    /// Limit such as `tpot_ms<=20`; may be given several times
    #[arg(long = "constraint", value_name = "LIMIT", action = ArgAction::Append)]
    pub(super) constraint: Vec<Constraint>,
    /// What is timed [default: prompt=128,gen=64]
    #[arg(long, value_name = "prompt=P,gen=G")]
    pub(super) workload: Option<WorkloadSpec>,
    /// diagonal-local, random or nsga2 [default: diagonal-local]
    #[arg(long, value_name = "S")]
    pub(super) sampler: Option<String>,
    /// default, per-layer, uniform or depth, or a space of the authors of arXiv 2410.06479: small, medium, hw-gpt-bench or
    /// llama-joint [default: default]
    #[arg(long, value_name = "S")]
    pub(super) space: Option<String>,
    /// Search the size of the attention's heads as well, one for the whole network: these, and the full one; even numbers such as
    /// 32,48
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = crate::space::head_size)]
    pub(super) head_sizes: Vec<u32>,
    /// Held-out text for perplexity [default: a bundled public-domain text]
    #[arg(long, value_name = "FILE")]
    pub(super) text: Option<PathBuf>,
    /// Text for importance scores [default: another bundled public-domain text]
    #[arg(long, value_name = "FILE")]
    pub(super) calibration: Option<PathBuf>,
    /// Task that every measured candidate is asked, with its file, as of `host evaluate`; may be given several times
    #[arg(long = "task", value_name = "NAME=FILE", action = ArgAction::Append)]
    pub(super) task: Vec<String>,
    /// Most questions of a task; which ones follows from the seed, and they are the same for all candidates [default: all]
    #[arg(long, value_name = "N", requires = "task", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) task_limit: Option<u32>,
    /// Worked examples before each question [default: the task's own number]
    #[arg(long, value_name = "N", requires = "task")]
    pub(super) fewshot: Option<u32>,
    /// File that examples are taken from [default: other rows of the task's file]; NAME= where there are several tasks
    #[arg(long, value_name = "[NAME=]FILE", action = ArgAction::Append, requires = "task")]
    pub(super) fewshot_file: Vec<String>,
    /// Look at the quality of so many candidates on the host first; devices then measure those that are worth it for their size.
    /// A device's time is dear, a look takes seconds
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) explore: u32,
    /// Measure fixed pruning recipes as well, each as a series of its own that does not count against the budget: all of depth,
    /// width-contribution, width-activation, width-fluctuation, width-magnitude and random, or those named
    #[arg(long, value_name = "RECIPES", num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    pub(super) baselines: Option<String>,
    /// Study to resume, or to make at this path [default: a new one among the studies]
    #[arg(long, value_name = "FILE")]
    pub(super) study: Option<PathBuf>,
    /// Seed of the proposals, of the tokens that are timed and of the questions that are asked [default: 0]
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// Runtime on the devices [default: auto, the faster one on the full network]
    #[arg(long, value_enum)]
    pub(super) runtime: Option<RuntimeChoice>,
    /// Threads of the runtime [default: the device profile's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) threads: Option<u16>,
    /// Precision of the weights [default: fp32]
    #[arg(long, value_parser = ["fp32"])]
    pub(super) precision: Option<String>,
    /// ONNX Runtime's library for the device's platform
    #[arg(long, value_name = "FILE")]
    pub(super) ort_library: Option<PathBuf>,
    /// Trials of each candidate on the front at least, and as many as it takes to decide; 1 leaves it at the screening
    /// [default: 3, in no more time than the screening takes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8))]
    pub(super) trials: Option<u32>,
    /// How candidates travel: `recipe` sends the super-network once, `artifact` every candidate's files
    #[arg(long, value_enum, default_value = "recipe")]
    pub(super) ship: Ship,
    /// Measure energy where a device has a meter: a run of its own in each trial
    #[arg(long)]
    pub(super) energy: bool,
    /// Measure on emulated devices, too: the latencies are the emulator's, and the study is of no use for real boards
    #[arg(long)]
    pub(super) allow_emulated: bool,
    /// Once one device is through, give the others this long, in minutes [default: as long as they take]
    #[arg(long, value_name = "MINUTES")]
    pub(super) patience: Option<u32>,
    /// Print each candidate as a line of JSON when it is done, and the document at the end
    #[arg(long)]
    pub(super) json_lines: bool,
}
