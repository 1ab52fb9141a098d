//! The JSON that the command prints. Names and shapes are a contract; a change of one moves its schema's number.

use crate::{failure::Failure, measuring::WorkloadSpec, view::View};
use edgewise_protocol::Measurement;
use edgewise_search::{Candidate, Estimate, MeasurementRecord, Record};
use serde::Serialize;
use std::collections::BTreeMap;

/// What `host search` prints.
#[derive(Debug, Serialize)]
pub(crate) struct SearchDocument {
    schema: &'static str,
    study: String,
    seed: u64,
    sampler: String,
    model: Model,
    workload: WorkloadSpec,
    objectives: Vec<&'static str>,
    devices: Vec<Device>,
    baseline: Option<String>,
    candidates: Vec<CandidateDocument>,
    front: BTreeMap<String, Vec<String>>,
    hypervolume: BTreeMap<String, Hypervolume>,
    drift: Vec<Drift>,
    timing: Timing,
}

/// The full network.
#[derive(Debug, Serialize)]
struct Model {
    name: String,
    sha256: String,
    parameters: u64,
}

#[derive(Debug, Serialize)]
struct Device {
    name: String,
    target: String,
    fingerprint: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct Hypervolume {
    value: f64,
    reference: Vec<f64>,
}

#[derive(Debug, Serialize)]
struct Drift {
    device: String,
    after: u32,
    ttft_ratio: f64,
    tpot_ratio: f64,
}

/// Where the time of this run went, in seconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Timing {
    /// From the start to the end.
    pub(crate) wall_s: f64,
    /// Scoring and sorting the super-network, and opening it.
    pub(crate) prepare_s: f64,
    /// Quality of candidates.
    pub(crate) evaluate_s: f64,
    /// Devices at work: loading, checking, warming, timing.
    pub(crate) measure_s: f64,
    /// Making artifacts, hashes included.
    pub(crate) export_s: f64,
    /// Connecting, and getting agent, library and artifacts to devices.
    pub(crate) transfer_s: f64,
    /// What is neither preparing, evaluating nor measuring.
    pub(crate) overhead_s: f64,
    /// That as a share of the wall time.
    pub(crate) overhead_share: f64,
}

/// A candidate with its results.
#[derive(Debug, Serialize)]
pub(crate) struct CandidateDocument {
    id: String,
    series: String,
    config: Candidate,
    parameters: Option<u64>,
    artifact_sha256: Option<String>,
    status: String,
    error: Option<String>,
    quality: Option<Quality>,
    measurements: Vec<MeasurementDocument>,
}

#[derive(Debug, Serialize)]
struct Quality {
    perplexity: f64,
    nll: f64,
    tokens: u64,
}

/// A device's result.
#[derive(Debug, Serialize)]
pub(crate) struct MeasurementDocument {
    pub(crate) device: String,
    pub(crate) runtime: String,
    pub(crate) precision: String,
    pub(crate) ttft_ms: Estimate,
    pub(crate) tpot_ms: Estimate,
    pub(crate) latency_ms: f64,
    pub(crate) peak_rss_bytes: u64,
    pub(crate) energy_j_per_token: Option<f64>,
    pub(crate) artifact_bytes: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) converged: bool,
    pub(crate) flags: Vec<String>,
    pub(crate) runtime_version: serde_json::Value,
    pub(crate) threads: serde_json::Value,
    pub(crate) probe_max_abs_diff: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) samples_ms: Option<Samples>,
}

/// Raw samples in milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Samples {
    ttft: Vec<f64>,
    tpot: Vec<f64>,
}

impl Samples {
    pub(crate) fn of(record: &MeasurementRecord) -> Self {
        let ms = |ns: &[u64]| ns.iter().map(|&n| n as f64 / 1e6).collect();
        Self { ttft: ms(&record.ttft_ns), tpot: ms(&record.tpot_ns) }
    }
}

