//! Calls into a library that panics on damaged files.
//!
//! Contract: a panic of the call becomes an error with the panic's text, and prints nothing. It is for code that works on its
//! own data alone, so that nothing half-changed is left behind.

use std::{
    any::Any,
    cell::Cell,
    panic::{self, UnwindSafe},
    sync::Once,
};

thread_local! {
    /// Whether a panic of this thread is caught and told as an error.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}
static QUIET: Once = Once::new();

/// Runs `work`; the text of its panic, if it panics.
pub(super) fn guarded<T>(work: impl FnOnce() -> T + UnwindSafe) -> Result<T, String> {
    QUIET.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                usual(info);
            }
        }));
    });
    let before = GUARDED.replace(true);
    let result = panic::catch_unwind(work);
    GUARDED.set(before);
    result.map_err(|payload| text(&*payload))
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("its contents contradict each other").lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(guarded(|| 7), Ok(7));
        assert_eq!(guarded(|| panic!("of {} kinds\nand more", 2)), Err::<(), _>("of 2 kinds".into()));
        assert_eq!(guarded(|| guarded::<()>(|| panic!("inner")).is_err()), Ok(true));
        assert!(!GUARDED.get());
    }
}
