//! The dispatcher: owns the study and all state, decides what starts, stores each result before it asks for the next.

mod proposals;

pub(crate) use proposals::Explorer;

use super::{
    Evaluator, Schedule,
    agenda::{Agenda, Place},
    evaluator::{Evaluated, Wanted},
    lane::{self, Ending, Found, Job, Lane, Said, Tried},
    plan,
    state::{Member, Phase, Quality, Spent, State, Work},
};
use crate::{
    exit_code,
    failure::Failure,
    json::{Timing, now_ms},
    shipment::Way,
    view::View,
};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use edgewise_protocol::Progress;
use edgewise_search::{
    Artifact, Candidate, Failure as StoredFailure, Gap, Origin, Role, Rules, SENTINEL_SEAT, Sampler, StudyStore,
};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Once a device has answered, the others get this long before the search begins without them. They join when they come.
const GRACE: Duration = Duration::from_secs(20);
/// How soon a cancellation is noticed while devices are looked for.
const POLL: Duration = Duration::from_millis(200);

/// Is told how the search goes.
pub(crate) trait Observer {
    /// A device answered.
    fn ready(&mut self, device: &str, found: &Found);
    /// A candidate's quality is being evaluated.
    fn evaluating(&mut self, position: usize, id: &str);
    /// So many candidates were looked at on the host alone, of how many.
    fn exploring(&mut self, done: usize, of: usize);
    /// A device works on a candidate.
    fn measuring(&mut self, position: usize, id: &str, device: &str, progress: Option<&Progress>);
    /// All devices have screened a candidate.
    fn finished(&mut self, id: &str, view: &View) -> Result<(), Failure>;
    /// Something about a device that the user should know.
    fn warning(&mut self, device: &str, text: &str);
    /// A device cannot go on.
    fn lost(&mut self, device: &str, failure: &Failure);
}

/// Makes or opens the study once it is known which devices are there.
pub(crate) trait OpenStudy {
    /// Called once, with the devices that answered.
    fn open(&mut self) -> Result<Box<dyn StudyStore>, Failure>;
    /// Stores what a device is like.
    fn greet(&mut self, study: &mut dyn StudyStore, device: &str, found: &Found) -> Result<(), Failure>;
}

/// How the search ended.
pub(crate) struct Finished {
    pub(crate) timing: Timing,
    pub(crate) study: Box<dyn StudyStore>,
    /// Devices that were lost, and why.
    pub(crate) lost: Vec<(String, Failure)>,
}

/// A search that is set up.
pub(crate) struct Dispatcher<'a> {
    pub(crate) sampler: &'a dyn Sampler,
    pub(crate) evaluator: &'a Evaluator<'a>,
    pub(crate) observer: &'a mut dyn Observer,
    pub(crate) opening: &'a mut dyn OpenStudy,
    pub(crate) explorer: Explorer<'a>,
    /// What is measured once the search has proposed all of its own: fixed recipes, by their places in their series.
    pub(crate) baselines: VecDeque<(Origin, Candidate)>,
    pub(crate) rules: Rules,
    /// The race of a device may take this share of the time that its screening took; as long as it takes, if absent.
    pub(crate) race_share: Option<f64>,
    /// Once one device is through, the others get this long.
    pub(crate) patience: Option<Duration>,
    pub(crate) cancel: &'a AtomicBool,
}

/// What comes back from the threads.
pub(crate) enum Event {
    Evaluated { index: usize, result: Box<Result<Result<Evaluated, String>, Failure>> },
    Device { number: usize, said: Said },
}

/// The study with the loop's own state.
struct Run<'r, 'a> {
    of: &'r mut Dispatcher<'a>,
    study: Box<dyn StudyStore>,
    state: State,
    /// Candidates of which a device waits for its shipment.
    wanted: Vec<usize>,
    first_through: Option<Instant>,
}

