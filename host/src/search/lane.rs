//! The worker of one device: connects, and makes one trial after the other.
//!
//! A lane lives as long as the search. Whatever its device does, time out, vanish, come back, stays in its own lane.

use crate::{
    devices::{Fleet, Ready, RuntimeChoice},
    doctor::{self, Finding},
    exit_code,
    failure::Failure,
    json::trial_of,
    measuring::TrialSpec,
    search::agenda::Place,
    shipment::{Fault, Freights, Shipment, Way, fastest},
    ui::Printer,
};
use crossbeam_channel::{Receiver, Sender};
use edgewise_fleet::{Error, RegisteredDevice};
use edgewise_protocol::{DeviceDescription, ErrorCode, Form, Health, Measurement, Progress, Runtime};
use edgewise_search::{Role, Trial};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How often a device may be lost and found again in one search.
const COMEBACKS: u32 = 3;
/// Before it is looked for again; doubled each time. A board starts in half a minute.
const AWAY: Duration = Duration::from_secs(10);
/// How soon a lane that waits notices that the search is over.
const POLL: Duration = Duration::from_millis(100);

/// A device with how to measure on it.
pub(crate) struct Lane<'a> {
    pub(crate) registered: RegisteredDevice,
    pub(crate) fleet: &'a Fleet,
    pub(crate) choice: RuntimeChoice,
    pub(crate) allow_emulated: bool,
    pub(crate) threads: Option<u16>,
    pub(crate) printer: Printer,
    pub(crate) freights: &'a Freights<'a>,
    pub(crate) trial: TrialSpec,
    /// Files wherever the user wants no recipes.
    pub(crate) way: Way,
    /// In which form screening runs; it takes the shipped one where memory is an objective.
    pub(crate) screening: Form,
    /// The runtime that was faster on the baseline; `None` until that is known.
    pub(crate) runtime: Option<Runtime>,
    /// The baseline's time to the first token, in milliseconds, once it is known: it says how long a trial may take here.
    pub(crate) ttft_ms: Option<f64>,
    pub(crate) cancel: &'a AtomicBool,
}

/// A trial to make.
pub(crate) struct Job {
    pub(crate) place: Place,
    pub(crate) shipment: Arc<Shipment>,
    /// The full network: what goes wrong with it is not its fault.
    pub(crate) baseline: bool,
}

/// What a lane says.
pub(crate) enum Said {
    /// The device answered.
    Ready(Box<Found>),
    /// A trial is at this step.
    Stage { id: String, progress: Progress },
    /// A trial ended.
    Tried(Box<Tried>),
    /// The device did not answer.
    Lost(Failure),
}

/// A device that answered.
pub(crate) struct Found {
    pub(crate) description: DeviceDescription,
    pub(crate) health: Health,
    pub(crate) findings: Vec<Finding>,
    pub(crate) transfer_s: f64,
}

/// How a trial ended.
pub(crate) enum Ending {
    /// With numbers.
    Measured(Box<Trial>),
    /// With a fault that is the candidate's: status and reason.
    Failed(&'static str, String),
    /// Not begun: the device takes no recipes, and the files are not there.
    NeedsFiles,
    /// With a fault that is the device's, or the way's to it.
    Lost {
        failure: Failure,
        /// It may answer again: a refused key will not, a board that restarts will.
        returns: bool,
    },
    /// With a fault of the host's own files.
    Host(Failure),
}

/// A trial that ended.
pub(crate) struct Tried {
    pub(crate) place: Place,
    pub(crate) ending: Ending,
    pub(crate) transfer_s: f64,
    pub(crate) measure_s: f64,
    pub(crate) warnings: Vec<String>,
}

impl Lane<'_> {
    /// Serves until there are no more jobs, or the device is lost for good.
    pub(crate) fn run(mut self, jobs: &Receiver<Job>, say: &dyn Fn(Said) -> bool) {
        let begun = Instant::now();
        let mut ready = match self.connect() {
            Ok((ready, health)) => {
                let findings = doctor::examine(&health, &ready.description);
                let transfer_s = begun.elapsed().as_secs_f64();
                let description = ready.description.clone();
                if !say(Said::Ready(Box::new(Found { description, health, findings, transfer_s }))) {
                    return;
                }
                ready
            }
            Err(failure) => {
                say(Said::Lost(failure));
                return;
            }
        };
        let mut comebacks = 0;
        for job in jobs {
            let mut tried = self.work(&mut ready, &job, say);
            // A device that was lost at its first job is not worth waiting for: the user has just begun.
            while let Ending::Lost { failure, returns: true } = &tried.ending {
                if comebacks == COMEBACKS || self.runtime.is_none() || !self.rest(comebacks) {
                    break;
                }
                comebacks += 1;
                // Not there yet: a board that restarts takes longer than one rest.
                let Ok((again, _)) = self.connect() else { continue };
                ready = again;
                let warning = format!("was out of reach ({failure}); it is back");
                tried = self.work(&mut ready, &job, say);
                tried.warnings.push(warning);
            }
            if !say(Said::Tried(Box::new(tried))) {
                break;
            }
        }
        ready.device.close();
    }

