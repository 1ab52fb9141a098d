//! A session that is trusted both ways, and commands in it.

use super::{auth, connect};
use crate::{
    Address, End, Error, Event, Exit, KnownHosts, SendError, SshTransport, Transport,
    transport::{INPUT_PIECE, printable},
};
use ssh2::{Channel, Session};
use std::{
    io::{self, Read},
    path::PathBuf,
    time::{Duration, Instant},
};

/// What a device needs of SSH besides its address.
#[derive(Debug, Clone, Default)]
pub struct SshSettings {
    /// Private key file to try first.
    pub identity: Option<PathBuf>,
    /// Ciphers in order of preference.
    pub ciphers: Vec<String>,
}

/// What a command left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) stdout: Vec<u8>,
    pub(crate) end: End,
}

impl Output {
    /// Both streams and the end in one line, for an error's text.
    pub(crate) fn describe(&self) -> String {
        let said = printable(&self.stdout);
        if said.is_empty() { format!("it {}", self.end) } else { format!("it {}; it printed: {said}", self.end) }
    }
}

/// Most that a command of ours prints; more is noise of a login script.
const MAX_OUTPUT: usize = 1 << 20;

/// An SSH session whose server is known and has accepted a key of ours.
pub struct SshSession {
    device: String,
    session: Session,
}

impl SshSession {
    /// Connects, checks the host key against `known_hosts`, and authenticates with keys.
    ///
    /// # Errors
    /// [`Error::Resolve`], [`Error::Connect`], [`Error::Handshake`], [`Error::HostKeyUnknown`], [`Error::HostKeyChanged`],
    /// [`Error::HostKeyRevoked`], [`Error::Identity`], [`Error::Auth`], [`Error::File`].
    pub fn connect(device: &str, address: &Address, hosts: &KnownHosts, settings: &SshSettings) -> Result<Self, Error> {
        let session = connect::trusted_session(address, hosts, settings)?;
        auth::authenticate(&session, address, settings.identity.as_deref())?;
        Ok(Self { device: device.into(), session })
    }

    /// The device's name.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Starts a command whose process is then talked to; the session goes with it.
    ///
    /// `command` is given to the user's login shell as it is.
    ///
    /// # Errors
    /// [`Error::ConnectionLost`].
    pub fn start(self, command: &str) -> Result<SshTransport, Error> {
        let channel = self.open(command)?;
        let lost = |e: io::Error| Error::ConnectionLost { device: self.device.clone(), why: e.to_string() };
        SshTransport::start(self.session.clone(), channel).map_err(lost)
    }

    /// Takes a session back from a process that has ended, unless the connection is gone.
    pub(crate) fn reclaim(device: &str, transport: SshTransport) -> Option<Self> {
        transport.into_session().map(|session| Self { device: device.into(), session })
    }

    /// Runs a command to its end with `input` as its stdin, within `limit`.
    pub(crate) fn run(self, command: &str, input: &mut dyn Read, limit: Duration) -> Result<(Self, Output), Error> {
        let device = self.device.clone();
        let lost = |why: String| Error::ConnectionLost { device: device.clone(), why };
        let deadline = Instant::now() + limit;
        let mut transport = self.start(command)?;
        let mut stdout = Vec::new();
        let mut end = None;
        let mut message = Vec::new();
        let mut input_open = true;
        while end.is_none() {
            if Instant::now() >= deadline {
                transport.close(Duration::ZERO);
                return Err(lost(format!("a command did not end within {} s", limit.as_secs())));
            }
            if input_open && message.is_empty() {
                message.resize(INPUT_PIECE, 0);
                let n = input.read(&mut message).map_err(|e| lost(format!("what was to be sent cannot be read: {e}")))?;
                message.truncate(n);
                if n == 0 {
                    input_open = false;
                    transport.finish();
                }
            }
            // With input at hand the queue is the place to wait; what the command prints is small and waits for us.
            let pause = if input_open {
                match transport.send(&mut message, Instant::now() + Duration::from_millis(50)) {
                    Ok(()) => message.clear(),
                    Err(SendError::Timeout) => {}
                    Err(SendError::Closed) => input_open = false,
                }
                Duration::ZERO
            } else {
                deadline.saturating_duration_since(Instant::now())
            };
            match transport.receive(Instant::now() + pause) {
                Some(Event::Data(bytes)) if stdout.len() < MAX_OUTPUT => stdout.extend_from_slice(&bytes),
                Some(Event::Data(_)) | None => {}
                Some(Event::Ended(ended)) => end = Some(ended),
            }
        }
        let Some(end) = end else { return Err(lost("the command's end was not seen".into())) };
        if let Exit::Lost(why) = &end.exit {
            return Err(lost(why.clone()));
        }
        let session = Self::reclaim(&device, transport).ok_or_else(|| lost("the session did not outlive the command".into()))?;
        Ok((session, Output { stdout, end }))
    }

    fn open(&self, command: &str) -> Result<Channel, Error> {
        self.session.set_blocking(true);
        self.session.set_timeout(connect::HANDSHAKE_MS);
        let opened = self.session.channel_session().and_then(|mut channel| {
            // No pty: it would translate line ends and echo.
            channel.exec(command)?;
            Ok(channel)
        });
        opened.map_err(|e| Error::ConnectionLost { device: self.device.clone(), why: e.message().to_owned() })
    }
}
