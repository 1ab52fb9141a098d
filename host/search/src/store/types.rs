//! What a study stores. Serialised forms follow the command line's JSON where it names them.

use super::trial::Trial;
use crate::{
    candidate::Candidate,
    constraint::Constraint,
    objective::Objective,
    recipes::{EXPLORE, SEARCH},
    space::Space,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a study was begun with. All of it but the budget must be the same when it is resumed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Seed of the proposals.
    pub seed: u64,
    /// The sampler's name.
    pub sampler: String,
    /// The space it searches.
    pub space: Space,
    /// What is minimised.
    pub objectives: Vec<Objective>,
    /// Limits.
    pub constraints: Vec<Constraint>,
    /// How many candidates are measured, the baseline included. A resumed study may have another.
    pub budget: u32,
    /// What else makes a study this study, by name: model, workload, texts, runtime. Opaque here.
    pub details: BTreeMap<String, serde_json::Value>,
}

impl Settings {
    /// Names of the settings, other than the budget, that are not the same: `seed`, `details.model`, ...
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let fields = [
            ("seed", self.seed == other.seed),
            ("sampler", self.sampler == other.sampler),
            ("space", self.space == other.space),
            ("objectives", self.objectives == other.objectives),
            ("constraints", self.constraints == other.constraints),
        ];
        let mut out: Vec<String> = fields.iter().filter(|(_, same)| !same).map(|(name, _)| (*name).to_owned()).collect();
        let mut keys: Vec<&String> = self.details.keys().chain(other.details.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        out.extend(keys.into_iter().filter(|k| self.details.get(*k) != other.details.get(*k)).map(|k| format!("details.{k}")));
        out
    }
}

/// Why a candidate is in the study: its place in a series.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// `search`, `explore`, or `baseline:` and the name of a recipe.
    pub series: String,
    /// Its place in the series, from 0.
    pub position: u32,
}

impl Origin {
    /// A place in the search's own series.
    pub fn search(position: u32) -> Self {
        Self { series: SEARCH.to_owned(), position }
    }
}

impl Record {
    /// Whether the search itself proposed it.
    pub fn is_searched(&self) -> bool {
        self.origins.iter().any(|o| o.series == SEARCH)
    }

    /// Whether devices measure it, for whatever series.
    pub fn is_measured(&self) -> bool {
        self.origins.iter().any(|o| o.series != EXPLORE)
    }

    /// The series that it is shown in: the search's, if it is of that, else the first recipe's.
    pub fn series(&self) -> &str {
        let series = |wanted: fn(&Origin) -> bool| self.origins.iter().find(|o| wanted(o));
        let own = series(|o| o.series == SEARCH).or_else(|| series(|o| o.series != EXPLORE)).or_else(|| self.origins.first());
        own.map_or("", |o| &o.series)
    }
}

/// A candidate's score on the held-out text and on tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// `exp(nll)`.
    pub perplexity: f64,
    /// Mean negative log-likelihood of a token, in nats.
    pub nll: f64,
    /// Number of scored tokens.
    pub tokens: u64,
    /// Mean divergence of the next token from the full network, in nats, where the study asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// What it scores on each of the study's tasks, by name, where the study has tasks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tasks: BTreeMap<String, TaskScore>,
}

/// The metric that stands for a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskScore {
    /// Its name, such as `acc_norm`.
    pub metric: String,
    /// Its value, from 0 to 1; larger is better.
    pub value: f64,
    /// The standard error; none for a single question.
    pub stderr: Option<f64>,
}

impl Quality {
    /// One minus the mean over tasks; `None` without tasks.
    pub fn task_error(&self) -> Option<f64> {
        let sum: f64 = self.tasks.values().map(|task| task.value).sum();
        (!self.tasks.is_empty()).then(|| 1.0 - sum / self.tasks.len() as f64)
    }

    pub(super) fn is_finite(&self) -> bool {
        let scores = self.tasks.values().flat_map(|task| [Some(task.value), task.stderr]);
        [Some(self.perplexity), Some(self.nll), self.kl].into_iter().chain(scores).flatten().all(f64::is_finite)
    }
}

/// What a candidate was exported to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// SHA-256 of the artifact, in hexadecimal.
    pub sha256: String,
    /// Its size, in bytes.
    pub bytes: u64,
    /// Parameters of the sub-network.
    pub parameters: u64,
}

/// A median with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// The median.
    pub median: f64,
    /// Lower and upper end of the interval.
    pub ci95: [f64; 2],
    /// Number of samples.
    pub n: u32,
}

impl Estimate {
    pub(super) fn is_finite(&self) -> bool {
        self.median.is_finite() && self.ci95.iter().all(|x| x.is_finite())
    }
}

/// Why a candidate, or a candidate on one device, has no trial at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The device, or `None` if the candidate failed before any.
    pub device: Option<String>,
    /// A word for programs: `timed_out`, `out_of_memory`, ...
    pub status: String,
    /// A lowercase fragment for people.
    pub message: String,
}

/// A device as it was when the study used it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its kind of board.
    pub target: String,
    /// Named facts about it.
    pub fingerprint: BTreeMap<String, String>,
    /// What its last check-up found, as the caller keeps it.
    pub health: Option<serde_json::Value>,
}

/// Everything that is known about one candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its id.
    pub id: String,
    /// The configuration.
    pub candidate: Candidate,
    /// Where it comes from, at least one.
    pub origins: Vec<Origin>,
    /// Its score, once evaluated.
    pub quality: Option<Quality>,
    /// What it was exported to, once exported.
    pub artifact: Option<Artifact>,
    /// Its trials, in the order of device, block and seat.
    pub trials: Vec<Trial>,
    /// What failed; the candidate's own failure first.
    pub failures: Vec<Failure>,
}

/// What a candidate still lacks.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// Its id.
    pub id: String,
    /// The configuration.
    pub candidate: Candidate,
    /// Its quality is missing.
    pub quality: bool,
    /// Its artifact is missing.
    pub artifact: bool,
    /// Devices that have neither screened it nor failed to.
    pub devices: Vec<String>,
}
