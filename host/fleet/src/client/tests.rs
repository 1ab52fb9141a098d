use super::{
    fake::{Fake, fake},
    *,
};
use crate::{Category, Connect, DeployReport, Device};
use edgewise_protocol::{
    Conditions, Context, ErrorCode, Estimate, Gate, MeasureJob, MeasurePlan, Measurement, Progress, Runtime, Source, Stage,
    Workload,
};
use std::{
    collections::{BTreeMap, VecDeque},
    io::Write,
    path::PathBuf,
    sync::{Arc, Mutex, mpsc},
    thread,
};

static NEVER: AtomicBool = AtomicBool::new(false);

fn caller() -> Caller {
    Caller { owner: "ann@lab".into(), lease: "device".into() }
}

fn greeted(script: impl FnOnce(&mut Fake) + Send + 'static) -> DeviceClient {
    DeviceClient::greet("pi", Box::new(fake(b"Welcome to \x1b[1mPi\x1b[0m!\n", script)), &caller()).unwrap()
}

/// A blob whose bytes are in a file that lives as long as the folder does.
struct Filed {
    _folder: tempfile::TempDir,
    blob: Blob<'static>,
}

fn filed(n: u8, content: &[u8]) -> Filed {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blob");
    std::fs::write(&path, content).unwrap();
    Filed { _folder: folder, blob: Blob::file(BlobId([n; 32]), content.len() as u64, &path) }
}

/// Uploads one blob; the bytes sent.
fn put(client: &mut DeviceClient, blob: &Blob<'_>, cancel: &AtomicBool) -> Result<u64, Error> {
    let mut sent = 0;
    client.put(&[blob], &mut sent, cancel)?;
    Ok(sent)
}

fn job(deadline_ms: u32) -> MeasureJob {
    MeasureJob {
        source: Source::Files(Vec::new()),
        runtime: Runtime::Tract,
        ort: OrtLibrary::Default,
        threads: 1,
        workload: Workload { prompt_tokens: 8, generated_tokens: 4 },
        context: Context::default(),
        energy_ms: 0,
        plan: MeasurePlan {
            min_warmup_ms: 1,
            max_warmup_ms: 2,
            min_samples: 1,
            min_time_ms: 1,
            max_time_ms: 2,
            target_half_width: 0.1,
            retries: 0,
            gate: Gate { max_celsius: 60.0, max_rise_celsius: 3.0, max_rest_ms: 1000 },
        },
        probe: None,
        vocabulary: 16,
        seed: 1,
        deadline_ms,
        lease_wait_ms: 1000,
    }
}

fn measurement() -> Measurement {
    let estimate = Estimate { median: 1.0, low: 0.9, high: 1.1, n: 3 };
    Measurement {
        runtime: Runtime::Tract,
        runtime_version: "0".into(),
        threads: 1,
        ttft: estimate,
        tpot: estimate,
        ttft_ns: vec![1],
        tpot_ns: vec![2],
        warmup_ns: vec![3],
        load_ns: 4,
        peak_rss_bytes: 5,
        converged: true,
        flags: Vec::new(),
        probe_max_abs_diff: None,
        build_ns: 0,
        prefill_at: Vec::new(),
        decode_at: Vec::new(),
        discarded: 0,
        conditions: Conditions::default(),
        energy: None,
    }
}

fn at(stage: Stage) -> Progress {
    Progress { stage, note: None }
}

#[test]
fn a_banner_before_the_greeting_does_no_harm() {
    let client = greeted(|agent| drop(agent.message()));
    assert_eq!(client.hello().pid, 7);
}

#[test]
fn what_is_no_agent_is_shown_for_what_it_printed() {
    struct Shell(VecDeque<Event>);
    impl Transport for Shell {
        fn send(&mut self, _: &mut Vec<u8>, _: Instant) -> Result<(), SendError> {
            Err(SendError::Closed)
        }
        fn receive(&mut self, _: Instant) -> Option<Event> {
            self.0.pop_front()
        }
        fn bytes_moved(&self) -> u64 {
            0
        }
        fn set_quiet(&mut self, _: bool) {}
        fn close(&mut self, _: Duration) -> End {
            End { exit: Exit::Code(1), stderr: "closed".into() }
        }
    }
    let greet = |events: Vec<Event>| DeviceClient::greet("pi", Box::new(Shell(events.into())), &caller()).err().unwrap();
    let data = |text: &str| Event::Data(text.as_bytes().to_vec());
    let ended = |exit| Event::Ended(End { exit, stderr: "sh: agent: not found".into() });

    let absent = greet(vec![data("This account is\x07 disabled\n"), ended(Exit::Code(127))]);
    let text = absent.to_string();
    assert!(matches!(absent, Error::AgentStart { .. }) && absent.category() == Category::Agent);
    assert!(text.contains("This account is disabled") && text.contains("127") && text.contains("not found"), "{text}");
    assert!(matches!(greet(vec![ended(Exit::Lost("reset".into()))]), Error::ConnectionLost { .. }));
    assert!(matches!(greet(vec![data(&"x".repeat(70 << 10))]), Error::AgentStart { .. }));
    assert!(matches!(greet(vec![]), Error::AgentStart { .. }));
}

