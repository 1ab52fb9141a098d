//! The contract of a study's store, whatever keeps it.

use super::{
    error::Error,
    trial::{Gap, Session, Trial},
    types::{Artifact, Device, Failure, Origin, Pending, Quality, Record, Settings, TaskScore},
};
use crate::candidate::Candidate;
use std::collections::BTreeMap;

/// A study that is open.
///
/// Every call that stores something is one transaction, and durable when it returns. A result is stored once: a second one for
/// the same candidate, or the same seat of a device's schedule, is [`Error::AlreadyStored`], so nothing is measured twice
/// without being noticed.
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

    /// Takes the evaluation (`device` is `None`) or the screening of a candidate for this holder. `false` if another has it or it
    /// is done. A lease ends with the result, with [`StudyStore::release`], or with the holder's death. Later trials need none:
    /// their seats tell them apart.
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

    /// Adds what tasks say of a candidate whose score was stored without them.
    ///
    /// # Errors
    /// [`Error::UnknownCandidate`], [`Error::NotEvaluated`] without a score, [`Error::AlreadyStored`] where it has tasks,
    /// [`Error::NotFinite`].
    fn store_tasks(&mut self, id: &str, tasks: &BTreeMap<String, TaskScore>) -> Result<(), Error>;

    /// Stores what a candidate was exported to.
    ///
    /// # Errors
    /// [`Error::UnknownCandidate`], [`Error::AlreadyStored`].
    fn store_artifact(&mut self, id: &str, artifact: &Artifact) -> Result<(), Error>;

    /// Stores what one process on a device measured. A device screens a candidate once; the baseline is screened by its
    /// sentinels, which alone sit on seat 0.
    ///
    /// # Errors
    /// [`Error::UnknownCandidate`], [`Error::NotFinite`], [`Error::NotTheBaseline`], [`Error::AlreadyStored`] where the seat is
    /// taken by a trial or a gap, or for a screening trial of what was screened or has failed.
    fn store_trial(&mut self, id: &str, trial: &Trial) -> Result<(), Error>;

    /// Stores that a later trial failed, so that its seat is not tried again.
    ///
    /// # Errors
    /// [`Error::UnknownCandidate`], [`Error::NotTheBaseline`], [`Error::AlreadyStored`] where the seat is taken.
    fn store_gap(&mut self, id: &str, gap: &Gap) -> Result<(), Error>;

    /// Stores why there is no trial at all.
    ///
    /// # Errors
    /// [`Error::UnknownCandidate`], [`Error::AlreadyStored`] (also where the device has screened the candidate).
    fn store_failure(&mut self, id: &str, failure: &Failure) -> Result<(), Error>;

    /// Stores a device, or its facts anew.
    ///
    /// # Errors
    /// [`Error`] if it cannot be stored.
    fn store_device(&mut self, device: &Device) -> Result<(), Error>;

    /// Adds what is to be known of one run on a device.
    ///
    /// # Errors
    /// [`Error`] if it cannot be stored.
    fn store_session(&mut self, device: &str, session: &Session) -> Result<(), Error>;

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

    /// Runs with their device, in the order they were stored.
    ///
    /// # Errors
    /// [`Error`] if they cannot be read.
    fn sessions(&self) -> Result<Vec<(String, Session)>, Error>;

    /// Seats whose trial failed, with their candidate's id, in the order of device, block and seat.
    ///
    /// # Errors
    /// [`Error`] if they cannot be read.
    fn gaps(&self) -> Result<Vec<(String, Gap)>, Error>;

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
                record.trials.iter().any(|t| t.screens() && t.device == **device)
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
