//! Which tasks a command is asked for, and their files.

use crate::failure::Failure;
use edgewise_tasks::{Options, Plan, Table, Task};
use std::path::PathBuf;

/// A task and its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TaskFiles {
    pub(crate) task: Task,
    pub(crate) questions: PathBuf,
    pub(crate) examples: Option<PathBuf>,
}

impl TaskFiles {
    /// Reads the files and draws the questions.
    pub(crate) fn plan(&self, options: Options) -> Result<Plan, Failure> {
        let questions = Table::open(&self.questions)?;
        let examples = self.examples.as_deref().map(Table::open).transpose()?;
        Ok(Plan::new(self.task, &questions, examples.as_ref(), options)?)
    }
}

/// The tasks in the order they were given: `NAME=FILE`, or `NAME` with the next of `questions`; `examples` are files with worked
/// examples, as `NAME=FILE` where there are several tasks.
pub(crate) fn task_files(tasks: &[String], questions: &[PathBuf], examples: &[String]) -> Result<Vec<TaskFiles>, Failure> {
    let mut files = questions.iter();
    let mut out: Vec<TaskFiles> = Vec::new();
    for given in tasks {
        let (name, file) = given.split_once('=').map_or((given.as_str(), None), |(name, file)| (name, Some(file)));
        let task: Task = name.parse()?;
        if out.iter().any(|known| known.task == task) {
            return Err(Failure::usage(format!("task `{task}` is given twice")).hint("give each task once"));
        }
        let questions = file.map(PathBuf::from).or_else(|| files.next().cloned()).ok_or_else(|| {
            Failure::usage(format!("task `{task}` has no file")).hint(format!("for example: --task {task}=FILE"))
        })?;
        out.push(TaskFiles { task, questions, examples: None });
    }
    if let Some(left) = files.next() {
        return Err(Failure::usage(format!("`{}` is of no task", left.display())).hint("give a --task for each --task-file"));
    }
    for given in examples {
        let named = given.split_once('=').and_then(|(name, file)| Some((name.parse::<Task>().ok()?, file)));
        let place = match (named, &mut out[..]) {
            (Some((task, file)), all) => all.iter_mut().find(|known| known.task == task).map(|known| (known, file)),
            (None, [one]) => Some((one, given.as_str())),
            (None, _) => None,
        };
        let Some((known, file)) = place else {
            return Err(Failure::usage(format!("--fewshot-file {given} is of no task that was given"))
                .hint("for example: --task mmlu=test.parquet --fewshot-file mmlu=dev.parquet"));
        };
        if known.examples.replace(file.into()).is_some() {
            return Err(Failure::usage(format!("task `{}` has two files of examples", known.task)).hint("give one"));
        }
    }
    Ok(out)
}
