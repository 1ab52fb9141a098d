//! `host front`: the Pareto front of a study.

use super::studies;
use crate::{cli::Context, failure::Failure, view::View};
use comfy_table::{CellAlignment, Table, presets};
use edgewise_search::{Candidate, Constraint, Record};
use std::{collections::BTreeMap, fmt::Write, path::PathBuf};

/// Flags of `host front`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The study [default: the newest]
    study: Option<PathBuf>,
    /// Only this device
    #[arg(long, value_name = "D")]
    device: Option<String>,
    /// Only candidates within this limit, such as `tpot_ms<=20`; may be given several times
    #[arg(long, value_name = "LIMIT")]
    pick: Vec<Constraint>,
    /// Print comma-separated values
    #[arg(long)]
    csv: bool,
}

#[derive(serde::Serialize)]
struct Document {
    schema: &'static str,
    study: String,
    front: BTreeMap<String, Vec<Point>>,
}

#[derive(serde::Serialize)]
struct Point {
    id: String,
    objectives: BTreeMap<&'static str, f64>,
    config: Candidate,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let study = studies::open(self.study.as_deref(), context)?;
        let devices = study.devices(self.device.as_deref())?;
        let view = &study.view;
        if context.printer.json {
            let mut front = BTreeMap::new();
            for device in &devices {
                let points = on_front(view, device, &self.pick)?.into_iter().map(|record| Point {
                    id: record.id.clone(),
                    objectives: objectives(view, record, device),
                    config: record.candidate.clone(),
                });
                front.insert(device.clone(), points.collect());
            }
            return context.printer.json(&Document {
                schema: "edgewise.front/1",
                study: study.path.display().to_string(),
                front,
            });
        }
        for device in &devices {
            let text = if self.csv { csv(view, device, &self.pick)? } else { table(view, device, &self.pick)? };
            context.printer.data(&text)?;
        }
        Ok(())
    }
}

fn on_front<'a>(view: &'a View, device: &str, pick: &[Constraint]) -> Result<Vec<&'a Record>, Failure> {
    let front = view.front(device, pick)?;
    Ok(front.ids.iter().filter_map(|id| view.records.iter().find(|r| r.id == *id)).collect())
}

fn objectives(view: &View, record: &Record, device: &str) -> BTreeMap<&'static str, f64> {
    view.settings.objectives.iter().filter_map(|&o| Some((o.name(), view.value(record, device, o)?))).collect()
}

fn csv(view: &View, device: &str, pick: &[Constraint]) -> Result<String, Failure> {
    let names: Vec<&str> = view.settings.objectives.iter().map(|o| o.name()).collect();
    let mut out = format!("device,id,{}\n", names.join(","));
    for record in on_front(view, device, pick)? {
        let values = objectives(view, record, device);
        let cells: Vec<String> = names.iter().map(|n| values.get(n).map(f64::to_string).unwrap_or_default()).collect();
        let _ = writeln!(out, "{device},{},{}", record.id, cells.join(","));
    }
    Ok(out)
}

/// The front of a device as a table for people.
pub(crate) fn table(view: &View, device: &str, pick: &[Constraint]) -> Result<String, Failure> {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "candidate",
        "perplexity",
        "ttft ms",
        "tpot ms",
        "vs full",
        "memory MB",
        "parameters",
        "layers",
        "runtime",
    ]);
    let base = view.baseline().and_then(|b| b.measurements.iter().find(|m| m.device == device)).map(|m| m.tpot_ms.median);
    let baseline = view.baseline().map(|b| b.id.as_str());
    for record in on_front(view, device, pick)? {
        let Some(m) = record.measurements.iter().find(|m| m.device == device) else { continue };
        let half = |e: &edgewise_search::Estimate| (e.ci95[1] - e.ci95[0]) / 2.0;
        let flag = if m.converged { "" } else { " *" };
        table.add_row([
            format!("{}{}", record.id, if baseline == Some(&record.id) { " (full)" } else { "" }),
            record.quality.map(|q| format!("{:.2}", q.perplexity)).unwrap_or_default(),
            format!("{:.2} ±{:.2}{flag}", m.ttft_ms.median, half(&m.ttft_ms)),
            format!("{:.3} ±{:.3}{flag}", m.tpot_ms.median, half(&m.tpot_ms)),
            base.map(|b| format!("{:+.1} %", (m.tpot_ms.median / b - 1.0) * 100.0)).unwrap_or_default(),
            format!("{:.0}", m.peak_rss_bytes as f64 / 1e6),
            record.artifact.as_ref().map(|a| format!("{:.2} M", a.parameters as f64 / 1e6)).unwrap_or_default(),
            record.candidate.layers.len().to_string(),
            m.runtime.clone(),
        ]);
    }
    for column in table.column_iter_mut().skip(1).take(7) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut out = format!("Pareto front on {device}, {} candidates measured\n{table}\n", view.records.len());
    if view.records.iter().flat_map(|r| &r.measurements).any(|m| m.device == device && !m.converged) {
        out.push_str("* the interval was still wider than asked when the time for it ended\n");
    }
    Ok(out)
}
