//! The worker's own side.

use super::{
    build,
    order::{Material, Order, Outcome, Report, Step},
};
use crate::{
    clock::{RawClock, TickClock},
    conditions::{Circumstances, Look, Observer, judge},
    error::{io_error, wire},
    generate,
    limits::{CLOCK_RAMP_MS, MAX_THREADS},
    measure::{EnergyRun, Findings, Session},
    runtime::{self, Model},
    sched,
    store::MODEL,
    sys,
};
use anyhow::Context as _;
use edgewise_protocol::{
    Decoder, ErrorCode, Flag, Frame, Generation, MeasureJob, Measurement, Provider, ProviderShare, Stage, WireError,
    encode_control, from_control,
};
use edgewise_sensors::{Board, Root};
use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
};

/// Priority of a process that measures, where it may be raised.
const PRIORITY: i32 = -10;

/// Reads an order from standard input, carries it out, and reports on standard output.
///
/// # Errors
/// If no whole order comes, or the agent is gone. What goes wrong with the order itself is reported, and no error here.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut output = sys::take_stdout().context("cannot take standard output")?;
    let order = read_order(&mut std::io::stdin().lock())?;
    let result = carry_out(order, &mut |step| {
        // If the agent is gone this process is about to be killed; the work goes on until then.
        let _ = send(&mut output, &Report::Step(step));
    });
    send(&mut output, &Report::Done(result)).context("cannot report to the agent")
}

fn read_order(input: &mut impl Read) -> anyhow::Result<Order> {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match decoder.next_frame()? {
            Some(Frame::Control(body)) => return Ok(from_control(&body)?),
            Some(Frame::Chunk { .. }) => anyhow::bail!("a chunk instead of an order"),
            None => {}
        }
        match input.read(&mut buffer).context("cannot read the order")? {
            0 => anyhow::bail!("no whole order on standard input; `worker` is started by `serve`"),
            n => decoder.push(&buffer[..n]),
        }
    }
}

fn send(output: &mut File, report: &Report) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    encode_control(report, &mut bytes)?;
    Ok(output.write_all(&bytes)?)
}

fn carry_out(order: Order, say: &mut dyn FnMut(Step)) -> Result<Outcome, WireError> {
    let mut report = |stage| say(Step::Stage(stage));
    match order {
        Order::Version { runtime, library } => runtime::version(runtime, &library).map(Outcome::Version),
        Order::Build { plan, folder } => {
            report(Stage::Build);
            let start = RawClock.now();
            let bytes = build::as_files(&plan, Path::new(&folder))?;
            Ok(Outcome::Built { ns: RawClock.since(start).0, bytes })
        }
        Order::Measure { material, library, job, sensors, available_bytes, emulated } => {
            // Where it is not permitted the measurement has the priority that everybody has.
            sched::set_nice(PRIORITY);
            // Names of data files mean nothing in memory, and must not find files by accident.
            std::env::set_current_dir("/").map_err(|e| io_error("go to", Path::new("/"), &e))?;
            let (model, artifact_bytes, build_ns) = prepare(material, &mut report)?;
            let circumstances = Circumstances { available_bytes, artifact_bytes, emulated };
            let root = Root::at(sensors);
            let (mut measurement, energy) = measure(model, &library, &job, root, &circumstances, &mut report)?;
            measurement.build_ns = build_ns;
            Ok(Outcome::Measured { measurement: Box::new(measurement), energy })
        }
        Order::Generate { material, library, job, sensors, emulated } => {
            std::env::set_current_dir("/").map_err(|e| io_error("go to", Path::new("/"), &e))?;
            let (model, ..) = prepare(material, &mut report)?;
            keep_to_fastest(&Board::read(&Root::at(sensors)), job.threads);
            let threads = threads_for(job.threads);
            report(Stage::Load);
            let start = RawClock.now();
            let mut model = runtime::load(job.runtime, &library, model, threads, &job.providers)?;
            let load_ns = RawClock.since(start).0;
            let text = generate::write(&mut *model, &RawClock, &job, &mut |token| say(Step::Tokens(vec![token])))?;
            Ok(Outcome::Generated(Box::new(Generation {
                runtime: job.runtime,
                runtime_version: model.runtime_version().to_owned(),
                threads,
                providers: model.providers().to_vec(),
                ended: text.ended,
                tokens: text.tokens,
                prefill_ns: text.prefill_ns,
                decode_ns: text.decode_ns,
                steps: text.steps,
                load_ns,
                peak_rss_bytes: peak_rss()?,
                emulated,
            })))
        }
    }
}

/// The model for the runtime, its artifact's size in bytes, and the time it took to make it in nanoseconds.
fn prepare(material: Material, report: &mut dyn FnMut(Stage)) -> Result<(Model, u64, u64), WireError> {
    match material {
        Material::Folder { path, bytes, build_ns } => Ok((Model::File(Path::new(&path).join(MODEL)), bytes, build_ns)),
        Material::Plan(plan) => {
            report(Stage::Build);
            let start = RawClock.now();
            let assembly = build::in_memory(&plan)?;
            let bytes = assembly.files().iter().map(|(_, bytes)| bytes.len() as u64).sum();
            Ok((Model::Memory(Box::new(assembly)), bytes, RawClock.since(start).0))
        }
    }
}

