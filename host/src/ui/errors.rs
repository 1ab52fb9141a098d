//! The one place that prints an error.

use crate::failure::Failure;
use std::{
    fmt::Write,
    io::{IsTerminal, stderr},
};

/// The text of an error: what, why, and what to do.
pub(crate) fn render(failure: &Failure) -> String {
    let colour = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let paint = |code: &str, word: &str| if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() };
    let mut out = format!("{} {}\n", paint("1;31", "error:"), failure.message);
    for cause in &failure.causes {
        let _ = writeln!(out, "  caused by: {cause}");
    }
    if let Some(hint) = &failure.hint {
        let _ = write!(out, "\n{} {hint}\n", paint("36", "hint:"));
    }
    out
}
