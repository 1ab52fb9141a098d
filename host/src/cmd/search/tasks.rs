//! The tasks that candidates of a study are asked: the same questions for all of them, whoever resumes it.

use super::Args;
use crate::{
    exit_code,
    failure::Failure,
    tasks::{MAX_LENGTH, TaskFiles, task_files},
};
use edgewise_search::Settings;
use edgewise_tasks::{Options, Plan};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

/// Among a study's details: its tasks. Studies without tasks have no such detail.
pub(super) const DETAIL: &str = "tasks";

/// Tasks, read and drawn.
#[derive(Default)]
pub(super) struct StudyTasks {
    pub(super) plans: Vec<Plan>,
    /// Longest prompt in tokens.
    pub(super) max_length: usize,
    /// What the study keeps of them.
    pub(super) detail: Option<Value>,
}

/// What decides which questions are asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Detail {
    tasks: Vec<Source>,
    /// Worked examples before each question; each task's own number, if absent.
    fewshot: Option<u32>,
    /// Most questions of a task; all, if absent.
    limit: Option<u32>,
    /// Seed of the draws of questions and examples.
    seed: u64,
    /// Longest prompt in tokens.
    max_length: usize,
}

/// A task's files as they were when the study was begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    task: String,
    questions: Hashed,
    examples: Option<Hashed>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hashed {
    path: PathBuf,
    sha256: String,
}

impl Hashed {
    fn of(path: &Path) -> Result<Self, Failure> {
        let read = || {
            // A path means the same from wherever the study is resumed.
            let path = std::path::absolute(path)?;
            let mut hash = Sha256::new();
            io::copy(&mut File::open(&path)?, &mut hash)?;
            Ok(Self { path, sha256: hex::encode(hash.finalize()) })
        };
        read().map_err(|e| Failure::file("read", path, &e))
    }
}

impl Source {
    fn of(files: &TaskFiles) -> Result<Self, Failure> {
        let examples = files.examples.as_deref().map(Hashed::of).transpose()?;
        Ok(Self { task: files.task.to_string(), questions: Hashed::of(&files.questions)?, examples })
    }

    fn files(&self) -> Result<TaskFiles, Failure> {
        let examples = self.examples.as_ref().map(|examples| examples.path.clone());
        Ok(TaskFiles { task: self.task.parse()?, questions: self.questions.path.clone(), examples })
    }

    /// Refuses files of the same task that hold something else than when the study was begun.
    fn check(&self, begun_with: &Self) -> Result<(), Failure> {
        let questions = (Some(&self.questions), Some(&begun_with.questions));
        let examples = (self.examples.as_ref(), begun_with.examples.as_ref());
        for (now, before) in [questions, examples].into_iter().filter_map(|(now, before)| now.zip(before)) {
            if now.sha256 != before.sha256 {
                let message = format!("`{}` is not the file that the study was begun with", now.path.display());
                return Err(Failure::new(exit_code::STUDY, message)
                    .hint("put the file back that was there, or begin a new study with another --study"));
            }
        }
        Ok(())
    }

    /// Whether the same is read from it, wherever the files are.
    fn is_same(&self, other: &Self) -> bool {
        let read = |source: &Self| (source.questions.sha256.clone(), source.examples.as_ref().map(|e| e.sha256.clone()));
        self.task == other.task && read(self) == read(other)
    }
}

impl StudyTasks {
    /// Reads what the flags name, or what the study was begun with, and draws the questions.
    pub(super) fn of(args: &Args, begun_with: Option<&Settings>) -> Result<Self, Failure> {
        let stored = match begun_with.and_then(|settings| settings.details.get(DETAIL)) {
            None => None,
            Some(value) => Some(Detail::deserialize(value).map_err(|e| {
                Failure::new(exit_code::STUDY, format!("the study's tasks cannot be read: {e}"))
                    .hint("begin a new study with another --study")
            })?),
        };
        let asked = task_files(&args.task, &[], &args.fewshot_file)?;
        let mut detail = match &stored {
            Some(stored) if asked.is_empty() => {
                let again = stored.tasks.iter().map(|source| Source::of(&source.files()?));
                Detail { tasks: again.collect::<Result<_, Failure>>()?, ..stored.clone() }
            }
            None if asked.is_empty() => return Ok(Self::default()),
            _ => Detail {
                tasks: asked.iter().map(Source::of).collect::<Result<_, Failure>>()?,
                fewshot: args.fewshot,
                limit: args.task_limit,
                seed: args.seed(begun_with),
                max_length: MAX_LENGTH,
            },
        };
        let options = Options {
            shots: detail.fewshot.map(|shots| shots as usize),
            limit: detail.limit.map(|limit| limit as usize),
            seed: detail.seed,
        };
        for now in &detail.tasks {
            if let Some(before) = stored.iter().flat_map(|s| &s.tasks).find(|before| before.task == now.task) {
                now.check(before)?;
            }
        }
        let plans = detail.tasks.iter().map(|source| source.files()?.plan(options)).collect::<Result<_, Failure>>()?;
        // The same files elsewhere are the same tasks: the study goes on saying where they were when it was begun.
        for now in &mut detail.tasks {
            if let Some(before) = stored.iter().flat_map(|s| &s.tasks).find(|before| now.is_same(before)) {
                now.clone_from(before);
            }
        }
        let max_length = detail.max_length;
        let detail = serde_json::to_value(detail)
            .map_err(|e| Failure::usage(format!("a task's file cannot be named in a study: {e}")).hint("rename the file"))?;
        Ok(Self { plans, max_length, detail: Some(detail) })
    }

    /// Tokens that a network has to take where its text needs `window`, of the `most` that it was made for.
    pub(super) fn positions(&self, window: usize, most: usize) -> usize {
        if self.plans.is_empty() { window } else { self.max_length.min(most).max(window) }
    }
}
