//! A row as a question, and the requests that put it to a model.

/// Stands between a context and the text that follows it.
const DELIMITER: &str = " ";
/// Most tokens of a generated solution, lm-evaluation-harness's default.
const MOST_TOKENS: usize = 256;
/// Where a generated solution ends: the next question, or the end of a turn written as text.
const STOPS: [&str; 3] = ["Question:", "</s>", "<|im_end|>"];

/// A question.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// What it is about, where the task has subjects.
    pub subject: Option<String>,
    /// How it is put and what is right.
    pub form: Form,
}

/// How a question is put and what is right.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// One context, several ways to go on.
    Choices {
        /// The question.
        context: String,
        /// The answers; a space is put before each.
        choices: Vec<String>,
        /// Which of them are right: one, but for `TruthfulQA`.
        right: Vec<usize>,
    },
    /// Several contexts, one way to go on: the words that the candidates share are what is scored (arXiv 1806.02847).
    Contexts {
        /// A context for each answer.
        contexts: Vec<String>,
        /// What follows; a space is put before it.
        continuation: String,
        /// Which context is right.
        right: usize,
    },
    /// A text whose last word is to be foretold.
    LastWord {
        /// The text without it.
        context: String,
        /// The word; a space is put before it.
        word: String,
    },
    /// A problem whose solution is generated.
    Problem {
        /// The problem.
        context: String,
        /// The solution, which ends in `#### ` and the answer.
        solution: String,
    },
}

/// What a model is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// How likely is each of these after the context?
    Choice {
        /// What stands before.
        context: String,
        /// What may follow, with the space before it.
        continuations: Vec<String>,
    },
    /// What follows, each time the likeliest token?
    Generate {
        /// What stands before.
        context: String,
        /// Texts that end the answer and are no part of it.
        stop: Vec<String>,
        /// Most tokens.
        max_tokens: usize,
    },
}

impl Item {
    /// A question without a subject.
    pub(crate) fn of(form: Form) -> Self {
        Self { subject: None, form }
    }
}

impl Form {
    /// The question with its answer, as an example for others.
    pub fn worked(&self) -> String {
        let (context, answer) = match self {
            Self::Choices { context, choices, right } => (context, right.first().map_or("", |&r| choices[r].as_str())),
            Self::Contexts { contexts, continuation, right } => (&contexts[*right], continuation.as_str()),
            Self::LastWord { context, word } => (context, word.as_str()),
            Self::Problem { context, solution } => (context, solution.as_str()),
        };
        format!("{context}{DELIMITER}{answer}")
    }

    /// What is asked, after `before`: the preface and the examples of the prompt.
    pub fn requests(&self, before: &str) -> Vec<Request> {
        let after = |text: &String| format!("{DELIMITER}{text}");
        let choice = |context: &String, continuations: Vec<String>| Request::Choice {
            context: format!("{before}{context}"),
            continuations,
        };
        match self {
            Self::Choices { context, choices, .. } => vec![choice(context, choices.iter().map(after).collect())],
            Self::Contexts { contexts, continuation, .. } => {
                contexts.iter().map(|context| choice(context, vec![after(continuation)])).collect()
            }
            Self::LastWord { context, word } => vec![choice(context, vec![after(word)])],
            Self::Problem { context, .. } => vec![Request::Generate {
                context: format!("{before}{context}"),
                stop: STOPS.map(str::to_owned).to_vec(),
                max_tokens: MOST_TOKENS,
            }],
        }
    }
}
