//! The dispatcher: owns the study and all state, decides what starts, stores each result before it asks for the next.

use super::{
    Evaluator, Lane, Measurer, Schedule,
    evaluator::Evaluated,
    measurer::{Ending, Measured},
};
use crate::{
    exit_code,
    failure::Failure,
    json::{Timing, now_ms},
    measuring::Shipment,
    view::View,
};
use crossbeam_channel::{Receiver, Sender, unbounded};
use edgewise_protocol::Progress;
use edgewise_search::{Artifact, Candidate, Drift, Failure as StoredFailure, Origin, Sampler, StudyStore, propose};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Is told how the search goes.
pub(crate) trait Observer {
    /// A candidate's quality is being evaluated.
    fn evaluating(&mut self, position: usize, id: &str);
    /// A device works on a candidate.
    fn measuring(&mut self, position: usize, id: &str, device: &str, progress: Option<&Progress>);
    /// All of a candidate's results are stored.
    fn finished(&mut self, id: &str, view: &View) -> Result<(), Failure>;
    /// Something about a device that the user should know.
    fn warning(&mut self, device: &str, text: &str);
    /// A device cannot go on.
    fn lost(&mut self, device: &str, failure: &Failure);
}

/// How the search ended.
pub(crate) struct Finished {
    pub(crate) timing: Timing,
    /// The fault of the first device that was lost, where others went on.
    pub(crate) lost: Option<Failure>,
}

/// A search that is set up.
pub(crate) struct Dispatcher<'a> {
    pub(crate) study: &'a mut dyn StudyStore,
    pub(crate) sampler: &'a dyn Sampler,
    pub(crate) evaluator: &'a Evaluator<'a>,
    pub(crate) observer: &'a mut dyn Observer,
    pub(crate) cancel: &'a AtomicBool,
}

/// One candidate on its way.
struct Work {
    id: String,
    candidate: Candidate,
    quality: bool,
    evaluated: bool,
    shipment: Option<Arc<Shipment>>,
    /// Devices that have not finished it.
    pending: BTreeSet<usize>,
    told: bool,
}

enum Job {
    Measure { index: usize, shipment: Arc<Shipment> },
    Again { shipment: Arc<Shipment> },
}

enum Event {
    Evaluated { index: usize, result: Box<Result<Result<Evaluated, String>, Failure>> },
    Stage { device: usize, index: usize, progress: Progress },
    Measured { device: usize, index: usize, measured: Measured },
    Again { device: usize, measured: Measured },
}

/// What the loop keeps besides the study.
struct State {
    work: Vec<Work>,
    schedule: Schedule,
    names: Vec<String>,
    alive: Vec<bool>,
    timing: Timing,
    exhausted: bool,
    first_lost: Option<Failure>,
    stop: Option<Failure>,
    measured: usize,
}

