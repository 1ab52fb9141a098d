//! Errors as the user sees them: what happened, why, what to do, and the exit code.

use crate::exit_code;
use edgewise_fleet::Category;
use std::{fmt, path::Path};

/// An error with its exit code and hint. Everything that reaches `main` without one is a bug of ours.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
    pub(crate) causes: Vec<String>,
    pub(crate) hint: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), causes: Vec::new(), hint: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(exit_code::USAGE, message)
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts a device's name where the hint says `NAME`.
    #[must_use]
    pub(crate) fn about(mut self, device: &str) -> Self {
        self.hint = self.hint.map(|hint| hint.replace("NAME", device));
        self
    }

    fn of(code: u8, error: &dyn std::error::Error, hint: Option<String>) -> Self {
        let mut causes = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        Self { code, message: error.to_string(), causes, hint }
    }

    /// A file of the user that could not be read or written.
    pub(crate) fn file(action: &str, path: &Path, error: &std::io::Error) -> Self {
        let message = format!("cannot {action} `{}`", path.display());
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => Some("check the path".to_owned()),
            std::io::ErrorKind::StorageFull => Some("free some space, or set EDGEWISE_HOME to another disk".to_owned()),
            _ => None,
        };
        Self { code: exit_code::USAGE, message, causes: vec![error.to_string()], hint }
    }
}

impl From<edgewise_fleet::Error> for Failure {
    fn from(error: edgewise_fleet::Error) -> Self {
        let code = match error.category() {
            Category::Usage => exit_code::USAGE,
            Category::Connect => exit_code::CONNECT,
            Category::HostKey => exit_code::HOST_KEY,
            Category::Agent => exit_code::AGENT,
            Category::Protocol => exit_code::PROTOCOL,
            Category::Measurement => exit_code::MEASUREMENT,
        };
        let hint = error.hint();
        Self::of(code, &error, hint)
    }
}

impl From<edgewise_supernet::Error> for Failure {
    fn from(error: edgewise_supernet::Error) -> Self {
        use edgewise_supernet::Error as E;
        let hint = error.hint().map(str::to_owned);
        let code = match error {
            E::Trainable(_) | E::HeadSize { .. } | E::NoHeadScores => exit_code::USAGE,
            _ => exit_code::MODEL,
        };
        Self::of(code, &error, hint)
    }
}

impl From<edgewise_onnx::Error> for Failure {
    fn from(error: edgewise_onnx::Error) -> Self {
        let hint = match &error {
            edgewise_onnx::Error::NotAnArtifact { .. } => Some("make one with `host export`".to_owned()),
            edgewise_onnx::Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Some("free some space, or set EDGEWISE_HOME to another disk".to_owned())
            }
            _ => None,
        };
        Self::of(exit_code::ARTIFACT, &error, hint)
    }
}

impl From<edgewise_search::Error> for Failure {
    fn from(error: edgewise_search::Error) -> Self {
        use edgewise_search::Error as E;
        let hint = match &error {
            E::NotAStudy { .. } | E::Damaged { .. } => {
                Some("--study takes a file that `host search` made, or a new name".to_owned())
            }
            E::SettingsDiffer { .. } => Some("resume with the flags it was begun with, or give --study a new name".to_owned()),
            _ => None,
        };
        Self::of(exit_code::STUDY, &error, hint)
    }
}

impl From<edgewise_finetune::Error> for Failure {
    fn from(error: edgewise_finetune::Error) -> Self {
        use edgewise_finetune::Error as E;
        let (error, code) = match error {
            E::Supernet(error) => return error.into(),
            error @ (E::NotFinite { .. } | E::BrokenGradient { .. }) => (error, exit_code::TRAINING),
            error @ (E::NoGradient { .. } | E::Candle(_)) => (error, exit_code::BUG),
            error => (error, exit_code::USAGE),
        };
        let hint = error.hint().map(str::to_owned);
        Self::of(code, &error, hint)
    }
}

impl From<edgewise_tasks::Error> for Failure {
    fn from(error: edgewise_tasks::Error) -> Self {
        let hint = error.hint().map(str::to_owned);
        Self::of(exit_code::USAGE, &error, hint)
    }
}

impl From<edgewise_targets::Error> for Failure {
    fn from(error: edgewise_targets::Error) -> Self {
        Self::of(exit_code::USAGE, &error, None)
    }
}

impl From<edgewise_search::SpaceError> for Failure {
    fn from(error: edgewise_search::SpaceError) -> Self {
        Self::of(exit_code::USAGE, &error, None)
    }
}

impl From<edgewise_search::SamplerError> for Failure {
    fn from(error: edgewise_search::SamplerError) -> Self {
        Self::of(exit_code::USAGE, &error, None)
    }
}
