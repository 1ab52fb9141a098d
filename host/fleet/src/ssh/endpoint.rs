//! Everything that decides how a server is reached, however it was found out.

use super::{OpenSsh, Proxy};
use crate::{Address, Destination, Error, KnownHosts};
use std::{path::PathBuf, time::Duration};

/// The port whose hosts are listed by name alone.
const DEFAULT_PORT: u16 = 22;

/// Which ssh agent holds our keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum KeyAgent {
    /// The one that `SSH_AUTH_SOCK` names.
    #[default]
    Environment,
    /// None.
    Disabled,
    /// The one behind this socket.
    Socket(PathBuf),
}

/// Where a server is and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where, and as whom.
    pub address: Address,
    /// The name under which its host key is listed, where that is not its address (`HostKeyAlias`).
    pub host_key_alias: Option<String>,
    /// Key files that ssh's configuration names (`IdentityFile`); empty if it names none.
    pub identities: Vec<PathBuf>,
    /// Only keys of those files are offered, also from the agent (`IdentitiesOnly`).
    pub identities_only: bool,
    /// Which agent is asked (`IdentityAgent`).
    pub key_agent: KeyAgent,
    /// Further known-hosts files (`UserKnownHostsFile`, `GlobalKnownHostsFile`).
    pub known_hosts: Vec<PathBuf>,
    /// The way there, where it is not a TCP connection from here (`ProxyJump`, `ProxyCommand`).
    pub proxy: Option<Proxy>,
    /// For the TCP connection (`ConnectTimeout`).
    pub connect_timeout: Option<Duration>,
}

impl From<Address> for Endpoint {
    fn from(address: Address) -> Self {
        Self {
            address,
            host_key_alias: None,
            identities: Vec::new(),
            identities_only: false,
            key_agent: KeyAgent::Environment,
            known_hosts: Vec::new(),
            proxy: None,
            connect_timeout: None,
        }
    }
}

impl Endpoint {
    /// Finds out how `to` is reached: from ssh's configuration if `ssh` is given and installed, else as it is written.
    /// `default_port` is used where neither names one.
    ///
    /// # Errors
    /// [`Error::SshConfig`], [`Error::Address`].
    pub fn resolve(to: &Destination, ssh: Option<&OpenSsh>, default_port: u16) -> Result<Self, Error> {
        match ssh.map(|ssh| ssh.resolve(to, default_port)).transpose()?.flatten() {
            Some(endpoint) => Ok(endpoint),
            None => to.address(default_port).map(Self::from),
        }
    }

    /// Under which name and port its host key is looked up and stored. An alias is listed without a port, whatever it is.
    pub fn key_address(&self) -> Address {
        match &self.host_key_alias {
            Some(alias) => Address { host: alias.clone(), port: DEFAULT_PORT, ..self.address.clone() },
            None => self.address.clone(),
        }
    }

    /// `hosts` and the files that ssh's configuration names for this server.
    pub fn hosts(&self, hosts: &KnownHosts) -> KnownHosts {
        hosts.and(&self.known_hosts)
    }
}
