//! The requests that take long, each on a thread of its own.

use super::output::Output;
use crate::{
    cancel::Cancel,
    describe,
    error::wire,
    examine,
    lease::{Claim, Lease},
    material::Prepared,
    store::Store,
    trial::{self, Device, Trial},
    worker::{Launcher, Order, Outcome, Step, supervise},
};
use edgewise_protocol::{
    AgentMessage, BlobId, ErrorCode, GenerateJob, MeasureJob, OrtLibrary, Progress, Reply, Stage, WireError,
};
use std::{path::Path, sync::OnceLock, time::Duration};

/// What every request may use.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) launcher: Launcher,
    pub(super) output: Output,
    pub(super) device: Device,
    /// Known once the host has said hello.
    pub(super) claim: OnceLock<Claim>,
}

impl Shared {
    fn claim(&self) -> Result<&Claim, WireError> {
        self.claim.get().ok_or_else(|| wire(ErrorCode::Internal, "a request before the host's hello"))
    }

    /// Waits until the device is this host's; `progress` is told for whom.
    fn lease(&self, wait_ms: u32, cancel: &Cancel, progress: &mut dyn FnMut(Progress)) -> Result<Lease, WireError> {
        let wait = Duration::from_millis(u64::from(wait_ms));
        self.claim()?.take(self.store.root(), wait, cancel, |holder| {
            progress(Progress { stage: Stage::Lease, note: holder.map(str::to_owned) });
        })
    }
}

pub(super) fn describe(shared: &Shared, ort: &OrtLibrary, cancel: &Cancel) -> Result<Reply, WireError> {
    let meter = shared.device.power_meter();
    let description = describe::describe(&shared.store, &shared.launcher, meter.as_ref(), ort, cancel)?;
    Ok(Reply::Described(Box::new(description)))
}

pub(super) fn take(shared: &Shared, blob: BlobId, size: u64, path: &str, cancel: &Cancel) -> Result<Reply, WireError> {
    shared.store.take(blob, size, Path::new(path), cancel).map(|()| Reply::Stored)
}

pub(super) fn examine(shared: &Shared, cancel: &Cancel) -> Result<Reply, WireError> {
    let emulated = describe::is_emulated(&shared.launcher);
    examine::examine(&shared.device, &shared.store, shared.claim()?, emulated, cancel)
        .map(|health| Reply::Examined(Box::new(health)))
}

/// Makes one trial once the device is this host's, and keeps the connection silent while it times.
pub(super) fn measure(shared: &Shared, id: u32, job: &MeasureJob, cancel: &Cancel) -> Result<Reply, WireError> {
    let quiet = Quiet(&shared.output);
    let mut progress = |progress: Progress| {
        let timing = matches!(progress.stage, Stage::Warm | Stage::Prefill | Stage::Decode | Stage::Context | Stage::Energy);
        // The worker begins each timed step with a run that does not count, which covers this. A host that is gone shows at the
        // dispatcher, which gives this request up.
        let _ = shared.output.send(&AgentMessage::Progress { id, progress });
        quiet.0.set_quiet(timing);
    };
    let _lease = shared.lease(job.lease_wait_ms, cancel, &mut progress)?;
    let trial = Trial { store: &shared.store, launcher: &shared.launcher, device: &shared.device, job, cancel };
    trial::run(trial, &mut progress).map(|measurement| Reply::Measured(Box::new(measurement)))
}

/// Generates text once the device is this host's; what is measured there meanwhile would be wrong.
pub(super) fn generate(shared: &Shared, id: u32, job: &GenerateJob, cancel: &Cancel) -> Result<Reply, WireError> {
    // A host that is gone shows at the dispatcher, which gives this request up.
    let say = |message: AgentMessage| drop(shared.output.send(&message));
    let progress = |progress: Progress| say(AgentMessage::Progress { id, progress });
    let _lease = shared.lease(job.lease_wait_ms, cancel, &mut { progress })?;
    let at = |stage| progress(Progress { stage, note: None });
    let prepared = Prepared::new(&shared.store, &shared.launcher, job.into(), cancel, at)?;
    let order = Order::Generate {
        material: prepared.material.clone(),
        library: prepared.library.clone(),
        job: Box::new(job.clone()),
        sensors: shared.device.sensors_path(),
        emulated: describe::is_emulated(&shared.launcher),
    };
    let deadline = Duration::from_millis(u64::from(job.deadline_ms));
    let outcome = supervise(&shared.launcher, &order, deadline, cancel, |step| match step {
        Step::Stage(stage) => at(stage),
        Step::Tokens(tokens) => say(AgentMessage::Tokens { id, tokens }),
    });
    match outcome.map_err(|error| prepared.explain(&shared.store, error))? {
        Outcome::Generated(generation) => Ok(Reply::Generated(generation)),
        _ => Err(wire(ErrorCode::Internal, "the worker answered another question")),
    }
}

/// Lets the connection speak again when a measurement is over, however it ends.
struct Quiet<'a>(&'a Output);

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        self.0.set_quiet(false);
    }
}
