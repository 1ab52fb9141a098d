//! One measurement, watched.

use super::{Answer, CANCEL_POLL, DeviceClient};
use crate::Error;
use edgewise_protocol::{HostMessage, MeasureJob, Measurement, Progress, Reply, Request, Stage, WireError};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// What the agent gets beyond the job's own deadline to end the worker and say so.
const MARGIN: Duration = Duration::from_secs(30);
/// What the agent gets to end a worker that the host gave up.
const CANCEL: Duration = Duration::from_secs(15);

/// While a worker runs at full speed the agent is silent, so that nothing disturbs the timing.
fn is_quiet(stage: Stage) -> bool {
    match stage {
        Stage::Lease | Stage::Cool | Stage::Build | Stage::Load | Stage::Probe => false,
        Stage::Warm | Stage::Prefill | Stage::Decode | Stage::Context | Stage::Energy => true,
    }
}

/// How long each part of a measurement may take.
struct Limits {
    lease: Duration,
    rest: Duration,
    attempt: Duration,
}

impl Limits {
    fn of(job: &MeasureJob) -> Self {
        let ms = |ms: u32| Duration::from_millis(u64::from(ms));
        Self {
            lease: ms(job.lease_wait_ms) + MARGIN,
            rest: ms(job.plan.gate.max_rest_ms) + MARGIN,
            attempt: ms(job.deadline_ms) + MARGIN,
        }
    }

    fn of_stage(&self, stage: Stage) -> Duration {
        match stage {
            Stage::Lease => self.lease,
            Stage::Cool => self.rest,
            _ => self.attempt,
        }
    }
}

impl DeviceClient {
    /// Measures, telling `progress` where it is. Setting `cancel` ends it.
    ///
    /// From the warm-up on nothing is sent to the device, and only the job's deadline bounds the wait. What the device waits
    /// for before, its lease and its temperature, has limits of its own.
    ///
    /// # Errors
    /// [`Error::Device`] if the measurement failed there, [`Error::Deadline`], [`Error::Cancelled`], and those that break
    /// the connection.
    pub fn measure(
        &mut self,
        job: &MeasureJob,
        progress: &mut dyn FnMut(&Progress),
        cancel: &AtomicBool,
    ) -> Result<Measurement, Error> {
        self.cancelled(cancel)?;
        let limits = Limits::of(job);
        let id = self.request(Request::Measure(Box::new(job.clone())))?;
        let outcome = self.watch(id, &limits, progress, cancel);
        self.transport.set_quiet(false);
        self.measured(outcome?)
    }

    fn watch(
        &mut self,
        id: u32,
        limits: &Limits,
        progress: &mut dyn FnMut(&Progress),
        cancel: &AtomicBool,
    ) -> Result<Result<Reply, WireError>, Error> {
        let mut limit = limits.attempt;
        let mut deadline = Instant::now() + limit;
        let mut quiet = false;
        let mut before = None;
        loop {
            match self.answer(id, deadline.min(Instant::now() + CANCEL_POLL), !quiet)? {
                Some(Answer::Reply(result)) => return Ok(result),
                Some(Answer::Progress(at)) => {
                    let now_quiet = is_quiet(at.stage);
                    if now_quiet != quiet {
                        quiet = now_quiet;
                        self.transport.set_quiet(quiet);
                        // The silence of the quiet time is not held against it.
                        self.last_heard = Instant::now();
                    }
                    // Each wait, and each attempt after one, has its own time.
                    let waits = |stage| matches!(stage, Stage::Lease | Stage::Cool);
                    if before != Some(at.stage) && (waits(at.stage) || before.is_some_and(waits)) {
                        limit = limits.of_stage(at.stage);
                        deadline = Instant::now() + limit;
                    }
                    before = Some(at.stage);
                    progress(&at);
                }
                Some(Answer::Ack(_)) => return Err(self.unexpected("it acknowledged bytes of a measurement")),
                Some(Answer::Tokens(_)) => return Err(self.unexpected("it measures and sends a text")),
                None => {}
            }
            let late = Instant::now() >= deadline;
            if late || cancel.load(Ordering::Relaxed) {
                return self.stop(id, late, limit);
            }
        }
    }

    /// Has the agent end the worker. A result that was on its way already counts.
    pub(super) fn stop(&mut self, id: u32, late: bool, limit: Duration) -> Result<Result<Reply, WireError>, Error> {
        self.transport.set_quiet(false);
        self.send(&HostMessage::Cancel { id })?;
        let deadline = Instant::now() + CANCEL;
        let device = self.device.clone();
        loop {
            match self.answer(id, deadline, false)? {
                Some(Answer::Reply(Ok(reply))) => return Ok(Ok(reply)),
                Some(Answer::Reply(Err(_))) if late => return Err(Error::Deadline { device, limit }),
                Some(Answer::Reply(Err(_))) => return Err(Error::Cancelled { device }),
                Some(_) => {}
                None => return Err(Error::AgentSilent { device, silence: CANCEL }),
            }
        }
    }

    fn measured(&self, result: Result<Reply, WireError>) -> Result<Measurement, Error> {
        match self.accept(result)? {
            Reply::Measured(measurement) => Ok(*measurement),
            other => Err(self.wrong_reply(&other)),
        }
    }
}
