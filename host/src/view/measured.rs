//! What a device measured of a candidate, all trials together.

use super::{View, study::trials};
use edgewise_search::{Energy, Estimate, Form, Objective, Part, Reading, Record, Spread, Summary, Trial, sum_of_trials};
use std::collections::BTreeSet;

/// A result: several trials of one candidate on one device.
#[derive(Debug, Clone)]
pub(crate) struct Measured<'a> {
    /// In the order of the schedule, never empty.
    pub(crate) trials: Vec<&'a Trial>,
    pub(crate) ttft_ms: Estimate,
    pub(crate) tpot_ms: Estimate,
    pub(crate) latency_ms: Estimate,
    pub(crate) peak_rss_bytes: u64,
    /// The form that it was in then.
    pub(crate) peak_rss_form: Form,
    pub(crate) bytes_sent: u64,
    /// All of them are as exact as asked.
    pub(crate) converged: bool,
    /// The flags of any of them.
    pub(crate) flags: Vec<String>,
    pub(crate) energy: Option<&'a Energy>,
}

/// A device's scatter, by which intervals are made.
pub(crate) struct Intervals {
    ttft: Spread,
    tpot: Spread,
    latency: Spread,
}

impl Intervals {
    /// From everything that the device has measured.
    pub(crate) fn of(view: &View, device: &str) -> Self {
        let spread = |objective| Readings::of(view, device, objective).spread();
        Self { ttft: spread(Objective::TtftMs), tpot: spread(Objective::TpotMs), latency: spread(Objective::LatencyMs) }
    }

    /// Of trials alone, where there is no study.
    pub(crate) fn of_trials(sets: &[Vec<&Trial>], latency_ms: impl Fn(&Trial) -> f64) -> Self {
        let spread = |of: &dyn Fn(&Trial) -> f64| {
            let all: Vec<Vec<Reading>> =
                sets.iter().map(|set| set.iter().filter_map(|t| Reading::new(t.block, of(t))).collect()).collect();
            let slices: Vec<&[Reading]> = all.iter().map(Vec::as_slice).collect();
            match slices.split_first() {
                Some((sentinel, others)) => Spread::pooled(sentinel, others),
                None => Spread::pooled(&[], &[]),
            }
        };
        Self { ttft: spread(&|t| t.ttft_ms.median), tpot: spread(&|t| t.tpot_ms.median), latency: spread(&latency_ms) }
    }
}

/// Readings of an objective on a device: the sentinel's and every candidate's, in the order of records.
pub(super) struct Readings {
    pub(super) sentinel: Vec<Reading>,
    pub(super) records: Vec<Vec<Reading>>,
}

impl Readings {
    pub(super) fn of(view: &View, device: &str, objective: Objective) -> Self {
        let read = |t: &Trial| Reading::new(t.block, view.latency_of(t, objective));
        let of_record = |r: &Record| trials(r, device).into_iter().filter_map(read).collect();
        let sentinel = view.records.iter().flat_map(|r| trials(r, device)).filter(|t| t.is_sentinel()).filter_map(read).collect();
        Self { sentinel, records: view.records.iter().map(of_record).collect() }
    }

    pub(super) fn spread(&self) -> Spread {
        Spread::pooled(&self.sentinel, &self.records.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }
}

impl View {
    /// What a trial says of a latency objective, in milliseconds; `NaN` of any other.
    pub(super) fn latency_of(&self, trial: &Trial, objective: Objective) -> f64 {
        match objective {
            Objective::TtftMs => trial.ttft_ms.median,
            Objective::TpotMs => trial.tpot_ms.median,
            Objective::LatencyMs => self.workload.latency_ms(trial.ttft_ms.median, trial.tpot_ms.median),
            _ => f64::NAN,
        }
    }

    /// The result of a candidate on a device, where it has one.
    pub(crate) fn measured<'a>(&self, record: &'a Record, device: &str, intervals: &Intervals) -> Option<Measured<'a>> {
        Measured::of(trials(record, device), f64::from(self.workload.generated_tokens) - 1.0, intervals)
    }
}

impl<'a> Measured<'a> {
    /// The latest trial.
    pub(crate) fn last(&self) -> &'a Trial {
        self.trials[self.trials.len() - 1]
    }

    /// The result of these trials; tokens after the first of a generation are `further`. `None` without trials.
    pub(crate) fn of(trials: Vec<&'a Trial>, further: f64, intervals: &Intervals) -> Option<Self> {
        let (peak_rss_bytes, peak_rss_form) = peak_rss(&trials)?;
        let parts = |of: &dyn Fn(&'a Trial) -> Vec<Part<'a>>| -> Vec<Vec<Part<'a>>> { trials.iter().map(|t| of(t)).collect() };
        let ttft = |t: &'a Trial| Part { times: 1.0, samples_ns: &t.ttft_ns };
        let tpot = |times: f64, t: &'a Trial| Part { times, samples_ns: &t.tpot_ns };
        let flags: BTreeSet<&String> = trials.iter().flat_map(|t| &t.flags).collect();
        Some(Self {
            ttft_ms: estimate(sum_of_trials(&parts(&|t| vec![ttft(t)]), &intervals.ttft)?),
            tpot_ms: estimate(sum_of_trials(&parts(&|t| vec![tpot(1.0, t)]), &intervals.tpot)?),
            latency_ms: estimate(sum_of_trials(&parts(&|t| vec![ttft(t), tpot(further, t)]), &intervals.latency)?),
            peak_rss_bytes,
            peak_rss_form,
            bytes_sent: trials.iter().map(|t| t.bytes_sent).sum(),
            converged: trials.iter().all(|t| t.converged),
            flags: flags.into_iter().cloned().collect(),
            energy: trials.iter().find_map(|t| t.energy.as_ref()),
            trials,
        })
    }
}

fn estimate(summary: Summary) -> Estimate {
    Estimate { median: summary.median, ci95: summary.ci95, n: summary.samples }
}

/// The largest memory of the trials that ran the form in which artifacts are shipped; without such, of those that ran from
/// memory, which takes more.
pub(super) fn peak_rss(trials: &[&Trial]) -> Option<(u64, Form)> {
    let of = |form| trials.iter().filter(|t| t.form == form).map(|t| t.peak_rss_bytes).max().map(|bytes| (bytes, form));
    of(Form::Files).or_else(|| of(Form::Memory))
}
