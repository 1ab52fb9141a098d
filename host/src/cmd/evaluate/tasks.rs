//! Tasks: their files are read before the model is, their questions asked after.

use super::args::TaskArgs;
use crate::{
    failure::Failure,
    tasks::{Asked, TaskFiles, ask},
    ui::{Printer, Progress},
};
use edgewise_onnx::SubNetwork;
use edgewise_supernet::{Network, Tokenizer};
use edgewise_tasks::{Options, Outcome, Plan, Report};
use serde::Serialize;
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

/// The figures of a task and what they rest on.
#[derive(Debug, Serialize)]
pub(super) struct TaskDocument {
    #[serde(flatten)]
    report: Report,
    file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    fewshot_file: Option<PathBuf>,
    seed: u64,
    /// Longest prompt in tokens.
    max_length: usize,
    /// Prompts that were longer and lost their beginning.
    truncated: usize,
}

/// Tasks that are ready to be asked.
pub(super) struct Prepared {
    plans: Vec<(TaskFiles, Plan)>,
    per_question: Option<Lines>,
    seed: u64,
}

/// A file of lines of JSON that is being written.
struct Lines {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Prepared {
    /// Reads the files and draws the questions.
    pub(super) fn new(args: &TaskArgs) -> Result<Self, Failure> {
        let options = Options {
            shots: args.fewshot.map(|shots| shots as usize),
            limit: args.limit.map(|limit| limit as usize),
            seed: args.seed,
        };
        let plan = |files: TaskFiles| files.plan(options).map(|plan| (files, plan));
        let plans = args.files()?.into_iter().map(plan).collect::<Result<_, Failure>>()?;
        // A file that cannot be written is told before the work, not after.
        let per_question = args.per_question.as_deref().map(Lines::new).transpose()?;
        Ok(Self { plans, per_question, seed: args.seed })
    }

    /// Whether there is any.
    pub(super) fn is_empty(&self) -> bool {
        self.plans.is_empty()
    }

    /// Asks all questions.
    pub(super) fn run(
        self,
        network: &Network,
        sub: &SubNetwork,
        tokenizer: &Tokenizer,
        max_length: usize,
        printer: Printer,
    ) -> Result<Vec<TaskDocument>, Failure> {
        let mut out = Vec::new();
        let Self { plans, mut per_question, seed } = self;
        for (files, plan) in plans {
            let (name, count) = (plan.task.name(), plan.questions.len());
            let mut progress = Progress::new(printer, count as u64);
            progress.at(&format!("asking {count} questions of {name}, {} examples before each", plan.shots));
            let asked = ask(&plan, network, sub, tokenizer, max_length, None, |done| progress.done(done as u64))?;
            drop(progress);
            let Asked { report, outcomes, max_length, truncated } = asked;
            if let Some(lines) = &mut per_question {
                lines.write(name, &outcomes)?;
            }
            out.push(TaskDocument { report, file: files.questions, fewshot_file: files.examples, seed, max_length, truncated });
        }
        if let Some(lines) = per_question {
            lines.finish()?;
        }
        Ok(out)
    }
}

impl TaskDocument {
    /// A line for people.
    pub(super) fn line(&self) -> String {
        let Report { name, n, shots, metrics, primary, .. } = &self.report;
        // The one that stands for the task comes first.
        let (first, others): (Vec<_>, Vec<_>) = metrics.iter().partition(|(metric, _)| *metric == primary);
        let figures = first.into_iter().chain(others).map(|(metric, figure)| {
            let error = figure.stderr.map(|stderr| format!(" ± {stderr:.4}")).unwrap_or_default();
            format!("{metric} {:.4}{error}", figure.value)
        });
        let cut = if self.truncated > 0 { format!(", {} prompts truncated", self.truncated) } else { String::new() };
        format!("{name}: {} over {n} questions, {shots} examples before each{cut}\n", figures.collect::<Vec<_>>().join(", "))
    }
}

impl Lines {
    fn new(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|e| Failure::file("write", path, &e))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file) })
    }

    fn write(&mut self, task: &str, outcomes: &[Outcome]) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Line<'a> {
            task: &'a str,
            #[serde(flatten)]
            outcome: &'a Outcome,
        }
        for outcome in outcomes {
            let line =
                serde_json::to_string(&Line { task, outcome }).map_err(|e| Failure::new(crate::exit_code::BUG, e.to_string()))?;
            writeln!(self.file, "{line}").map_err(|e| Failure::file("write", &self.path, &e))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.file.flush().map_err(|e| Failure::file("write", &self.path, &e))
    }
}
