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
    limits::HANDSHAKE,
    store::Store,
    sys,
    worker::Launcher,
};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use edgewise_protocol::{AgentHello, AgentMessage, HostMessage, PROTOCOL_OLDEST, PROTOCOL_VERSION};
use std::{io, path::Path, sync::Arc, thread};

/// Serves one host over standard input and output until it closes the connection. The folder `store` keeps at most `budget`
/// bytes of blobs; without one, the smaller of 8 GiB and half of what the disk has free with an empty store. Workers are
/// started through the command line `runner`, which is empty where this program runs natively.
///
/// Takes standard output for the protocol: whatever else this process prints goes to standard error.
///
/// # Errors
/// [`ServeError`]; the host was told, where it still listens.
pub fn serve(store: &Path, budget: Option<u64>, runner: &str) -> Result<(), ServeError> {
    let output = Output::new(sys::take_stdout().map_err(ServeError::Connection)?);
    let store = Store::open(store, budget)?;
    let launcher = Launcher::new(runner).map_err(ServeError::Connection)?;
    let shared = Arc::new(Shared { store, launcher, output });
    shared.output.greet(&AgentMessage::Hello(AgentHello {
        oldest: PROTOCOL_OLDEST,
        newest: PROTOCOL_VERSION,
        version: VERSION.to_owned(),
        triple: TRIPLE.to_owned(),
        pid: std::process::id(),
    }))?;

    let incoming = input::read(io::stdin());
    let served = shake_hands(&incoming).and_then(|()| {
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

fn shake_hands(incoming: &Receiver<Incoming>) -> Result<(), ServeError> {
    match incoming.recv_timeout(HANDSHAKE) {
        Ok(Incoming::Message(HostMessage::Hello(hello))) => {
            if (PROTOCOL_OLDEST..=PROTOCOL_VERSION).contains(&hello.protocol) {
                Ok(())
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
