//! `host report`: a study as one self-contained HTML page.

use super::studies::{self, Study};
use crate::{
    cli::Context,
    exit_code,
    failure::Failure,
    importance::{self, Summary},
    view::{Compared, Intervals, Measured, View},
};
use edgewise_report::{
    Agreement, Axis, Candidate, Comparison, Cut, Device, DriftPoint, Estimate, Fact, Hypervolume, Importance, LayerImportance,
    Measurement, Model, Quality, ReportData, Status, Workload, render,
};
use edgewise_search::{Objective, Record};
use serde::Deserialize;
use std::path::PathBuf;

/// Flags of `host report`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The study [default: the newest]
    study: Option<PathBuf>,
    /// The page
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let study = studies::open(self.study.as_deref(), context)?;
        let page = render(&data(&study)?);
        std::fs::write(&self.output, page).map_err(|e| Failure::file("write", &self.output, &e))?;
        if context.printer.json {
            let path = self.output.display().to_string();
            return context.printer.json(&serde_json::json!({ "schema": "edgewise.report/1", "report": path }));
        }
        context.printer.data(&format!("{}\n", self.output.display()))
    }
}

fn data(study: &Study) -> Result<ReportData, Failure> {
    let view = &study.view;
    let baseline = view.baseline().ok_or_else(|| {
        Failure::new(exit_code::STUDY, "the study has no candidate yet").hint("go on with `host search --study`")
    })?;
    let number = |value: Option<&serde_json::Value>| value.and_then(serde_json::Value::as_u64).unwrap_or_default();
    let details = &view.settings.details;
    let shape = |key: &str| number(details.get("model_shape").and_then(|s| s.get(key))) as u32;
    let mut devices = Vec::new();
    for device in &view.devices {
        devices.push(report_device(view, device)?);
    }
    let intervals: Vec<(String, Intervals)> =
        view.devices.iter().map(|d| (d.name.clone(), Intervals::of(view, &d.name))).collect();
    Ok(ReportData {
        study: study.path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default(),
        model: Model {
            name: view.detail("model_name").to_owned(),
            sha256: view.detail("model_sha256").to_owned(),
            parameters: number(details.get("model_parameters")),
            layers: shape("layers"),
            mlp: shape("mlp"),
            kv_groups: shape("kv_groups"),
        },
        workload: Workload { prompt_tokens: view.workload.prompt_tokens, generated_tokens: view.workload.generated_tokens },
        axis: axis(view),
        quality: quality(view),
        baseline: baseline.id.clone(),
        candidates: view.shown().into_iter().map(|r| candidate(view, r, &intervals)).collect(),
        devices,
        importance: importance(view)?,
        portability: portability(view),
        method: method(study),
        seconds: view.seconds.iter().map(|(name, s)| (name.clone(), *s)).collect(),
    })
}

/// The first objective that a device decides, or else the parameters.
fn axis(view: &View) -> Axis {
    let axes = view.settings.objectives.iter().filter_map(|o| match o {
        Objective::TtftMs => Some(Axis::TtftMs),
        Objective::TpotMs => Some(Axis::TpotMs),
        Objective::LatencyMs => Some(Axis::LatencyMs),
        Objective::PeakRssBytes => Some(Axis::PeakRssBytes),
        _ => None,
    });
    axes.into_iter().next().unwrap_or(Axis::Parameters)
}

/// The first objective that says how good a network is.
fn quality(view: &View) -> Quality {
    let found = view.settings.objectives.iter().find_map(|o| match o {
        Objective::Perplexity => Some(Quality::Perplexity),
        Objective::Kl => Some(Quality::Kl),
        Objective::TaskError => Some(Quality::TaskError),
        _ => None,
    });
    found.unwrap_or(Quality::Perplexity)
}

fn candidate(view: &View, record: &Record, intervals: &[(String, Intervals)]) -> Candidate {
    let config = &record.candidate;
    Candidate {
        id: record.id.clone(),
        series: record.series().to_owned(),
        layers: config.layers.clone(),
        width: config.width,
        kv_groups: config.kv_groups.clone(),
        mlp: config.mlp.clone(),
        head_size: view.settings.space.head_sizes().and_then(|sizes| config.head_size.or(sizes.sizes().last().copied())),
        parameters: record.artifact.as_ref().map(|a| a.parameters),
        perplexity: view.value(record, "", Objective::Perplexity),
        kl: view.value(record, "", Objective::Kl),
        task_error: view.value(record, "", Objective::TaskError),
        artifact_bytes: record.artifact.as_ref().map(|a| a.bytes),
        measurements: intervals
            .iter()
            .filter_map(|(device, intervals)| view.measured(record, device, intervals))
            .map(|m| measurement(&m))
            .collect(),
        failures: record
            .failures
            .iter()
            .map(|f| Status { device: f.device.clone(), status: f.status.clone(), message: f.message.clone() })
            .collect(),
    }
}

