//! The flags.

use crate::{
    failure::Failure,
    tasks::{TaskFiles, task_files},
};
use clap::{ArgAction, ValueEnum};
use edgewise_supernet::{Definition, Protocol};
use std::path::PathBuf;

/// Windows of our own definition unless the user says otherwise; the others take the whole text.
const WINDOWS: u32 = 4;
/// Fewest tokens of a window of which the second half is scored.
const LEAST_HALVED: u32 = 4;

/// Flags of `host evaluate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Hugging Face folder, .gguf file, prepared super-network, artifact, or `demo`
    pub(super) model: String,
    /// A sub-network: its configuration as JSON, or a file with it
    #[arg(long, value_name = "CONFIG")]
    pub(super) candidate: Option<String>,
    /// Text for importance scores, where a candidate needs them [default: another bundled text]
    #[arg(long, value_name = "FILE")]
    pub(super) calibration: Option<PathBuf>,
    #[command(flatten)]
    pub(super) text: TextArgs,
    #[command(flatten)]
    pub(super) tasks: TaskArgs,
}

/// How a text is scored.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Perplexity")]
pub(super) struct TextArgs {
    /// Text [default: a bundled public-domain text]
    #[arg(long, value_name = "FILE")]
    pub(super) text: Option<PathBuf>,
    /// Whose perplexity
    #[arg(long, value_name = "NAME", value_enum, default_value_t = DefinitionName::Edgewise)]
    definition: DefinitionName,
    /// Tokens of a window
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(2..))]
    pub(super) window: u32,
    /// Windows, from the start of the text [default: 4; with another definition than edgewise all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    windows: Option<u32>,
    /// Tokens from one window's start to the next one's; what an earlier window scored is not scored again [default: the window]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    stride: Option<u32>,
    /// Also the divergence from the full network, KL(full || candidate) per token
    #[arg(long, requires = "candidate")]
    pub(super) kl: bool,
}

/// A definition by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DefinitionName {
    /// Every token that has one before it in its window
    Edgewise,
    /// lm-evaluation-harness: every token, the first after BOS; also per word and byte
    Harness,
    /// llama.cpp: the second half of each window, which begins with BOS where the tokenizer puts one
    #[value(name = "llama.cpp")]
    LlamaCpp,
}

/// Which tasks a model is scored on.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Tasks")]
pub(super) struct TaskArgs {
    #[arg(
        long = "task",
        value_name = "NAME[=FILE]",
        action = ArgAction::Append,
        help = "Task, with its file or with --task-file; may be given several times: arc_challenge, arc_easy, boolq, gsm8k, \
                hellaswag, lambada_openai, mathqa, mmlu, piqa, truthfulqa_mc2, winogrande"
    )]
    task: Vec<String>,
    /// File of a task as on the Hugging Face hub, JSON Lines, JSON or Parquet; one for each --task without a file, in their order
    #[arg(long, value_name = "FILE", action = ArgAction::Append, requires = "task")]
    task_file: Vec<PathBuf>,
    /// Worked examples before each question [default: the task's own number]
    #[arg(long, value_name = "N", requires = "task")]
    pub(super) fewshot: Option<u32>,
    /// File that examples are taken from [default: other rows of the task's file]; NAME= where there are several tasks
    #[arg(long, value_name = "[NAME=]FILE", action = ArgAction::Append, requires = "task")]
    fewshot_file: Vec<String>,
    /// Most questions of a task, drawn from all of them [default: all]
    #[arg(long, value_name = "N", requires = "task", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) limit: Option<u32>,
    /// Seed of the draws of questions and examples
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
    /// Longest prompt in tokens; a longer one loses its beginning [default: what the model was made for, at most 8192]
    #[arg(long, value_name = "N", requires = "task", value_parser = clap::value_parser!(u32).range(16..))]
    pub(super) max_length: Option<u32>,
    /// File for each question's scores, one line of JSON each
    #[arg(long, value_name = "FILE", requires = "task")]
    pub(super) per_question: Option<PathBuf>,
}

