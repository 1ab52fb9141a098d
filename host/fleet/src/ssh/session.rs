//! A session that is trusted both ways, and commands in it.

use super::{
    Endpoint, auth,
    connect::{self, Line},
};
use crate::{
    Error, KnownHosts, Remote, SshTransport,
    transport::{self, Output},
};
use ssh2::Channel;
use std::{io::Read, path::PathBuf, time::Duration};

/// What a device needs of SSH besides its address.
#[derive(Debug, Clone, Default)]
pub struct SshSettings {
    /// Private key file to try first.
    pub identity: Option<PathBuf>,
    /// Ciphers in order of preference.
    pub ciphers: Vec<String>,
}

/// An SSH session whose server is known and has accepted a key of ours.
pub struct SshSession {
    device: String,
    line: Line,
}

impl SshSession {
    /// Connects, checks the host key against `known_hosts`, and authenticates with keys.
    ///
    /// # Errors
    /// [`Error::Resolve`], [`Error::Connect`], [`Error::Proxy`], [`Error::Handshake`], [`Error::HostKeyUnknown`],
    /// [`Error::HostKeyChanged`], [`Error::HostKeyRevoked`], [`Error::Identity`], [`Error::Auth`], [`Error::File`].
    pub fn connect(device: &str, endpoint: &Endpoint, hosts: &KnownHosts, settings: &SshSettings) -> Result<Self, Error> {
        let line = connect::trusted_session(endpoint, hosts, settings)?;
        auth::authenticate(&line.session, endpoint, settings.identity.as_deref())?;
        Ok(Self { device: device.into(), line })
    }

    /// Starts a command whose process is then talked to; the session goes with it.
    ///
    /// `command` is given to the user's login shell as it is.
    ///
    /// # Errors
    /// [`Error::ConnectionLost`].
    pub fn start(self, command: &str) -> Result<SshTransport, Error> {
        let channel = self.open(command)?;
        SshTransport::start(self.line.session.clone(), channel, self.line.proxy.clone()).map_err(|e| self.lost(e.to_string()))
    }

    fn lost(&self, why: String) -> Error {
        Error::ConnectionLost { device: self.device.clone(), why }
    }

    fn open(&self, command: &str) -> Result<Channel, Error> {
        self.line.session.set_blocking(true);
        self.line.session.set_timeout(connect::HANDSHAKE_MS);
        let opened = self.line.session.channel_session().and_then(|mut channel| {
            // No pty: it would translate line ends and echo.
            channel.exec(command)?;
            Ok(channel)
        });
        opened.map_err(|e| self.lost(e.message().to_owned()))
    }
}

impl Remote for SshSession {
    type Process = SshTransport;

    fn device(&self) -> &str {
        &self.device
    }

    fn run(self, script: &str, input: &mut dyn Read, limit: Duration) -> Result<(Self, Output), Error> {
        let (device, proxy) = (self.device.clone(), self.line.proxy.clone());
        let lost = |why: String| Error::ConnectionLost { device: device.clone(), why };
        let mut transport = Remote::start(self, script)?;
        let output = transport::run(&mut transport, input, limit).map_err(lost)?;
        let session = transport.into_session().ok_or_else(|| lost("the session did not outlive the command".into()))?;
        Ok((Self { device, line: Line { session, proxy } }, output))
    }

    fn start(self, script: &str) -> Result<SshTransport, Error> {
        Self::start(self, &crate::shell::command(script))
    }
}
