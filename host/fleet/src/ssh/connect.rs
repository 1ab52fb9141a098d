//! TCP, handshake, host key.

use super::{Endpoint, SshSettings};
use crate::{Address, Error, HostKey, KnownHosts, MismatchedKey, Verdict, transport::Words};
use ssh2::{MethodType, Session};
use std::{
    io,
    net::{TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

/// For TCP over all addresses of the host, unless ssh's configuration says otherwise.
const CONNECT: Duration = Duration::from_secs(10);
/// For each blocking call of the handshake and the authentication.
pub(super) const HANDSHAKE_MS: u32 = 10_000;
/// The same where a program has to connect to other servers first.
const PROXIED_HANDSHAKE_MS: u32 = 40_000;
/// For that program to say why it ended.
const LAST_WORDS: Duration = Duration::from_millis(500);

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

/// The key that the server at `endpoint` shows now, for a person to compare. Proves nothing by itself.
///
/// # Errors
/// [`Error::Resolve`], [`Error::Connect`], [`Error::Proxy`], [`Error::Handshake`], [`Error::File`].
pub fn fetch_host_key(endpoint: &Endpoint, known_hosts: &KnownHosts) -> Result<HostKey, Error> {
    handshake(endpoint, &endpoint.hosts(known_hosts), &SshSettings::default()).map(|(_, key)| key)
}

/// A session, and what is said by the program that it leads through, if it does.
pub(super) struct Line {
    pub(super) session: Session,
    pub(super) proxy: Option<Words>,
}

/// A session with a server whose key is known.
pub(super) fn trusted_session(endpoint: &Endpoint, hosts: &KnownHosts, settings: &SshSettings) -> Result<Line, Error> {
    let hosts = endpoint.hosts(hosts);
    let (line, key) = handshake(endpoint, &hosts, settings)?;
    let address = endpoint.address.clone();
    match hosts.check(&endpoint.key_address(), &key)? {
        Verdict::Known => Ok(line),
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

fn handshake(endpoint: &Endpoint, hosts: &KnownHosts, settings: &SshSettings) -> Result<(Line, HostKey), Error> {
    let address = &endpoint.address;
    let failed = |source| Error::Handshake { address: address.clone(), source };
    let known_types = hosts.key_types(&endpoint.key_address())?;
    let mut session = Session::new().map_err(failed)?;
    session.set_timeout(if endpoint.proxy.is_some() { PROXIED_HANDSHAKE_MS } else { HANDSHAKE_MS });
    let (of_files, others): (Vec<_>, Vec<_>) =
        HOST_KEY_ALGORITHMS.iter().partition(|(key_type, _)| known_types.iter().any(|known| known == key_type));
    prefer(&session, MethodType::HostKey, of_files.iter().chain(&others).map(|(_, algorithm)| *algorithm)).map_err(failed)?;
    for direction in [MethodType::CryptCs, MethodType::CryptSc] {
        let wanted = settings.ciphers.iter().map(String::as_str).filter(|cipher| CIPHERS.contains(cipher));
        prefer(&session, direction, wanted.chain(CIPHERS)).map_err(failed)?;
    }
    let proxy = match &endpoint.proxy {
        None => {
            session.set_tcp_stream(connect(address, endpoint.connect_timeout.unwrap_or(CONNECT))?);
            session.handshake().map_err(failed)?;
            None
        }
        Some(proxy) => {
            let through = |said, source| Error::Proxy { address: address.clone(), through: proxy.describe(), said, source };
            let (stream, words) = proxy.open(endpoint).map_err(|e| through("it cannot be started".into(), e))?;
            session.set_tcp_stream(stream);
            session.handshake().map_err(|e| through(words.text(LAST_WORDS), e.into()))?;
            Some(words)
        }
    };
    session.set_timeout(HANDSHAKE_MS);
    let key = session.host_key().and_then(|(blob, _)| HostKey::from_blob(blob));
    let key = key.ok_or_else(|| failed(ssh2::Error::new(ssh2::ErrorCode::Session(-8), "the server's host key is malformed")))?;
    Ok((Line { session, proxy }, key))
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

fn connect(address: &Address, limit: Duration) -> Result<TcpStream, Error> {
    // A configuration may say a century.
    let deadline = Instant::now() + limit.min(Duration::from_mins(10));
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
