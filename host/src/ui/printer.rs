//! Where output goes. Nothing else in the program writes to stdout or stderr.

use crate::failure::Failure;
use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};

/// How much the user wants to see.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    pub(crate) progress: bool,
}

impl Printer {
    #[expect(clippy::unused_self, reason = "the printer is where output goes, whatever it needs to know for it")]
    /// Writes data. A reader that went away (`| head`) ends the program in peace.
    pub(crate) fn data(self, text: &str) -> Result<(), Failure> {
        let mut out = stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
            Err(e) => Err(Failure::usage("cannot write to stdout").hint(e.to_string())),
            Ok(()) => Ok(()),
        }
    }

    /// Writes a JSON document on one line.
    pub(crate) fn json<T: serde::Serialize>(self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|e| Failure::new(crate::exit_code::BUG, e.to_string()))?;
        self.data(&format!("{text}\n"))
    }

    /// Says something that is not data.
    pub(crate) fn note(self, text: &str) {
        if !self.quiet {
            // Nobody can be told that stderr is gone.
            let _ = writeln!(stderr().lock(), "{text}");
        }
    }

    /// Says something that should be acted on.
    pub(crate) fn warn(self, text: &str) {
        self.note(&format!("warning: {text}"));
    }

    /// Whether bars can be drawn.
    pub(crate) fn bars(self) -> bool {
        self.progress && !self.quiet && stderr().is_terminal()
    }
}