#[test]
fn another_protocol_version_is_told_with_both_ranges() {
    let (to_host, mut bytes) = (edgewise_protocol::MAGIC, Vec::new());
    encode_control(&AgentMessage::Hello(AgentHello { oldest: 90, newest: 91, ..super::fake::hello() }), &mut bytes).unwrap();
    // `cat` of the greeting, through the real local transport.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("greeting");
    std::fs::write(&file, [&to_host[..], &bytes].concat()).unwrap();
    let transport = crate::LocalTransport::spawn(std::process::Command::new("cat").arg(&file).arg("-")).unwrap();
    let error = DeviceClient::greet("pi", Box::new(transport), &caller()).err().unwrap();
    assert!(matches!(error, Error::Version { oldest: 90, newest: 91, .. }), "{error}");
    assert_eq!(error.category(), Category::Protocol);
}

/// Takes an upload, acknowledging each `step` bytes; gives what came and the most that was ever unacknowledged.
fn receive_upload(agent: &mut Fake, offset: u64, step: u64) -> (Vec<u8>, u64) {
    let Some((id, Request::Put { size, .. })) = agent.request() else { panic!("no upload") };
    agent.say(&AgentMessage::Ack { id, received: offset });
    let (mut got, mut acked, mut most) = (Vec::new(), offset, 0);
    loop {
        let total = offset + got.len() as u64;
        if total == size {
            agent.reply(id, Reply::Stored);
            return (got, most);
        }
        // Nothing more comes: the window is full.
        match agent.frame(Duration::from_millis(if acked == total { 20_000 } else { 150 })) {
            Some(Frame::Chunk { id: of, bytes }) => {
                assert_eq!(of, id);
                got.extend_from_slice(&bytes);
                most = most.max(offset + got.len() as u64 - acked);
            }
            Some(Frame::Control(body)) => {
                assert_eq!(from_control::<HostMessage>(&body), Ok(HostMessage::Ping));
                agent.say(&AgentMessage::Heartbeat);
            }
            None => {
                acked = (acked + step).min(total);
                agent.say(&AgentMessage::Ack { id, received: acked });
            }
        }
    }
}

#[test]
fn an_upload_resumes_and_keeps_its_window() {
    let data: Vec<u8> = (0..(9u32 << 20) + 321).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let size = data.len() as u64;
    let offset = 1_000_001;
    let (report, reported) = mpsc::channel();
    let mut client = greeted(move |agent| {
        report.send(receive_upload(agent, offset, 3 << 20)).unwrap();
        agent.request();
    });
    let sent = put(&mut client, &filed(1, &data).blob, &NEVER).unwrap();
    let (got, most) = reported.recv().unwrap();
    assert_eq!(sent, size - offset);
    assert!(got == data[offset as usize..], "other bytes arrived");
    let window = 4 << 20;
    assert!(most <= window + (256 << 10), "{most} bytes were under way");
    assert!(most > window - (512 << 10), "only {most} bytes were under way");
}

