//! What a study says: objective values, fronts, hypervolumes. Used by the search itself and by everything that shows a study.

use crate::{failure::Failure, measuring::WorkloadSpec};
use edgewise_search::{
    Constraint, Device, Drift, History, MeasurementRecord, Objective, Outcome, Record, Settings, StudyStore, front, hypervolume,
    reference_point, violation,
};
use std::collections::BTreeMap;

/// The series of the search's own candidates.
pub(crate) const SEARCH: &str = "search";

/// Everything of a study in memory.
pub(crate) struct View {
    pub(crate) settings: Settings,
    pub(crate) records: Vec<Record>,
    pub(crate) devices: Vec<Device>,
    pub(crate) drifts: Vec<Drift>,
    pub(crate) seconds: BTreeMap<String, f64>,
    pub(crate) workload: WorkloadSpec,
}

/// The front of one device with its hypervolume.
pub(crate) struct Front {
    /// Ids, in the order of the second objective.
    pub(crate) ids: Vec<String>,
    pub(crate) hypervolume: Option<(f64, Vec<f64>)>,
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
            drifts: study.drifts()?,
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
        let mut out: Vec<(u32, &Record)> =
            self.records.iter().filter_map(|r| r.origins.iter().find(|o| o.series == SEARCH).map(|o| (o.position, r))).collect();
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
        violation(constraints, |o| self.value(record, device, o)) <= 0.0
    }

    /// The Pareto front of a device among the candidates that keep the study's constraints and these.
    pub(crate) fn front(&self, device: &str, more: &[Constraint]) -> Result<Front, Failure> {
        let bug = |e: edgewise_search::PointError| Failure::new(crate::exit_code::STUDY, e.to_string());
        let constraints: Vec<Constraint> = self.settings.constraints.iter().chain(more).copied().collect();
        let points: Vec<(&Record, Vec<f64>)> = self
            .records
            .iter()
            .filter(|r| self.keeps(r, device, &constraints))
            .filter_map(|r| Some((r, self.values(r, device)?)))
            .collect();
        let values: Vec<&Vec<f64>> = points.iter().map(|(_, v)| v).collect();
        let mut chosen = front(&values).map_err(bug)?;
        chosen.sort_by(|&a, &b| values[a][1].total_cmp(&values[b][1]));
        let hypervolume = match self.baseline().and_then(|b| self.values(b, device)) {
            None => None,
            Some(baseline) => {
                let reference = reference_point(&self.settings.objectives, &baseline);
                let on_front: Vec<&Vec<f64>> = chosen.iter().map(|&i| values[i]).collect();
                Some((hypervolume(&on_front, &reference).map_err(bug)?, reference))
            }
        };
        Ok(Front { ids: chosen.into_iter().map(|i| points[i].0.id.clone()).collect(), hypervolume })
    }

    /// What the sampler may know: proposals in order, with the values of `device`.
    pub(crate) fn history(&self, device: &str) -> History {
        let mut history = History::new();
        for record in self.searched() {
            let failed = record.failures.iter().any(|f| f.device.as_deref().is_none_or(|d| d == device));
            let outcome = match self.values(record, device) {
                Some(values) => {
                    let violation = violation(&self.settings.constraints, |o| self.value(record, device, o));
                    Outcome::Measured { values, violation }
                }
                None if failed => Outcome::Failed,
                None => Outcome::Pending,
            };
            history.push(record.candidate.clone(), outcome);
        }
        history
    }
}

/// A candidate's value on a device, where it has one.
pub(crate) fn value(workload: WorkloadSpec, record: &Record, device: &str, objective: Objective) -> Option<f64> {
    let measured = || record.measurements.iter().find(|m| m.device == device);
    let latency = |m: &MeasurementRecord| workload.latency_ms(m.ttft_ms.median, m.tpot_ms.median);
    match objective {
        Objective::Perplexity => record.quality.map(|q| q.perplexity),
        Objective::Parameters => record.artifact.as_ref().map(|a| a.parameters as f64),
        Objective::TtftMs => measured().map(|m| m.ttft_ms.median),
        Objective::TpotMs => measured().map(|m| m.tpot_ms.median),
        Objective::LatencyMs => measured().map(latency),
        Objective::PeakRssBytes => measured().map(|m| m.peak_rss_bytes as f64),
        // Objectives of a newer search crate have no values here.
        _ => None,
    }
}
