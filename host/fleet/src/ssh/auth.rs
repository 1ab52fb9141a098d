//! Proving who we are: the device's own key file, then the agent's keys, then other key files. Never a password.
//!
//! A server hangs up after a few refused keys (`MaxAuthTries`, 6 by default), so the likeliest come first and none is
//! offered twice.

use super::{
    Endpoint, KeyAgent,
    key_file::{is_encrypted, public_blob},
    openssh::expand_home,
};
use crate::{Error, transport::printable};
use ssh2::{ErrorCode, Session};
use std::path::{Path, PathBuf};

/// Key files that OpenSSH, too, tries without being told.
const DEFAULT_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];
/// libssh2's code for "the server refuses this key" (`LIBSSH2_ERROR_AUTHENTICATION_FAILED`).
const REFUSED: i32 = -18;
/// libssh2's code for "the signature does not verify", which some servers' refusals turn into, and for a connection that
/// ended in place of an answer. Only the library's text tells the two apart.
const UNVERIFIED: i32 = -19;
const NO_ANSWER: &str = "USERAUTH response";
/// `LIBSSH2_ERROR_SOCKET_DISCONNECT`.
const DISCONNECTED: i32 = -13;
/// `LIBSSH2_ERROR_SOCKET_SEND`, `_SOCKET_RECV`, and that one: the server is gone.
const HUNG_UP: [i32; 3] = [-7, -43, DISCONNECTED];
/// `LIBSSH2_ERROR_TIMEOUT`, `_SOCKET_TIMEOUT`.
const TIMED_OUT: [i32; 2] = [-9, -30];

struct Attempt<'a> {
    session: &'a Session,
    endpoint: &'a Endpoint,
    /// Methods that the server offers.
    offered: String,
    /// Each attempt and its outcome.
    tried: Vec<String>,
    /// Public keys that were offered.
    blobs: Vec<Vec<u8>>,
}

pub(super) fn authenticate(session: &Session, endpoint: &Endpoint, identity: Option<&Path>) -> Result<(), Error> {
    let address = &endpoint.address;
    let methods = session.auth_methods(&address.user).map(str::to_owned);
    if session.authenticated() {
        return Ok(());
    }
    let offered = methods.map_err(|source| Error::Handshake { address: address.clone(), source })?;
    let mut attempt = Attempt { session, endpoint, offered, tried: Vec::new(), blobs: Vec::new() };
    if !attempt.offered.split(',').any(|method| method == "publickey") {
        return Err(attempt.failed());
    }
    let explicit = identity.map(expand_home);
    let locked = explicit.as_deref().map(is_encrypted).transpose()? == Some(true);
    if let Some(path) = explicit.as_deref().filter(|_| !locked)
        && attempt.file(path)?
    {
        return Ok(());
    }
    let files = if explicit.is_none() && endpoint.identities.is_empty() { default_keys() } else { endpoint.identities.clone() };
    let preferred: Vec<Vec<u8>> = explicit.iter().chain(&files).filter_map(|path| public_blob(path)).collect();
    if attempt.agent(&preferred)? {
        return Ok(());
    }
    for path in &files {
        if Some(path) != explicit.as_ref() && attempt.file(path)? {
            return Ok(());
        }
    }
    match explicit.filter(|_| locked) {
        Some(path) => {
            let problem = "it has a passphrase and the ssh agent holds no key that is accepted".into();
            Err(Error::Identity { path, problem })
        }
        None => Err(attempt.failed()),
    }
}

fn default_keys() -> Vec<PathBuf> {
    let in_home = |name| expand_home(&Path::new("~/.ssh").join(name));
    DEFAULT_KEYS.into_iter().map(in_home).filter(|path| path.is_file()).collect()
}

