//! How a search shows itself on the terminal.

use crate::{
    doctor::{self, Severity},
    failure::Failure,
    json::CandidateDocument,
    search::{Found, Observer},
    ui::{Printer, Progress},
    view::View,
};
use edgewise_protocol::Stage;
use edgewise_search::Objective;
use std::collections::BTreeMap;

/// Candidates between two words about how far the host has looked.
const EVERY: usize = 25;

/// Shows how the search goes.
pub(super) struct Shown {
    printer: Printer,
    lines: bool,
    total: u32,
    /// The device that is spoken of where there is room for one.
    device: String,
    /// Every device by what it does now, where there are several.
    doing: BTreeMap<String, String>,
    progress: Progress,
    best: String,
    done: u64,
}

impl Shown {
    pub(super) fn new(printer: Printer, lines: bool, total: u32, device: &str) -> Self {
        let progress = Progress::new(printer, u64::from(total));
        Self { printer, lines, total, device: device.to_owned(), doing: BTreeMap::new(), progress, best: String::new(), done: 0 }
    }
}

impl Observer for Shown {
    fn ready(&mut self, device: &str, found: &Found) {
        for finding in found.findings.iter().filter(|f| f.severity == Severity::Problem) {
            self.warning(device, &format!("{}: {}; {}", finding.check.replace('_', " "), finding.observed, finding.meaning));
        }
        let score = doctor::score(&found.findings);
        if score < 100 {
            let verdict = doctor::verdict(score);
            self.progress.line(&format!("{device}: {score} of 100, {verdict} (host device doctor {device})"));
        }
    }

    fn evaluating(&mut self, position: usize, id: &str) {
        self.progress.detail(&format!("candidate {} of {}: evaluating {id}{}", position + 1, self.total, self.best));
    }

    fn exploring(&mut self, done: usize, of: usize) {
        let text = format!("looked at {done} of {of} candidates on the host");
        // Without a bar, a word now and then says that something happens.
        if done > 0 && done.is_multiple_of(EVERY) {
            self.progress.line(&text);
        }
        self.progress.detail(&text);
    }

    fn measuring(&mut self, position: usize, id: &str, device: &str, progress: Option<&edgewise_protocol::Progress>) {
        let stage = match progress.map(|p| p.stage) {
            None => "sending",
            Some(Stage::Lease) => "waiting for its turn with",
            Some(Stage::Cool) => "letting the device cool before",
            Some(Stage::Build) => "making",
            Some(Stage::Load) => "loading",
            Some(Stage::Probe) => "checking",
            Some(Stage::Warm) => "warming up",
            Some(Stage::Prefill) => "timing the prompt",
            Some(Stage::Decode) => "timing tokens",
            Some(Stage::Context) => "timing other lengths of",
            Some(Stage::Energy) => "metering",
        };
        let note = progress.and_then(|p| p.note.as_ref()).map(|note| format!(" ({note})")).unwrap_or_default();
        let waits = progress.is_some_and(|p| matches!(p.stage, Stage::Lease));
        let doing = format!("{stage} {id}{note}");
        if waits && self.doing.get(device) != Some(&doing) {
            // Without a bar nobody would know why nothing happens.
            self.progress.line(&format!("{device}: {doing}"));
        }
        self.doing.insert(device.to_owned(), doing);
        let (at, total, best) = (position + 1, self.total, &self.best);
        let doing: Vec<String> = self.doing.iter().map(|(device, doing)| format!("{device}: {doing}")).collect();
        self.progress.detail(&format!("candidate {at} of {total}{best}; {}", doing.join("; ")));
    }

    fn finished(&mut self, id: &str, view: &View) -> Result<(), Failure> {
        self.done += 1;
        self.progress.done(self.done);
        let Some(record) = view.records.iter().find(|r| r.id == id) else { return Ok(()) };
        if self.lines {
            self.printer.json(&CandidateDocument::new(view, record, &CandidateDocument::intervals(view)))?;
        }
        let base = view.baseline().and_then(|b| view.value(b, &self.device, Objective::TpotMs));
        let found = |o| view.value(record, &self.device, o);
        let line = match (found(Objective::Perplexity), found(Objective::TtftMs), found(Objective::TpotMs)) {
            (Some(perplexity), Some(ttft), Some(tpot)) => {
                let error = found(Objective::TaskError).map(|error| format!(", task error {error:.3}")).unwrap_or_default();
                let relative = base.map(|b| format!(" ({:+.0} %)", (tpot / b - 1.0) * 100.0)).unwrap_or_default();
                format!("perplexity {perplexity:.2}{error}, ttft {ttft:.2} ms, tpot {tpot:.3} ms{relative}")
            }
            _ => record.failures.first().map_or_else(|| "no result".to_owned(), |f| format!("{}: {}", f.status, f.message)),
        };
        if self.printer.progress {
            self.progress.line(&format!("[{}/{}] {id}: {line}", self.done, self.total));
        }
        let front = view.front(&self.device, &[])?;
        self.best = format!(", front {}", front.ids.len());
        Ok(())
    }

    fn warning(&mut self, device: &str, text: &str) {
        self.progress.line(&format!("warning: {device}: {text}"));
    }

    fn lost(&mut self, device: &str, failure: &Failure) {
        self.progress.line(&format!("warning: {device}: {failure}"));
    }
}