impl Dispatcher<'_> {
    /// Runs until the budget is spent and nothing is open any more, the space is exhausted, or no device is left.
    pub(crate) fn run(&mut self, lanes: Vec<Lane<'_>>, timing: Timing) -> Result<Finished, Failure> {
        let plan = lanes.iter().map(|l| plan::Lane { shares_host: l.registered.shares_host, busy: false }).collect();
        let member = |lane: &Lane<'_>| Member {
            name: lane.registered.name.clone(),
            phase: Phase::Connecting,
            agenda: Agenda::default(),
            pending: BTreeSet::new(),
            way: lane.way,
            spent: Spent::default(),
            done: false,
            jobs: None,
            failure: None,
        };
        let mut state = State {
            members: lanes.iter().map(member).collect(),
            schedule: Schedule { lanes: plan, evaluating: false },
            work: Vec::new(),
            timing,
            searched: 0,
            explored: 0,
            exhausted: false,
            complete: false,
            stop: None,
        };
        let evaluator = self.evaluator;
        thread::scope(|scope| {
            let (events_in, events) = unbounded();
            let (evaluations, jobs) = unbounded::<(usize, String, Candidate, Wanted)>();
            let sender = events_in.clone();
            scope.spawn(move || {
                for (index, id, candidate, wanted) in jobs {
                    let result = Box::new(evaluator.work(&id, &candidate, wanted));
                    if sender.send(Event::Evaluated { index, result }).is_err() {
                        return;
                    }
                }
            });
            for (number, lane) in lanes.into_iter().enumerate() {
                state.members[number].jobs = Some(lane::start(scope, number, lane, events_in.clone()));
            }
            drop(events_in);
            let found = self.look_for_devices(&mut state, &events)?;
            let study = self.opening.open()?;
            let mut run = Run { of: self, study, state, wanted: Vec::new(), first_through: None };
            run.recall()?;
            for (number, found) in found {
                run.joined(number, &found)?;
            }
            run.pump(&evaluations, &events)?;
            // Lanes end when nobody has jobs for them.
            run.state.members.iter_mut().for_each(|m| m.jobs = None);
            run.finish()
        })
    }

    /// Waits until it is known which devices are there, and for those that are late no longer than [`GRACE`].
    fn look_for_devices(&mut self, state: &mut State, events: &Receiver<Event>) -> Result<Vec<(usize, Box<Found>)>, Failure> {
        let mut found = Vec::new();
        let mut first: Option<Instant> = None;
        while state.members.iter().any(|m| m.phase == Phase::Connecting) && first.is_none_or(|at| at.elapsed() < GRACE) {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Failure::new(exit_code::INTERRUPTED, "stopped by the user"));
            }
            match events.recv_timeout(POLL) {
                Ok(Event::Device { number, said: Said::Ready(device) }) => {
                    state.members[number].phase = Phase::Ready;
                    first.get_or_insert_with(Instant::now);
                    found.push((number, device));
                }
                Ok(Event::Device { number, said: Said::Lost(failure) }) => {
                    let member = &mut state.members[number];
                    // A single device's failure is the command's own error.
                    if state.schedule.lanes.len() > 1 {
                        self.observer.lost(&member.name, &failure);
                    }
                    (member.phase, member.failure) = (Phase::Lost, Some(failure));
                }
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if found.is_empty() {
            let first = state.members.iter_mut().find_map(|m| m.failure.take());
            return Err(first.unwrap_or_else(|| Failure::new(exit_code::BUG, "no device is left")));
        }
        found.sort_by_key(|(number, _)| *number);
        Ok(found)
    }
}

impl Run<'_, '_> {
    /// Takes up the candidates that the study already holds.
    fn recall(&mut self) -> Result<(), Failure> {
        let view = View::read(&*self.study)?;
        let searched = view.searched();
        self.state.searched = searched.len();
        self.state.explored = view.explored().len();
        let others = view.records.iter().filter(|r| !r.is_searched());
        for record in searched.into_iter().chain(others) {
            let asks = record.is_measured() && self.of.evaluator.asks();
            let quality = match &record.quality {
                _ if record.failures.iter().any(|f| f.device.is_none()) => Quality::Failed,
                None => Quality::Open,
                Some(known) if asks && known.tasks.is_empty() => Quality::Unasked,
                Some(_) => Quality::Known,
            };
            self.state.work.push(Work {
                id: record.id.clone(),
                candidate: record.candidate.clone(),
                quality,
                shipment: None,
                measured: record.is_measured(),
                told: !quality.is_open(),
            });
        }
        Ok(())
    }

