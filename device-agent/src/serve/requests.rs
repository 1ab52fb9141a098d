//! The requests that take long, each on a thread of its own.

use super::output::Output;
use crate::{
    cancel::Cancel,
    describe,
    error::{io_error, wire},
    limits::DEVICE_LOCK,
    runtime::Library,
    store::{Artifact, Store},
    sys,
    worker::{Launcher, Order, Outcome, supervise},
};
use edgewise_protocol::{AgentMessage, BlobId, ErrorCode, MeasureJob, OrtLibrary, Progress, Reply, Runtime, Stage, WireError};
use std::{
    fs::File,
    path::Path,
    time::{Duration, Instant},
};

/// What every request may use.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) launcher: Launcher,
    pub(super) output: Output,
}

pub(super) fn describe(shared: &Shared, ort: &OrtLibrary, cancel: &Cancel) -> Result<Reply, WireError> {
    let description = describe::describe(&shared.store, &shared.launcher, ort, cancel)?;
    Ok(Reply::Described(Box::new(description)))
}

pub(super) fn take(shared: &Shared, blob: BlobId, size: u64, path: &str, cancel: &Cancel) -> Result<Reply, WireError> {
    shared.store.take(blob, size, Path::new(path), cancel).map(|()| Reply::Stored)
}

/// Assembles the artifact, lets a worker measure it, and keeps the connection silent while it times.
pub(super) fn measure(shared: &Shared, id: u32, job: Box<MeasureJob>, cancel: &Cancel) -> Result<Reply, WireError> {
    let _device = lock_device(&shared.store, cancel)?;
    let artifact = Artifact::assemble(&shared.store, &job.files)?;
    // After the artifact, so that it counts as used later: the next artifact needs it again.
    let (library, _held) = match job.runtime {
        Runtime::Tract => (Library::Default, None),
        Runtime::Ort => describe::library(&shared.store, &job.ort)?,
    };
    let deadline = Duration::from_millis(u64::from(job.deadline_ms));
    let order = Order::Measure { folder: artifact.folder().to_string_lossy().into_owned(), library, job };

    let quiet = Quiet(&shared.output);
    let outcome = supervise(&shared.launcher, &order, deadline, cancel, |stage| {
        // The worker begins each timed step with a run that does not count, which covers this.
        let progress = Progress { stage, fraction: 0.0 };
        // A host that is gone shows at the dispatcher, which gives this request up.
        let _ = shared.output.send(&AgentMessage::Progress { id, progress });
        quiet.0.set_quiet(matches!(stage, Stage::Warm | Stage::Prefill | Stage::Decode));
    })?;
    match outcome {
        Outcome::Measured(measurement) => Ok(Reply::Measured(measurement)),
        Outcome::Version(_) => Err(wire(ErrorCode::Internal, "the worker answered another question")),
    }
}

/// Lets the connection speak again when a measurement is over, however it ends.
struct Quiet<'a>(&'a Output);

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        self.0.set_quiet(false);
    }
}

/// Two agents that measure at once would measure each other. The lock goes with the file, and with the process.
fn lock_device(store: &Store, cancel: &Cancel) -> Result<File, WireError> {
    let path = store.root().join("measure.lock");
    let fail = |e: std::io::Error| io_error("lock", &path, &e);
    let file = File::options().create(true).append(true).open(&path).map_err(fail)?;
    let start = Instant::now();
    while !sys::try_lock(&file, true).map_err(fail)? {
        if start.elapsed() > DEVICE_LOCK {
            return Err(wire(ErrorCode::BadRequest, "another agent is measuring on this device"));
        }
        if cancel.signal().recv_timeout(Duration::from_millis(50)) == Err(crossbeam_channel::RecvTimeoutError::Disconnected) {
            return Err(wire(ErrorCode::Cancelled, "given up by the host"));
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel;

    #[test]
    fn a_measurement_waits_for_the_other_agents_and_can_be_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), None).unwrap();
        let (canceller, cancel) = cancel::pair();
        let held = lock_device(&store, &cancel).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| lock_device(&store, &cancel));
            std::thread::sleep(Duration::from_millis(120));
            assert!(!waiting.is_finished());
            drop(held);
            drop(waiting.join().unwrap().unwrap());
        });
        let _held = lock_device(&store, &cancel).unwrap();
        drop(canceller);
        assert_eq!(lock_device(&store, &cancel).unwrap_err().code, ErrorCode::Cancelled);
    }
}
