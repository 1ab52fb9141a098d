//! The table of candidates of one device.

use crate::{
    data::{Axis, Candidate, Device, Estimate, Measurement, ReportData, Status},
    format::{NONE, bytes, count, half_width, number, percent},
    markup::{escape, put},
    profile::profile,
    ties::{Ties, anchor},
};

/// Headings with their explanations, in the order of the cells.
const HEADINGS: [(&str, &str); 18] = [
    ("Candidate", "Name of the configuration"),
    ("Layers", "One bar per layer of the full network: height is neurons kept, paler bars have fewer key/value groups"),
    ("Perplexity", "On the held-out text; lower is better"),
    (TASK_ERROR, "One minus the mean score on tasks; lower is better"),
    ("TTFT", "Time to first token, median and half of its 95 % interval"),
    ("TPOT", "Time per output token after the first, median and half of its 95 % interval"),
    (LATENCY, "Time of the whole workload, median and half of its 95 % interval"),
    ("Trials", "Fresh processes behind the result"),
    (TIES, "Candidates that noise does not tell apart from this one: which of them is on the front is chance"),
    (ENERGY, "Energy of one output token, above what the device takes when idle"),
    ("Peak memory", "Largest resident memory of the process that ran it"),
    ("Parameters", "Number of parameters, and their share of the full network's"),
    ("Artifact", "Size of the exported files"),
    ("Neurons", "Mean neurons of a kept layer, and their range"),
    ("Groups", "Key/value groups kept, of those of all layers"),
    ("Width", "Width of the residual stream"),
    (HEADS, "Dimensions of each attention head"),
    ("Status", "How it ended"),
];

const TASK_ERROR: &str = "Task error";
const LATENCY: &str = "Latency";
const TIES: &str = "Ties";
const ENERGY: &str = "Energy per token";
const HEADS: &str = "Head size";

/// Columns that are shown only where they say something.
struct Columns<'a> {
    shown: Vec<&'static str>,
    ties: Option<&'a Ties<'a>>,
}

impl<'a> Columns<'a> {
    fn of(data: &ReportData, device: &Device, ties: &'a Ties<'a>) -> Self {
        let candidates = &data.candidates;
        let says = [
            (TASK_ERROR, candidates.iter().any(|c| c.task_error.is_some())),
            (LATENCY, data.axis == Axis::LatencyMs),
            (TIES, !ties.is_empty()),
            (ENERGY, candidates.iter().any(|c| c.on(&device.name).is_some_and(|m| m.joules_per_token.is_some()))),
            (HEADS, candidates.iter().any(|c| c.head_size.is_some())),
        ];
        let names = HEADINGS.into_iter().map(|(name, _)| name);
        let shown = names.filter(|name| says.iter().all(|(column, says)| column != name || *says)).collect();
        Self { shown, ties: Some(ties).filter(|ties| !ties.is_empty()) }
    }

    fn has(&self, name: &str) -> bool {
        self.shown.contains(&name)
    }
}

