//! The contract of a study's store, whatever keeps it.

use super::{
    error::Error,
    types::{Artifact, Device, Drift, Failure, MeasurementRecord, Origin, Pending, Quality, Record, Settings},
};
use crate::candidate::Candidate;
use std::collections::BTreeMap;

/// A study that is open.
///
/// Every call that stores something is one transaction, and durable when it returns. A result is stored once: a second one for
/// the same candidate (and device) is [`Error::AlreadyStored`], so nothing is measured twice without being noticed.
///
/// Search loops talk to this trait alone. Work is leased before it is done, so that several hosts can share one study in a store
/// that allows it.
pub trait StudyStore: Send {
    /// What the study was begun with, with its present budget.
    ///
    /// # Errors
    /// [`Error`] if it cannot be read.
    fn settings(&self) -> Result<Settings, Error>;

    /// Changes the budget, the one setting that may change.
    ///
    /// # Errors
    /// [`Error`] if it cannot be stored.
    fn set_budget(&mut self, budget: u32) -> Result<(), Error>;

    /// Adds a candidate at its place in a series and returns its id. A candidate that another series holds already shares its
    /// results.
    ///
    /// # Errors
    /// [`Error::AlreadyStored`] if the place is taken or the candidate is in the series, [`Error::Candidate`].
    fn propose(&mut self, candidate: &Candidate, origin: &Origin) -> Result<String, Error>;

    /// Takes the evaluation (`device` is `None`) or the measurement of a candidate for this holder. `false` if another has it or
    /// it is done. A lease ends with the result, with [`StudyStore::release`], or with the holder's death.
    ///
    /// # Errors
    /// [`Error::UnknownCandidate`].
    fn lease(&mut self, id: &str, device: Option<&str>) -> Result<bool, Error>;

    /// Gives a lease back without a result.
    ///
    /// # Errors
    /// [`Error`] if it cannot be stored.
    fn release(&mut self, id: &str, device: Option<&str>) -> Result<(), Error>;

    /// Stores a candidate's score.
    ///
    /// # Errors
    /// [`Error::UnknownCandidate`], [`Error::AlreadyStored`], [`Error::NotFinite`].
    fn store_quality(&mut self, id: &str, quality: &Quality) -> Result<(), Error>;

    /// Stores what a candidate was exported to.
    ///
    /// # Errors
    /// [`Error::UnknownCandidate`], [`Error::AlreadyStored`].
    fn store_artifact(&mut self, id: &str, artifact: &Artifact) -> Result<(), Error>;

    /// Stores what a device measured.
    ///
    /// # Errors
    /// [`Error::UnknownCandidate`], [`Error::AlreadyStored`] (also where a failure is), [`Error::NotFinite`].
    fn store_measurement(&mut self, id: &str, measurement: &MeasurementRecord) -> Result<(), Error>;

    /// Stores why there is no result.
    ///
    /// # Errors
    /// [`Error::UnknownCandidate`], [`Error::AlreadyStored`] (also where a measurement is).
    fn store_failure(&mut self, id: &str, failure: &Failure) -> Result<(), Error>;

    /// Stores a device, or its facts anew.
    ///
    /// # Errors
    /// [`Error`] if it cannot be stored.
    fn store_device(&mut self, device: &Device) -> Result<(), Error>;

    /// Stores one repeat of the baseline.
    ///
    /// # Errors
    /// [`Error::NotFinite`].
    fn store_drift(&mut self, drift: &Drift) -> Result<(), Error>;

    /// Adds seconds to a named account of where the time went (`evaluate`, `measure`, `transfer`, ...).
    ///
    /// # Errors
    /// [`Error::NotFinite`].
    fn add_seconds(&mut self, account: &str, seconds: f64) -> Result<(), Error>;

    /// Devices in the order they were first stored.
    ///
    /// # Errors
    /// [`Error`] if they cannot be read.
    fn devices(&self) -> Result<Vec<Device>, Error>;

    /// Repeats of the baseline in the order they were stored.
    ///
    /// # Errors
    /// [`Error`] if they cannot be read.
    fn drifts(&self) -> Result<Vec<Drift>, Error>;

    /// Where the time went, in seconds.
    ///
    /// # Errors
    /// [`Error`] if it cannot be read.
    fn seconds(&self) -> Result<BTreeMap<String, f64>, Error>;

    /// All candidates in the order they were first proposed.
    ///
    /// # Errors
    /// [`Error`] if they cannot be read.
    fn records(&self) -> Result<Vec<Record>, Error>;

    /// What is still to do for these devices, in the order of proposals. A candidate that failed before any device has nothing
    /// left to do.
    ///
    /// # Errors
    /// [`Error`] if it cannot be read.
    fn pending(&self, devices: &[String]) -> Result<Vec<Pending>, Error> {
        let mut out = Vec::new();
        for record in self.records()? {
            if record.failures.iter().any(|f| f.device.is_none()) {
                continue;
            }
            let done = |device: &&String| {
                record.measurements.iter().any(|m| m.device == **device)
                    || record.failures.iter().any(|f| f.device.as_ref() == Some(*device))
            };
            let devices: Vec<String> = devices.iter().filter(|d| !done(d)).cloned().collect();
            let (quality, artifact) = (record.quality.is_none(), record.artifact.is_none());
            // An artifact is only needed where something is left to measure.
            if quality || !devices.is_empty() {
                let artifact = artifact && !devices.is_empty();
                out.push(Pending { id: record.id, candidate: record.candidate, quality, artifact, devices });
            }
        }
        Ok(out)
    }
}