impl Attempt<'_> {
    fn failed(&self) -> Error {
        let (address, offered) = (self.endpoint.address.clone(), printable(self.offered.as_bytes()));
        Error::Auth { address, offered, tried: self.tried.clone() }
    }

    /// True if the server accepted the file's key; an error if the connection is gone.
    fn file(&mut self, path: &Path) -> Result<bool, Error> {
        let blob = public_blob(path);
        if blob.as_ref().is_some_and(|blob| self.blobs.contains(blob)) {
            return Ok(false);
        }
        match is_encrypted(path) {
            Ok(false) => {}
            Ok(true) => {
                self.tried.push(format!("{}: has a passphrase", path.display()));
                return Ok(false);
            }
            Err(e) => {
                self.tried.push(e.to_string());
                return Ok(false);
            }
        }
        self.blobs.extend(blob);
        let outcome = self.session.userauth_pubkey_file(&self.endpoint.address.user, None, path, None);
        self.judge(&path.display().to_string(), outcome)
    }

    /// Offers every key of the agent, `preferred` ones first. `userauth_agent` of the library would offer the first one only.
    fn agent(&mut self, preferred: &[Vec<u8>]) -> Result<bool, Error> {
        let socket = match &self.endpoint.key_agent {
            KeyAgent::Disabled => {
                self.tried.push("ssh agent: switched off by IdentityAgent".into());
                return Ok(false);
            }
            KeyAgent::Environment if std::env::var_os("SSH_AUTH_SOCK").is_none() => {
                self.tried.push("ssh agent: none runs".into());
                return Ok(false);
            }
            KeyAgent::Environment => None,
            KeyAgent::Socket(path) => Some(path),
        };
        let identities = self.session.agent().and_then(|mut agent| {
            if let Some(path) = socket {
                agent.set_identity_path(path)?;
            }
            agent.connect()?;
            agent.list_identities()?;
            let identities = agent.identities()?;
            Ok((agent, identities))
        });
        let (agent, mut identities) = match identities {
            Ok(both) => both,
            Err(e) => {
                self.tried.push(format!("ssh agent: {}", e.message()));
                return Ok(false);
            }
        };
        let rank = |blob: &[u8]| preferred.iter().position(|known| known == blob);
        if self.endpoint.identities_only {
            identities.retain(|identity| rank(identity.blob()).is_some());
        }
        if identities.is_empty() {
            let only = if self.endpoint.identities_only { " that IdentitiesOnly allows" } else { "" };
            self.tried.push(format!("ssh agent: holds no keys{only}"));
        }
        identities.sort_by_key(|identity| rank(identity.blob()).unwrap_or(usize::MAX));
        for identity in &identities {
            if self.blobs.iter().any(|blob| blob == identity.blob()) {
                continue;
            }
            self.blobs.push(identity.blob().to_vec());
            let name = format!("ssh agent's `{}`", printable(identity.comment().as_bytes()));
            let outcome = agent.userauth(&self.endpoint.address.user, identity);
            if self.judge(&name, outcome)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A refusal or an unusable key leaves the connection fit for the next attempt; a server that hung up had enough.
    fn judge(&mut self, name: &str, outcome: Result<(), ssh2::Error>) -> Result<bool, Error> {
        let Err(source) = outcome else {
            let accepted = self.session.authenticated();
            if !accepted {
                self.tried.push(format!("{name}: accepted, but the server asks for more"));
            }
            return Ok(accepted);
        };
        let code = match source.code() {
            ErrorCode::Session(UNVERIFIED) if source.message().contains(NO_ANSWER) => ErrorCode::Session(DISCONNECTED),
            code => code,
        };
        match code {
            ErrorCode::Session(REFUSED | UNVERIFIED) => self.tried.push(format!("{name}: refused")),
            ErrorCode::Session(code) if TIMED_OUT.contains(&code) || HUNG_UP.contains(&code) && self.tried.is_empty() => {
                return Err(Error::Handshake { address: self.endpoint.address.clone(), source });
            }
            ErrorCode::Session(code) if HUNG_UP.contains(&code) => {
                self.tried.push(format!("{name}: the server hung up after {} keys", self.blobs.len()));
                return Err(self.failed());
            }
            _ => self.tried.push(format!("{name}: {}", printable(source.message().as_bytes()))),
        }
        Ok(self.session.authenticated())
    }
}
