//! TCP, handshake, host key.

use super::SshSettings;
use crate::{Address, Error, HostKey, KnownHosts, MismatchedKey, Verdict};
use ssh2::{MethodType, Session};
use std::{
    io,
    net::{TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

/// For TCP over all addresses of the host.
const CONNECT: Duration = Duration::from_secs(10);
/// For each blocking call of the handshake and the authentication.
pub(super) const HANDSHAKE_MS: u32 = 10_000;

/// Key types of known-hosts files and the algorithms that a server can prove them with, the best first.
const HOST_KEY_ALGORITHMS: [(&str, &str); 6] = [
    ("ssh-ed25519", "ssh-ed25519"),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"),
    ("ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384"),
    ("ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521"),
    ("ssh-rsa", "rsa-sha2-512"),
    ("ssh-rsa", "rsa-sha2-256"),
];
/// Ciphers that are on offer besides the profile's.
const CIPHERS: [&str; 6] = [
    "chacha20-poly1305@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
];

/// The key that the server at `address` shows now, for a person to compare. Proves nothing by itself.
///
/// # Errors
/// [`Error::Resolve`], [`Error::Connect`], [`Error::Handshake`], [`Error::File`].
pub fn fetch_host_key(address: &Address, known_hosts: &KnownHosts) -> Result<HostKey, Error> {
    let settings = SshSettings { identity: None, ciphers: Vec::new() };
    handshake(address, known_hosts, &settings).map(|(_, key)| key)
}

/// A session with a server whose key is known.
pub(super) fn trusted_session(address: &Address, hosts: &KnownHosts, settings: &SshSettings) -> Result<Session, Error> {
    let (session, key) = handshake(address, hosts, settings)?;
    let address = address.clone();
    match hosts.check(&address, &key)? {
        Verdict::Known => Ok(session),
        Verdict::Unknown | Verdict::OtherKeyType(_) => {
            let (key_type, fingerprint) = (key.key_type().to_owned(), key.fingerprint());
            Err(Error::HostKeyUnknown { address, key_type, fingerprint })
        }
        Verdict::Changed(expected) => {
            let (key_type, received) = (key.key_type().to_owned(), key.fingerprint());
            Err(Error::HostKeyChanged(Box::new(MismatchedKey { address, key_type, received, expected })))
        }
        Verdict::Revoked { file, line } => Err(Error::HostKeyRevoked { address, file, line, fingerprint: key.fingerprint() }),
    }
}

fn handshake(address: &Address, hosts: &KnownHosts, settings: &SshSettings) -> Result<(Session, HostKey), Error> {
    let failed = |source| Error::Handshake { address: address.clone(), source };
    let known_types = hosts.key_types(address)?;
    let stream = connect(address)?;
    let mut session = Session::new().map_err(failed)?;
    session.set_timeout(HANDSHAKE_MS);
    let (of_files, others): (Vec<_>, Vec<_>) =
        HOST_KEY_ALGORITHMS.iter().partition(|(key_type, _)| known_types.iter().any(|known| known == key_type));
    prefer(&session, MethodType::HostKey, of_files.iter().chain(&others).map(|(_, algorithm)| *algorithm)).map_err(failed)?;
    for direction in [MethodType::CryptCs, MethodType::CryptSc] {
        let wanted = settings.ciphers.iter().map(String::as_str).filter(|cipher| CIPHERS.contains(cipher));
        prefer(&session, direction, wanted.chain(CIPHERS)).map_err(failed)?;
    }
    session.set_tcp_stream(stream);
    session.handshake().map_err(failed)?;
    let key = session.host_key().and_then(|(blob, _)| HostKey::from_blob(blob));
    let key = key.ok_or_else(|| failed(ssh2::Error::new(ssh2::ErrorCode::Session(-8), "the server's host key is malformed")))?;
    Ok((session, key))
}

/// Sets an order of preference from what this build of libssh2 supports; the rest of `names` is left out.
fn prefer<'a>(session: &Session, kind: MethodType, names: impl Iterator<Item = &'a str>) -> Result<(), ssh2::Error> {
    let supported = session.supported_algs(kind)?;
    let mut list: Vec<&str> = Vec::new();
    for name in names {
        if supported.contains(&name) && !list.contains(&name) {
            list.push(name);
        }
    }
    session.method_pref(kind, &list.join(","))
}

fn connect(address: &Address) -> Result<TcpStream, Error> {
    let deadline = Instant::now() + CONNECT;
    let unresolved = |source| Error::Resolve { address: address.clone(), source };
    let targets: Vec<_> = (address.host.as_str(), address.port).to_socket_addrs().map_err(unresolved)?.collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (index, target) in targets.iter().enumerate() {
        // A dead first address must leave time for the others.
        let share = deadline.saturating_duration_since(Instant::now()) / (targets.len() - index) as u32;
        match TcpStream::connect_timeout(target, share.max(Duration::from_millis(100))) {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(|source| Error::Connect { address: address.clone(), source })?;
                return Ok(stream);
            }
            Err(e) => last = e,
        }
    }
    Err(Error::Connect { address: address.clone(), source: last })
}
