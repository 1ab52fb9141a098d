//! The study as it was read.

use crate::{failure::Failure, measuring::WorkloadSpec};
use edgewise_protocol::Flag;
use edgewise_search::{
    Constraint, Device, EXPLORE, Gap, History, Objective, Outcome, Record, Role, SEARCH, Session, Settings, StudyStore, Trial,
    violation,
};
use std::collections::BTreeMap;

/// The study's detail that says whether emulated devices count.
pub(crate) const ALLOW_EMULATED: &str = "allow_emulated";

/// Everything of a study in memory.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) settings: Settings,
    pub(crate) records: Vec<Record>,
    pub(crate) devices: Vec<Device>,
    pub(crate) gaps: Vec<(String, Gap)>,
    pub(crate) sessions: Vec<(String, Session)>,
    pub(crate) seconds: BTreeMap<String, f64>,
    pub(crate) workload: WorkloadSpec,
}

impl View {
    /// Reads a study.
    pub(crate) fn read(study: &dyn StudyStore) -> Result<Self, Failure> {
        let settings = study.settings()?;
        let workload = settings
            .details
            .get("workload")
            .and_then(|w| serde_json::from_value(w.clone()).ok())
            .ok_or_else(|| Failure::new(crate::exit_code::STUDY, "the study does not say what its workload was"))?;
        Ok(Self {
            settings,
            records: study.records()?,
            devices: study.devices()?,
            gaps: study.gaps()?,
            sessions: study.sessions()?,
            seconds: study.seconds()?,
            workload,
        })
    }

    /// A text among the study's details.
    pub(crate) fn detail(&self, key: &str) -> &str {
        self.settings.details.get(key).and_then(serde_json::Value::as_str).unwrap_or_default()
    }

    /// The full network.
    pub(crate) fn baseline(&self) -> Option<&Record> {
        self.records.iter().find(|r| r.origins.iter().any(|o| o.series == SEARCH && o.position == 0))
    }

    /// The search's candidates in the order they were proposed.
    pub(crate) fn searched(&self) -> Vec<&Record> {
        self.of_series(SEARCH)
    }

    /// Candidates of which the host looked at the quality, in the order it did.
    pub(crate) fn explored(&self) -> Vec<&Record> {
        self.of_series(EXPLORE)
    }

    /// What is shown: all that devices measure, the search's own candidates in its order and then those of recipes.
    pub(crate) fn shown(&self) -> Vec<&Record> {
        let mut out = self.searched();
        out.extend(self.records.iter().filter(|r| r.is_measured() && !r.is_searched()));
        out
    }

    fn of_series(&self, series: &str) -> Vec<&Record> {
        let place = |r: &'_ Record| r.origins.iter().find(|o| o.series == series).map(|o| o.position);
        let mut out: Vec<(u32, &Record)> = self.records.iter().filter_map(|r| Some((place(r)?, r))).collect();
        out.sort_by_key(|(position, _)| *position);
        out.into_iter().map(|(_, record)| record).collect()
    }

    /// A candidate's value on a device, where it has one.
    pub(crate) fn value(&self, record: &Record, device: &str, objective: Objective) -> Option<f64> {
        value(self.workload, record, device, objective)
    }

    /// Values of all objectives, where it has them all.
    pub(crate) fn values(&self, record: &Record, device: &str) -> Option<Vec<f64>> {
        self.settings.objectives.iter().map(|&o| self.value(record, device, o)).collect()
    }

    /// Whether the candidate keeps these limits on a device.
    pub(crate) fn keeps(&self, record: &Record, device: &str, constraints: &[Constraint]) -> bool {
        violation(constraints, |o| self.value(record, device, o)) <= 0.0 && self.counts(record, device)
    }

    /// Whether what a device measured may be on its front: an emulator's latencies only if the user said so.
    pub(super) fn counts(&self, record: &Record, device: &str) -> bool {
        let allowed = self.settings.details.get(ALLOW_EMULATED).and_then(serde_json::Value::as_bool).unwrap_or_default();
        let emulated = Flag::Emulated.name();
        allowed || !trials(record, device).iter().any(|trial| trial.flags.iter().any(|flag| flag == emulated))
    }

    /// What the sampler may know: proposals in order, with the values of `device` as its screening gave them.
    pub(crate) fn history(&self, device: &str) -> History {
        let mut history = History::new();
        for record in self.searched() {
            let failed = record.failures.iter().any(|f| f.device.as_deref().is_none_or(|d| d == device));
            let screened = screened(record, device);
            let value = |objective| value_of(self.workload, record, &screened, objective);
            let values: Option<Vec<f64>> = self.settings.objectives.iter().map(|&o| value(o)).collect();
            let outcome = match values {
                Some(values) => Outcome::Measured { values, violation: violation(&self.settings.constraints, value) },
                None if failed => Outcome::Failed,
                None => Outcome::Pending,
            };
            history.push(record.candidate.clone(), outcome);
        }
        history
    }
}

/// The trials of a candidate on a device.
pub(super) fn trials<'a>(record: &'a Record, device: &str) -> Vec<&'a Trial> {
    record.trials.iter().filter(|t| t.device == device).collect()
}

/// The one that screened it: of the baseline's sentinels the first.
fn screened<'a>(record: &'a Record, device: &str) -> Vec<&'a Trial> {
    let mut out = trials(record, device);
    let of_screening = |trial: &&&Trial| trial.role == Role::Screen && !trial.is_sentinel();
    let first = out.iter().find(of_screening).or_else(|| out.iter().find(|t| t.is_sentinel())).copied();
    out.clear();
    out.extend(first);
    out
}

/// A candidate's value on a device, where it has one.
pub(crate) fn value(workload: WorkloadSpec, record: &Record, device: &str, objective: Objective) -> Option<f64> {
    value_of(workload, record, &trials(record, device), objective)
}

fn value_of(workload: WorkloadSpec, record: &Record, trials: &[&Trial], objective: Objective) -> Option<f64> {
    let median = |of: &dyn Fn(&Trial) -> f64| median(trials.iter().map(|t| of(t)).collect());
    match objective {
        Objective::Perplexity => record.quality.as_ref().map(|q| q.perplexity),
        Objective::Kl => record.quality.as_ref().and_then(|q| q.kl),
        Objective::TaskError => record.quality.as_ref().and_then(edgewise_search::Quality::task_error),
        Objective::Parameters => record.artifact.as_ref().map(|a| a.parameters as f64),
        Objective::TtftMs => median(&|t| t.ttft_ms.median),
        Objective::TpotMs => median(&|t| t.tpot_ms.median),
        Objective::LatencyMs => median(&|t| workload.latency_ms(t.ttft_ms.median, t.tpot_ms.median)),
        Objective::PeakRssBytes => super::measured::peak_rss(trials).map(|(bytes, _)| bytes as f64),
        // Objectives of a newer search crate have no values here.
        _ => None,
    }
}

/// The median; the mean of the middle two of an even number.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let n = values.len();
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(values[n / 2]),
        _ => Some(f64::midpoint(values[n / 2 - 1], values[n / 2])),
    }
}