#[test]
fn only_what_is_missing_is_sent_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(content).unwrap();
        path
    };
    let blob = |n: u8, path: PathBuf, size: u64| Blob::file(BlobId([n; 32]), size, &path);
    let blobs = [
        blob(1, file("a", b"aaa"), 3),
        // The path of a blob that is there already is never opened.
        blob(2, dir.path().join("missing"), 99),
        blob(3, file("c", b"ccccc"), 5),
        blob(1, file("a", b"aaa"), 3),
    ];
    let script = |agent: &mut Fake| {
        let Some((id, Request::Have { blobs })) = agent.request() else { panic!("no question") };
        assert_eq!(blobs, [BlobId([1; 32]), BlobId([2; 32]), BlobId([3; 32])]);
        agent.reply(id, Reply::Have(vec![BlobState::Missing, BlobState::Complete, BlobState::Partial(2)]));
    };
    let mut client = greeted(move |agent| {
        script(agent);
        let got = receive_uploads(agent, 2, |blob| u64::from(blob == BlobId([3; 32])) * 2);
        assert_eq!(got, BTreeMap::from([(BlobId([1; 32]), b"aaa".to_vec()), (BlobId([3; 32]), b"ccc".to_vec())]));
        agent.request();
    });
    let mut sent = 0;
    client.ensure_blobs(&blobs, false, &mut sent, &NEVER).unwrap();
    assert_eq!(sent, 6);

    let (seen, paths) = mpsc::channel();
    let mut client = greeted(move |agent| {
        script(agent);
        for _ in 0..2 {
            let Some((id, Request::Take { path, .. })) = agent.request() else { panic!("no take") };
            seen.send(PathBuf::from(path)).unwrap();
            agent.reply(id, Reply::Stored);
        }
        agent.request();
    });
    let mut sent = 0;
    client.ensure_blobs(&blobs, true, &mut sent, &NEVER).unwrap();
    assert_eq!(sent, 0);
    assert_eq!(paths.iter().take(2).collect::<Vec<_>>(), [dir.path().join("a"), dir.path().join("c")]);
}

/// Takes `count` uploads, acknowledging nothing but where they start; what came of each.
fn receive_uploads(agent: &mut Fake, count: usize, offset: impl Fn(BlobId) -> u64) -> BTreeMap<BlobId, Vec<u8>> {
    let (mut open, mut got) = (BTreeMap::new(), BTreeMap::new());
    while got.len() < count {
        match agent.frame(Duration::from_secs(20)).expect("the host is gone") {
            Frame::Chunk { id, bytes } => {
                let (blob, size, have): &mut (BlobId, u64, Vec<u8>) = open.get_mut(&id).expect("a chunk nobody announced");
                have.extend_from_slice(&bytes);
                if offset(*blob) + have.len() as u64 == *size {
                    agent.reply(id, Reply::Stored);
                    got.insert(*blob, std::mem::take(have));
                }
            }
            Frame::Control(body) => match from_control(&body).unwrap() {
                HostMessage::Request { id, request: Request::Put { blob, size } } => {
                    open.insert(id, (blob, size, Vec::new()));
                    agent.say(&AgentMessage::Ack { id, received: offset(blob) });
                }
                HostMessage::Ping => agent.say(&AgentMessage::Heartbeat),
                HostMessage::Hello(_) => {}
                other => panic!("{other:?}"),
            },
        }
    }
    got
}

#[test]
fn many_uploads_go_at_once_and_pieces_make_a_blob() {
    let all: Vec<u8> = (0..40_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    let memory = |n: u8, pieces: Vec<&'static [u8]>| Blob {
        id: BlobId([n; 32]),
        size: pieces.iter().map(|p| p.len() as u64).sum(),
        content: Content::Memory(pieces),
    };
    let all: &'static [u8] = all.leak();
    let mut blobs: Vec<Blob<'_>> = (0..200_u8).map(|n| memory(n, vec![&all[usize::from(n) * 200..][..200]])).collect();
    blobs.push(memory(250, vec![&all[39_990..], &[], &all[5..25]]));
    let mut client = greeted(|agent| {
        // Nothing is stored before several were announced: one after the other would wait here for ever.
        let mut announced = Vec::new();
        while announced.len() < 8 {
            let Some((id, Request::Put { blob, size })) = agent.request() else { panic!("no upload") };
            announced.push((id, blob, size));
        }
        for (id, ..) in &announced {
            agent.fail(*id, ErrorCode::Io, "the disk is broken");
        }
        while let Some(HostMessage::Cancel { id } | HostMessage::Request { id, .. }) = agent.message() {
            agent.fail(id, ErrorCode::Cancelled, "given up");
        }
    });
    let error = client.put(&blobs.iter().collect::<Vec<_>>(), &mut 0, &NEVER).unwrap_err();
    assert!(matches!(&error, Error::Device { code: ErrorCode::Io, .. }), "{error}");
    drop(client);

    let (report, reported) = mpsc::channel();
    let mut client = greeted(move |agent| {
        report.send(receive_uploads(agent, 201, |_| 0)).unwrap();
        agent.request();
    });
    let mut sent = 0;
    client.put(&blobs.iter().collect::<Vec<_>>(), &mut sent, &NEVER).unwrap();
    assert_eq!(sent, 40_030);
    let got = reported.recv().unwrap();
    assert_eq!(got[&BlobId([250; 32])], [&all[39_990..], &all[5..25]].concat());
    assert!((0..200_u8).all(|n| got[&BlobId([n; 32])] == all[usize::from(n) * 200..][..200]));
}

