//! Measuring one artifact on one device.

use crate::{devices::Ready, failure::Failure};
use edgewise_fleet::{BlobFile, Error};
use edgewise_onnx::{Artifact, DATA_FILE, MODEL_FILE, ProbeFile, SHARED_DATA_FILE};
use edgewise_protocol::{ArtifactFile, MeasureJob, MeasurePlan, Measurement, Probe, ProbePoint, Progress, Runtime, Workload};
use std::{str::FromStr, sync::atomic::AtomicBool};

/// For candidates of a search: quick, and as exact as a front needs.
pub(crate) const SEARCH_PLAN: MeasurePlan = MeasurePlan {
    min_warmup_ms: 300,
    max_warmup_ms: 3_000,
    min_samples: 15,
    min_time_ms: 400,
    max_time_ms: 3_000,
    target_half_width: 0.03,
};
/// For a single artifact that somebody asks about.
pub(crate) const FINAL_PLAN: MeasurePlan = MeasurePlan {
    min_warmup_ms: 1_000,
    max_warmup_ms: 20_000,
    min_samples: 25,
    min_time_ms: 2_000,
    max_time_ms: 20_000,
    target_half_width: 0.01,
};
/// How an artifact is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial {
    pub(crate) workload: WorkloadSpec,
    pub(crate) plan: MeasurePlan,
    /// Of the tokens.
    pub(crate) seed: u64,
}

/// Loading a model and everything else that is not bounded by the plan.
const SLACK_MS: u32 = 180_000;

/// What is timed, as the user writes it: `prompt=128,gen=64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct WorkloadSpec {
    pub(crate) prompt_tokens: u32,
    pub(crate) generated_tokens: u32,
    pub(crate) batch: u32,
}

impl Default for WorkloadSpec {
    fn default() -> Self {
        Self { prompt_tokens: 128, generated_tokens: 64, batch: 1 }
    }
}

impl FromStr for WorkloadSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut out = Self::default();
        for part in text.split(',') {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("`{part}` is not of the form prompt=N or gen=N"))?;
            let value: u32 = value.trim().parse().map_err(|_| format!("`{value}` is not a number of tokens"))?;
            match key.trim() {
                "prompt" if value >= 1 => out.prompt_tokens = value,
                "gen" if value >= 2 => out.generated_tokens = value,
                "prompt" => return Err("a prompt has at least 1 token".into()),
                "gen" => return Err("at least 2 tokens are generated: the first belongs to the prompt".into()),
                other => return Err(format!("unknown part `{other}` (known: prompt, gen)")),
            }
        }
        Ok(out)
    }
}

impl WorkloadSpec {
    /// Checks that a model has the positions for it.
    pub(crate) fn check(self, max_positions: usize) -> Result<(), Failure> {
        let total = self.prompt_tokens as usize + self.generated_tokens as usize;
        if total > max_positions {
            return Err(Failure::usage(format!("the workload has {total} tokens, the model {max_positions} positions"))
                .hint("give a smaller --workload"));
        }
        Ok(())
    }

    /// Time of the whole workload, in milliseconds.
    pub(crate) fn latency_ms(self, ttft_ms: f64, tpot_ms: f64) -> f64 {
        ttft_ms + f64::from(self.generated_tokens - 1) * tpot_ms
    }
}

/// An artifact ready to be sent and measured.
#[derive(Clone)]
pub(crate) struct Shipment {
    pub(crate) artifact: Artifact,
    pub(crate) probe: Option<ProbeFile>,
    files: Vec<ArtifactFile>,
    blobs: Vec<BlobFile>,
}

impl Shipment {
    /// The files that a runtime needs.
    pub(crate) fn new(artifact: Artifact, probe: Option<ProbeFile>) -> Result<Self, Failure> {
        let (mut files, mut blobs) = (Vec::new(), Vec::new());
        for name in [MODEL_FILE, DATA_FILE, SHARED_DATA_FILE] {
            let bad = |reason: String| edgewise_onnx::Error::NotAnArtifact { path: artifact.folder.clone(), reason };
            let entry = artifact.manifest.files.get(name).ok_or_else(|| bad(format!("`{name}` is not in its manifest")))?;
            let blob = entry.sha256.parse().map_err(bad)?;
            files.push(ArtifactFile { name: name.to_owned(), blob, size: entry.bytes });
            blobs.push(BlobFile { blob, size: entry.bytes, path: artifact.folder.join(name) });
        }
        Ok(Self { artifact, probe, files, blobs })
    }

    /// Sends what the device lacks; bytes that travelled.
    pub(crate) fn send(&self, ready: &mut Ready, cancel: &AtomicBool) -> Result<u64, Error> {
        ready.device.ensure_blobs(&self.blobs, cancel)
    }

    /// Measures with one runtime.
    pub(crate) fn measure(
        &self,
        ready: &mut Ready,
        runtime: Runtime,
        trial: Trial,
        progress: &mut dyn FnMut(&Progress),
        cancel: &AtomicBool,
    ) -> Result<Measurement, Error> {
        let Trial { workload, plan, seed } = trial;
        let points = |probe: &ProbeFile| Probe {
            points: probe.steps.iter().map(|s| ProbePoint { feed: s.feed.clone(), expect: s.expect.clone() }).collect(),
            tolerance: probe.tolerance,
        };
        let job = MeasureJob {
            files: self.files.clone(),
            runtime,
            ort: ready.ort.clone(),
            threads: ready.threads,
            workload: Workload { prompt_tokens: workload.prompt_tokens, generated_tokens: workload.generated_tokens },
            plan,
            probe: self.probe.as_ref().map(points),
            vocabulary: self.artifact.manifest.model.vocab_size as u32,
            seed,
            deadline_ms: SLACK_MS + 2 * (plan.max_warmup_ms + plan.max_time_ms),
        };
        ready.device.measure(&job, progress, cancel)
    }

    /// Measures with every runtime given and keeps the faster one for the workload; `warn` is told of those that fail.
    pub(crate) fn measure_fastest(
        &self,
        ready: &mut Ready,
        runtimes: &[Runtime],
        trial: Trial,
        progress: &mut dyn FnMut(&Progress),
        warn: &mut dyn FnMut(String),
        cancel: &AtomicBool,
    ) -> Result<Measurement, Error> {
        let latency = |m: &Measurement| trial.workload.latency_ms(m.ttft.median, m.tpot.median);
        let mut best: Option<Measurement> = None;
        let mut first_error = None;
        for &runtime in runtimes {
            match self.measure(ready, runtime, trial, progress, cancel) {
                Ok(found) if best.as_ref().is_none_or(|b| latency(&found) < latency(b)) => best = Some(found),
                Ok(_) => {}
                // A runtime that fails is no reason to give up the other one; a connection that fails is.
                Err(error @ Error::Device { .. }) => {
                    if runtimes.len() > 1 {
                        warn(format!("without {}: {error}", runtime.name()));
                    }
                    first_error = first_error.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        match (best, first_error) {
            (Some(best), _) => Ok(best),
            (None, Some(error)) => Err(error),
            (None, None) => unreachable!("a ready device has a runtime"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_read_in_any_order() {
        let spec: WorkloadSpec = "gen=8,prompt=32".parse().unwrap();
        assert_eq!((spec.prompt_tokens, spec.generated_tokens), (32, 8));
        for bad in ["", "prompt", "prompt=x", "gen=1", "prompt=0", "length=3"] {
            assert!(bad.parse::<WorkloadSpec>().is_err(), "{bad}");
        }
        assert!((spec.latency_ms(10.0, 2.0) - 24.0).abs() < 1e-12);
    }
}