fn measurement(m: &Measured<'_>) -> Measurement {
    let estimate = |e: edgewise_search::Estimate| Estimate { median: e.median, ci95: e.ci95, n: e.n };
    let last = m.last();
    Measurement {
        device: last.device.clone(),
        runtime: last.runtime.clone(),
        precision: last.precision.clone(),
        ttft_ms: estimate(m.ttft_ms),
        tpot_ms: estimate(m.tpot_ms),
        latency_ms: estimate(m.latency_ms),
        trials: m.trials.len() as u32,
        peak_rss_bytes: m.peak_rss_bytes,
        joules_per_token: m.energy.map(|e| e.joules_per_token),
        converged: m.converged,
        flags: m.flags.clone(),
    }
}

fn report_device(view: &View, device: &edgewise_search::Device) -> Result<Device, Failure> {
    let front = view.front(&device.name, &[])?;
    let sentinels = view.sentinels(&device.name);
    let first = sentinels.first().map_or(0, |point| point.at_ms);
    let drift = sentinels.iter().map(|point| DriftPoint {
        minutes: point.at_ms.saturating_sub(first) as f64 / 60_000.0,
        ttft_ratio: point.ttft_ratio,
        tpot_ratio: point.tpot_ratio,
    });
    let ties = front.ids.iter().cloned().zip(front.ties).filter(|(_, with)| !with.is_empty()).collect();
    Ok(Device {
        name: device.name.clone(),
        target: device.target.clone(),
        fingerprint: device.fingerprint.iter().map(|(n, v)| Fact { name: n.clone(), value: v.clone() }).collect(),
        front: front.ids,
        ties,
        flags: view.session_flags(&device.name),
        hypervolume: front.hypervolume.map(|(value, reference)| Hypervolume { value, reference }),
        comparison: view.compared(&device.name).into_iter().map(comparison).collect(),
        drift: drift.collect(),
    })
}

fn comparison(row: Compared) -> Comparison {
    let cuts = row.cuts.iter().map(|cut| Cut { less: cut.less, perplexity: cut.perplexity }).collect();
    Comparison { series: row.series, cuts }
}

/// The scores of the super-network's parts, where the study keeps them.
fn importance(view: &View) -> Result<Option<Importance>, Failure> {
    let Some(stored) = view.settings.details.get(importance::DETAIL) else { return Ok(None) };
    let Summary { ranking, layer_ranking, layers } = Summary::deserialize(stored).map_err(|e| {
        Failure::new(exit_code::STUDY, format!("the study's importance scores cannot be read: {e}"))
            .hint("make the report with the program that made the study")
    })?;
    let layer = |l: importance::Layer| LayerImportance { score: l.score, kv_groups: l.kv_groups, neurons: l.neurons };
    Ok(Some(Importance { ranking, layer_ranking, layers: layers.into_iter().map(layer).collect() }))
}

fn portability(view: &View) -> Vec<Agreement> {
    if view.devices.len() < 2 {
        return Vec::new();
    }
    let row = |r: edgewise_search::Agreement| Agreement { a: r.a, b: r.b, kendall: r.kendall, spearman: r.spearman, n: r.n };
    view.portability().into_iter().map(row).collect()
}

fn space(view: &View) -> String {
    let name = view.detail("space");
    match view.settings.space.head_sizes() {
        None => name.to_owned(),
        Some(sizes) => {
            let sizes: Vec<String> = sizes.sizes().iter().map(ToString::to_string).collect();
            format!("{name}, heads of {}", sizes.join(", "))
        }
    }
}

fn method(study: &Study) -> Vec<Fact> {
    let (view, settings) = (&study.view, &study.view.settings);
    let fact = |name: &str, value: String| Fact { name: name.to_owned(), value };
    let list = |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
    let mut out = vec![
        fact("resume with", format!("host search --study {}", study.path.display())),
        fact("program", view.detail("program").to_owned()),
        fact("sampler", settings.sampler.clone()),
        fact("space", space(view)),
        fact("seed", settings.seed.to_string()),
        fact("budget", settings.budget.to_string()),
        fact("looked at on the host", view.explored().len().to_string()),
        fact("objectives", list(settings.objectives.iter().map(ToString::to_string).collect())),
        fact("constraints", list(settings.constraints.iter().map(ToString::to_string).collect())),
        fact("importance", view.detail("importance").to_owned()),
        fact("calibration text", view.detail("calibration_sha256").to_owned()),
        fact("held-out text", view.detail("text_sha256").to_owned()),
    ];
    out.extend(tasks(view).map(|tasks| fact("tasks", tasks)));
    out
}

/// The study's tasks, where it has some, and how many questions of each.
fn tasks(view: &View) -> Option<String> {
    let detail = view.settings.details.get("tasks")?;
    let names: Vec<&str> = detail.get("tasks")?.as_array()?.iter().filter_map(|task| task.get("task")?.as_str()).collect();
    let limit = detail.get("limit").and_then(serde_json::Value::as_u64);
    Some(names.join(", ") + &limit.map_or_else(String::new, |limit| format!("; at most {limit} questions of each")))
}