fn measure(
    model: Model,
    library: &runtime::Library,
    job: &MeasureJob,
    root: Root,
    circumstances: &Circumstances,
    report: &mut dyn FnMut(Stage),
) -> Result<(Measurement, Option<EnergyRun>), WireError> {
    let clock = RawClock;
    keep_to_fastest(&Board::read(&root), job.threads);
    let threads = threads_for(job.threads);
    let observer = Observer::new(root, sched::allowed_processors());
    report(Stage::Load);
    let start = clock.now();
    let mut model = runtime::load(job.runtime, library, model, threads, &job.providers)?;
    let load_ns = clock.since(start).0;
    let runtime_version = model.runtime_version().to_owned();
    let providers = model.providers().to_vec();

    let ramp = if observer.clocks_follow_load() { CLOCK_RAMP_MS } else { 0 };
    let mut looks = Vec::new();
    let session = Session {
        model: &mut *model,
        clock: &clock,
        job,
        min_warmup_ms: job.plan.min_warmup_ms.max(ramp),
        observe: &mut |moment| looks.push(observer.look(moment)),
        report,
    };
    let found = session.run()?;
    let peak_rss_bytes = peak_rss()?;
    let spans: Vec<(Look, Look)> = pairs(looks);
    let (conditions, circumstantial) = judge(&spans, circumstances);
    let Findings { ttft, tpot, ttft_ns, tpot_ns, warmup_ns, converged, mut flags, .. } = found;
    flags.extend(circumstantial);
    flags.extend(fell_back(&job.providers, &providers).then_some(Flag::ProviderFallback));
    let measurement = Measurement {
        runtime: job.runtime,
        runtime_version,
        providers,
        threads,
        ttft,
        tpot,
        ttft_ns,
        tpot_ns,
        warmup_ns,
        load_ns,
        peak_rss_bytes,
        converged,
        flags,
        probe_max_abs_diff: found.probe_max_abs_diff,
        build_ns: 0,
        prefill_at: found.prefill_at,
        decode_at: found.decode_at,
        discarded: 0,
        conditions,
        energy: None,
    };
    Ok((measurement, found.energy))
}

/// Threads of a runtime; 0 asks for as many as this process has processors.
fn threads_for(asked: u16) -> u16 {
    match asked {
        0 => sched::allowed_processors().len().clamp(1, usize::from(MAX_THREADS)) as u16,
        n => n,
    }
}

fn peak_rss() -> Result<u64, WireError> {
    sys::peak_rss().map_err(|e| wire(ErrorCode::Io, format!("cannot read the worker's peak memory: {e}")))
}

/// Whether the processor had to do what another execution provider was asked to do.
fn fell_back(asked: &[Provider], shares: &[ProviderShare]) -> bool {
    let processor = |share: &ProviderShare| share.name == Provider::Cpu.name() && share.nodes > 0;
    asked.iter().any(|&provider| provider != Provider::Cpu) && shares.iter().any(processor)
}

/// Looks before and after, of each stretch of timing.
fn pairs(looks: Vec<Look>) -> Vec<(Look, Look)> {
    let mut looks = looks.into_iter();
    std::iter::from_fn(|| Some((looks.next()?, looks.next()?))).collect()
}

/// Keeps this process to the fastest processors, where there are slower ones and the threads fit: the scheduler would try both,
/// and each trial would find another mixture.
fn keep_to_fastest(board: &Board, threads: u16) {
    let fastest = board.fastest();
    if threads == 0 || fastest.len() == board.clusters.len() {
        return;
    }
    let allowed = sched::allowed_processors();
    let processors: Vec<u32> =
        fastest.iter().flat_map(|cluster| &cluster.cpus).copied().filter(|cpu| allowed.contains(cpu)).collect();
    if usize::from(threads) <= processors.len() {
        // Refused, the process runs wherever the scheduler puts it, and the clocks that it used are still told.
        let _ = sched::pin(&processors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Library;
    use edgewise_protocol::Runtime;

    #[test]
    fn an_order_is_read_whole_or_not_at_all() {
        let order = Order::Version { runtime: Runtime::Ort, library: Library::File("/x".into()) };
        let mut bytes = Vec::new();
        encode_control(&order, &mut bytes).unwrap();
        assert_eq!(read_order(&mut &bytes[..]).unwrap(), order);
        for cut in 0..bytes.len() {
            assert!(read_order(&mut &bytes[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_fall_back_is_one_only_if_something_else_was_asked_for() {
        let share = |provider: Provider, nodes| ProviderShare { name: provider.name().into(), nodes, problem: None };
        let (cpu, cuda) = (share(Provider::Cpu, 3), share(Provider::Cuda, 9));
        let asked = [Provider::Cuda, Provider::Cpu];
        assert!(fell_back(&asked, &[cuda.clone(), cpu.clone()]) && fell_back(&asked, std::slice::from_ref(&cpu)));
        assert!(!fell_back(&asked, &[cuda, share(Provider::Cpu, 0)]));
        assert!(!fell_back(&[Provider::Cpu], std::slice::from_ref(&cpu)) && !fell_back(&[], &[cpu]));
    }

    #[test]
    fn tract_is_always_there() {
        let order = Order::Version { runtime: Runtime::Tract, library: Library::Default };
        let Ok(Outcome::Version(version)) = carry_out(order, &mut |_| {}) else { panic!("no version") };
        assert!(version.starts_with("0."), "{version}");
    }
}