impl SearchDocument {
    pub(crate) fn new(view: &View, study: &str, timing: Timing) -> Result<Self, Failure> {
        let (mut front, mut hypervolume) = (BTreeMap::new(), BTreeMap::new());
        for device in &view.devices {
            let found = view.front(&device.name, &[])?;
            front.insert(device.name.clone(), found.ids);
            if let Some((value, reference)) = found.hypervolume {
                hypervolume.insert(device.name.clone(), Hypervolume { value, reference });
            }
        }
        let details = &view.settings.details;
        Ok(Self {
            schema: "edgewise.search/1",
            study: study.to_owned(),
            seed: view.settings.seed,
            sampler: view.settings.sampler.clone(),
            model: Model {
                name: view.detail("model_name").to_owned(),
                sha256: view.detail("model_sha256").to_owned(),
                parameters: details.get("model_parameters").and_then(serde_json::Value::as_u64).unwrap_or_default(),
            },
            workload: view.workload,
            objectives: view.settings.objectives.iter().map(|o| o.name()).collect(),
            devices: view
                .devices
                .iter()
                .map(|d| Device { name: d.name.clone(), target: d.target.clone(), fingerprint: d.fingerprint.clone() })
                .collect(),
            baseline: view.baseline().map(|b| b.id.clone()),
            candidates: view.records.iter().map(|r| CandidateDocument::new(r, view.workload)).collect(),
            front,
            hypervolume,
            drift: view
                .drifts
                .iter()
                .map(|d| Drift { device: d.device.clone(), after: d.after, ttft_ratio: d.ttft_ratio, tpot_ratio: d.tpot_ratio })
                .collect(),
            timing,
        })
    }
}

impl CandidateDocument {
    pub(crate) fn new(record: &Record, workload: WorkloadSpec) -> Self {
        let failure = record.failures.first();
        let done = record.quality.is_some() && !record.measurements.is_empty();
        let status = match failure {
            Some(failure) => failure.status.clone(),
            None if done => "ok".to_owned(),
            None => "pending".to_owned(),
        };
        Self {
            id: record.id.clone(),
            series: record.origins.first().map(|o| o.series.clone()).unwrap_or_default(),
            config: record.candidate.clone(),
            parameters: record.artifact.as_ref().map(|a| a.parameters),
            artifact_sha256: record.artifact.as_ref().map(|a| a.sha256.clone()),
            status,
            error: failure.map(|f| f.message.clone()),
            quality: record.quality.map(|q| Quality { perplexity: q.perplexity, nll: q.nll, tokens: q.tokens }),
            measurements: record.measurements.iter().map(|m| MeasurementDocument::new(m, workload)).collect(),
        }
    }
}

impl MeasurementDocument {
    pub(crate) fn new(record: &MeasurementRecord, workload: WorkloadSpec) -> Self {
        let extra = |key: &str| record.extra.get(key).cloned().unwrap_or_default();
        Self {
            device: record.device.clone(),
            runtime: record.runtime.clone(),
            precision: record.precision.clone(),
            ttft_ms: record.ttft_ms,
            tpot_ms: record.tpot_ms,
            latency_ms: workload.latency_ms(record.ttft_ms.median, record.tpot_ms.median),
            peak_rss_bytes: record.peak_rss_bytes,
            energy_j_per_token: record.energy_j_per_token,
            artifact_bytes: record.artifact_bytes,
            bytes_sent: record.bytes_sent,
            converged: record.converged,
            flags: record.flags.clone(),
            runtime_version: extra("runtime_version"),
            threads: extra("threads"),
            probe_max_abs_diff: extra("probe_max_abs_diff"),
            samples_ms: None,
        }
    }
}

/// A measurement as it is stored.
pub(crate) fn record_of(
    found: Measurement,
    device: &str,
    precision: &str,
    artifact_bytes: u64,
    bytes_sent: u64,
) -> MeasurementRecord {
    let estimate = |e: edgewise_protocol::Estimate| Estimate { median: e.median, ci95: [e.low, e.high], n: e.n };
    let extra = serde_json::json!({
        "runtime_version": found.runtime_version,
        "threads": found.threads,
        "load_ns": found.load_ns,
        "probe_max_abs_diff": found.probe_max_abs_diff.map(f64::from),
    });
    MeasurementRecord {
        device: device.to_owned(),
        runtime: found.runtime.name().to_owned(),
        precision: precision.to_owned(),
        ttft_ms: estimate(found.ttft),
        tpot_ms: estimate(found.tpot),
        peak_rss_bytes: found.peak_rss_bytes,
        energy_j_per_token: None,
        artifact_bytes,
        bytes_sent,
        converged: found.converged,
        flags: found.flags.iter().map(|f| f.name().to_owned()).collect(),
        at_ms: now_ms(),
        ttft_ns: found.ttft_ns,
        tpot_ns: found.tpot_ns,
        warmup_ns: found.warmup_ns,
        extra,
    }
}

/// Milliseconds since 1970, for the order of events; nothing is timed with it.
pub(crate) fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
