//! Ctrl-C: once to stop in order, twice to stop at once.

use crate::{exit_code, ui::Printer};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Sets the flag on the first Ctrl-C; the second ends the program.
pub(crate) fn interruptible(printer: Printer) -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    let handler = move || {
        if set.swap(true, Ordering::SeqCst) {
            #[expect(clippy::exit, reason = "the user asked twice; what is stored is durable already")]
            std::process::exit(i32::from(exit_code::INTERRUPTED));
        }
        printer.note("stopping; press Ctrl-C again to stop at once");
    };
    if ctrlc::set_handler(handler).is_err() {
        printer.warn("Ctrl-C will end the program at once");
    }
    flag
}