    /// A device is there: stores what it is like and finds out what it has to do.
    fn joined(&mut self, number: usize, found: &Found) -> Result<(), Failure> {
        let name = self.state.members[number].name.clone();
        self.of.observer.ready(&name, found);
        self.of.opening.greet(&mut *self.study, &name, found)?;
        self.state.timing.transfer_s += found.transfer_s;
        let view = View::read(&*self.study)?;
        let pending = self.study.pending(std::slice::from_ref(&name))?;
        let open = |id: &str| pending.iter().any(|p| p.id == id && !p.devices.is_empty());
        let seconds = |role: Role| view.seconds.get(&format!("{} on {name}", role.name())).copied().unwrap_or_default();
        let member = &mut self.state.members[number];
        member.phase = Phase::Ready;
        member.spent = Spent { screen_s: seconds(Role::Screen), race_s: seconds(Role::Race), raced: 0 };
        member.agenda = Agenda::of(&view, &name);
        member.pending = self.state.work.iter().enumerate().filter(|(_, w)| w.measured && open(&w.id)).map(|(i, _)| i).collect();
        let pending = member.pending.clone();
        for index in pending {
            self.state.work[index].told = false;
        }
        Ok(())
    }

    fn pump(
        &mut self,
        evaluations: &Sender<(usize, String, Candidate, Wanted)>,
        events: &Receiver<Event>,
    ) -> Result<(), Failure> {
        let budget = self.study.settings()?.budget as usize;
        let gone = || Failure::new(exit_code::BUG, "a worker thread ended early");
        loop {
            let cancelled = self.of.cancel.load(Ordering::Relaxed);
            let stopping = self.state.stop.is_some() || cancelled || !self.state.any_alive() || self.out_of_patience();
            if !stopping {
                self.propose(budget)?;
                for device in 0..self.state.members.len() {
                    self.start_trial(device)?;
                }
                // What a device waits for may have been found out just now.
                if let Some(index) = self.state.next_evaluation(&self.wanted) {
                    self.wanted.retain(|&i| i != index);
                    let work = &self.state.work[index];
                    let quality = work.quality == Quality::Open;
                    let measured = work.measured && work.quality.is_open();
                    let tasks = measured && self.of.evaluator.asks();
                    if measured {
                        self.of.observer.evaluating(index, &work.id);
                    }
                    if quality && !self.study.lease(&work.id, None)? {
                        return Err(in_use(&work.id));
                    }
                    let files = self.state.members.iter().any(|m| m.phase == Phase::Ready && m.way == Way::Files);
                    let way = if files { Way::Files } else { Way::Recipe };
                    let wanted = Wanted { quality, tasks, shipment: work.measured.then_some(way) };
                    evaluations.send((index, work.id.clone(), work.candidate.clone(), wanted)).map_err(|_| gone())?;
                    self.state.schedule.evaluating = true;
                }
            }
            if !self.state.schedule.evaluating && !self.state.schedule.lanes.iter().any(|lane| lane.busy) {
                // Devices that are still looked for are not waited for.
                break;
            }
            match events.recv_timeout(POLL) {
                Ok(event) => self.handle(event)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
            }
        }
        if self.of.cancel.load(Ordering::Relaxed) && self.state.stop.is_none() {
            self.state.stop = Some(Failure::new(exit_code::INTERRUPTED, "stopped by the user"));
        }
        Ok(())
    }

    fn out_of_patience(&self) -> bool {
        self.of.patience.zip(self.first_through).is_some_and(|(patience, at)| at.elapsed() > patience)
    }

