//! The worker's own side.

use super::order::{Order, Outcome, Report};
use crate::{
    clock::{RawClock, TickClock},
    error::wire,
    measure::{Findings, Session},
    runtime,
    store::MODEL,
    sys,
};
use anyhow::Context as _;
use edgewise_protocol::{Decoder, ErrorCode, Frame, MeasureJob, Measurement, Stage, WireError, encode_control, from_control};
use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
};

/// Reads an order from standard input, carries it out, and reports on standard output.
///
/// # Errors
/// If no whole order comes, or the agent is gone. What goes wrong with the order itself is reported, and no error here.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut output = sys::take_stdout().context("cannot take standard output")?;
    let order = read_order(&mut std::io::stdin().lock())?;
    let result = carry_out(order, &mut |stage| {
        // If the agent is gone this process is about to be killed; the measurement goes on until then.
        let _ = send(&mut output, &Report::Stage(stage));
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

fn carry_out(order: Order, report: &mut dyn FnMut(Stage)) -> Result<Outcome, WireError> {
    match order {
        Order::Version { runtime, library } => runtime::version(runtime, &library).map(Outcome::Version),
        Order::Measure { folder, library, job } => {
            let measurement = measure(&Path::new(&folder).join(MODEL), &library, &job, report)?;
            Ok(Outcome::Measured(Box::new(measurement)))
        }
    }
}

fn measure(
    path: &Path,
    library: &runtime::Library,
    job: &MeasureJob,
    report: &mut dyn FnMut(Stage),
) -> Result<Measurement, WireError> {
    let clock = RawClock;
    let threads = match job.threads {
        0 => std::thread::available_parallelism().map_or(1, |n| n.get() as u16),
        n => n,
    };
    report(Stage::Load);
    let start = clock.now();
    let mut model = runtime::load(job.runtime, library, path, threads)?;
    let load_ns = clock.since(start).0;
    let runtime_version = model.runtime_version().to_owned();
    let session = Session { model: &mut *model, clock: &clock, job, major_faults: &sys::major_faults, report };
    let Findings { ttft, tpot, ttft_ns, tpot_ns, warmup_ns, converged, flags, probe_max_abs_diff } = session.run()?;
    let peak_rss_bytes =
        sys::peak_rss().map_err(|e| wire(ErrorCode::Io, format!("cannot read the worker's peak memory: {e}")))?;
    Ok(Measurement {
        runtime: job.runtime,
        runtime_version,
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
        probe_max_abs_diff,
    })
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
    fn tract_is_always_there() {
        let order = Order::Version { runtime: Runtime::Tract, library: Library::Default };
        let Ok(Outcome::Version(version)) = carry_out(order, &mut |_| {}) else { panic!("no version") };
        assert!(version.starts_with("0."), "{version}");
    }
}