impl TextArgs {
    /// How the text is scored.
    pub(super) fn protocol(&self) -> Result<Protocol, Failure> {
        let definition = match self.definition {
            DefinitionName::Edgewise => Definition::Edgewise,
            DefinitionName::Harness => Definition::Harness,
            DefinitionName::LlamaCpp => Definition::LlamaCpp,
        };
        let own = definition == Definition::Edgewise;
        match self.stride {
            Some(_) if !own => {
                return Err(Failure::usage("only the definition `edgewise` leaves the stride open").hint("leave out --stride"));
            }
            Some(stride) if stride > self.window => {
                let message = format!("a stride of {stride} leaves out tokens between windows of {}", self.window);
                return Err(Failure::usage(message).hint("give a --stride up to --window"));
            }
            _ => {}
        }
        if definition == Definition::LlamaCpp && self.window < LEAST_HALVED {
            return Err(Failure::usage(format!("windows of {} tokens have no second half to score", self.window))
                .hint("give a larger --window"));
        }
        let windows = self.windows.or(own.then_some(WINDOWS));
        Ok(Protocol {
            definition,
            window: self.window as usize,
            // One as long as the window is none.
            stride: self.stride.filter(|stride| *stride < self.window).map(|stride| stride as usize),
            windows: windows.map(|windows| windows as usize),
        })
    }

    /// The definition's name.
    pub(super) fn definition(&self) -> &'static str {
        match self.definition {
            DefinitionName::Edgewise => "edgewise",
            DefinitionName::Harness => "harness",
            DefinitionName::LlamaCpp => "llama.cpp",
        }
    }

    /// Windows for the divergence, which is taken over plain ones.
    pub(super) fn plain_windows(&self) -> edgewise_supernet::Windows {
        let count = self.windows.unwrap_or(WINDOWS) as usize;
        edgewise_supernet::Windows { length: self.window as usize, count }
    }
}

impl TaskArgs {
    /// The tasks in the order they were given.
    pub(super) fn files(&self) -> Result<Vec<TaskFiles>, Failure> {
        task_files(&self.task, &self.task_file, &self.fewshot_file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use edgewise_tasks::Task;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &str) -> Args {
        Line::try_parse_from(["evaluate", "demo"].into_iter().chain(words.split_whitespace())).unwrap().args
    }

    #[test]
    fn tasks_get_their_files() {
        let files =
            args("--task mmlu --task piqa=p.jsonl --task-file m.parquet --fewshot-file mmlu=dev.parquet").tasks.files().unwrap();
        let expected = |task, questions: &str, examples: Option<&str>| TaskFiles {
            task,
            questions: questions.into(),
            examples: examples.map(PathBuf::from),
        };
        assert_eq!(files, [expected(Task::Mmlu, "m.parquet", Some("dev.parquet")), expected(Task::Piqa, "p.jsonl", None)]);
        let one = args("--task boolq=a --fewshot-file odd=name").tasks.files().unwrap();
        assert_eq!(one, [expected(Task::BoolQ, "a", Some("odd=name"))]);
        for (words, says) in [
            ("--task squad=x", "unknown task `squad`"),
            ("--task mmlu", "`mmlu` has no file"),
            ("--task mmlu=a --task mmlu=b", "given twice"),
            ("--task mmlu=a --task-file b", "`b` is of no task"),
            ("--task mmlu=a --task piqa=b --fewshot-file c", "is of no task"),
            ("--task mmlu=a --fewshot-file c --fewshot-file d", "two files"),
        ] {
            let error = args(words).tasks.files().unwrap_err();
            assert!(error.message.contains(says), "{words}: {error}");
        }
    }

    #[test]
    fn definitions_have_their_own_windows() {
        let protocol = |words: &str| args(words).text.protocol();
        let own = protocol("").unwrap();
        assert_eq!((own.window, own.windows, own.stride), (512, Some(4), None));
        assert_eq!(protocol("--stride 512").unwrap(), own);
        assert_eq!(protocol("--stride 256").unwrap().stride, Some(256));
        assert_eq!(protocol("--definition llama.cpp").unwrap().windows, None);
        assert_eq!(protocol("--definition harness --windows 2").unwrap().windows, Some(2));
        for (words, says) in [
            ("--stride 513", "leaves out tokens"),
            ("--definition harness --stride 9", "leaves the stride open"),
            ("--definition llama.cpp --window 3", "no second half"),
        ] {
            let error = protocol(words).unwrap_err();
            assert!(error.message.contains(says), "{words}: {error}");
        }
    }
}
