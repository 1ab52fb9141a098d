//! A process at the far end of an SSH channel.

use super::{
    End, Event, Exit, INCOMING_PIECES, OUTGOING_MESSAGES, SendError, Transport,
    poll::{Waker, wake_pair},
    pump::{Pump, Shared},
};
use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};
use ssh2::{Channel, Session};
use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// A process at the far end of an SSH channel; see the pump for who touches the session.
pub struct SshTransport {
    outgoing: Sender<Vec<u8>>,
    incoming: Receiver<Event>,
    shared: Arc<Shared>,
    waker: Waker,
    pump: Option<JoinHandle<Option<Session>>>,
    end: Option<End>,
}

impl SshTransport {
    /// Takes over a session whose channel runs a process. Nobody else may use either from now on.
    pub(crate) fn start(session: Session, channel: Channel) -> io::Result<Self> {
        let (outgoing, to_send) = bounded(OUTGOING_MESSAGES);
        let (received, incoming) = bounded(INCOMING_PIECES);
        let (waker, sleeper) = wake_pair()?;
        let shared = Arc::new(Shared::default());
        let pump = Pump { session, channel, outgoing: to_send, incoming: received, shared: Arc::clone(&shared), sleeper };
        let pump = std::thread::Builder::new().name("ssh-pump".into()).spawn(move || pump.run())?;
        Ok(Self { outgoing, incoming, shared, waker, pump: Some(pump), end: None })
    }

    /// Closes the process's stdin once everything queued is sent.
    pub(crate) fn finish(&mut self) {
        self.shared.finish.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// The session, if the process has ended and the connection has not.
    pub(crate) fn into_session(mut self) -> Option<Session> {
        self.end.as_ref()?;
        self.pump.take()?.join().ok()?
    }

    fn note(&mut self, event: Event) -> Event {
        // See the pump: it may hold a piece until there is room.
        if self.shared.reader_waits.swap(false, Ordering::SeqCst) {
            self.waker.wake();
        }
        if let Event::Ended(end) = &event {
            self.end = Some(end.clone());
        }
        event
    }
}

impl Transport for SshTransport {
    fn send(&mut self, message: &mut Vec<u8>, deadline: Instant) -> Result<(), SendError> {
        if self.end.is_some() {
            return Err(SendError::Closed);
        }
        match self.outgoing.send_deadline(std::mem::take(message), deadline) {
            Ok(()) => {
                self.waker.wake();
                Ok(())
            }
            Err(SendTimeoutError::Timeout(back)) => {
                *message = back;
                Err(SendError::Timeout)
            }
            Err(SendTimeoutError::Disconnected(back)) => {
                *message = back;
                Err(SendError::Closed)
            }
        }
    }

    fn receive(&mut self, deadline: Instant) -> Option<Event> {
        if self.end.is_some() {
            return None;
        }
        match self.incoming.recv_deadline(deadline) {
            Ok(event) => Some(self.note(event)),
            Err(RecvTimeoutError::Timeout) => None,
            // Only a panic of the pump ends the queue without an end.
            Err(RecvTimeoutError::Disconnected) => {
                let end = End { exit: Exit::Lost("the connection's thread failed".into()), stderr: String::new() };
                Some(self.note(Event::Ended(end)))
            }
        }
    }

    fn bytes_moved(&self) -> u64 {
        self.shared.moved.load(Ordering::Relaxed)
    }

    fn set_quiet(&mut self, quiet: bool) {
        self.shared.quiet.store(quiet, Ordering::Relaxed);
    }

    fn close(&mut self, patience: Duration) -> End {
        self.finish();
        let mut deadline = Instant::now() + patience;
        loop {
            if let Some(end) = &self.end {
                return end.clone();
            }
            if self.receive(deadline).is_none() {
                // The server ends the process's session when the connection goes; the pump answers at once.
                self.shared.abort.store(true, Ordering::Release);
                self.waker.wake();
                deadline = Instant::now() + Duration::from_secs(10);
            }
        }
    }
}

impl Drop for SshTransport {
    fn drop(&mut self) {
        self.shared.abort.store(true, Ordering::Release);
        self.waker.wake();
    }
}