    fn connect(&self) -> Result<(Ready, Health), Failure> {
        let mut ready = self.fleet.ready(&self.registered, self.choice, self.threads, self.printer)?;
        if !self.allow_emulated && is_emulated(&ready.description) {
            let message = format!("`{}` is emulated: its latencies would not be a board's", self.registered.name);
            return Err(Failure::new(exit_code::MEASUREMENT, message)
                .hint("--allow-emulated searches on it all the same; each of its measurements carries the flag `emulated`"));
        }
        let health = ready.device.examine().map_err(|e| Failure::from(e).about(&self.registered.name))?;
        Ok((ready, health))
    }

    /// Waits before the device is looked for again; false if the search ended meanwhile.
    fn rest(&self, comebacks: u32) -> bool {
        let until = Instant::now() + AWAY * 2_u32.pow(comebacks);
        while Instant::now() < until {
            if self.cancel.load(Ordering::Relaxed) {
                return false;
            }
            thread::sleep(POLL);
        }
        true
    }

    /// Sends what is missing and makes the trial. The baseline decides which runtime the study uses on this device: candidates
    /// of one super-network consist of the same operators, and a front must not mix two runtimes.
    fn work(&mut self, ready: &mut Ready, job: &Job, say: &dyn Fn(Said) -> bool) -> Tried {
        let mut out =
            Tried { place: job.place.clone(), ending: Ending::NeedsFiles, transfer_s: 0.0, measure_s: 0.0, warnings: Vec::new() };
        let sent_before = ready.device.bytes_sent();
        let begun = Instant::now();
        let mut sent = Ok(());
        if self.way == Way::Recipe {
            sent = match self.freights.of(job.shipment.order.as_deref()) {
                Ok(freight) if freight.fits(&ready.description) => job.shipment.send(ready, self.way, Some(freight), self.cancel),
                Ok(_) => Err(Fault::NoRoom),
                Err(failure) => Err(Fault::Host(failure)),
            };
            if sent.as_ref().is_err_and(Fault::is_no_space) {
                out.warnings.push("has no room for the super-network; candidates travel whole".to_owned());
                self.way = Way::Files;
            }
        }
        if self.way == Way::Files {
            if !job.shipment.can(Way::Files) {
                return out;
            }
            sent = job.shipment.send(ready, self.way, None, self.cancel);
        }
        out.transfer_s = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let runtimes = self.runtime.map_or_else(|| ready.runtimes.clone(), |runtime| vec![runtime]);
        let latency = |m: &Measurement| self.trial.workload.latency_ms(m.ttft.median, m.tpot.median);
        let once = |runtime| self.once(ready, job, runtime, say);
        let found = sent.and_then(|()| fastest(&runtimes, latency, once, |text| out.warnings.push(text)));
        out.measure_s = begun.elapsed().as_secs_f64();
        out.ending = match found {
            Ok(found) => {
                self.runtime = Some(found.runtime);
                if job.baseline {
                    self.ttft_ms = Some(found.ttft.median);
                }
                let sent = ready.device.bytes_sent() - sent_before;
                let form = self.form(&job.place);
                Ending::Measured(Box::new(trial_of(found, &self.registered.name, &job.place, form, &job.shipment, sent)))
            }
            Err(Fault::Host(failure)) => Ending::Host(failure),
            Err(Fault::Device(error)) => self.judge(error, job.baseline),
            Err(Fault::NoRoom) => Ending::NeedsFiles,
        };
        out
    }

