//! The page around plots and tables.

use crate::{
    agreement::agreement,
    comparison::comparison,
    data::{Candidate, Device, Measurement, ReportData},
    drift_plot::drift_plot,
    flags::flags,
    format::{NONE, count, number, percent, seconds},
    front_plot::front_plot,
    importance_plot::importance_plot,
    markup::{escape, put},
    table::table,
    ties::Ties,
};

const STYLE: &str = include_str!("assets/style.css");
const SCRIPT: &str = include_str!("assets/script.js");
/// How much worse than the full network's a perplexity may be to count as nearly the same.
const NEARLY: f64 = 1.10;

/// The whole page, as UTF-8 text. It is well-formed XML, too.
pub fn render(data: &ReportData) -> String {
    let mut out = String::with_capacity(64 << 10);
    put!(
        &mut out,
        concat!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>",
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>",
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\"/>",
            "<meta name=\"color-scheme\" content=\"light dark\"/><title>{} – Edgewise</title><style>{}</style></head><body>"
        ),
        escape(&data.study),
        STYLE
    );
    header(&mut out, data);
    out.push_str("<main>");
    for device in &data.devices {
        section(&mut out, data, device);
    }
    agreement(&mut out, data);
    importance_plot(&mut out, data);
    method(&mut out, data);
    out.push_str("</main>");
    put!(
        &mut out,
        r#"<footer>Made by Edgewise. Latencies are medians over fresh processes on the device named beside them.</footer><div id="tip" role="status" hidden="hidden"></div><script>{SCRIPT}</script></body></html>"#
    );
    out.push('\n');
    out
}

fn header(out: &mut String, data: &ReportData) {
    let model = &data.model;
    let hash: String = model.sha256.chars().take(12).collect();
    put!(
        out,
        r#"<header><p class="brand">Edgewise <span>search report</span></p><h1>{}</h1><p class="lead">Sub-networks of <strong>{}</strong> <code title="{}">{}</code>, {} parameters in {} layers, timed with a prompt of {} tokens and {} generated.</p></header>"#,
        escape(&data.study),
        escape(&model.name),
        escape(&model.sha256),
        escape(&hash),
        count(model.parameters),
        model.layers,
        data.workload.prompt_tokens,
        data.workload.generated_tokens
    );
}

