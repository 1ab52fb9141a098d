//! A host that speaks to the real agent over its real pipes.

use edgewise_protocol::{
    AgentHello, AgentMessage, ArtifactFile, BlobId, Context, Decoder, ErrorCode, Frame, Gate, HostHello, HostMessage, MAX_CHUNK,
    MagicScanner, MeasureJob, MeasurePlan, Measurement, OrtLibrary, PROTOCOL_VERSION, Reply, Request, Runtime, Scan, Source,
    Stage, WireError, Workload, encode_chunk, encode_control, from_control,
};
use sha2::{Digest, Sha256};
use std::{
    fs,
    io::{Read, Write},
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

pub(crate) const PATIENCE: Duration = Duration::from_mins(5);

pub(crate) struct Agent {
    pub(crate) child: Child,
    stdin: Option<ChildStdin>,
    messages: Receiver<AgentMessage>,
    next_id: u32,
    pub(crate) store: tempfile::TempDir,
}

/// Starts an agent without greeting it.
pub(crate) fn start(store: &Path) -> Child {
    start_with(store, &[])
}

fn start_with(store: &Path, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_device-agent"))
        .args(["serve", "--store"])
        .arg(store)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

impl Agent {
    pub(crate) fn new() -> Self {
        Self::in_store(tempfile::tempdir().unwrap())
    }

    pub(crate) fn in_store(store: tempfile::TempDir) -> Self {
        let child = start(store.path());
        Self::greeted(store, child)
    }

    /// An agent whose store may keep this many bytes.
    pub(crate) fn with_budget(bytes: u64) -> Self {
        let store = tempfile::tempdir().unwrap();
        let child = start_with(store.path(), &["--store-budget", &bytes.to_string()]);
        Self::greeted(store, child)
    }

    /// An agent with other arguments, of a host that is called `owner` and wants this lease.
    pub(crate) fn with(arguments: &[&str], owner: &str, lease: &str) -> Self {
        let store = tempfile::tempdir().unwrap();
        let child = start_with(store.path(), arguments);
        Self::greeted_by(store, child, owner.to_owned(), lease.to_owned())
    }

    /// An agent that reads its sensors below `root`.
    pub(crate) fn with_sensors(root: &Path) -> Self {
        let lease = unique_lease();
        Self::with(&["--sensors-root", root.to_str().unwrap()], "test", &lease)
    }

    fn greeted(store: tempfile::TempDir, child: Child) -> Self {
        Self::greeted_by(store, child, "test".to_owned(), unique_lease())
    }

    fn greeted_by(store: tempfile::TempDir, mut child: Child, owner: String, lease: String) -> Self {
        let mut stdout = child.stdout.take().unwrap();
        let (sender, messages) = channel();
        thread::spawn(move || {
            let mut scanner = MagicScanner::default();
            let mut decoder: Option<Decoder> = None;
            let mut buffer = vec![0; 1 << 16];
            while let Ok(n @ 1..) = stdout.read(&mut buffer) {
                match &mut decoder {
                    Some(decoder) => decoder.push(&buffer[..n]),
                    None => {
                        if let Scan::Found(rest) = scanner.push(&buffer[..n]) {
                            assert!(scanner.noise().is_empty(), "the magic comes first");
                            let mut new = Decoder::default();
                            new.push(&rest);
                            decoder = Some(new);
                        }
                    }
                }
                let Some(decoder) = &mut decoder else { continue };
                while let Some(frame) = decoder.next_frame().unwrap() {
                    let Frame::Control(body) = frame else { panic!("the agent sends no chunks") };
                    if sender.send(from_control(&body).unwrap()).is_err() {
                        return;
                    }
                }
            }
        });
        let stdin = child.stdin.take();
        let mut agent = Self { child, stdin, messages, next_id: 1, store };
        let AgentMessage::Hello(AgentHello { newest, .. }) = agent.next() else { panic!("no hello") };
        assert_eq!(newest, PROTOCOL_VERSION);
        agent.send(&HostMessage::Hello(HostHello { protocol: newest, version: "test".into(), owner, lease }));
        agent
    }

    pub(crate) fn send(&mut self, message: &HostMessage) {
        let mut bytes = Vec::new();
        encode_control(message, &mut bytes).unwrap();
        self.send_raw(&bytes);
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub(crate) fn send_chunks(&mut self, id: u32, bytes: &[u8]) {
        for chunk in bytes.chunks(MAX_CHUNK) {
            let mut frame = Vec::new();
            encode_chunk(id, chunk, &mut frame);
            self.send_raw(&frame);
        }
    }

    pub(crate) fn next(&mut self) -> AgentMessage {
        self.messages.recv_timeout(PATIENCE).expect("the agent says something")
    }

    /// What the agent says within `time`, or `None`.
    pub(crate) fn within(&mut self, time: Duration) -> Option<AgentMessage> {
        match self.messages.recv_timeout(time) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the agent is gone"),
        }
    }

    pub(crate) fn ask(&mut self, request: Request) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&HostMessage::Request { id, request });
        id
    }

    /// The reply to `id`; whatever else comes before it is dropped.
    pub(crate) fn reply(&mut self, id: u32) -> Result<Reply, WireError> {
        loop {
            match self.next() {
                AgentMessage::Reply { id: got, result } if got == id => return result,
                AgentMessage::Reply { id: got, result } => panic!("a reply to {got} instead of {id}: {result:?}"),
                _ => {}
            }
        }
    }

    pub(crate) fn call(&mut self, request: Request) -> Result<Reply, WireError> {
        let id = self.ask(request);
        self.reply(id)
    }

    pub(crate) fn wait_for_stage(&mut self, id: u32, stage: Stage) {
        loop {
            match self.next() {
                AgentMessage::Progress { id: got, progress } if got == id && progress.stage == stage => return,
                AgentMessage::Reply { result, .. } => panic!("ended before {stage:?}: {result:?}"),
                _ => {}
            }
        }
    }

    pub(crate) fn measured(&mut self, job: MeasureJob) -> Measurement {
        match self.call(Request::Measure(Box::new(job))) {
            Ok(Reply::Measured(measurement)) => *measurement,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn wait_for_ack(&mut self, id: u32) -> u64 {
        loop {
            match self.next() {
                AgentMessage::Ack { id: got, received } if got == id => return received,
                AgentMessage::Reply { result, .. } => panic!("no acknowledgement: {result:?}"),
                _ => {}
            }
        }
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> BlobId {
        let blob = id_of(bytes);
        let id = self.ask(Request::Put { blob, size: bytes.len() as u64 });
        let start = self.wait_for_ack(id) as usize;
        self.send_chunks(id, &bytes[start..]);
        assert_eq!(self.reply(id), Ok(Reply::Stored));
        blob
    }

    /// Sends every file of a folder.
    pub(crate) fn put_folder(&mut self, folder: &Path) -> Vec<ArtifactFile> {
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                ArtifactFile { name, blob: self.put(&bytes), size: bytes.len() as u64 }
            })
            .collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files
    }

    /// Sends the tiny artifact.
    pub(crate) fn put_tiny(&mut self) -> Vec<ArtifactFile> {
        let folder = tempfile::tempdir().unwrap();
        edgewise_onnx::testing::write_tiny(folder.path()).unwrap();
        self.put_folder(folder.path())
    }

    /// Workers of this agent.
    pub(crate) fn workers(&self) -> Vec<u32> {
        children(self.child.id())
    }

    /// Closes the agent's input, which ends it.
    pub(crate) fn close_input(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        let blobs = vec![id_of(b"nothing")];
        self.call(Request::Have { blobs }).is_ok()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A lease of its own: the tests run beside one another, and do not care about each other's noise.
pub(crate) fn unique_lease() -> String {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn id_of(bytes: &[u8]) -> BlobId {
    BlobId(Sha256::digest(bytes).into())
}

/// Children of a process, of all its threads.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|child| {
            let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            // The name in parentheses may hold anything; the state and the parent come after it.
            let mut fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
            fields.next().is_some_and(|state| state != "Z") && fields.next() == Some(pid.to_string().as_str())
        })
        .collect()
}

pub(crate) fn kill(pid: u32, signal: i32) {
    // SAFETY: sends a signal; no memory is involved. A process that just died is no failure.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

pub(crate) fn wait_exit(child: &mut Child) -> ExitStatus {
    eventually("the process ends", || child.try_wait().unwrap())
}

/// Asks until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A short measurement of `files`.
pub(crate) fn short_job(files: Vec<ArtifactFile>, runtime: Runtime) -> MeasureJob {
    MeasureJob {
        source: Source::Files(files),
        runtime,
        ort: OrtLibrary::Default,
        providers: Vec::new(),
        threads: 1,
        workload: Workload { prompt_tokens: 16, generated_tokens: 8 },
        context: Context::default(),
        energy_ms: 0,
        plan: MeasurePlan {
            min_warmup_ms: 20,
            max_warmup_ms: 2000,
            min_samples: 15,
            min_time_ms: 50,
            max_time_ms: 3000,
            target_half_width: 0.05,
            retries: 0,
            gate: Gate { max_celsius: 200.0, max_rise_celsius: 0.0, max_rest_ms: 0 },
        },
        probe: None,
        vocabulary: 97,
        seed: 1,
        deadline_ms: 60_000,
        lease_wait_ms: 0,
    }
}

/// A measurement that times until somebody ends it.
pub(crate) fn endless_job(files: Vec<ArtifactFile>) -> MeasureJob {
    let job = short_job(files, Runtime::Tract);
    let plan = MeasurePlan { min_warmup_ms: 3_600_000, max_warmup_ms: 3_600_000, ..job.plan };
    let workload = Workload { prompt_tokens: 200, ..job.workload };
    MeasureJob { plan, workload, deadline_ms: 3_600_000, ..job }
}

/// The files of a job that has such.
pub(crate) fn files_of(job: &mut MeasureJob) -> &mut Vec<ArtifactFile> {
    match &mut job.source {
        Source::Files(files) => files,
        Source::Recipe { .. } => panic!("a recipe"),
    }
}

/// Where ONNX Runtime is, for tests that need it; says visibly when they cannot run here.
pub(crate) fn ort_library() -> Option<String> {
    let path = std::env::var("ORT_DYLIB_PATH").ok().filter(|_| cfg!(feature = "ort"));
    if path.is_none() {
        // Not through the test harness, which swallows what passing tests print.
        std::io::stderr().write_all(b"SKIPPED: needs the feature `ort` and ORT_DYLIB_PATH\n").unwrap();
    }
    path
}

pub(crate) fn code(result: Result<Reply, WireError>) -> ErrorCode {
    result.expect_err("the request must fail").code
}