#[test]
fn a_file_of_another_size_is_refused_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w");
    std::fs::write(&path, "1234").unwrap();
    let mut client = greeted(|agent| assert_eq!(agent.request(), None));
    let error = put(&mut client, &Blob::file(BlobId([1; 32]), 5, &path), &NEVER).unwrap_err();
    assert!(matches!(error, Error::File { .. }), "{error}");
}

#[test]
fn the_devices_own_error_ends_an_upload_with_its_code() {
    let mut client = greeted(|agent| {
        let (id, _) = agent.request().unwrap();
        agent.say(&AgentMessage::Ack { id, received: 0 });
        agent.frame(Duration::from_secs(20));
        agent.fail(id, ErrorCode::NoSpace, "no space\x1b[31m left");
        agent.request();
    });
    let error = put(&mut client, &filed(1, &vec![0; 20 << 20]).blob, &NEVER).unwrap_err();
    assert!(
        matches!(&error, Error::Device { code: ErrorCode::NoSpace, message, .. } if message == "no space[31m left"),
        "{error}"
    );
    assert!(error.hint().is_some() && !error.breaks_connection());
}

#[test]
fn an_upload_can_be_cancelled_and_the_connection_lives_on() {
    let cancel = Arc::new(AtomicBool::new(false));
    let setter = Arc::clone(&cancel);
    let mut client = greeted(move |agent| {
        let (id, _) = agent.request().unwrap();
        agent.say(&AgentMessage::Ack { id, received: 0 });
        setter.store(true, Ordering::Relaxed);
        assert_eq!(agent.message(), Some(HostMessage::Cancel { id }));
        agent.fail(id, ErrorCode::Cancelled, "cancelled");
        let (id, _) = agent.request().unwrap();
        agent.reply(id, Reply::Have(vec![BlobState::Partial(1)]));
        agent.request();
    });
    let error = put(&mut client, &filed(1, &vec![0; 64 << 20]).blob, &cancel).unwrap_err();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
    assert_eq!(client.have(&[BlobId([1; 32])]).unwrap(), [BlobState::Partial(1)]);
}

#[test]
fn a_dead_agent_is_told_with_its_end_and_last_words() {
    let mut client = greeted(|agent| {
        agent.request();
        agent.end(Exit::Signal("KILL".into()));
    });
    let error = client.have(&[BlobId([1; 32])]).unwrap_err();
    let Error::AgentDied { end, .. } = &error else { panic!("{error}") };
    assert_eq!(end.exit, Exit::Signal("KILL".into()));
    assert!(error.to_string().contains("last words"), "{error}");
    assert!(error.breaks_connection());
}

#[test]
fn protocol_violations_are_errors_not_panics() {
    type Break = fn(&mut Fake, u32);
    let breaks: [Break; 5] = [
        |agent, id| agent.reply(id, Reply::Stored),
        |agent, id| agent.reply(id, Reply::Have(vec![])),
        |agent, id| agent.reply(id + 5, Reply::Stored),
        |agent, _| agent.raw(&[9, 0, 0, 0, 77]),
        |agent, _| agent.raw(&[5, 0, 0, 0, 2, 0, 0, 0, 0]),
    ];
    for (index, violation) in breaks.into_iter().enumerate() {
        let mut client = greeted(move |agent| {
            let (id, _) = agent.request().unwrap();
            violation(agent, id);
            agent.request();
        });
        let error = client.have(&[BlobId([1; 32])]).unwrap_err();
        assert_eq!(error.category(), Category::Protocol, "{index}: {error}");
        assert!(error.breaks_connection());
    }
}

