//! A device with the way to it: connects when needed, again when it broke, and retries what may be retried.

use crate::{
    Adb, AgentBuild, Blob, Caller, DeployReport, Destination, DeviceClient, Endpoint, Error, KnownHosts, LocalTransport, OpenSsh,
    Remote, SshSession, SshSettings, Transport, Written,
    bootstrap::{self, Plan},
};
use edgewise_protocol::{
    AgentHello, BlobId, BlobState, DeviceDescription, ErrorCode, GenerateJob, Generation, Health, MeasureJob, Measurement,
    OrtLibrary, Progress,
};
use edgewise_targets::Profile;
use std::{
    path::PathBuf,
    process::Command,
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

/// Attempts at a request that may be repeated, and at connecting, before the error stands.
const ATTEMPTS: u32 = 3;
/// Before the second attempt; doubled before each further one.
const BACKOFF: Duration = Duration::from_millis(500);
/// Somebody else who sends the device what we want to send is waited for as long as that goes forward, and this long when it
/// does not: an agent whose host fell silent keeps its uploads open for a while.
const OTHER_SENDER: Duration = Duration::from_mins(1);
/// How often the device is asked how far that is.
const OTHER_POLL: Duration = Duration::from_secs(1);

/// A way to a device's agent.
pub trait Connect: Send {
    /// Starts an agent and gives the stream to it; with `install`, puts the agent there first.
    ///
    /// # Errors
    /// Whatever kept it from being started.
    fn connect(&self, device: &str, install: bool) -> Result<Box<dyn Transport>, Error>;

    /// Puts the agent on the device; `None` where it is there by nature.
    ///
    /// # Errors
    /// Whatever kept it from being put there.
    fn deploy(&self, device: &str) -> Result<Option<DeployReport>, Error>;

    /// Whether the agent sees the host's files.
    fn shares_files(&self) -> bool;
}

/// The agent as a child process of this one.
#[derive(Debug, Clone)]
pub struct LocalRoute {
    /// The agent's binary.
    pub agent: PathBuf,
    /// Where its store is.
    pub store: PathBuf,
}

/// The agent at the far end of SSH.
#[derive(Debug, Clone)]
pub struct SshRoute {
    /// Where, as it was written.
    pub destination: Destination,
    /// Who knows ssh's configuration; `None` to do without.
    pub ssh: Option<OpenSsh>,
    /// Host keys that are trusted.
    pub known_hosts: KnownHosts,
    /// Private key file to try first.
    pub identity: Option<PathBuf>,
    /// Builds of the agent at hand.
    pub builds: Vec<AgentBuild>,
    /// What the kind of board needs.
    pub profile: Profile,
    /// Directory on the device that replaces the profile's.
    pub store: Option<String>,
}

impl Connect for LocalRoute {
    fn connect(&self, device: &str, _install: bool) -> Result<Box<dyn Transport>, Error> {
        let mut command = Command::new(&self.agent);
        command.arg("serve").arg("--store").arg(&self.store);
        match LocalTransport::spawn(&mut command) {
            Ok(transport) => Ok(Box::new(transport)),
            Err(e) => Err(Error::AgentStart { device: device.into(), what: format!("{}: {e}", self.agent.display()) }),
        }
    }

    fn deploy(&self, _device: &str) -> Result<Option<DeployReport>, Error> {
        Ok(None)
    }

    fn shares_files(&self) -> bool {
        true
    }
}

/// The agent on an Android device, over adb.
#[derive(Debug, Clone)]
pub struct AdbRoute {
    /// The program, and the device.
    pub adb: Adb,
    /// Builds of the agent at hand.
    pub builds: Vec<AgentBuild>,
    /// What the kind of board needs.
    pub profile: Profile,
    /// Directory on the device that replaces the profile's.
    pub store: Option<String>,
}

impl SshRoute {
    /// How the device is reached now: the configuration may depend on the network that the host is in.
    ///
    /// # Errors
    /// As [`Endpoint::resolve`].
    pub fn endpoint(&self) -> Result<Endpoint, Error> {
        Endpoint::resolve(&self.destination, self.ssh.as_ref(), self.profile.port)
    }

    fn session(&self, device: &str) -> Result<SshSession, Error> {
        let settings = SshSettings { identity: self.identity.clone(), ciphers: self.profile.ciphers.clone() };
        SshSession::connect(device, &self.endpoint()?, &self.known_hosts, &settings)
    }
}

fn plan(profile: &Profile, builds: &[AgentBuild], store: Option<&String>) -> Plan {
    Plan {
        target: profile.name.clone(),
        triples: profile.triples.clone(),
        builds: builds.to_vec(),
        dirs: store.map_or_else(|| profile.remote_dirs.clone(), |dir| vec![dir.clone()]),
        runner: profile.runner.clone().unwrap_or_default(),
    }
}

fn connect<R: Remote>(mut remote: R, plan: &Plan, install: bool) -> Result<Box<dyn Transport>, Error> {
    if install {
        (remote, _) = bootstrap::install(remote, plan)?;
    }
    Ok(Box::new(bootstrap::start(remote, plan)?))
}

impl Connect for SshRoute {
    fn connect(&self, device: &str, install: bool) -> Result<Box<dyn Transport>, Error> {
        connect(self.session(device)?, &plan(&self.profile, &self.builds, self.store.as_ref()), install)
    }

    fn deploy(&self, device: &str) -> Result<Option<DeployReport>, Error> {
        let plan = plan(&self.profile, &self.builds, self.store.as_ref());
        bootstrap::install(self.session(device)?, &plan).map(|(_, report)| Some(report))
    }

    fn shares_files(&self) -> bool {
        false
    }
}

impl Connect for AdbRoute {
    fn connect(&self, device: &str, install: bool) -> Result<Box<dyn Transport>, Error> {
        connect(self.adb.connect(device)?, &plan(&self.profile, &self.builds, self.store.as_ref()), install)
    }

    fn deploy(&self, device: &str) -> Result<Option<DeployReport>, Error> {
        let plan = plan(&self.profile, &self.builds, self.store.as_ref());
        bootstrap::install(self.adb.connect(device)?, &plan).map(|(_, report)| Some(report))
    }

    fn shares_files(&self) -> bool {
        false
    }
}

/// A device, connected or not.
pub struct Device {
    name: String,
    route: Box<dyn Connect>,
    caller: Caller,
    client: Option<DeviceClient>,
    /// Bytes sent on connections that are no more.
    sent_before: u64,
}

impl Device {
    /// A device that is not connected yet.
    pub fn new(name: &str, route: Box<dyn Connect>, caller: Caller) -> Self {
        Self { name: name.into(), route, caller, client: None, sent_before: 0 }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Puts the right agent on it, and ends the one that runs: the next request starts the new one.
    ///
    /// # Errors
    /// Those of connecting and of the bootstrap.
    pub fn deploy(&mut self) -> Result<Option<DeployReport>, Error> {
        self.close();
        self.route.deploy(&self.name)
    }

    /// Connects unless it is connected, and gives the agent's greeting.
    ///
    /// # Errors
    /// Those of connecting, of the bootstrap, and of the greeting.
    pub fn hello(&mut self) -> Result<AgentHello, Error> {
        self.retry(|client, _| Ok(client.hello().clone()))
    }

    /// See [`DeviceClient::describe`]; repeated on a new connection if one breaks.
    ///
    /// # Errors
    /// As there, and those of connecting.
    pub fn describe(&mut self, ort: &OrtLibrary) -> Result<DeviceDescription, Error> {
        self.retry(|client, _| client.describe(ort.clone()))
    }

    /// See [`DeviceClient::have`]; repeated on a new connection if one breaks.
    ///
    /// # Errors
    /// As there, and those of connecting.
    pub fn have(&mut self, blobs: &[BlobId]) -> Result<Vec<BlobState>, Error> {
        self.retry(|client, _| client.have(blobs))
    }

    /// See [`DeviceClient::ensure_blobs`]; goes on with a new connection where a broken one ended, and waits for somebody
    /// else who sends the device the same.
    ///
    /// # Errors
    /// As there, and those of connecting.
    pub fn ensure_blobs(&mut self, blobs: &[Blob<'_>], cancel: &AtomicBool) -> Result<u64, Error> {
        let ids: Vec<BlobId> = blobs.iter().map(|blob| blob.id).collect();
        let mut sent = 0;
        let mut others = (Vec::new(), Instant::now());
        loop {
            let outcome = self.retry(|client, shares_files| client.ensure_blobs(blobs, shares_files, &mut sent, cancel));
            let Err(error @ Error::Device { code: ErrorCode::Busy, .. }) = outcome else { return outcome.map(|()| sent) };
            let states = self.have(&ids)?;
            if states != others.0 {
                others = (states, Instant::now());
            }
            if others.1.elapsed() > OTHER_SENDER {
                return Err(error);
            }
            // The next attempt sees a cancellation.
            thread::sleep(OTHER_POLL);
        }
    }

    /// See [`DeviceClient::examine`]; repeated on a new connection if one breaks.
    ///
    /// # Errors
    /// As there, and those of connecting.
    pub fn examine(&mut self) -> Result<Health, Error> {
        self.retry(|client, _| client.examine())
    }

    /// Bytes that were sent to the device so far, of messages and of blobs, on all connections.
    pub fn bytes_sent(&self) -> u64 {
        self.sent_before + self.client.as_ref().map_or(0, DeviceClient::bytes_sent)
    }

    /// See [`DeviceClient::measure`]. Repeated once if the connection broke; not if the agent or its worker failed, for the
    /// candidate may be the cause. So that no candidate is blamed for what happened before it, a connection that died while
    /// nothing was asked of it (agents leave after a long silence) is replaced first.
    ///
    /// # Errors
    /// As there, and those of connecting.
    pub fn measure(
        &mut self,
        job: &MeasureJob,
        progress: &mut dyn FnMut(&Progress),
        cancel: &AtomicBool,
    ) -> Result<Measurement, Error> {
        self.retry(|client, _| client.check())?;
        match self.attempt(|client, _| client.measure(job, progress, cancel)) {
            Err(Error::ConnectionLost { .. }) => self.attempt(|client, _| client.measure(job, progress, cancel)),
            outcome => outcome,
        }
    }

    /// See [`DeviceClient::generate`]. Not repeated: what was written was shown.
    ///
    /// # Errors
    /// As there, and those of connecting.
    pub fn generate(
        &mut self,
        job: &GenerateJob,
        hear: &mut dyn FnMut(Written<'_>),
        cancel: &AtomicBool,
    ) -> Result<Generation, Error> {
        self.retry(|client, _| client.check())?;
        self.attempt(|client, _| client.generate(job, hear, cancel))
    }

    /// Lines that the agent logged since the last call.
    pub fn take_log(&mut self) -> Vec<String> {
        self.client.as_mut().map(DeviceClient::take_log).unwrap_or_default()
    }

    /// Ends the connection, if there is one, and the agent with it.
    pub fn close(&mut self) {
        if let Some(client) = self.client.take() {
            self.sent_before += client.bytes_sent();
            client.close();
        }
    }

    fn retry<T>(&mut self, mut work: impl FnMut(&mut DeviceClient, bool) -> Result<T, Error>) -> Result<T, Error> {
        let mut pause = BACKOFF;
        for _ in 1..ATTEMPTS {
            match self.attempt(&mut work) {
                Err(e) if may_pass(&e) => {}
                outcome => return outcome,
            }
            thread::sleep(pause);
            pause *= 2;
        }
        self.attempt(work)
    }

    /// Runs `work` on a connection, made if need be, and forgets the connection if it broke.
    fn attempt<T>(&mut self, work: impl FnOnce(&mut DeviceClient, bool) -> Result<T, Error>) -> Result<T, Error> {
        let shares_files = self.route.shares_files();
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(open(&self.name, &*self.route, &self.caller)?),
        };
        let outcome = work(client, shares_files);
        if outcome.as_ref().is_err_and(Error::breaks_connection) {
            self.sent_before += self.client.take().map_or(0, |client| client.bytes_sent());
        }
        outcome
    }
}

/// Starts whatever agent is in place; only if that does not greet is one installed.
fn open(device: &str, route: &dyn Connect, caller: &Caller) -> Result<DeviceClient, Error> {
    match DeviceClient::greet(device, route.connect(device, false)?, caller) {
        Err(Error::AgentStart { .. }) if !route.shares_files() => {
            DeviceClient::greet(device, route.connect(device, true)?, caller)
        }
        outcome => outcome,
    }
}

/// Whether the same request may succeed a moment later. A refused login or an untrusted key will not.
fn may_pass(error: &Error) -> bool {
    if let Error::Adb { problem, .. } = error {
        return problem.may_pass();
    }
    matches!(
        error,
        Error::ConnectionLost { .. }
            | Error::AgentDied { .. }
            | Error::AgentSilent { .. }
            | Error::Connect { .. }
            | Error::Handshake { .. }
            | Error::Proxy { .. }
    )
}
