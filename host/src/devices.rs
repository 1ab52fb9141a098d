//! From a device's name to a connected device that knows what it can run.

use crate::{
    exit_code,
    failure::Failure,
    home::Home,
    ort_library::{Found, Libraries},
    ui::Printer,
};
use edgewise_fleet::{
    Adb, AdbRoute, AgentBuild, Blob, Caller, Destination, Device, KnownHosts, LocalRoute, OpenSsh, Place, RegisteredDevice,
    Registry, SshRoute,
};
use edgewise_protocol::{BlobId, DeviceDescription, OrtLibrary, Provider, Runtime};
use edgewise_targets::Profile;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, atomic::AtomicBool},
};

/// The lease of a device whose entry names none: one for each system, whoever measures on it.
const LEASE: &str = "device";

/// Names an agent binary to use instead of those at hand.
pub(crate) const AGENT_VARIABLE: &str = "EDGEWISE_AGENT";
/// The platform this program was built for.
const HOST_TRIPLE: &str = env!("EDGEWISE_TRIPLE");

/// Which runtime the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RuntimeChoice {
    /// What the device can run; the faster one is kept.
    Auto,
    /// tract, built into the agent.
    Tract,
    /// ONNX Runtime.
    Ort,
}

/// What devices need to be found and reached.
pub(crate) struct Fleet {
    registry: Registry,
    home: Home,
    libraries: Libraries,
    /// Fetches ONNX Runtime where it is missing.
    fetches: bool,
    read: Mutex<Files>,
}

/// Files that were read and hashed, once for all devices of a fleet.
#[derive(Default)]
struct Files {
    builds: BTreeMap<PathBuf, AgentBuild>,
    /// Those of the agents folder.
    folder: Option<Vec<AgentBuild>>,
    libraries: BTreeMap<PathBuf, Blob<'static>>,
}

/// A device that answered.
pub(crate) struct Ready {
    pub(crate) device: Device,
    pub(crate) description: DeviceDescription,
    pub(crate) ort: OrtLibrary,
    /// Runtimes to measure with, the profile's favourite first; never empty.
    pub(crate) runtimes: Vec<Runtime>,
    /// Execution providers to ask ONNX Runtime for.
    pub(crate) providers: Vec<Provider>,
    pub(crate) threads: u16,
    /// Bytes sent to make it ready.
    pub(crate) bytes_sent: u64,
}

impl Fleet {
    /// Reads the registry and looks for ONNX Runtime.
    pub(crate) fn load(home: &Home, devices: Option<&Path>, ort_library: Option<&Path>) -> Result<Self, Failure> {
        let registry = registry(home, devices)?;
        let libraries = Libraries::new(ort_library, home)?;
        Ok(Self { registry, home: home.clone(), libraries, fetches: false, read: Mutex::default() })
    }

    /// The same, which fetches ONNX Runtime for devices that could run it and lack it.
    #[must_use]
    pub(crate) fn fetching(self, fetches: bool) -> Self {
        Self { fetches, ..self }
    }

    /// The device of this name.
    pub(crate) fn get(&self, name: &str) -> Result<RegisteredDevice, Failure> {
        Ok(self.registry.get(name)?)
    }

    /// The devices that patterns and groups mean; what means none is an error before anything is connected.
    pub(crate) fn select(&self, patterns: &[String], groups: &[String]) -> Result<Vec<RegisteredDevice>, Failure> {
        Ok(self.registry.select(patterns, groups)?)
    }

    /// Every registered device but `local`.
    pub(crate) fn boards(&self) -> Vec<RegisteredDevice> {
        self.registry.list().into_iter().filter(|d| d.place != Place::Local).collect()
    }

    /// What the device's kind of board needs.
    pub(crate) fn profile(&self, registered: &RegisteredDevice) -> Result<Profile, Failure> {
        Ok(Profile::find_in(&registered.target, &self.home.targets)?)
    }

    /// The device and its profile, not connected yet.
    pub(crate) fn device(&self, registered: &RegisteredDevice) -> Result<(Device, Profile), Failure> {
        let profile = self.profile(registered)?;
        let route: Box<dyn edgewise_fleet::Connect> = match &registered.place {
            Place::Local => Box::new(LocalRoute { agent: local_agent()?, store: self.home.local_store.clone() }),
            Place::Ssh { address, port, identity, ssh_config } => Box::new(SshRoute {
                destination: Destination::parse(address, *port)?,
                ssh: if *ssh_config { OpenSsh::from_env() } else { None },
                known_hosts: KnownHosts::in_home(&self.home.config),
                identity: identity.clone(),
                builds: self.builds(registered, &profile)?,
                profile: profile.clone(),
                store: registered.store.clone(),
            }),
            Place::Adb { serial } => Box::new(AdbRoute {
                adb: Adb::from_env(serial.clone()),
                builds: self.builds(registered, &profile)?,
                profile: profile.clone(),
                store: registered.store.clone(),
            }),
        };
        let lease = registered.lease.clone().unwrap_or_else(|| LEASE.to_owned());
        Ok((Device::new(&registered.name, route, Caller { owner: owner(), lease }), profile))
    }