/// The table; every row has the id that the plot links to.
pub(crate) fn table(data: &ReportData, device: &Device, ties: &Ties<'_>) -> String {
    let mut out = String::new();
    let columns = Columns::of(data, device, ties);
    let what = if ties.is_empty() { "front only" } else { "front and its ties only" };
    put!(
        &mut out,
        r#"<div class="tools"><label><input type="checkbox" class="only-front"/> {what}</label></div><div class="scroll"><table class="candidates"><caption>All candidates on {}</caption><thead><tr>"#,
        escape(&device.name)
    );
    for (name, title) in HEADINGS.into_iter().filter(|(name, _)| columns.has(name)) {
        let class = if name == TIES { r#" class="tied-with""# } else { "" };
        put!(&mut out, r#"<th scope="col"{class} title="{title}"><button type="button">{name}</button></th>"#);
    }
    out.push_str("</tr></thead><tbody>");
    for candidate in &data.candidates {
        row(&mut out, data, device, candidate, &columns);
    }
    out.push_str("</tbody></table></div>");
    out
}

fn row(out: &mut String, data: &ReportData, device: &Device, candidate: &Candidate, columns: &Columns<'_>) {
    let front = device.front.contains(&candidate.id);
    let baseline = candidate.id == data.baseline;
    let measured = candidate.on(&device.name);
    let tied = columns.ties.is_some_and(|ties| ties.with(&candidate.id).len() > 0);
    let class = match (front, measured) {
        (true, _) => "best",
        _ if tied => "tied",
        (_, Some(_)) => "measured",
        _ => "missing",
    };
    let id = anchor(device, &candidate.id, data).unwrap_or_default();
    put!(out, r#"<tr id="{id}" class="{class}"><th scope="row">"#);
    put!(out, "<code>{}</code>", escape(&candidate.id));
    if baseline {
        out.push_str(r#" <span class="tag baseline">full network</span>"#);
    }
    if front {
        out.push_str(r#" <span class="tag front">front</span>"#);
    } else if tied {
        out.push_str(r#" <span class="tag tied">tied with the front</span>"#);
    }
    if let Some(recipe) = candidate.series.strip_prefix("baseline:") {
        put!(out, r#" <span class="tag recipe">{}</span>"#, escape(recipe));
    }
    for failure in failures(device, candidate) {
        put!(out, r#" <span class="tag failed">{}</span>"#, escape(&failure.status.replace('_', " ")));
    }
    out.push_str("</th>");
    let kept = candidate.layers.len();
    put!(
        out,
        r#"<td data-sort="{kept}" class="layers">{}<small>{kept} / {}</small></td>"#,
        profile(candidate, &data.model),
        data.model.layers
    );
    let quality = candidate.perplexity.filter(|p| p.is_finite());
    cell(out, quality, &quality.map_or(NONE.to_owned(), number));
    if columns.has(TASK_ERROR) {
        let error = candidate.task_error.filter(|e| e.is_finite());
        cell(out, error, &error.map_or(NONE.to_owned(), number));
    }
    time(out, measured.map(|m| m.ttft_ms));
    time(out, measured.map(|m| m.tpot_ms));
    if columns.has(LATENCY) {
        time(out, measured.map(|m| m.latency_ms));
    }
    let trials = measured.map(|m| m.trials);
    cell(out, trials.map(f64::from), &trials.map_or(NONE.to_owned(), |n| n.to_string()));
    if let Some(ties) = columns.ties {
        let links = ties.as_links(data, device, &candidate.id);
        put!(out, r#"<td data-sort="{}" class="tied-with">{links}</td>"#, ties.with(&candidate.id).len());
    }
    if columns.has(ENERGY) {
        let energy = measured.and_then(|m| m.joules_per_token).filter(|e| e.is_finite());
        cell(out, energy, &energy.map_or(NONE.to_owned(), |e| format!("{} J", number(e))));
    }
    size(out, measured.map(|m| m.peak_rss_bytes));
    sizes(out, data, candidate);
    if columns.has(HEADS) {
        let size = candidate.head_size;
        cell(out, size.map(f64::from), &size.map_or(NONE.to_owned(), |size| size.to_string()));
    }
    status(out, device, candidate, measured);
    out.push_str("</tr>");
}

fn sizes(out: &mut String, data: &ReportData, candidate: &Candidate) {
    let model = &data.model;
    let parameters = candidate.parameters.map_or(NONE.to_owned(), |n| {
        let share = n as f64 / model.parameters.max(1) as f64;
        format!("{}<small> {}</small>", count(n), percent(share))
    });
    cell(out, candidate.parameters.map(|n| n as f64), &parameters);
    size(out, candidate.artifact_bytes);
    let neurons: u64 = candidate.mlp.iter().map(|&n| u64::from(n)).sum();
    let mean = neurons as f64 / candidate.mlp.len().max(1) as f64;
    let (low, high) = (candidate.mlp.iter().min().unwrap_or(&0), candidate.mlp.iter().max().unwrap_or(&0));
    let range = if low == high { String::new() } else { format!("<small> {low}–{high}</small>") };
    cell(out, Some(mean), &format!("{mean:.0}{range}"));
    let groups: u64 = candidate.kv_groups.iter().map(|&g| u64::from(g)).sum();
    let all = u64::from(model.kv_groups) * u64::from(model.layers);
    put!(out, r#"<td data-sort="{groups}">{groups}<small> / {all}</small></td>"#);
    cell(out, Some(f64::from(candidate.width)), &candidate.width.to_string());
}

/// The failures that concern this device.
fn failures<'a>(device: &'a Device, candidate: &'a Candidate) -> impl Iterator<Item = &'a Status> {
    candidate.failures.iter().filter(|f| f.device.as_ref().is_none_or(|d| *d == device.name))
}

/// A cell that sorts by its value; one without a value sorts last.
fn cell(out: &mut String, value: Option<f64>, markup: &str) {
    match value {
        Some(value) => put!(out, r#"<td data-sort="{value}">{markup}</td>"#),
        None => put!(out, "<td>{markup}</td>"),
    }
}

fn time(out: &mut String, estimate: Option<Estimate>) {
    let Some(estimate) = estimate.filter(|e| e.median.is_finite()) else { return cell(out, None, NONE) };
    let interval = half_width(&estimate).map_or(String::new(), |w| format!("<small> ± {}</small>", percent(w)));
    cell(out, Some(estimate.median), &format!("{} ms{interval}", number(estimate.median)));
}

fn size(out: &mut String, value: Option<u64>) {
    cell(out, value.map(|v| v as f64), &value.map_or(NONE.to_owned(), bytes));
}

fn status(out: &mut String, device: &Device, candidate: &Candidate, measured: Option<&Measurement>) {
    out.push_str(r#"<td class="status">"#);
    for failure in failures(device, candidate) {
        let message = escape(&failure.message);
        put!(out, r#"<span class="why" title="{message}">{message}</span>"#);
    }
    match measured {
        Some(m) => {
            put!(out, "ok <small>{} {}</small>", escape(&m.runtime), escape(&m.precision));
            if !m.converged && !m.flags.iter().any(|f| f == "not_converged") {
                out.push_str(r#" <span class="tag flag">not converged</span>"#);
            }
            for flag in &m.flags {
                put!(out, r#" <span class="tag flag">{}</span>"#, escape(&flag.replace('_', " ")));
            }
        }
        None if failures(device, candidate).next().is_none() => out.push_str("not measured"),
        None => {}
    }
    out.push_str("</td>");
}
