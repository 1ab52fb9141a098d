//! `host front`: the Pareto front of a study.

use super::studies;
use crate::{
    cli::Context,
    failure::Failure,
    view::{Intervals, View},
};
use comfy_table::{CellAlignment, Table, presets};
use edgewise_search::{Candidate, Constraint, Objective, Record, SERIES_PREFIX};
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
    /// Candidates that it cannot be told apart from on this device.
    ties: Vec<String>,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let study = studies::open(self.study.as_deref(), context)?;
        let devices = study.devices(self.device.as_deref())?;
        let view = &study.view;
        if context.printer.json {
            let mut front = BTreeMap::new();
            for device in &devices {
                let points = on_front(view, device, &self.pick)?.into_iter().map(|(record, ties)| Point {
                    id: record.id.clone(),
                    objectives: objectives(view, record, device),
                    config: record.candidate.clone(),
                    ties,
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
            if !self.csv && self.pick.is_empty() {
                context.printer.data(&comparison_table(view, device))?;
            }
        }
        if !self.csv && self.device.is_none() {
            context.printer.data(&portability_table(view))?;
        }
        Ok(())
    }
}

/// Members of the front with their ties.
fn on_front<'a>(view: &'a View, device: &str, pick: &[Constraint]) -> Result<Vec<(&'a Record, Vec<String>)>, Failure> {
    let front = view.front(device, pick)?;
    let record = |id: String| view.records.iter().find(|r| r.id == id);
    Ok(front.ids.into_iter().zip(front.ties).filter_map(|(id, ties)| Some((record(id)?, ties))).collect())
}

fn objectives(view: &View, record: &Record, device: &str) -> BTreeMap<&'static str, f64> {
    view.settings.objectives.iter().filter_map(|&o| Some((o.name(), view.value(record, device, o)?))).collect()
}

fn csv(view: &View, device: &str, pick: &[Constraint]) -> Result<String, Failure> {
    let names: Vec<&str> = view.settings.objectives.iter().map(|o| o.name()).collect();
    let mut out = format!("device,id,{}\n", names.join(","));
    for (record, _) in on_front(view, device, pick)? {
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
    // Only a study that has tasks says how well they are answered.
    let asked = view.records.iter().any(|r| view.value(r, device, Objective::TaskError).is_some());
    let quality: &[&str] = if asked { &["perplexity", "task error"] } else { &["perplexity"] };
    let costs = ["ttft ms", "tpot ms", "vs full", "memory MB", "parameters", "layers", "trials"];
    table.set_header(["candidate"].iter().chain(quality).chain(&costs).chain(&["ties"]));
    let intervals = Intervals::of(view, device);
    let baseline = view.baseline();
    let base = baseline.and_then(|b| view.value(b, device, Objective::TpotMs));
    let (mut starred, mut tied) = (false, false);
    for (record, ties) in on_front(view, device, pick)? {
        let Some(m) = view.measured(record, device, &intervals) else { continue };
        let half = |e: &edgewise_search::Estimate| (e.ci95[1] - e.ci95[0]) / 2.0;
        let flag = if m.converged { "" } else { " *" };
        starred |= !m.converged;
        tied |= !ties.is_empty();
        let shown =
            |objective, digits: usize| view.value(record, device, objective).map(|v| format!("{v:.digits$}")).unwrap_or_default();
        let mut row = vec![
            format!("{}{}", record.id, if baseline.is_some_and(|b| b.id == record.id) { " (full)" } else { "" }),
            shown(Objective::Perplexity, 2),
        ];
        row.extend(asked.then(|| shown(Objective::TaskError, 3)));
        row.extend([
            format!("{:.2} ±{:.2}{flag}", m.ttft_ms.median, half(&m.ttft_ms)),
            format!("{:.3} ±{:.3}{flag}", m.tpot_ms.median, half(&m.tpot_ms)),
            base.map(|b| format!("{:+.1} %", (m.tpot_ms.median / b - 1.0) * 100.0)).unwrap_or_default(),
            format!("{:.0}", m.peak_rss_bytes as f64 / 1e6),
            record.artifact.as_ref().map(|a| format!("{:.2} M", a.parameters as f64 / 1e6)).unwrap_or_default(),
            record.candidate.layers.len().to_string(),
            m.trials.len().to_string(),
            ties.iter().map(|id| format!("≈ {id}")).collect::<Vec<_>>().join("\n"),
        ]);
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1).take(quality.len() + costs.len()) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let runtime = baseline.and_then(|b| b.trials.iter().find(|t| t.device == device)).map_or("", |t| t.runtime.as_str());
    let measured = view.records.iter().filter(|r| r.trials.iter().any(|t| t.device == device)).count();
    let mut out = format!("Pareto front on {device} ({runtime}), {measured} candidates measured\n{table}\n");
    if starred {
        out.push_str("* an interval was still wider than asked when the time for it ended\n");
    }
    if tied {
        out.push_str("≈ the difference in latency is not larger than noise\n");
    }
    let flags = view.session_flags(device);
    if !flags.is_empty() {
        let _ = writeln!(out, "flags of all that {device} measured: {}", flags.join(", "));
    }
    Ok(out)
}

/// The search against fixed recipes at equal latency, as a table for people; empty if none was measured.
pub(crate) fn comparison_table(view: &View, device: &str) -> String {
    let rows = view.compared(device);
    let Some(first) = rows.first() else { return String::new() };
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    let cuts = first.cuts.iter().map(|cut| format!("perplexity at {:.0} % less", cut.less * 100.0));
    table.set_header(std::iter::once("series".to_owned()).chain(cuts));
    for row in &rows {
        let name = row.series.strip_prefix(SERIES_PREFIX).unwrap_or(&row.series).to_owned();
        let cells = row.cuts.iter().map(|cut| cut.perplexity.map_or_else(|| "-".to_owned(), |p| format!("{p:.2}")));
        table.add_row(std::iter::once(name).chain(cells));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("\nSearch and fixed recipes on {device} at equal latency\n{table}\n")
}

/// How devices agree on the order of candidates, as a table for people; empty for a single device.
pub(crate) fn portability_table(view: &View) -> String {
    if view.devices.len() < 2 {
        return String::new();
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["order of", "predicts order on", "Kendall tau", "Spearman rho", "candidates"]);
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.3}"));
    for row in view.portability() {
        table.add_row([row.a, row.b, number(row.kendall), number(row.spearman), row.n.to_string()]);
    }
    format!("\nPortability\n{table}\n")
}