    /// Agent builds at hand: the device's own, the one beside this program, and those in the agents folder.
    fn builds(&self, registered: &RegisteredDevice, profile: &Profile) -> Result<Vec<AgentBuild>, Failure> {
        if let Some(path) = &registered.agent {
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = read.builds.get(path).filter(|known| profile.triples.iter().any(|t| t == known.triple())) {
                return Ok(vec![known.clone()]);
            }
            let build = AgentBuild::recognise(path, &profile.triples)?;
            read.builds.insert(path.clone(), build.clone());
            return Ok(vec![build]);
        }
        let mut out = {
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            if read.folder.is_none() {
                read.folder = Some(AgentBuild::all_in(&self.home.agents)?);
            }
            read.folder.clone().unwrap_or_default()
        };
        if let Ok(path) = local_agent() {
            out.push(self.build(HOST_TRIPLE, &path)?);
        }
        Ok(out)
    }

    fn build(&self, triple: &str, path: &Path) -> Result<AgentBuild, Failure> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.builds.get(path).filter(|known| known.triple() == triple) {
            return Ok(known.clone());
        }
        let build = AgentBuild::open(triple, path)?;
        read.builds.insert(path.to_owned(), build.clone());
        Ok(build)
    }

    /// ONNX Runtime's library as a blob.
    fn library_blob(&self, library: &Path) -> Result<Blob<'static>, Failure> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.libraries.get(library) {
            return Ok(known.clone());
        }
        let blob = blob_of(library)?;
        read.libraries.insert(library.to_owned(), blob.clone());
        Ok(blob)
    }

    /// Fetches ONNX Runtime for a platform, once for all devices of a fleet.
    fn fetch_library(&self, triple: &str, printer: Printer) -> Result<Found, Failure> {
        let _one_at_a_time = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let found @ Found::Library(_) = self.libraries.of(triple)? {
            return Ok(found);
        }
        printer.note(&format!("fetching ONNX Runtime for {triple}"));
        self.libraries.fetch(triple).map(Found::Library)
    }

    /// Connects, puts ONNX Runtime there if it is missing and ours fits, and finds out what can run.
    pub(crate) fn ready(
        &self,
        registered: &RegisteredDevice,
        choice: RuntimeChoice,
        threads: Option<u16>,
        printer: Printer,
    ) -> Result<Ready, Failure> {
        self.connect(registered, choice, threads, printer).map_err(|failure| failure.about(&registered.name))
    }

    fn connect(
        &self,
        registered: &RegisteredDevice,
        choice: RuntimeChoice,
        threads: Option<u16>,
        printer: Printer,
    ) -> Result<Ready, Failure> {
        let (mut device, profile) = self.device(registered)?;
        let hello = device.hello()?;
        let local = registered.place == Place::Local;
        let mut library = self.libraries.of(&hello.triple)?;
        let mut ort = match (&profile.ort_library, &library) {
            (Some(path), _) => OrtLibrary::Path(path.clone()),
            (None, Found::Library(path)) if local => OrtLibrary::Path(path.display().to_string()),
            _ => OrtLibrary::Default,
        };
        let mut description = device.describe(&ort)?;
        let mut bytes_sent = 0;
        let wanted = choice != RuntimeChoice::Tract && profile.runtimes.contains(&edgewise_targets::Runtime::Ort);
        let lacking = wanted && !local && loads_libraries(&hello.triple) && works(&description, Runtime::Ort).is_err();
        if lacking && library == Found::Nothing && self.fetches {
            library = self.fetch_library(&hello.triple, printer)?;
        }
        match library {
            Found::Library(path) if lacking => {
                let blob = self.library_blob(&path)?;
                bytes_sent = device.ensure_blobs(std::slice::from_ref(&blob), &AtomicBool::new(false))?;
                ort = OrtLibrary::Blob(blob.id);
                description = device.describe(&ort)?;
            }
            // More to the point than that the device has none of its own.
            Found::Misfit(why) if wanted && (lacking || local) => {
                let status = description.runtimes.iter_mut().find(|status| status.runtime == Runtime::Ort);
                if let Some(problem) = status.and_then(|status| status.problem.as_mut()) {
                    *problem = why;
                }
            }
            _ => {}
        }
        let runtimes = choose(&registered.name, &hello.triple, &profile, &description, choice, printer)?;
        for line in device.take_log() {
            printer.note(&format!("{}: {line}", registered.name));
        }
        let threads = threads.unwrap_or(profile.threads);
        let providers = profile.providers.iter().copied().map(provider).collect();
        Ok(Ready { device, description, ort, runtimes, providers, threads, bytes_sent })
    }
}

