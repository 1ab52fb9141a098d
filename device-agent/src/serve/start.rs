//! From the first byte to the first request.

use super::{
    dispatch::Dispatcher,
    input::{self, Incoming},
    output::Output,
    requests::Shared,
};
use crate::{
    describe::{TRIPLE, VERSION},
    error::ServeError,
    lease::Claim,
    limits::HANDSHAKE,
    store::Store,
    sys,
    trial::Device,
    worker::Launcher,
};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use edgewise_protocol::{AgentHello, AgentMessage, HostMessage, PROTOCOL_OLDEST, PROTOCOL_VERSION};
use std::{
    io,
    path::PathBuf,
    sync::{Arc, OnceLock},
    thread,
};

/// How an agent serves.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Folder that keeps blobs.
    pub store: PathBuf,
    /// Bytes of blobs at most; `None` for the smaller of 8 GiB and half of what the disk has free with an empty store.
    pub budget: Option<u64>,
    /// Words of the command that workers are started through; none where this program runs natively.
    pub runner: Vec<String>,
    /// What stands for `/` where sensors are read.
    pub sensors: PathBuf,
}

/// Serves one host over standard input and output until it closes the connection.
///
/// Takes standard output for the protocol: whatever else this process prints goes to standard error.
///
/// # Errors
/// [`ServeError`]; the host was told, where it still listens.
pub fn serve(options: ServeOptions) -> Result<(), ServeError> {
    let ServeOptions { store, budget, runner, sensors } = options;
    let output = Output::new(sys::take_stdout().map_err(ServeError::Connection)?);
    let store = Store::open(&store, budget)?;
    let launcher = Launcher::new(runner).map_err(ServeError::Connection)?;
    let shared = Arc::new(Shared { store, launcher, output, device: Device::new(sensors), claim: OnceLock::new() });
    shared.output.greet(&AgentMessage::Hello(AgentHello {
        oldest: PROTOCOL_OLDEST,
        newest: PROTOCOL_VERSION,
        version: VERSION.to_owned(),
        triple: TRIPLE.to_owned(),
        pid: std::process::id(),
    }))?;

    let incoming = input::read(io::stdin());
    let served = shake_hands(&incoming).and_then(|claim| {
        shared.claim.get_or_init(|| claim);
        let (_stop, stopped) = crossbeam_channel::bounded(0);
        let beating = Arc::clone(&shared);
        thread::spawn(move || beating.output.beat(&stopped));
        Dispatcher::new(Arc::clone(&shared)).run(&incoming)
    });
    if let Err(error) = &served {
        // The host may have left already; then this is for nobody.
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        let _ = shared.output.send(&AgentMessage::Log(format!("{error}{cause}")));
    }
    served
}

fn shake_hands(incoming: &Receiver<Incoming>) -> Result<Claim, ServeError> {
    match incoming.recv_timeout(HANDSHAKE) {
        Ok(Incoming::Message(HostMessage::Hello(hello))) => {
            if (PROTOCOL_OLDEST..=PROTOCOL_VERSION).contains(&hello.protocol) {
                Claim::new(&hello).map_err(ServeError::Protocol)
            } else {
                Err(ServeError::Version { host: hello.protocol, oldest: PROTOCOL_OLDEST, newest: PROTOCOL_VERSION })
            }
        }
        Ok(Incoming::Message(_) | Incoming::Chunk { .. }) => {
            Err(ServeError::Protocol("the first message is no hello".to_owned()))
        }
        Ok(Incoming::Undecodable(error)) => Err(ServeError::Undecodable(error)),
        Ok(Incoming::Failed(error)) => Err(ServeError::Connection(error)),
        Ok(Incoming::End) | Err(RecvTimeoutError::Disconnected) => {
            Err(ServeError::Connection(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before its greeting")))
        }
        Err(RecvTimeoutError::Timeout) => Err(ServeError::Silent(HANDSHAKE.as_secs())),
    }
}
