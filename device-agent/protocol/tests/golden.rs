//! The bytes of every message, as they must stay as long as the protocol's version does.
//!
//! `golden/NAME.hex` holds one whole control frame each. With `EDGEWISE_WRITE_GOLDEN=1` in the environment the files are written
//! instead of compared: only together with a new `PROTOCOL_VERSION`, or for a message that was appended.

use edgewise_protocol::{
    AgentHello, AgentMessage, ArtifactFile, BlobId, BlobState, ClusterHealth, Conditions, Context, DeviceDescription, Ended,
    Energy, ErrorCode, Estimate, Flag, Form, Frame, Gate, GenerateJob, Generation, Health, HostHello, HostMessage, MeasureJob,
    MeasurePlan, Measurement, OrtLibrary, Point, Probe, ProbePoint, Progress, Provider, ProviderShare, Reply, Request, Runtime,
    RuntimeStatus, Sampling, Source, Stage, WireError, Workload, encode_chunk, encode_control, from_control,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{Debug, Write as _},
    fs,
    path::PathBuf,
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Hexadecimal digits, 32 bytes a line.
fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(32) {
        for byte in line {
            write!(text, "{byte:02x}").expect("strings take everything");
        }
        text.push('\n');
    }
    text
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    digits.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The bytes that the file of `name` holds; writes them first when asked to.
fn stored(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = folder().join(format!("{name}.hex"));
    if std::env::var_os("EDGEWISE_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(folder()).unwrap();
        fs::write(&path, to_hex(bytes)).unwrap();
    }
    from_hex(&fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, message: &T) {
    let mut bytes = Vec::new();
    encode_control(message, &mut bytes).unwrap();
    let golden = stored(name, &bytes);
    assert_eq!(to_hex(&bytes), to_hex(&golden), "`{name}` is written in other bytes than it was");
    let mut decoder = edgewise_protocol::Decoder::default();
    decoder.push(&golden);
    let Some(Frame::Control(body)) = decoder.next_frame().unwrap() else { panic!("`{name}` is no control frame") };
    assert_eq!(from_control::<T>(&body).unwrap(), *message, "`{name}` is read as another message than it was");
}

const BLOB: BlobId = BlobId([0xab; 32]);

fn files() -> Source {
    Source::Files(vec![
        ArtifactFile { name: "model.onnx".into(), blob: BLOB, size: 160_000 },
        ArtifactFile { name: "model.onnx_data".into(), blob: BlobId([1; 32]), size: 5_000_000_000 },
    ])
}

fn recipe(form: Form) -> Source {
    Source::Recipe { bytes: b"a recipe".to_vec(), form }
}

fn job(source: Source, runtime: Runtime, ort: OrtLibrary, probe: Option<Probe>) -> Request {
    Request::Measure(Box::new(MeasureJob {
        source,
        runtime,
        ort,
        providers: Provider::ALL.to_vec(),
        threads: 4,
        workload: Workload { prompt_tokens: 128, generated_tokens: 64 },
        context: Context { prompts: vec![32, 512], depths: vec![0, 256, 1024] },
        energy_ms: 5000,
        plan: MeasurePlan {
            min_warmup_ms: 500,
            max_warmup_ms: 20_000,
            min_samples: 15,
            min_time_ms: 1000,
            max_time_ms: 10_000,
            target_half_width: 0.01,
            retries: 2,
            gate: Gate { max_celsius: 60.0, max_rise_celsius: 3.0, max_rest_ms: 120_000 },
        },
        probe,
        vocabulary: 49_152,
        seed: 0x0123_4567_89ab_cdef,
        deadline_ms: 60_000,
        lease_wait_ms: 600_000,
    }))
}

fn generate() -> Request {
    Request::Generate(Box::new(GenerateJob {
        source: files(),
        runtime: Runtime::Tract,
        ort: OrtLibrary::Default,
        providers: vec![Provider::Cpu],
        threads: 0,
        prompt: vec![1, 49_151],
        max_tokens: 128,
        stop: vec![2],
        vocabulary: 49_152,
        sampling: Sampling { temperature: 0.75, top_k: 40, top_p: 0.9, seed: 7 },
        deadline_ms: 60_000,
        lease_wait_ms: 600_000,
    }))
}

fn providers() -> Vec<ProviderShare> {
    let share = |provider: Provider, nodes, problem: Option<&str>| ProviderShare {
        name: provider.name().into(),
        nodes,
        problem: problem.map(str::to_owned),
    };
    vec![share(Provider::TensorRt, 0, Some("not in this library")), share(Provider::Cpu, 300, None)]
}

fn generation() -> Generation {
    Generation {
        runtime: Runtime::Ort,
        runtime_version: "1.32.0".into(),
        threads: 4,
        providers: providers(),
        ended: Ended::Stop,
        tokens: 12,
        prefill_ns: 80_000_000,
        decode_ns: 240_000_000,
        steps: 12,
        load_ns: 940_000_000,
        peak_rss_bytes: 787 << 20,
        emulated: true,
    }
}

fn measurement() -> Measurement {
    Measurement {
        runtime: Runtime::Ort,
        runtime_version: "1.32.0".into(),
        providers: providers(),
        threads: 4,
        ttft: Estimate { median: 142.5, low: 141.0, high: 144.25, n: 15 },
        tpot: Estimate { median: 19.3, low: 19.25, high: 19.5, n: 63 },
        ttft_ns: vec![142_500_000, 141_000_000, 144_250_000],
        tpot_ns: vec![19_300_000, 19_250_000, 19_500_000],
        warmup_ns: vec![400_000_000, 142_000_000],
        load_ns: 940_000_000,
        peak_rss_bytes: 787 << 20,
        converged: false,
        flags: FLAGS.to_vec(),
        probe_max_abs_diff: Some(4.5e-5),
        build_ns: 700_000_000,
        prefill_at: vec![point(32), point(512)],
        decode_at: vec![point(0)],
        discarded: 1,
        conditions: Conditions {
            rested_ms: 250,
            celsius: Some([48.5, 61.25]),
            clock_khz: Some([1_800_000, 1_500_000]),
            steady_clock_share: Some(0.75),
            throttle_bits: Some([0, 0xe_0008]),
            throttled: Some("the clock fell".into()),
            governor: Some("schedutil".into()),
            steal_share: Some(0.25),
            others_share: Some(0.5),
            involuntary_switches: 3,
            major_faults: 1,
            available_bytes: Some(1 << 31),
        },
        energy: Some(Energy {
            meter: "ina3221 VDD_IN".into(),
            blind_spots: "the carrier board".into(),
            idle_watts: 4.5,
            mean_watts: 12.25,
            seconds: 5.5,
            tokens: 280,
            joules_per_token: 0.152_25,
        }),
    }
}

const FLAGS: [Flag; 13] = [
    Flag::NoSteadyState,
    Flag::NotConverged,
    Flag::Drift,
    Flag::Unverified,
    Flag::Paging,
    Flag::HotStart,
    Flag::Throttled,
    Flag::UnderVoltage,
    Flag::Disturbed,
    Flag::LowMemory,
    Flag::OnBattery,
    Flag::Emulated,
    Flag::ProviderFallback,
];

fn point(tokens: u32) -> Point {
    Point { tokens, estimate: Estimate { median: 20.5, low: 20.25, high: 21.0, n: 9 }, samples_ns: vec![20_500_000, 21_000_000] }
}

fn health() -> Health {
    Health {
        clusters: vec![ClusterHealth {
            processors: "0-3".into(),
            governor: Some("ondemand".into()),
            clock_khz: Some(600_000),
            max_khz: Some(1_500_000),
            hardware_max_khz: Some(1_800_000),
            allowed: 4,
        }],
        processors: 4,
        allowed_processors: 3,
        hottest_celsius: Some(55.5),
        passive_trip_celsius: Some(80.0),
        active_cooling: vec!["cpufreq-cpu0".into()],
        throttle_bits: Some(0x5_0005),
        android_thermal_status: Some(2),
        busy_share: Some(0.125),
        steal_share: Some(0.0),
        cpu_pressure: Some(0.25),
        memory_pressure: Some(0.5),
        io_pressure: None,
        memory_bytes: Some(4 << 30),
        available_bytes: Some(3 << 30),
        swapped_bytes: Some(0),
        free_bytes: 1 << 40,
        store_in_memory: true,
        on_battery: Some(true),
        battery_percent: Some(81),
        power_meter: Some(["ina3221 VDD_IN".into(), "the carrier board".into()]),
        power_mode: Some("MAXN".into()),
        clock_overhead_ns: 42,
        spin_spread: 0.0625,
        emulated: true,
        virtual_machine: false,
        lease: Some("ann@lab".into()),
    }
}

fn host_messages() -> Vec<HostMessage> {
    let probe = Probe {
        points: vec![
            ProbePoint { feed: vec![1, 2, 49_151], expect: vec![(0, -1.5), (300, 2.25)] },
            ProbePoint { feed: vec![7], expect: vec![(1, 0.0)] },
        ],
        tolerance: 1e-3,
    };
    let request = |id, request| HostMessage::Request { id, request };
    vec![
        HostMessage::Hello(HostHello { protocol: 3, version: "0.1.0".into(), owner: "ann@lab".into(), lease: "device".into() }),
        HostMessage::Cancel { id: 300 },
        HostMessage::Ping,
        request(1, Request::Describe { ort: OrtLibrary::Default }),
        request(2, Request::Have { blobs: vec![BLOB, BlobId([0; 32])] }),
        request(3, Request::Put { blob: BLOB, size: 5_000_000_000 }),
        request(4, Request::Take { blob: BLOB, size: 3, path: "/models/ü".into() }),
        request(u32::MAX, job(files(), Runtime::Tract, OrtLibrary::Path("/opt/libonnxruntime.so".into()), None)),
        request(6, job(files(), Runtime::Ort, OrtLibrary::Blob(BLOB), Some(probe))),
        request(7, job(recipe(Form::Memory), Runtime::Tract, OrtLibrary::Default, None)),
        request(8, job(recipe(Form::Files), Runtime::Ort, OrtLibrary::Default, None)),
        request(9, Request::Examine),
        request(10, generate()),
    ]
}

fn agent_messages() -> Vec<AgentMessage> {
    let reply = |id, reply| AgentMessage::Reply { id, result: Ok(reply) };
    let description = DeviceDescription {
        fingerprint: BTreeMap::from([("cpu".into(), "ARM".into()), ("model".into(), "Board 5".into())]),
        runtimes: vec![
            RuntimeStatus { runtime: Runtime::Tract, version: Some("0.23.9".into()), problem: None },
            RuntimeStatus { runtime: Runtime::Ort, version: None, problem: Some("not there".into()) },
        ],
        free_bytes: 1 << 40,
        stored_bytes: 0,
        budget_bytes: 1 << 38,
        power_meter: Some("ina3221 VDD_IN".into()),
    };
    let hello =
        AgentHello { oldest: 3, newest: 3, version: "0.1.0".into(), triple: "aarch64-unknown-linux-musl".into(), pid: 4242 };
    let mut messages = vec![
        AgentMessage::Hello(hello),
        AgentMessage::Ack { id: 3, received: 1 << 20 },
        AgentMessage::Heartbeat,
        AgentMessage::Log("a line".into()),
        reply(1, Reply::Described(Box::new(description))),
        reply(2, Reply::Have(vec![BlobState::Missing, BlobState::Partial(1 << 33), BlobState::Complete])),
        reply(3, Reply::Stored),
        reply(4, Reply::Measured(Box::new(measurement()))),
        reply(9, Reply::Examined(Box::new(health()))),
        reply(10, Reply::Generated(Box::new(generation()))),
        AgentMessage::Tokens { id: 10, tokens: vec![3, 49_151] },
    ];
    messages.extend(
        STAGES.map(|stage| AgentMessage::Progress { id: 4, progress: Progress { stage, note: Some("for ann@lab".into()) } }),
    );
    messages.extend(CODES.map(|code| AgentMessage::Reply { id: 5, result: Err(WireError { code, message: "why".into() }) }));
    messages
}

const STAGES: [Stage; 10] = [
    Stage::Lease,
    Stage::Cool,
    Stage::Build,
    Stage::Load,
    Stage::Probe,
    Stage::Warm,
    Stage::Prefill,
    Stage::Decode,
    Stage::Context,
    Stage::Energy,
];

const CODES: [ErrorCode; 15] = [
    ErrorCode::BadRequest,
    ErrorCode::HashMismatch,
    ErrorCode::NoSpace,
    ErrorCode::MissingBlob,
    ErrorCode::RuntimeUnavailable,
    ErrorCode::ModelRejected,
    ErrorCode::ProbeMismatch,
    ErrorCode::WorkerCrashed,
    ErrorCode::OutOfMemory,
    ErrorCode::TimedOut,
    ErrorCode::Cancelled,
    ErrorCode::Busy,
    ErrorCode::OtherArtifact,
    ErrorCode::Io,
    ErrorCode::Internal,
];

// Names come from matches without a wildcard: a variant that is added without a golden file does not compile here.

fn host_name(message: &HostMessage) -> String {
    match message {
        HostMessage::Hello(_) => "host-hello".into(),
        HostMessage::Cancel { .. } => "host-cancel".into(),
        HostMessage::Ping => "host-ping".into(),
        HostMessage::Request { request, .. } => match request {
            Request::Describe { .. } => "request-describe".into(),
            Request::Have { .. } => "request-have".into(),
            Request::Put { .. } => "request-put".into(),
            Request::Take { .. } => "request-take".into(),
            Request::Measure(job) => {
                let source = match &job.source {
                    Source::Files(_) => "files",
                    Source::Recipe { form: Form::Memory, .. } => "recipe-memory",
                    Source::Recipe { form: Form::Files, .. } => "recipe-files",
                };
                format!("request-measure-{source}-{}", job.runtime.name())
            }
            Request::Examine => "request-examine".into(),
            Request::Generate(_) => "request-generate".into(),
        },
    }
}

fn agent_name(message: &AgentMessage) -> String {
    match message {
        AgentMessage::Hello(_) => "agent-hello".into(),
        AgentMessage::Ack { .. } => "agent-ack".into(),
        AgentMessage::Heartbeat => "agent-heartbeat".into(),
        AgentMessage::Log(_) => "agent-log".into(),
        AgentMessage::Tokens { .. } => "agent-tokens".into(),
        AgentMessage::Progress { progress, .. } => format!("agent-progress-{}", stage_name(progress.stage)),
        AgentMessage::Reply { result, .. } => match result {
            Ok(Reply::Described(_)) => "reply-described".into(),
            Ok(Reply::Have(_)) => "reply-have".into(),
            Ok(Reply::Stored) => "reply-stored".into(),
            Ok(Reply::Measured(_)) => "reply-measured".into(),
            Ok(Reply::Examined(_)) => "reply-examined".into(),
            Ok(Reply::Generated(_)) => "reply-generated".into(),
            Err(error) => format!("reply-error-{}", code_name(error.code)),
        },
    }
}

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Lease => "lease",
        Stage::Cool => "cool",
        Stage::Build => "build",
        Stage::Load => "load",
        Stage::Probe => "probe",
        Stage::Warm => "warm",
        Stage::Prefill => "prefill",
        Stage::Decode => "decode",
        Stage::Context => "context",
        Stage::Energy => "energy",
    }
}

