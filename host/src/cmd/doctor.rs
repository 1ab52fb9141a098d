//! `host device doctor`: what would spoil a measurement on a device.

use crate::{
    cli::Context,
    devices::{Fleet, RuntimeChoice},
    doctor::{Finding, Severity, examine, score, verdict},
    expected,
    failure::Failure,
};
use comfy_table::{Table, presets};
use edgewise_protocol::{BlobId, Health};
use std::{collections::BTreeMap, fmt::Write, path::Path, time::Instant};

/// Round trips to the device that are timed.
const ROUND_TRIPS: usize = 5;

#[derive(serde::Serialize)]
struct Document {
    schema: &'static str,
    device: String,
    target: String,
    /// 0 to 100.
    score: u32,
    verdict: &'static str,
    findings: Vec<Finding>,
    fingerprint: BTreeMap<String, String>,
    health: Health,
    round_trip_ms: f64,
}

/// Looks at a device and says what it means.
pub(crate) fn run(context: &Context, name: &str, ort_library: Option<&Path>) -> Result<(), Failure> {
    let printer = context.printer;
    let fleet = Fleet::load(&context.home, context.devices.as_deref(), ort_library)?;
    let registered = fleet.get(name)?;
    printer.note(&format!("looking at {name}; this takes a few seconds"));
    let mut ready = fleet.ready(&registered, RuntimeChoice::Auto, None, printer)?;
    let about = |e: edgewise_fleet::Error| Failure::from(e).about(name);
    let health = ready.device.examine().map_err(about)?;
    let mut round_trips = Vec::new();
    for _ in 0..ROUND_TRIPS {
        let begun = Instant::now();
        // A blob that no device has: a question without names would not be asked at all.
        ready.device.have(&[BlobId([0; 32])]).map_err(about)?;
        round_trips.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    round_trips.sort_by(f64::total_cmp);
    ready.device.close();
    let mut findings = examine(&health, &ready.description);
    findings.extend(expected::compare(&fleet.profile(&registered)?, &health, &ready.description));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let score = score(&findings);
    let document = Document {
        schema: "edgewise.doctor/1",
        device: name.to_owned(),
        target: registered.target.clone(),
        score,
        verdict: verdict(score),
        findings,
        fingerprint: ready.description.fingerprint.clone(),
        health,
        round_trip_ms: round_trips[ROUND_TRIPS / 2],
    };
    if printer.json { printer.json(&document) } else { printer.data(&text(&document)) }
}

fn text(document: &Document) -> String {
    let fact = |key: &str| document.fingerprint.get(key).cloned().unwrap_or_default();
    let mut out = format!(
        "{}: {} of 100, {}\n{} {}, {} cores, answers in {:.1} ms\n",
        document.device,
        document.score,
        document.verdict,
        fact("model"),
        fact("cpu"),
        fact("cores"),
        document.round_trip_ms,
    );
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(["", "check", "seen", "what it means", "what to do"]);
    for finding in document.findings.iter().filter(|f| f.severity > Severity::Good) {
        table.add_row([
            finding.severity.word().to_owned(),
            finding.check.replace('_', " "),
            finding.observed.clone(),
            finding.meaning.to_owned(),
            finding.remedy.to_owned(),
        ]);
    }
    if table.row_iter().next().is_some() {
        let _ = writeln!(out, "{table}");
    }
    let good: Vec<String> =
        document.findings.iter().filter(|f| f.severity == Severity::Good).map(|f| f.check.replace('_', " ")).collect();
    let _ = writeln!(out, "good: {}", good.join(", "));
    out
}