fn section(out: &mut String, data: &ReportData, device: &Device) {
    put!(
        out,
        r#"<section class="device"><h2>{} <span class="tag target">{}</span></h2>"#,
        escape(&device.name),
        escape(&device.target)
    );
    let ties = Ties::of(device);
    flags(out, device);
    cards(out, data, device, &ties);
    put!(out, r#"<div class="card plotted"><h3>Pareto front</h3>{}</div>"#, front_plot(data, device, &ties));
    comparison(out, device);
    put!(out, r#"<div class="card"><h3>Candidates</h3>{}</div>"#, table(data, device, &ties));
    put!(out, r#"<div class="pair"><div class="card"><h3>Drift of the baseline</h3>{}</div>"#, drift_plot(device));
    out.push_str(r#"<div class="card"><h3>Fingerprint</h3>"#);
    if device.fingerprint.is_empty() {
        out.push_str(r#"<p class="empty">The device said nothing about itself.</p>"#);
    } else {
        facts(out, device.fingerprint.iter().map(|f| (f.name.as_str(), f.value.as_str())));
    }
    out.push_str("</div></div></section>");
}

/// What a reader wants to know first.
fn cards(out: &mut String, data: &ReportData, device: &Device, ties: &Ties<'_>) {
    let measured: Vec<(&Candidate, &Measurement)> =
        data.candidates.iter().filter_map(|c| c.on(&device.name).map(|m| (c, m))).collect();
    let searched: Vec<_> = measured.iter().filter(|(c, _)| !c.is_recipe()).collect();
    let baseline = searched.iter().find(|(c, _)| c.id == data.baseline);
    let failed =
        data.candidates.iter().filter(|c| c.failures.iter().any(|f| f.device.as_ref().is_none_or(|d| *d == device.name))).count();
    let value = |c: &Candidate, m: &Measurement| data.axis.of(c, m).map(|e| e.median).filter(|v| v.is_finite() && *v > 0.0);
    let base = baseline.and_then(|(c, m)| Some((value(c, m)?, c.perplexity?)));
    // The best ratio to the baseline among measured candidates whose perplexity is at most `limit` times the baseline's.
    let best = |limit: f64| {
        let (base_value, base_perplexity) = base?;
        let good =
            searched.iter().filter(|(c, _)| c.id != data.baseline && c.perplexity.is_some_and(|p| p <= base_perplexity * limit));
        let ratios = good.filter_map(|(c, m)| Some((base_value / value(c, m)?, c.perplexity? / base_perplexity)));
        ratios.max_by(|a, b| a.0.total_cmp(&b.0))
    };
    out.push_str(r#"<dl class="cards">"#);
    let mut card = |name: &str, big: &str, small: &str| {
        put!(out, "<div><dt>{name}</dt><dd>{big}<small>{small}</small></dd></div>");
    };
    let worse = |ratio: f64| format!("perplexity {:+.1} %", (ratio - 1.0) * 100.0);
    for (name, limit) in [("Gain within +10 % perplexity", NEARLY), ("Gain within twice the perplexity", 2.0)] {
        match best(limit) {
            Some((gain, ratio)) => card(name, &format!("{gain:.2}×"), &format!("{}, {}", what(data), worse(ratio))),
            None if base.is_none() => card(name, NONE, "the full network has no result"),
            None => card(name, NONE, "no candidate was this good"),
        }
    }
    let lost = if failed == 0 { "none failed".to_owned() } else { format!("{failed} failed") };
    let trials: u64 = measured.iter().map(|(_, m)| u64::from(m.trials)).sum();
    let plural = if trials == 1 { "" } else { "s" };
    card("Candidates measured", &measured.len().to_string(), &format!("in {trials} trial{plural}, {lost}"));
    let tied = device.front.iter().filter(|id| ties.with(id).len() > 0).count();
    let doubt = if tied == 0 { String::new() } else { format!(", {tied} of them tied with another") };
    card("On the front", &device.front.len().to_string(), &format!("not dominated by any other{doubt}"));
    if let Some(h) = &device.hypervolume {
        let reference: Vec<String> = h.reference.iter().map(|v| number(*v)).collect();
        card("Hypervolume", &number(h.value), &format!("reference {}", reference.join(", ")));
    }
    out.push_str("</dl>");
}

fn what(data: &ReportData) -> &'static str {
    use crate::data::Axis;
    match data.axis {
        Axis::TtftMs => "first token sooner",
        Axis::TpotMs => "faster per token",
        Axis::LatencyMs => "faster as a whole",
        Axis::PeakRssBytes => "less memory",
        Axis::Parameters => "fewer parameters",
    }
}

fn facts<'a>(out: &mut String, facts: impl Iterator<Item = (&'a str, &'a str)>) {
    out.push_str(r#"<dl class="facts">"#);
    facts.for_each(|(name, value)| put!(out, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value)));
    out.push_str("</dl>");
}

fn method(out: &mut String, data: &ReportData) {
    out.push_str(r#"<section><h2>How it was measured</h2><div class="pair"><div class="card"><h3>Study</h3>"#);
    facts(out, data.method.iter().map(|f| (f.name.as_str(), f.value.as_str())));
    out.push_str("</div>");
    let total: f64 = data.seconds.iter().map(|s| s.1).filter(|s| s.is_finite() && *s > 0.0).sum();
    if total > 0.0 {
        out.push_str(r#"<div class="card"><h3>Where the time went</h3><table class="time"><tbody>"#);
        for (name, spent) in &data.seconds {
            let share = if spent.is_finite() && *spent > 0.0 { spent / total } else { 0.0 };
            put!(
                out,
                r#"<tr><th scope="row">{}</th><td>{}</td><td class="share"><i style="width:{:.1}%"></i></td><td>{}</td></tr>"#,
                escape(name),
                seconds(*spent),
                share * 100.0,
                percent(share)
            );
        }
        out.push_str("</tbody></table></div>");
    }
    out.push_str("</div></section>");
}
