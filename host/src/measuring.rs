//! What is timed, how exactly, and the job that says so to a device.

use crate::{devices::Ready, failure::Failure};
use edgewise_onnx::ProbeFile;
use edgewise_protocol::{Context, Gate, MeasureJob, MeasurePlan, Probe, ProbePoint, Source, Workload};
use std::str::FromStr;

/// A trial begins below 60 °C, or within 3 °C of what the device had when it was first looked at; it rests two minutes at most.
const GATE: Gate = Gate { max_celsius: 60.0, max_rise_celsius: 3.0, max_rest_ms: 120_000 };

/// For candidates of a search: a trial that is quick, since what separates candidates is settled by several of them.
pub(crate) const SEARCH_PLAN: MeasurePlan = MeasurePlan {
    min_warmup_ms: 200,
    max_warmup_ms: 3_000,
    min_samples: 15,
    min_time_ms: 250,
    max_time_ms: 3_000,
    target_half_width: 0.03,
    retries: 2,
    gate: GATE,
};
/// For artifacts that somebody asks about. What disturbs a machine lasts for seconds: so must what is to be steady.
pub(crate) const FINAL_PLAN: MeasurePlan = MeasurePlan {
    min_warmup_ms: 500,
    max_warmup_ms: 20_000,
    min_samples: 25,
    min_time_ms: 3_000,
    max_time_ms: 20_000,
    target_half_width: 0.005,
    retries: 2,
    gate: GATE,
};

/// A phase of a trial takes about as long as this many prefills of the full network ...
const PREFILLS: f64 = 18.0;
/// ... but within these bounds, in milliseconds.
const PHASE_MS: [f64; 2] = [400.0, 60_000.0];

/// How a trial is made.
#[derive(Debug, Clone)]
pub(crate) struct TrialSpec {
    pub(crate) workload: WorkloadSpec,
    pub(crate) plan: MeasurePlan,
    /// Of the tokens.
    pub(crate) seed: u64,
    /// Other context lengths to time.
    pub(crate) context: Context,
    /// Time to run for the power meter, in milliseconds.
    pub(crate) energy_ms: u32,
}

/// Making an artifact from its recipe, loading it, and everything else that is not bounded by the plan.
const SLACK_MS: u32 = 300_000;
/// The wait for another host that uses the same device, in milliseconds.
pub(crate) const LEASE_MS: u32 = 30 * 60_000;

impl TrialSpec {
    /// For a device on which a prefill of the full network takes so long: time enough for the least number of samples on a
    /// slow board, and none wasted on a fast one, where further samples of one process say little about the next.
    #[must_use]
    pub(crate) fn paced(&self, ttft_ms: f64) -> Self {
        let most = (PREFILLS * ttft_ms).clamp(PHASE_MS[0], PHASE_MS[1]) as u32;
        let min_time_ms = self.plan.min_time_ms.min(most);
        let min_warmup_ms = self.plan.min_warmup_ms.min(most);
        let plan = MeasurePlan { max_time_ms: most, max_warmup_ms: most, min_time_ms, min_warmup_ms, ..self.plan };
        Self { plan, ..self.clone() }
    }

    /// The order for a device.
    pub(crate) fn job(
        &self,
        ready: &Ready,
        source: Source,
        runtime: edgewise_protocol::Runtime,
        probe: Option<&ProbeFile>,
        vocabulary: u32,
    ) -> MeasureJob {
        let points = |probe: &ProbeFile| Probe {
            points: probe.steps.iter().map(|s| ProbePoint { feed: s.feed.clone(), expect: s.expect.clone() }).collect(),
            tolerance: probe.tolerance,
        };
        let plan = self.plan;
        let phases = 2 + self.context.prompts.len() as u32 + self.context.depths.len() as u32;
        MeasureJob {
            source,
            runtime,
            ort: ready.ort.clone(),
            providers: ready.providers.clone(),
            threads: ready.threads,
            workload: Workload { prompt_tokens: self.workload.prompt_tokens, generated_tokens: self.workload.generated_tokens },
            context: self.context.clone(),
            energy_ms: self.energy_ms,
            plan,
            probe: probe.map(points),
            vocabulary,
            seed: self.seed,
            deadline_ms: SLACK_MS + phases * (plan.max_warmup_ms + plan.max_time_ms) + 2 * self.energy_ms,
            lease_wait_ms: LEASE_MS,
        }
    }
}

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
    /// Checks that a model has the positions for it and for other context lengths.
    pub(crate) fn check(self, context: &Context, max_positions: usize) -> Result<(), Failure> {
        let total = u64::from(self.prompt_tokens) + u64::from(self.generated_tokens);
        let other = context.prompts.iter().chain(&context.depths).map(|&n| u64::from(n) + 1).max().unwrap_or_default();
        let most = total.max(other);
        if most > max_positions as u64 {
            return Err(Failure::usage(format!("the workload has {most} tokens, the model {max_positions} positions"))
                .hint("give a smaller --workload, or shorter --prompts and --depths"));
        }
        Ok(())
    }

    /// Time of the whole workload, in milliseconds.
    pub(crate) fn latency_ms(self, ttft_ms: f64, tpot_ms: f64) -> f64 {
        ttft_ms + f64::from(self.generated_tokens - 1) * tpot_ms
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

    #[test]
    fn phases_follow_the_device() {
        let (workload, context) = (WorkloadSpec::default(), Context::default());
        let spec = TrialSpec { workload, plan: SEARCH_PLAN, seed: 0, context, energy_ms: 0 };
        let most = |ttft_ms: f64| spec.paced(ttft_ms).plan.max_time_ms;
        assert_eq!([most(1.0), most(100.0), most(2_000.0), most(1e9), most(f64::NAN)], [400, 1_800, 36_000, 60_000, 0]);
        let plan = spec.paced(f64::NAN).plan;
        assert!(plan.min_time_ms <= plan.max_time_ms && plan.min_warmup_ms <= plan.max_warmup_ms);
    }

    #[test]
    fn a_workload_must_fit_the_model() {
        let spec = WorkloadSpec::default();
        spec.check(&Context::default(), 192).unwrap();
        assert!(spec.check(&Context::default(), 191).is_err());
        let deep = Context { prompts: vec![32], depths: vec![512] };
        spec.check(&deep, 513).unwrap();
        assert!(spec.check(&deep, 512).is_err());
        assert!(spec.check(&Context { prompts: vec![u32::MAX], depths: vec![] }, 512).is_err());
    }
}