#[test]
fn a_measurement_is_quiet_while_it_times() {
    let mut client = greeted(|agent| {
        let (id, _) = agent.request().unwrap();
        agent.say(&AgentMessage::Log("loading".into()));
        agent.say(&AgentMessage::Progress { id, progress: at(Stage::Load) });
        agent.say(&AgentMessage::Progress { id, progress: at(Stage::Decode) });
        let start = Instant::now();
        while !agent.quiet.load(Ordering::SeqCst) {
            assert!(start.elapsed() < Duration::from_secs(10), "never quiet");
            thread::sleep(Duration::from_millis(5));
        }
        // Longer than the interval of pings: none may come.
        assert_eq!(agent.frame(PING + Duration::from_millis(700)), None);
        agent.reply(id, Reply::Measured(Box::new(measurement())));
        agent.request();
    });
    let mut stages = Vec::new();
    let result = client.measure(&job(60_000), &mut |progress| stages.push(progress.stage), &NEVER).unwrap();
    assert_eq!(result, measurement());
    assert_eq!(stages, [Stage::Load, Stage::Decode]);
    assert_eq!(client.take_log(), ["loading"]);
}

#[test]
fn waiting_for_the_lease_has_a_limit_of_its_own() {
    let mut client = greeted(|agent| {
        let (id, _) = agent.request().unwrap();
        let note = Some("bob@lab".into());
        agent.say(&AgentMessage::Progress { id, progress: Progress { stage: Stage::Lease, note } });
        // A ping shows that the host waits on and still watches.
        let Some(Frame::Control(body)) = agent.frame(PING + Duration::from_secs(3)) else { panic!("no ping") };
        assert_eq!(from_control(&body), Ok(HostMessage::Ping));
        agent.say(&AgentMessage::Progress { id, progress: at(Stage::Build) });
        agent.reply(id, Reply::Measured(Box::new(measurement())));
        agent.request();
    });
    let mut notes = Vec::new();
    client.measure(&job(1), &mut |progress| notes.extend(progress.note.clone()), &NEVER).unwrap();
    assert_eq!(notes, ["bob@lab"]);
}

#[test]
fn pings_are_sent_before_timing() {
    let mut client = greeted(|agent| {
        let (id, _) = agent.request().unwrap();
        let Some(Frame::Control(body)) = agent.frame(PING + Duration::from_secs(3)) else { panic!("no ping") };
        assert_eq!(from_control(&body), Ok(HostMessage::Ping));
        agent.reply(id, Reply::Measured(Box::new(measurement())));
        agent.request();
    });
    client.measure(&job(60_000), &mut |_| {}, &NEVER).unwrap();
}

#[test]
fn an_agent_that_takes_pings_and_says_nothing_is_given_up() {
    let mut client = greeted(|agent| while agent.frame(Duration::from_secs(40)).is_some() {});
    let start = Instant::now();
    let error = client.measure(&job(600_000), &mut |_| {}, &NEVER).unwrap_err();
    assert!(matches!(error, Error::AgentSilent { .. }) && error.breaks_connection(), "{error}");
    assert!(start.elapsed() >= SILENCE && start.elapsed() < SILENCE + Duration::from_secs(10));
}

#[test]
fn a_measurement_can_be_cancelled_while_it_times() {
    let cancel = Arc::new(AtomicBool::new(false));
    let setter = Arc::clone(&cancel);
    let mut client = greeted(move |agent| {
        let (id, _) = agent.request().unwrap();
        agent.say(&AgentMessage::Progress { id, progress: at(Stage::Prefill) });
        setter.store(true, Ordering::Relaxed);
        assert_eq!(agent.message(), Some(HostMessage::Cancel { id }));
        agent.fail(id, ErrorCode::Cancelled, "cancelled");
        agent.request();
    });
    let error = client.measure(&job(60_000), &mut |_| {}, &cancel).unwrap_err();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
}

#[test]
fn a_crashed_worker_is_a_result_of_the_candidate() {
    let mut client = greeted(|agent| {
        let (id, _) = agent.request().unwrap();
        agent.fail(id, ErrorCode::OutOfMemory, "killed for memory");
        agent.request();
    });
    let error = client.measure(&job(60_000), &mut |_| {}, &NEVER).unwrap_err();
    assert_eq!(error.category(), Category::Measurement);
    assert!(!error.breaks_connection() && error.hint().is_some());
}

/// Scripts of the agents that are connected to, one after the other.
struct Script(Mutex<VecDeque<Story>>);

type Story = Box<dyn FnOnce(&mut Fake) + Send>;