impl Dispatcher<'_> {
    /// Runs until the budget is spent, the space is exhausted, or no device is left.
    pub(crate) fn run(&mut self, measurers: Vec<Measurer<'_>>, timing: Timing) -> Result<Finished, Failure> {
        let lanes = measurers.iter().map(|m| Lane { shares_host: m.ready.registered.shares_host, busy: false }).collect();
        let mut state = State {
            names: measurers.iter().map(|m| m.ready.registered.name.clone()).collect(),
            alive: vec![true; measurers.len()],
            schedule: Schedule { lanes, evaluating: false },
            work: Vec::new(),
            timing,
            exhausted: false,
            first_lost: None,
            stop: None,
            measured: 0,
        };
        self.recall(&mut state)?;
        let (events_in, events) = unbounded();
        let evaluator = self.evaluator;
        thread::scope(|scope| {
            let (evaluations, jobs) = unbounded::<(usize, String, Candidate, bool, bool)>();
            let sender = events_in.clone();
            scope.spawn(move || {
                for (index, id, candidate, quality, artifact) in jobs {
                    let result = Box::new(evaluator.work(&id, &candidate, quality, artifact));
                    if sender.send(Event::Evaluated { index, result }).is_err() {
                        return;
                    }
                }
            });
            let devices: Vec<Sender<Job>> = measurers
                .into_iter()
                .enumerate()
                .map(|(device, measurer)| {
                    let (sender, jobs) = unbounded();
                    let events = events_in.clone();
                    scope.spawn(move || serve(device, measurer, &jobs, &events));
                    sender
                })
                .collect();
            drop(events_in);
            self.pump(&mut state, &evaluations, &devices, &events)
        })?;
        if let Some(failure) = state.stop.take() {
            return Err(failure);
        }
        if !state.alive.contains(&true) {
            return Err(state.first_lost.take().unwrap_or_else(|| Failure::new(exit_code::BUG, "no device is left")));
        }
        Ok(Finished { timing: state.timing, lost: state.first_lost })
    }

    /// Takes up what the study already holds.
    fn recall(&mut self, state: &mut State) -> Result<(), Failure> {
        let pending = self.study.pending(&state.names)?;
        let view = View::read(self.study)?;
        for record in view.searched() {
            let open = pending.iter().find(|p| p.id == record.id);
            let devices = open.map(|p| &p.devices[..]).unwrap_or_default();
            let waits = |name: &String| devices.contains(name);
            state.work.push(Work {
                id: record.id.clone(),
                candidate: record.candidate.clone(),
                quality: open.is_some_and(|p| p.quality),
                evaluated: open.is_none(),
                shipment: None,
                pending: state.names.iter().enumerate().filter(|(_, n)| waits(n)).map(|(i, _)| i).collect(),
                told: open.is_none(),
            });
        }
        Ok(())
    }

    fn pump(
        &mut self,
        state: &mut State,
        evaluations: &Sender<(usize, String, Candidate, bool, bool)>,
        devices: &[Sender<Job>],
        events: &Receiver<Event>,
    ) -> Result<(), Failure> {
        let budget = self.study.settings()?.budget as usize;
        let gone = || Failure::new(exit_code::BUG, "a worker thread ended early");
        let mut drift_left: Option<Vec<usize>> = None;
        loop {
            let stopping = state.stop.is_some() || self.cancel.load(Ordering::Relaxed) || !state.alive.contains(&true);
            if !stopping {
                self.propose(state, budget)?;
                if let Some(index) = state.next_evaluation() {
                    let work = &state.work[index];
                    self.observer.evaluating(index, &work.id);
                    if work.quality && !self.study.lease(&work.id, None)? {
                        return Err(in_use(&work.id));
                    }
                    let job = (index, work.id.clone(), work.candidate.clone(), work.quality, !work.pending.is_empty());
                    evaluations.send(job).map_err(|_| gone())?;
                    state.schedule.evaluating = true;
                }
                for (device, jobs) in devices.iter().enumerate() {
                    if let Some((index, shipment)) = state.next_measurement(device) {
                        let (id, name) = (&state.work[index].id, &state.names[device]);
                        self.observer.measuring(index, id, name, None);
                        if !self.study.lease(id, Some(name))? {
                            return Err(in_use(id));
                        }
                        jobs.send(Job::Measure { index, shipment }).map_err(|_| gone())?;
                        state.schedule.lanes[device].busy = true;
                    }
                }
            }
            if !state.schedule.evaluating && !state.schedule.lanes.iter().any(|lane| lane.busy) {
                if stopping || !state.is_done(budget) {
                    break;
                }
                // All is measured: once more the baseline, on one device after the other.
                let left = drift_left.get_or_insert_with(|| {
                    let all = (0..devices.len()).filter(|&d| state.alive[d]).collect();
                    if state.measured > 1 { all } else { Vec::new() }
                });
                let Some(device) = left.pop() else { break };
                let Some(shipment) = self.baseline_shipment(state)? else { break };
                self.observer.measuring(0, &state.work[0].id, &state.names[device], None);
                devices[device].send(Job::Again { shipment }).map_err(|_| gone())?;
                state.schedule.lanes[device].busy = true;
            }
            let event = events.recv().map_err(|_| gone())?;
            self.handle(state, event)?;
        }
        if self.cancel.load(Ordering::Relaxed) && state.stop.is_none() {
            state.stop = Some(Failure::new(exit_code::INTERRUPTED, "stopped by the user"));
        }
        Ok(())
    }

    /// Proposes the next candidate when everything it may know about is known.
    fn propose(&mut self, state: &mut State, budget: usize) -> Result<(), Failure> {
        let next = state.work.len();
        let ahead = state.schedule.ahead();
        if state.exhausted || next >= budget || !state.is_finished(next.saturating_sub(ahead)) {
            return Ok(());
        }
        let settings = self.study.settings()?;
        let candidate = if next == 0 {
            Some(settings.space.full())
        } else {
            let view = View::read(self.study)?;
            let history = view.history(&state.names[0]).as_of(next.saturating_sub(ahead));
            propose(self.sampler, settings.seed, &history)?
        };
        let Some(candidate) = candidate else {
            state.exhausted = true;
            return Ok(());
        };
        let id = self.study.propose(&candidate, &Origin::search(next as u32))?;
        let pending = (0..state.names.len()).filter(|&d| state.alive[d]).collect();
        state.work.push(Work { id, candidate, quality: true, evaluated: false, shipment: None, pending, told: false });
        Ok(())
    }

    fn handle(&mut self, state: &mut State, event: Event) -> Result<(), Failure> {
        match event {
            Event::Evaluated { index, result } => {
                state.schedule.evaluating = false;
                self.evaluated(state, index, *result)?;
                self.tell(state, index)
            }
            Event::Stage { device, index, progress } => {
                self.observer.measuring(index, &state.work[index].id, &state.names[device], Some(&progress));
                Ok(())
            }
            Event::Measured { device, index, measured } => {
                state.account(device, &measured);
                measured.warnings.iter().for_each(|text| self.observer.warning(&state.names[device], text));
                self.measured(state, device, index, measured.ending)?;
                self.tell(state, index)
            }
            Event::Again { device, measured } => {
                state.account(device, &measured);
                self.drifted(state, device, measured.ending)
            }
        }
    }

    fn evaluated(
        &mut self,
        state: &mut State,
        index: usize,
        result: Result<Result<Evaluated, String>, Failure>,
    ) -> Result<(), Failure> {
        let work = &mut state.work[index];
        work.evaluated = true;
        let done = match result {
            Ok(Ok(done)) => done,
            Ok(Err(message)) => {
                work.pending.clear();
                self.study.store_failure(&work.id, &StoredFailure { device: None, status: "failed".into(), message })?;
                return Ok(());
            }
            Err(failure) => {
                // The candidate is not to blame: the study keeps it open, to be done when the search is resumed.
                self.study.release(&work.id, None)?;
                state.stop = Some(failure);
                return Ok(());
            }
        };
        state.timing.evaluate_s += done.evaluate_s;
        state.timing.export_s += done.export_s;
        self.study.add_seconds("evaluate", done.evaluate_s)?;
        self.study.add_seconds("export", done.export_s)?;
        if let Some(quality) = done.quality {
            self.study.store_quality(&work.id, &quality)?;
        }
        if let Some(shipment) = done.shipment {
            let manifest = &shipment.artifact.manifest;
            let made = Artifact {
                sha256: shipment.artifact.sha256.clone(),
                bytes: shipment.artifact.bytes(),
                parameters: manifest.parameters,
            };
            let stored = self.study.records()?.into_iter().find(|r| r.id == work.id).and_then(|r| r.artifact);
            match stored {
                None => self.study.store_artifact(&work.id, &made)?,
                Some(before) if before == made => {}
                Some(_) => {
                    let message = format!("the artifact of `{}` is not the one this study measured before", work.id);
                    state.stop = Some(
                        Failure::new(exit_code::STUDY, message)
                            .hint("the model or the program changed; begin a new study with another --study"),
                    );
                }
            }
            work.shipment = Some(Arc::new(shipment));
        }
        Ok(())
    }

    fn measured(&mut self, state: &mut State, device: usize, index: usize, ending: Ending) -> Result<(), Failure> {
        let name = state.names[device].clone();
        let id = state.work[index].id.clone();
        match ending {
            Ending::Measured(record) => {
                self.study.store_measurement(&id, &record)?;
                state.measured += 1;
            }
            Ending::Failed(status, message) => {
                let failure = StoredFailure { device: Some(name), status: status.into(), message };
                self.study.store_failure(&id, &failure)?;
            }
            Ending::Lost(error) => {
                self.study.release(&id, Some(&name))?;
                state.lose(device, error.into(), self.observer);
                return Ok(());
            }
        }
        state.work[index].pending.remove(&device);
        Ok(())
    }

    fn drifted(&mut self, state: &mut State, device: usize, ending: Ending) -> Result<(), Failure> {
        let name = &state.names[device];
        match ending {
            Ending::Measured(again) => {
                let view = View::read(self.study)?;
                let first = view.baseline().and_then(|b| b.measurements.iter().find(|m| m.device == *name));
                if let Some(first) = first {
                    self.study.store_drift(&Drift {
                        device: name.clone(),
                        at_ms: now_ms(),
                        after: state.work.len() as u32,
                        ttft_ratio: again.ttft_ms.median / first.ttft_ms.median,
                        tpot_ratio: again.tpot_ms.median / first.tpot_ms.median,
                    })?;
                }
            }
            // Everything the study is for is stored; only the figure for the drift is missing.
            Ending::Failed(_, message) => {
                self.observer.warning(name, &format!("the baseline could not be measured again: {message}"));
            }
            Ending::Lost(error) => {
                self.observer.warning(name, &format!("the baseline could not be measured again: {error}"));
            }
        }
        Ok(())
    }

    /// Says once that a candidate is done, and drops its files.
    fn tell(&mut self, state: &mut State, index: usize) -> Result<(), Failure> {
        let work = &mut state.work[index];
        if work.told || !work.evaluated || !work.pending.is_empty() || state.stop.is_some() {
            return Ok(());
        }
        work.told = true;
        // The baseline is measured once more at the end.
        if index > 0 {
            work.shipment = None;
            Evaluator::forget(&self.evaluator.folder, &work.id);
        }
        let view = View::read(self.study)?;
        self.observer.finished(&state.work[index].id, &view)
    }

    /// The baseline's artifact; made again where the search was resumed after it.
    fn baseline_shipment(&mut self, state: &mut State) -> Result<Option<Arc<Shipment>>, Failure> {
        let Some(work) = state.work.first_mut() else { return Ok(None) };
        if work.shipment.is_none() {
            let Ok(made) = self.evaluator.work(&work.id, &work.candidate, false, true)? else { return Ok(None) };
            state.timing.export_s += made.export_s;
            work.shipment = made.shipment.map(Arc::new);
        }
        Ok(work.shipment.clone())
    }
}