/// A profile's execution provider as the agent is asked for it.
fn provider(of_profile: edgewise_targets::Provider) -> Provider {
    use edgewise_targets::Provider as P;
    match of_profile {
        P::Cpu => Provider::Cpu,
        P::Cuda => Provider::Cuda,
        P::TensorRt => Provider::TensorRt,
        P::Nnapi => Provider::Nnapi,
        P::Xnnpack => Provider::Xnnpack,
        P::Acl => Provider::Acl,
        P::Qnn => Provider::Qnn,
        P::CoreMl => Provider::CoreMl,
    }
}

/// Static agents cannot load ONNX Runtime.
fn loads_libraries(triple: &str) -> bool {
    !triple.contains("-musl")
}

/// The runtimes to measure with.
fn choose(
    name: &str,
    triple: &str,
    profile: &Profile,
    description: &DeviceDescription,
    choice: RuntimeChoice,
    printer: Printer,
) -> Result<Vec<Runtime>, Failure> {
    let need = |runtime: Runtime| {
        works(description, runtime).map_err(|why| {
            let hint = if loads_libraries(triple) {
                let architecture = triple.split('-').next().unwrap_or_default();
                format!(
                    "scripts/fetch-onnxruntime --platform {architecture} fetches the library for this board, or `host deploy \
                     --fetch-ort`; --ort-library names one; --runtime tract needs none"
                )
            } else {
                let other = triple.replace("musl", "gnu");
                format!("the static agent runs there; scripts/build-agents {other} makes one for ONNX Runtime; --runtime tract needs none")
            };
            Failure::new(exit_code::AGENT, format!("`{name}` cannot run {}: {why}", runtime.name())).hint(hint)
        })
    };
    match choice {
        RuntimeChoice::Tract => need(Runtime::Tract).map(|()| vec![Runtime::Tract]),
        RuntimeChoice::Ort => need(Runtime::Ort).map(|()| vec![Runtime::Ort]),
        RuntimeChoice::Auto => {
            let mut out = Vec::new();
            for runtime in &profile.runtimes {
                let runtime = match runtime {
                    edgewise_targets::Runtime::Ort => Runtime::Ort,
                    edgewise_targets::Runtime::Tract => Runtime::Tract,
                };
                match works(description, runtime) {
                    Ok(()) => out.push(runtime),
                    Err(why) => printer.note(&format!("{name}: without {} ({why})", runtime.name())),
                }
            }
            if out.is_empty() {
                return Err(Failure::new(exit_code::AGENT, format!("`{name}` has no runtime that works")));
            }
            Ok(out)
        }
    }
}

/// Why a runtime does not work on a device, if it does not.
fn works(description: &DeviceDescription, runtime: Runtime) -> Result<(), String> {
    match description.runtimes.iter().find(|r| r.runtime == runtime) {
        None => Err("the agent was built without it".into()),
        Some(status) => status.problem.clone().map_or(Ok(()), Err),
    }
}

/// The registry that the user means.
pub(crate) fn registry(home: &Home, devices: Option<&Path>) -> Result<Registry, Failure> {
    Ok(match devices {
        Some(file) => Registry::load_file(file)?,
        None => Registry::load(&home.config)?,
    })
}

/// The agent for this host: the one named by the environment, or the one beside this program.
pub(crate) fn local_agent() -> Result<PathBuf, Failure> {
    if let Some(path) = std::env::var_os(AGENT_VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from) {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(Failure::usage(format!("{AGENT_VARIABLE} names `{}`, which is no file", path.display())))
        };
    }
    let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(|dir| dir.join("device-agent")));
    beside.filter(|p| p.is_file()).ok_or_else(|| {
        Failure::new(exit_code::AGENT, "there is no `device-agent` beside this program")
            .hint(format!("build both: cargo build --release; or name one with {AGENT_VARIABLE}"))
    })
}

/// A file as a blob.
fn blob_of(path: &Path) -> Result<Blob<'static>, Failure> {
    let bytes = std::fs::read(path).map_err(|e| Failure::file("read", path, &e))?;
    Ok(Blob::file(BlobId(Sha256::digest(&bytes).into()), bytes.len() as u64, path))
}

/// Who measures, for others who want the same device: user, machine, process.
fn owner() -> String {
    let user = ["USER", "LOGNAME", "USERNAME"].into_iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    let machine = gethostname::gethostname().to_string_lossy().into_owned();
    let user = if user.is_empty() { "somebody" } else { &user };
    format!("{user}@{machine} (process {})", std::process::id())
}
