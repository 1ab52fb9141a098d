//! Energy of a run: a power meter that is read on a thread of its own, and the power with nothing running before it.

use crate::{
    cancel::Cancel,
    clock::{RawClock, TickClock},
    limits::{IDLE_POWER, METER_POLL},
    measure::EnergyRun,
    sched,
};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use edgewise_protocol::Energy;
use edgewise_sensors::{Integrator, PowerMeter};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Priority of the thread that reads the meter: what it disturbs is what it measures.
const PRIORITY: i32 = 10;
/// Pause after a reading, as a multiple of the time that it took: some meters are commands to be started, and reading them at
/// full speed would be a load of its own.
const PAUSE_FACTOR: u32 = 19;

/// The mean power while nothing runs, in watts; `None` if the meter fails. Ends early when the work is given up.
pub(super) fn idle_watts(meter: &PowerMeter, cancel: &Cancel) -> Option<f64> {
    let mut integrator = Integrator::new();
    sample(meter, &mut integrator, cancel.signal(), Some(IDLE_POWER));
    integrator.mean_watts()
}

/// A meter that is being read.
#[derive(Debug)]
pub(super) struct Sampling<'scope> {
    stop: Sender<()>,
    thread: thread::ScopedJoinHandle<'scope, Integrator>,
}

impl<'scope> Sampling<'scope> {
    pub(super) fn start<'env>(meter: &'env PowerMeter, scope: &'scope thread::Scope<'scope, 'env>) -> Self {
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let read = move || {
            sched::set_nice(PRIORITY);
            let mut integrator = Integrator::new();
            sample(meter, &mut integrator, &stopped, None);
            integrator
        };
        Self { stop, thread: scope.spawn(read) }
    }

    /// The mean power, in watts; `None` if the meter failed.
    pub(super) fn mean_watts(self) -> Option<f64> {
        drop(self.stop);
        self.thread.join().ok()?.mean_watts()
    }
}

/// Reads the meter until `stop` is closed or `time` is over. A reading that fails is left out: the one before it and the one
/// after it span the gap.
fn sample(meter: &PowerMeter, integrator: &mut Integrator, stop: &Receiver<()>, time: Option<Duration>) {
    let start = Instant::now();
    loop {
        let before = Instant::now();
        if let Ok(reading) = meter.read() {
            let _ = integrator.add(RawClock.since(embedded_time::Instant::new(0)).0, reading);
        }
        let pause = METER_POLL.max(before.elapsed() * PAUSE_FACTOR);
        if time.is_some_and(|time| start.elapsed() >= time) || stop.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// What a token takes above idling. `None` where no token was generated.
pub(super) fn energy(meter: &PowerMeter, idle_watts: f64, mean_watts: f64, run: EnergyRun) -> Option<Energy> {
    let seconds = run.ns as f64 / 1e9;
    (run.tokens > 0).then(|| Energy {
        meter: meter.name().to_owned(),
        blind_spots: meter.blind_spots().to_owned(),
        idle_watts,
        mean_watts,
        seconds,
        tokens: run.tokens,
        joules_per_token: (mean_watts - idle_watts) * seconds / run.tokens as f64,
    })
}