impl State {
    /// Whether the first `count` candidates have all their results.
    fn is_finished(&self, count: usize) -> bool {
        let pending = |w: &Work| w.pending.iter().any(|&d| self.alive[d]);
        self.work.iter().take(count).all(|w| w.evaluated && !pending(w))
    }

    fn is_done(&self, budget: usize) -> bool {
        (self.exhausted || self.work.len() >= budget) && self.is_finished(self.work.len())
    }

    fn next_evaluation(&self) -> Option<usize> {
        let index = self.work.iter().position(|w| !w.evaluated)?;
        let ready = self.is_finished(index.saturating_sub(self.schedule.ahead()));
        (ready && self.schedule.may_evaluate()).then_some(index)
    }

    fn next_measurement(&self, device: usize) -> Option<(usize, Arc<Shipment>)> {
        if !self.alive[device] || !self.schedule.may_measure(device) {
            return None;
        }
        let index = self.work.iter().position(|w| w.pending.contains(&device))?;
        self.work[index].shipment.clone().map(|shipment| (index, shipment))
    }

    fn account(&mut self, device: usize, measured: &Measured) {
        self.schedule.lanes[device].busy = false;
        self.timing.transfer_s += measured.transfer_s;
        self.timing.measure_s += measured.measure_s;
    }

    fn lose(&mut self, device: usize, failure: Failure, observer: &mut dyn Observer) {
        self.alive[device] = false;
        observer.lost(&self.names[device], &failure);
        self.first_lost.get_or_insert(failure);
    }
}

fn in_use(id: &str) -> Failure {
    Failure::new(exit_code::STUDY, format!("`{id}` is being worked on by another process"))
}

/// A device's thread.
fn serve(device: usize, mut measurer: Measurer<'_>, jobs: &Receiver<Job>, events: &Sender<Event>) {
    for job in jobs {
        let event = match job {
            Job::Measure { index, shipment } => {
                // The dispatcher may be gone; then nobody wants to know.
                let mut tell = |p: &Progress| drop(events.send(Event::Stage { device, index, progress: p.clone() }));
                let measured = measurer.work(&shipment, index == 0, &mut tell);
                Event::Measured { device, index, measured }
            }
            Job::Again { shipment } => {
                let measured = measurer.work(&shipment, false, &mut |_| {});
                Event::Again { device, measured }
            }
        };
        if events.send(event).is_err() {
            return;
        }
    }
    measurer.ready.device.close();
}
