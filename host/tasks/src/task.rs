//! The tasks by name.

use crate::{Error, Item, Metric, Row, families};
use std::{fmt, str::FromStr};

/// A task. Each reads the columns of its data set on the Hugging Face hub; further layouts are named in its module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// Grade-school science, the harder part (arXiv 1803.05457).
    ArcChallenge,
    /// Grade-school science, the easier part (arXiv 1803.05457).
    ArcEasy,
    /// Yes or no about a passage (arXiv 1905.10044).
    BoolQ,
    /// Word problems whose answer is generated (arXiv 2110.14168).
    Gsm8k,
    /// How a scene goes on (arXiv 1905.07830).
    HellaSwag,
    /// The last word of a passage (arXiv 1606.06031), in `OpenAI`'s preparation.
    LambadaOpenAi,
    /// Word problems with five answers (arXiv 1905.13319).
    MathQa,
    /// Exam questions on 57 subjects (arXiv 2009.03300).
    Mmlu,
    /// How things of everyday life are done (arXiv 1911.11641).
    Piqa,
    /// Questions that many people answer wrongly, several answers being true (arXiv 2109.07958).
    TruthfulQaMc2,
    /// Whom a pronoun's blank refers to (arXiv 1907.10641).
    Winogrande,
}

impl Task {
    /// Every task.
    pub const ALL: [Self; 11] = [
        Self::ArcChallenge,
        Self::ArcEasy,
        Self::BoolQ,
        Self::Gsm8k,
        Self::HellaSwag,
        Self::LambadaOpenAi,
        Self::MathQa,
        Self::Mmlu,
        Self::Piqa,
        Self::TruthfulQaMc2,
        Self::Winogrande,
    ];

    /// The name on the command line and in JSON, which is lm-evaluation-harness's.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ArcChallenge => "arc_challenge",
            Self::ArcEasy => "arc_easy",
            Self::BoolQ => "boolq",
            Self::Gsm8k => "gsm8k",
            Self::HellaSwag => "hellaswag",
            Self::LambadaOpenAi => "lambada_openai",
            Self::MathQa => "mathqa",
            Self::Mmlu => "mmlu",
            Self::Piqa => "piqa",
            Self::TruthfulQaMc2 => "truthfulqa_mc2",
            Self::Winogrande => "winogrande",
        }
    }

    /// Worked examples in a prompt unless the user says otherwise: those of arXiv 2410.06479.
    pub const fn shots(self) -> usize {
        match self {
            Self::ArcChallenge => 25,
            Self::HellaSwag => 10,
            Self::Gsm8k | Self::Mmlu | Self::Winogrande => 5,
            Self::ArcEasy | Self::BoolQ | Self::LambadaOpenAi | Self::MathQa | Self::Piqa | Self::TruthfulQaMc2 => 0,
        }
    }

    /// What is reported, the one that stands for the task first.
    pub const fn metrics(self) -> &'static [Metric] {
        match self {
            Self::ArcChallenge | Self::ArcEasy | Self::HellaSwag | Self::MathQa => &[Metric::AccNorm, Metric::Acc],
            Self::Piqa => &[Metric::Acc, Metric::AccNorm],
            Self::BoolQ | Self::Mmlu | Self::Winogrande => &[Metric::Acc],
            Self::LambadaOpenAi => &[Metric::Acc, Metric::Perplexity],
            Self::TruthfulQaMc2 => &[Metric::Mc2],
            Self::Gsm8k => &[Metric::ExactMatchFlexible, Metric::ExactMatchStrict],
        }
    }

    /// A row as a question.
    ///
    /// # Errors
    /// [`Error::Column`].
    pub fn item(self, row: Row<'_>) -> Result<Item, Error> {
        match self {
            Self::ArcChallenge | Self::ArcEasy => families::arc(row),
            Self::BoolQ => families::boolq(row),
            Self::Gsm8k => families::gsm8k(row),
            Self::HellaSwag => families::hellaswag(row),
            Self::LambadaOpenAi => families::lambada(row),
            Self::MathQa => families::mathqa(row),
            Self::Mmlu => families::mmlu(row),
            Self::Piqa => families::piqa(row),
            Self::TruthfulQaMc2 => families::truthfulqa(row),
            Self::Winogrande => families::winogrande(row),
        }
    }

    /// What stands before the examples of a prompt.
    pub(crate) fn preface(self, subject: Option<&str>) -> String {
        match (self, subject) {
            (Self::Mmlu, Some(subject)) => families::mmlu_preface(subject),
            _ => String::new(),
        }
    }

    /// Whether examples of a file of their own are taken in its order, as lm-evaluation-harness does where that file was
    /// written by hand for the purpose.
    pub(crate) const fn takes_first_examples(self) -> bool {
        matches!(self, Self::Mmlu)
    }

    /// The names, for people.
    pub(crate) fn names() -> String {
        Self::ALL.map(|task| format!("`{}`", task.name())).join(", ")
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Task {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|task| task.name() == text);
        found.ok_or_else(|| Error::UnknownTask { name: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for task in Task::ALL {
            assert_eq!(task.name().parse::<Task>().unwrap(), task);
        }
        let error = "squad".parse::<Task>().unwrap_err().to_string();
        assert!(error.starts_with("unknown task `squad`: known are `arc_challenge`, `arc_easy`"), "{error}");
    }
}
