//! A process at the far end of an SSH channel.

use super::{
    End, Event, INCOMING_PIECES, OUTGOING_MESSAGES, Process, SendError, Transport, Words,
    poll::{Waker, wake_pair},
    pump::{Pump, Shared},
    queues,
    queues::Queues,
};
use crossbeam_channel::bounded;
use ssh2::{Channel, Session};
use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// A process at the far end of an SSH channel; see the pump for who touches the session.
pub struct SshTransport {
    queues: Queues,
    shared: Arc<Shared>,
    waker: Waker,
    pump: Option<JoinHandle<Option<Session>>>,
}

impl SshTransport {
    /// Takes over a session whose channel runs a process. Nobody else may use either from now on. `proxy` are the words of
    /// the program that the connection leads through.
    pub(crate) fn start(session: Session, channel: Channel, proxy: Option<Words>) -> io::Result<Self> {
        let (outgoing, to_send) = bounded(OUTGOING_MESSAGES);
        let (received, incoming) = bounded(INCOMING_PIECES);
        let (waker, sleeper) = wake_pair()?;
        let shared = Arc::new(Shared::default());
        let pump = Pump { session, channel, proxy, outgoing: to_send, incoming: received, shared: Arc::clone(&shared), sleeper };
        let pump = std::thread::Builder::new().name("ssh-pump".into()).spawn(move || pump.run())?;
        Ok(Self { queues: Queues::new(outgoing, incoming), shared, waker, pump: Some(pump) })
    }

    /// The session, if the process has ended and the connection has not.
    pub(crate) fn into_session(mut self) -> Option<Session> {
        self.queues.end()?;
        self.pump.take()?.join().ok()?
    }
}

impl Transport for SshTransport {
    fn send(&mut self, message: &mut Vec<u8>, deadline: Instant) -> Result<(), SendError> {
        self.queues.send(message, deadline)?;
        self.waker.wake();
        Ok(())
    }

    fn receive(&mut self, deadline: Instant) -> Option<Event> {
        let event = self.queues.receive(deadline)?;
        // See the pump: it may hold a piece until there is room.
        if self.shared.reader_waits.swap(false, Ordering::SeqCst) {
            self.waker.wake();
        }
        Some(event)
    }

    fn bytes_moved(&self) -> u64 {
        self.shared.moved.load(Ordering::Relaxed)
    }

    fn set_quiet(&mut self, quiet: bool) {
        self.shared.quiet.store(quiet, Ordering::Relaxed);
    }

    fn close(&mut self, patience: Duration) -> End {
        queues::close(self, patience)
    }
}

impl Process for SshTransport {
    fn finish(&mut self) {
        self.shared.finish.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn ended(&self) -> Option<&End> {
        self.queues.end()
    }

    /// The server ends the process's session when the connection goes; the pump answers at once.
    fn force(&mut self) {
        self.shared.abort.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl Drop for SshTransport {
    fn drop(&mut self) {
        self.shared.abort.store(true, Ordering::Release);
        self.waker.wake();
    }
}
