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
    collections::VecDeque,
    sync::{Arc, Mutex},
    thread,
};

pub(super) static NEVER: AtomicBool = AtomicBool::new(false);

pub(super) fn caller() -> Caller {
    Caller { owner: "ann@lab".into(), lease: "device".into() }
}

pub(super) fn greeted(script: impl FnOnce(&mut Fake) + Send + 'static) -> DeviceClient {
    DeviceClient::greet("pi", Box::new(fake(b"Welcome to \x1b[1mPi\x1b[0m!\n", script)), &caller()).unwrap()
}

fn job(deadline_ms: u32) -> MeasureJob {
    MeasureJob {
        source: Source::Files(Vec::new()),
        runtime: Runtime::Tract,
        ort: OrtLibrary::Default,
        providers: Vec::new(),
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
        providers: Vec::new(),
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
