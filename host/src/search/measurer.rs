//! The worker that measures candidates on one device, one at a time.

use crate::{
    devices::Ready,
    json::record_of,
    measuring::{Shipment, Trial},
};
use edgewise_fleet::Error;
use edgewise_protocol::{ErrorCode, Progress, Runtime};
use edgewise_search::MeasurementRecord;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

/// A device with how to measure on it.
pub(crate) struct Measurer<'a> {
    pub(crate) ready: Ready,
    pub(crate) trial: Trial,
    /// The runtime that was faster on the baseline; `None` until that is known.
    pub(crate) runtime: Option<Runtime>,
    pub(crate) cancel: &'a AtomicBool,
    /// What the user should know of the device.
    pub(crate) warnings: Vec<String>,
}

/// How a measurement ended.
pub(crate) enum Ending {
    /// With numbers.
    Measured(Box<MeasurementRecord>),
    /// With a fault that is the candidate's: status and reason.
    Failed(&'static str, String),
    /// With a fault that is the device's; the search cannot go on with it.
    Lost(Error),
}

/// What a measurement took.
pub(crate) struct Measured {
    pub(crate) ending: Ending,
    pub(crate) transfer_s: f64,
    pub(crate) measure_s: f64,
    pub(crate) warnings: Vec<String>,
}

impl Measurer<'_> {
    /// Sends the artifact and measures it. The baseline decides which runtime the study uses on this device: candidates of one
    /// super-network consist of the same operators, and a front must not mix two runtimes.
    pub(crate) fn work(&mut self, shipment: &Shipment, baseline: bool, progress: &mut dyn FnMut(&Progress)) -> Measured {
        let begun = Instant::now();
        let sent = shipment.send(&mut self.ready, self.cancel);
        let transfer_s = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let runtimes = self.runtime.map_or_else(|| self.ready.runtimes.clone(), |runtime| vec![runtime]);
        let found = sent.and_then(|sent| {
            let mut warn = |text| self.warnings.push(text);
            let found = shipment.measure_fastest(&mut self.ready, &runtimes, self.trial, progress, &mut warn, self.cancel)?;
            Ok((found, sent))
        });
        let measure_s = begun.elapsed().as_secs_f64();
        let ending = match found {
            Ok((found, sent)) => {
                self.runtime = Some(found.runtime);
                let manifest = &shipment.artifact.manifest;
                let name = &self.ready.registered.name;
                let record = record_of(found, name, manifest.precision.name(), shipment.artifact.bytes(), sent);
                Ending::Measured(Box::new(record))
            }
            Err(error) => self.judge(error, baseline),
        };
        Measured { ending, transfer_s, measure_s, warnings: std::mem::take(&mut self.warnings) }
    }

    /// Whose fault it was. A full network that does not run says something about the device; a candidate that does not run
    /// says something about the candidate.
    fn judge(&self, error: Error, baseline: bool) -> Ending {
        if baseline || self.cancel.load(Ordering::Relaxed) {
            return Ending::Lost(error);
        }
        let status = match &error {
            Error::Device { code, .. } => match code {
                ErrorCode::ModelRejected => "rejected",
                ErrorCode::ProbeMismatch => "probe_mismatch",
                ErrorCode::WorkerCrashed => "crashed",
                ErrorCode::OutOfMemory => "out_of_memory",
                ErrorCode::TimedOut => "timed_out",
                _ => return Ending::Lost(error),
            },
            Error::Deadline { .. } => "timed_out",
            // The next candidate gets a new agent; if that cannot be started either, the device is lost.
            Error::AgentDied { .. } => "agent_died",
            _ => return Ending::Lost(error),
        };
        let mut reason = error.to_string();
        let mut next = std::error::Error::source(&error);
        while let Some(cause) = next {
            reason = format!("{reason}: {cause}");
            next = cause.source();
        }
        Ending::Failed(status, reason)
    }
}