fn code_name(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::BadRequest => "bad-request",
        ErrorCode::HashMismatch => "hash-mismatch",
        ErrorCode::NoSpace => "no-space",
        ErrorCode::MissingBlob => "missing-blob",
        ErrorCode::RuntimeUnavailable => "runtime-unavailable",
        ErrorCode::ModelRejected => "model-rejected",
        ErrorCode::ProbeMismatch => "probe-mismatch",
        ErrorCode::WorkerCrashed => "worker-crashed",
        ErrorCode::OutOfMemory => "out-of-memory",
        ErrorCode::TimedOut => "timed-out",
        ErrorCode::Cancelled => "cancelled",
        ErrorCode::Busy => "busy",
        ErrorCode::OtherArtifact => "other-artifact",
        ErrorCode::Io => "io",
        ErrorCode::Internal => "internal",
    }
}

#[test]
fn every_message_keeps_its_bytes() {
    let mut names = BTreeSet::new();
    let mut unique = |name: String| {
        assert!(names.insert(name.clone()), "two messages are called `{name}`");
        name
    };
    for message in host_messages() {
        check(&unique(host_name(&message)), &message);
    }
    for message in agent_messages() {
        check(&unique(agent_name(&message)), &message);
    }
    let files: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "chunk")
        .collect();
    assert_eq!(files, names, "every file belongs to a message");
}

#[test]
fn a_chunk_keeps_its_bytes() {
    let mut bytes = Vec::new();
    encode_chunk(0x0102_0304, b"raw bytes", &mut bytes);
    assert_eq!(to_hex(&bytes), to_hex(&stored("chunk", &bytes)));
    assert_eq!(bytes, b"\x0e\0\0\0\x02\x04\x03\x02\x01raw bytes");
}
