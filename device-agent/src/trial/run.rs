//! Attempts at a trial, until one was not throttled or there are no more.

use super::{
    gate::{Warmth, rest},
    power::{Sampling, energy, idle_watts},
};
use crate::{
    cancel::Cancel,
    conditions::{celsius, throttled_now},
    describe::is_emulated,
    error::wire,
    limits::{MIN_ENERGY_MS, REST_POLL},
    material::Prepared,
    measure::EnergyRun,
    store::Store,
    worker::{Launcher, Order, Outcome, Step, supervise},
};
use edgewise_protocol::{ErrorCode, Flag, MeasureJob, Measurement, Progress, Stage, WireError};
use edgewise_sensors::{PowerMeter, Root, Sensors, Snapshot};
use std::{path::PathBuf, thread, time::Duration};

/// The device as the serving process sees it.
#[derive(Debug)]
pub(crate) struct Device {
    path: PathBuf,
    root: Root,
    sensors: Sensors,
    first_celsius: Option<f32>,
}

impl Device {
    /// Looks for the first time. `path` stands for `/` where sensors are read.
    pub(crate) fn new(path: PathBuf) -> Self {
        let root = Root::at(&path);
        let sensors = Sensors::discover(&root);
        let first_celsius = celsius(&sensors.snapshot());
        Self { path, root, sensors, first_celsius }
    }

    /// What stands for `/` where sensors are read, as a worker is told.
    pub(crate) fn sensors_path(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Where sensors are read.
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// All readings at this moment.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.sensors.snapshot()
    }

    /// The meter that energy would be measured with.
    pub(crate) fn power_meter(&self) -> Option<PowerMeter> {
        PowerMeter::find(&self.root)
    }

    fn warmth(&self) -> Warmth {
        let snapshot = self.snapshot();
        Warmth { celsius: celsius(&snapshot), throttled: throttled_now(&snapshot) }
    }
}

/// What a trial needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial<'a> {
    /// Where the artifact, or what it is made of, is kept.
    pub(crate) store: &'a Store,
    /// How workers are started.
    pub(crate) launcher: &'a Launcher,
    /// What they run on.
    pub(crate) device: &'a Device,
    /// The host's request; it satisfies [`crate::measure::check_job`].
    pub(crate) job: &'a MeasureJob,
    /// The host may give it up.
    pub(crate) cancel: &'a Cancel,
}

/// Makes the trial. `progress` is called when a step begins, and while the device rests.
///
/// # Errors
/// Those of preparing the artifact and of the worker, [`ErrorCode::Cancelled`].
pub(crate) fn run(trial: Trial<'_>, progress: &mut dyn FnMut(Progress)) -> Result<Measurement, WireError> {
    let Trial { store, launcher, job, cancel, .. } = trial;
    let prepared = Prepared::new(store, launcher, job.into(), cancel, |stage| progress(Progress { stage, note: None }))?;
    let meter = if job.energy_ms > 0 { trial.device.power_meter() } else { None };
    let (mut rested_ms, mut discarded) = (0_u32, 0);
    loop {
        let note = |why| progress(Progress { stage: Stage::Cool, note: Some(why) });
        let device = trial.device;
        let rested = rest(&job.plan.gate, device.first_celsius, REST_POLL, cancel, || device.warmth(), note)?;
        rested_ms = rested_ms.saturating_add(rested.ms);
        let attempt = attempt(trial, &prepared, meter.as_ref(), progress);
        let mut measurement = attempt.map_err(|error| prepared.explain(store, error))?;
        let throttled = measurement.conditions.throttled.is_some();
        if throttled && discarded < job.plan.retries {
            discarded += 1;
            continue;
        }
        measurement.flags.extend(rested.hot.then_some(Flag::HotStart));
        measurement.flags.extend(throttled.then_some(Flag::Throttled));
        measurement.discarded = discarded;
        measurement.conditions.rested_ms = rested_ms;
        return Ok(measurement);
    }
}

fn attempt(
    trial: Trial<'_>,
    prepared: &Prepared,
    meter: Option<&PowerMeter>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Measurement, WireError> {
    let Trial { launcher, device, cancel, .. } = trial;
    let idle = meter.and_then(|meter| Some((meter, idle_watts(meter, cancel)?)));
    let mut job = Box::new(trial.job.clone());
    // A run that nothing would measure is not worth its time.
    job.energy_ms = if idle.is_some() { job.energy_ms.max(MIN_ENERGY_MS) } else { 0 };
    let deadline = Duration::from_millis(u64::from(job.deadline_ms));
    let order = Order::Measure {
        material: prepared.material.clone(),
        library: prepared.library.clone(),
        job,
        sensors: device.sensors_path(),
        available_bytes: device.snapshot().memory.available_bytes,
        emulated: is_emulated(launcher),
    };
    let (outcome, watts) = thread::scope(|scope| {
        let mut sampling = None;
        let outcome = supervise(launcher, &order, deadline, cancel, |step| {
            let Step::Stage(stage) = step else { return };
            progress(Progress { stage, note: None });
            if let (Stage::Energy, Some((meter, _))) = (stage, idle) {
                sampling = Some(Sampling::start(meter, scope));
            }
        });
        (outcome, sampling.and_then(Sampling::mean_watts))
    });
    match outcome? {
        Outcome::Measured { mut measurement, energy: run } => {
            let measured = |((meter, idle), watts, run): ((&PowerMeter, f64), f64, EnergyRun)| energy(meter, idle, watts, run);
            measurement.energy = idle.zip(watts).zip(run).and_then(|((idle, watts), run)| measured((idle, watts, run)));
            Ok(*measurement)
        }
        _ => Err(wire(ErrorCode::Internal, "the worker answered another question")),
    }
}