impl Connect for Script {
    fn connect(&self, device: &str, _install: bool) -> Result<Box<dyn Transport>, Error> {
        match self.0.lock().unwrap().pop_front() {
            Some(script) => Ok(Box::new(fake(b"", script))),
            None => Err(Error::Remote { device: device.into(), action: "connect", what: "no script is left".into() }),
        }
    }
    fn deploy(&self, _device: &str) -> Result<Option<DeployReport>, Error> {
        Ok(None)
    }
    fn shares_files(&self) -> bool {
        false
    }
}

fn scripted(scripts: Vec<Story>) -> Device {
    Device::new("pi", Box::new(Script(Mutex::new(scripts.into()))), caller())
}

fn breaks(agent: &mut Fake) {
    agent.request();
    agent.end(Exit::Lost("reset".into()));
}

#[test]
fn idempotent_requests_survive_two_broken_connections_and_no_more() {
    let answers = |agent: &mut Fake| {
        let (id, _) = agent.request().unwrap();
        agent.reply(id, Reply::Have(vec![BlobState::Complete]));
        agent.request();
    };
    let mut device = scripted(vec![Box::new(breaks), Box::new(breaks), Box::new(answers)]);
    assert_eq!(device.have(&[BlobId([1; 32])]).unwrap(), [BlobState::Complete]);
    let mut device = scripted(vec![Box::new(breaks), Box::new(breaks), Box::new(breaks), Box::new(answers)]);
    assert!(matches!(device.have(&[BlobId([1; 32])]), Err(Error::ConnectionLost { .. })));
}

/// Answers the question whether it is there.
fn is_there(agent: &mut Fake) {
    let (id, request) = agent.request().unwrap();
    assert_eq!(request, Request::Have { blobs: vec![] });
    agent.reply(id, Reply::Have(vec![]));
}

fn measures(agent: &mut Fake) {
    let (id, request) = agent.request().unwrap();
    assert!(matches!(request, Request::Measure(_)), "{request:?}");
    agent.reply(id, Reply::Measured(Box::new(measurement())));
}

/// One agent that does these things in order and then waits for its end.
fn story(parts: &'static [fn(&mut Fake)]) -> Story {
    Box::new(move |agent| {
        for part in parts {
            part(agent);
        }
        agent.request();
    })
}

fn dies(agent: &mut Fake) {
    agent.request();
    agent.end(Exit::Signal("KILL".into()));
}

#[test]
fn a_measurement_is_repeated_for_a_broken_connection_only() {
    let measure = |device: &mut Device| device.measure(&job(60_000), &mut |_| {}, &NEVER);
    let mut device = scripted(vec![story(&[is_there, breaks]), story(&[measures])]);
    assert!(measure(&mut device).is_ok());
    let mut device = scripted(vec![story(&[is_there, breaks]), story(&[breaks]), story(&[is_there, measures])]);
    assert!(matches!(measure(&mut device), Err(Error::ConnectionLost { .. })));
    let mut device = scripted(vec![story(&[is_there, dies]), story(&[is_there, measures])]);
    assert!(matches!(measure(&mut device), Err(Error::AgentDied { .. })));
    // The next candidate gets a new agent.
    assert!(measure(&mut device).is_ok());
}

#[test]
fn an_agent_that_left_while_nothing_was_asked_is_replaced_before_a_measurement() {
    let leaves: Story = Box::new(|agent| {
        let (id, _) = agent.request().unwrap();
        agent.reply(id, Reply::Have(vec![BlobState::Missing]));
        // Signs of life from before its end are still in the queue when the host comes back.
        agent.say(&AgentMessage::Heartbeat);
        agent.say(&AgentMessage::Log("host was silent for 1800 s".into()));
        agent.end(Exit::Code(12));
    });
    let mut device = scripted(vec![leaves, story(&[is_there, measures])]);
    assert_eq!(device.have(&[BlobId([1; 32])]).unwrap(), [BlobState::Missing]);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(device.measure(&job(60_000), &mut |_| {}, &NEVER).unwrap(), measurement());
}

#[test]
fn a_connection_that_works_is_kept_for_a_measurement() {
    let has: fn(&mut Fake) = |agent| {
        let (id, _) = agent.request().unwrap();
        agent.reply(id, Reply::Have(vec![BlobState::Complete]));
    };
    let mut device = scripted(vec![Box::new(move |agent| {
        for part in [has, is_there, measures, is_there, measures] {
            part(agent);
        }
        agent.request();
    })]);
    device.have(&[BlobId([1; 32])]).unwrap();
    for _ in 0..2 {
        device.measure(&job(60_000), &mut |_| {}, &NEVER).unwrap();
    }
}