    fn form(&self, place: &Place) -> Form {
        match (self.way, place.role) {
            (Way::Files, _) | (Way::Recipe, Role::Race | Role::Final) => Form::Files,
            (Way::Recipe, Role::Screen) => self.screening,
        }
    }

    /// One trial. A device that cleaned its store is sent again what it needs, once.
    fn once(&self, ready: &mut Ready, job: &Job, runtime: Runtime, say: &dyn Fn(Said) -> bool) -> Result<Measurement, Fault> {
        let how = (self.way, self.form(&job.place));
        let mut tell = |progress: &Progress| {
            // The dispatcher may be gone; then nobody wants to know.
            say(Said::Stage { id: job.place.id.clone(), progress: progress.clone() });
        };
        let trial = self.ttft_ms.map_or_else(|| self.trial.clone(), |ttft_ms| self.trial.paced(ttft_ms));
        match job.shipment.measure(ready, how, runtime, &trial, &mut tell, self.cancel) {
            Err(fault) if fault.is_missing() => {
                let freight = self.freights.of(job.shipment.order.as_deref()).map_err(Fault::Host)?;
                job.shipment.send(ready, self.way, Some(freight), self.cancel)?;
                job.shipment.measure(ready, how, runtime, &trial, &mut tell, self.cancel)
            }
            outcome => outcome,
        }
    }

    /// Whose fault it was. A full network that does not run says something about the device; a candidate that does not run
    /// says something about the candidate.
    fn judge(&self, error: Error, baseline: bool) -> Ending {
        let lost = |error: Error| {
            use Error as E;
            let returns = matches!(
                error,
                E::ConnectionLost { .. } | E::AgentSilent { .. } | E::Connect { .. } | E::Handshake { .. } | E::Resolve { .. }
            );
            Ending::Lost { failure: Failure::from(error).about(&self.registered.name), returns }
        };
        if baseline && self.runtime.is_none() || self.cancel.load(Ordering::Relaxed) {
            return lost(error);
        }
        let status = match &error {
            Error::Device { code, .. } => match code {
                ErrorCode::ModelRejected => "rejected",
                ErrorCode::ProbeMismatch => "probe_mismatch",
                ErrorCode::WorkerCrashed => "crashed",
                ErrorCode::OutOfMemory => "out_of_memory",
                ErrorCode::TimedOut => "timed_out",
                // What a board makes of a recipe takes room that it may never have; whole artifacts are no larger than the full
                // network's, which had room: then the disk has filled up since.
                ErrorCode::NoSpace if self.way == Way::Recipe => "no_space",
                _ => return lost(error),
            },
            Error::Deadline { .. } => "timed_out",
            // The next candidate gets a new agent; if that cannot be started either, the device is lost.
            Error::AgentDied { .. } => "agent_died",
            _ => return lost(error),
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

fn is_emulated(description: &DeviceDescription) -> bool {
    description.fingerprint.get("emulated").is_some_and(|answer| answer == "yes")
}

/// Starts a lane on a thread of `scope`; what it says comes with its number.
pub(crate) fn start<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    number: usize,
    lane: Lane<'scope>,
    events: Sender<super::dispatcher::Event>,
) -> Sender<Job> {
    let (sender, jobs) = crossbeam_channel::unbounded();
    scope.spawn(move || {
        lane.run(&jobs, &|said| events.send(super::dispatcher::Event::Device { number, said }).is_ok());
    });
    sender
}
