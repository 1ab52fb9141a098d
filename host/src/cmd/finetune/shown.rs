//! What a training shows while it runs.

use crate::ui::{Printer, Progress};
use edgewise_finetune::{Event, Point, StepReport};

/// Parts that a bar is divided into, and a line is printed for without one.
const TICKS: u64 = 1000;
const LINES: u64 = 20;

/// Shows steps and curves.
pub(super) struct Shown {
    printer: Printer,
    progress: Progress,
    /// Lines of steps so far.
    lines: u64,
}

impl Shown {
    pub(super) fn new(printer: Printer) -> Self {
        let mut progress = Progress::new(printer, TICKS);
        progress.at("looking at the held-out text");
        Self { printer, progress, lines: 0 }
    }

    pub(super) fn hear(&mut self, event: &Event<'_>) {
        match event {
            Event::Step(report) => self.step(report),
            Event::Validation(steps, points) => self.line(&format!("after {steps} steps: perplexity {}", perplexities(points))),
            Event::Checkpoint(_) => {}
        }
    }

    fn step(&mut self, report: &StepReport) {
        let StepReport { step, loss, students_loss, divergence, gradient_norm, .. } = report;
        let students = students_loss.map_or_else(String::new, |loss| format!(", of sub-networks {loss:.3}"));
        let divergence = divergence.map_or_else(String::new, |divergence| format!(", their divergence {divergence:.3}"));
        let text = format!("step {step}: loss {loss:.3}{students}{divergence}, gradient {gradient_norm:.2}");
        self.progress.done((report.progress * TICKS as f64) as u64);
        let due = (report.progress * LINES as f64) as u64;
        if self.printer.bars() {
            self.progress.detail(&text);
        } else if due > self.lines {
            self.lines = due;
            self.line(&text);
        }
    }

    fn line(&self, text: &str) {
        if self.printer.progress {
            self.progress.line(text);
        }
    }
}

/// `full 21.3, smallest 472`.
pub(super) fn perplexities(points: &[Point]) -> String {
    let each = points.iter().map(|point| match point.perplexity {
        Some(perplexity) => format!("{} {perplexity:.2}", point.name),
        None => format!("{} not finite", point.name),
    });
    each.collect::<Vec<_>>().join(", ")
}