    /// Gives a device its next trial, if it has one and may work now.
    fn start_trial(&mut self, device: usize) -> Result<(), Failure> {
        let state = &self.state;
        if !state.alive(device) || state.members[device].done || !state.schedule.may_measure(device) || state.work.is_empty() {
            return Ok(());
        }
        let name = state.members[device].name.clone();
        let place = match state.next_screening(device) {
            Some((_, place)) => place,
            None if state.screened(device) => {
                let view = View::read(&*self.study)?;
                let member = &state.members[device];
                let next = member.agenda.race(&view, &name, self.of.rules)?;
                // Time ends a race between blocks only: half a block says little.
                let allowed = |place: &Place, seats: usize| {
                    let share = self.of.race_share.filter(|_| place.seat == SENTINEL_SEAT);
                    share.is_none_or(|share| member.spent.allows(seats, share))
                };
                let Some((place, _)) = next.filter(|(place, seats)| allowed(place, *seats)) else {
                    self.state.members[device].done = true;
                    self.first_through.get_or_insert_with(Instant::now);
                    return Ok(());
                };
                place
            }
            None => return Ok(()),
        };
        let index = self.state.index_of(&place.id).ok_or_else(|| Failure::new(exit_code::BUG, "a seat is nobody's"))?;
        if !self.state.has_shipment(device, index) {
            if !self.wanted.contains(&index) {
                self.wanted.push(index);
            }
            return Ok(());
        }
        self.of.observer.measuring(index, &place.id, &name, None);
        if screens(&place) && !self.study.lease(&place.id, Some(&name))? {
            return Err(in_use(&place.id));
        }
        let Some(shipment) = self.state.work[index].shipment.clone() else { return Ok(()) };
        let job = Job { place, shipment, baseline: index == 0 };
        let member = &self.state.members[device];
        if member.jobs.as_ref().is_none_or(|jobs| jobs.send(job).is_err()) {
            return Err(Failure::new(exit_code::BUG, format!("the lane of `{name}` ended early")));
        }
        self.state.schedule.lanes[device].busy = true;
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Evaluated { index, result } => {
                self.state.schedule.evaluating = false;
                self.evaluated(index, *result)?;
                self.tell()
            }
            Event::Device { number, said } => match said {
                Said::Ready(found) => self.joined(number, &found),
                Said::Lost(failure) => {
                    self.lose(number, failure);
                    self.tell()
                }
                Said::Stage { id, progress } => {
                    if let Some(index) = self.state.index_of(&id) {
                        self.of.observer.measuring(index, &id, &self.state.members[number].name, Some(&progress));
                    }
                    Ok(())
                }
                Said::Tried(tried) => {
                    self.tried(number, *tried)?;
                    self.tell()
                }
            },
        }
    }

    fn evaluated(&mut self, index: usize, result: Result<Result<Evaluated, String>, Failure>) -> Result<(), Failure> {
        let work = &mut self.state.work[index];
        let done = match result {
            Ok(Ok(done)) => done,
            Ok(Err(message)) => {
                work.quality = Quality::Failed;
                self.study.store_failure(&work.id, &StoredFailure { device: None, status: "failed".into(), message })?;
                return Ok(());
            }
            Err(failure) => {
                // The candidate is not to blame: the study keeps it open, to be done when the search is resumed.
                if work.quality == Quality::Open {
                    self.study.release(&work.id, None)?;
                }
                self.state.stop = Some(failure);
                return Ok(());
            }
        };
        let unasked = done.quality.is_some() && done.tasks.is_empty() && work.measured && self.of.evaluator.asks();
        work.quality = if unasked { Quality::Unasked } else { Quality::Known };
        self.state.timing.evaluate_s += done.evaluate_s;
        self.state.timing.export_s += done.export_s;
        self.study.add_seconds("evaluate", done.evaluate_s)?;
        self.study.add_seconds("export", done.export_s)?;
        match done.quality {
            Some(quality) => self.study.store_quality(&work.id, &edgewise_search::Quality { tasks: done.tasks, ..quality })?,
            None if !done.tasks.is_empty() => self.study.store_tasks(&work.id, &done.tasks)?,
            None => {}
        }
        if let Some(shipment) = done.shipment {
            let made =
                Artifact { sha256: shipment.sha256.clone(), bytes: shipment.bytes(), parameters: shipment.manifest.parameters };
            let stored = self.study.records()?.into_iter().find(|r| r.id == work.id).and_then(|r| r.artifact);
            match stored {
                None => self.study.store_artifact(&work.id, &made)?,
                Some(before) if before == made => {}
                Some(_) => {
                    let message = format!("the artifact of `{}` is not the one this study measured before", work.id);
                    self.state.stop = Some(
                        Failure::new(exit_code::STUDY, message)
                            .hint("the model or the program changed; begin a new study with another --study"),
                    );
                }
            }
            work.shipment = Some(Arc::new(shipment));
        }
        Ok(())
    }

    fn tried(&mut self, number: usize, tried: Tried) -> Result<(), Failure> {
        let Tried { place, ending, transfer_s, measure_s, warnings } = tried;
        self.state.schedule.lanes[number].busy = false;
        self.state.timing.transfer_s += transfer_s;
        self.state.timing.measure_s += measure_s;
        let name = self.state.members[number].name.clone();
        // Sending the super-network is no part of what a trial costs.
        let spent = &mut self.state.members[number].spent;
        if place.role == Role::Screen {
            spent.screen_s += measure_s;
        } else {
            spent.race_s += measure_s;
            spent.raced += 1;
        }
        self.study.add_seconds(&format!("{} on {name}", place.role.name()), measure_s)?;
        for text in &warnings {
            self.of.observer.warning(&name, text);
        }
        let index = self.state.index_of(&place.id);
        match ending {
            Ending::Measured(trial) => self.study.store_trial(&place.id, &trial)?,
            // What never ran has failed; what ran before just lacks this trial.
            Ending::Failed(status, message) if screens(&place) && index != Some(0) => {
                self.study.store_failure(&place.id, &StoredFailure { device: Some(name), status: status.into(), message })?;
                // Its seat stays free for the next candidate.
                self.through(number, index);
                return Ok(());
            }
            Ending::Failed(status, message) => {
                self.of.observer.warning(&name, &format!("a trial of {} failed: {message}", place.id));
                let gap =
                    Gap { device: name, block: place.block, seat: place.seat, status: status.into(), message, at_ms: now_ms() };
                self.study.store_gap(&place.id, &gap)?;
                if screens(&place) {
                    self.study.release(&place.id, Some(&gap.device))?;
                }
            }
            Ending::NeedsFiles => {
                self.state.members[number].way = Way::Files;
                if screens(&place) {
                    self.study.release(&place.id, Some(&name))?;
                }
                return Ok(());
            }
            Ending::Lost { failure, .. } => {
                if screens(&place) {
                    self.study.release(&place.id, Some(&name))?;
                }
                self.lose(number, failure);
                return Ok(());
            }
            Ending::Host(failure) => {
                if screens(&place) {
                    self.study.release(&place.id, Some(&name))?;
                }
                self.state.stop.get_or_insert(failure);
                return Ok(());
            }
        }
        self.state.members[number].agenda.fill(place.block, place.seat, place.role);
        if screens(&place) {
            self.through(number, index);
        }
        Ok(())
    }

    fn through(&mut self, number: usize, index: Option<usize>) {
        if let Some(index) = index {
            self.state.members[number].pending.remove(&index);
        }
    }

    fn lose(&mut self, number: usize, failure: Failure) {
        let member = &mut self.state.members[number];
        self.of.observer.lost(&member.name, &failure);
        (member.phase, member.failure) = (Phase::Lost, Some(failure));
        self.state.schedule.lanes[number].busy = false;
    }

    /// Says once that candidates are done, and drops files that nobody needs.
    fn tell(&mut self) -> Result<(), Failure> {
        for index in 0..self.state.work.len() {
            if self.state.work[index].told
                || !self.state.work[index].measured
                || !self.state.is_through(index)
                || self.state.stop.is_some()
            {
                continue;
            }
            let view = View::read(&*self.study)?;
            let work = &mut self.state.work[index];
            // Nobody is left to screen it: it is open, not done.
            if !view.records.iter().any(|r| r.id == work.id && !(r.trials.is_empty() && r.failures.is_empty())) {
                continue;
            }
            work.told = true;
            if index > 0 && work.shipment.as_ref().is_some_and(|s| s.can(Way::Files)) {
                work.shipment = None;
                Evaluator::forget(&self.of.evaluator.folder, &work.id);
            }
            self.of.observer.finished(&self.state.work[index].id, &view)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Finished, Failure> {
        if let Some(failure) = self.state.stop.take() {
            return Err(failure);
        }
        let mut lost: Vec<(String, Failure)> = Vec::new();
        for member in &mut self.state.members {
            let late = || Failure::new(exit_code::CONNECT, format!("`{}` did not answer in time", member.name));
            match member.phase {
                Phase::Lost => lost.push((member.name.clone(), member.failure.take().unwrap_or_else(late))),
                Phase::Connecting => lost.push((member.name.clone(), late())),
                Phase::Ready if !member.done && self.of.patience.is_some() => {
                    let message = format!("`{}` was not through when patience ended", member.name);
                    lost.push((member.name.clone(), Failure::new(exit_code::MEASUREMENT, message)));
                }
                Phase::Ready => {}
            }
        }
        if lost.len() == self.state.members.len() {
            return Err(lost.swap_remove(0).1);
        }
        Ok(Finished { timing: self.state.timing, study: self.study, lost })
    }
}

/// Whether a trial in this place is what the study leases: the first look at a candidate.
fn screens(place: &Place) -> bool {
    place.role == Role::Screen && (place.seat != SENTINEL_SEAT || place.block == 0)
}

fn in_use(id: &str) -> Failure {
    Failure::new(exit_code::STUDY, format!("`{id}` is being worked on by another process"))
}
