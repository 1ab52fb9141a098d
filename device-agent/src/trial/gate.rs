//! The gate before a trial: a device that is hot or throttled rests.

use crate::{cancel::Cancel, error::wire};
use crossbeam_channel::RecvTimeoutError;
use edgewise_protocol::{ErrorCode, Gate, WireError};
use std::time::{Duration, Instant};

/// How warm a device is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Warmth {
    /// Hottest processor, in degrees Celsius, where the device tells.
    pub(super) celsius: Option<f32>,
    /// Why it is slowed down now, if it is.
    pub(super) throttled: Option<String>,
}

/// What came of waiting at the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rest {
    /// How long the device rested, in milliseconds.
    pub(super) ms: u32,
    /// It was still too hot, or throttled, when its time was over.
    pub(super) hot: bool,
}

/// Lets the device rest until it is cool and unthrottled, or for as long as the gate allows. `first` is its temperature when
/// the agent first looked. `look` is called at intervals of `poll`, and `note` with what is waited for.
///
/// # Errors
/// [`ErrorCode::Cancelled`].
pub(super) fn rest(
    gate: &Gate,
    first: Option<f32>,
    poll: Duration,
    cancel: &Cancel,
    mut look: impl FnMut() -> Warmth,
    mut note: impl FnMut(String),
) -> Result<Rest, WireError> {
    let most = Duration::from_millis(u64::from(gate.max_rest_ms));
    let start = Instant::now();
    loop {
        let waited = start.elapsed();
        let ms = u32::try_from(waited.as_millis()).unwrap_or(u32::MAX);
        let Some(reason) = obstacle(gate, first, &look()) else { return Ok(Rest { ms, hot: false }) };
        if waited >= most {
            return Ok(Rest { ms, hot: true });
        }
        note(reason);
        if cancel.signal().recv_timeout(poll.min(most.saturating_sub(waited))) == Err(RecvTimeoutError::Disconnected) {
            return Err(wire(ErrorCode::Cancelled, "given up by the host"));
        }
    }
}

/// Why a trial may not begin yet.
fn obstacle(gate: &Gate, first: Option<f32>, warmth: &Warmth) -> Option<String> {
    if let Some(why) = &warmth.throttled {
        return Some(why.clone());
    }
    let limit = first.map_or(gate.max_celsius, |first| gate.max_celsius.max(first + gate.max_rise_celsius));
    let celsius = warmth.celsius.filter(|celsius| *celsius > limit)?;
    Some(format!("{celsius:.1} C, waits for {limit:.1} C"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel;

    const GATE: Gate = Gate { max_celsius: 60.0, max_rise_celsius: 3.0, max_rest_ms: 60_000 };
    const POLL: Duration = Duration::from_millis(5);

    fn at(celsius: f32) -> Warmth {
        Warmth { celsius: Some(celsius), throttled: None }
    }

    #[test]
    fn cool_or_unknown_devices_do_not_rest() {
        assert_eq!(obstacle(&GATE, None, &at(60.0)), None);
        assert_eq!(obstacle(&GATE, None, &Warmth { celsius: None, throttled: None }), None);
        assert_eq!(obstacle(&GATE, Some(70.0), &at(73.0)), None, "as cool as it ever was, give or take");
        assert_eq!(obstacle(&GATE, Some(20.0), &at(59.0)), None);
    }

    #[test]
    fn what_is_waited_for_is_said() {
        assert_eq!(obstacle(&GATE, None, &at(61.25)).as_deref(), Some("61.2 C, waits for 60.0 C"));
        assert_eq!(obstacle(&GATE, Some(70.0), &at(75.0)).as_deref(), Some("75.0 C, waits for 73.0 C"));
        let throttled = Warmth { celsius: Some(20.0), throttled: Some("firmware: throttled".into()) };
        assert_eq!(obstacle(&GATE, None, &throttled).as_deref(), Some("firmware: throttled"));
    }

    #[test]
    fn a_device_rests_until_it_is_cool() {
        let (_keep, cancel) = cancel::pair();
        let mut temperatures = [70.0, 65.0, 60.0].into_iter();
        let mut notes = Vec::new();
        let rested = rest(&GATE, None, POLL, &cancel, || at(temperatures.next().unwrap()), |why| notes.push(why)).unwrap();
        assert!(!rested.hot && (10..5_000).contains(&rested.ms), "{rested:?}");
        assert_eq!(notes, ["70.0 C, waits for 60.0 C", "65.0 C, waits for 60.0 C"]);
    }

    #[test]
    fn a_rest_ends_with_its_time_or_the_hosts_patience() {
        let (canceller, cancel) = cancel::pair();
        let short = Gate { max_rest_ms: 20, ..GATE };
        let rested = rest(&short, None, POLL, &cancel, || at(70.0), |_| {}).unwrap();
        assert!(rested.hot && (20..5_000).contains(&rested.ms), "{rested:?}");
        let none = rest(&Gate { max_rest_ms: 0, ..GATE }, None, POLL, &cancel, || at(70.0), |_| panic!("no rest")).unwrap();
        assert!(none.hot);
        drop(canceller);
        let error = rest(&GATE, None, Duration::from_mins(1), &cancel, || at(70.0), |_| {}).unwrap_err();
        assert_eq!(error.code, ErrorCode::Cancelled);
    }
}
