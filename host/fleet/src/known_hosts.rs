//! OpenSSH's known-hosts files: an own one that is written, the user's that is only read.
//!
//! libssh2's reader compares a key with any entry of the host, of whatever type, and so cries wolf; it knows neither
//! patterns nor markers and rewrites files whole. This one follows sshd(8) on the format of `ssh_known_hosts`. A line that it
//! does not understand names no host: the result is then "unknown", never "trusted".

use crate::{Address, Error, HostKey, glob::matches_glob};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The port whose hosts are listed by name alone.
const DEFAULT_PORT: u16 = 22;

/// A key that a file holds for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKey {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// The key's type.
    pub key_type: String,
    /// Its fingerprint, see [`HostKey::fingerprint`].
    pub fingerprint: String,
}

/// What the files say about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is this host's.
    Known,
    /// No file knows the host.
    Unknown,
    /// The host is known by keys of other types only: no contradiction, but no trust either.
    OtherKeyType(Vec<KnownKey>),
    /// The host is known by another key of this type.
    Changed(Vec<KnownKey>),
    /// A file says that this key must not be used.
    Revoked {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
    },
}

/// The files that are asked.
#[derive(Debug, Clone)]
pub struct KnownHosts {
    own: PathBuf,
    others: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    None,
    Revoked,
    CertAuthority,
}

#[derive(Debug)]
struct Entry<'a> {
    line: usize,
    marker: Marker,
    hosts: &'a str,
    key: HostKey,
}

impl KnownHosts {
    /// `own` is read and appended to; `user`, if given, is only read. Neither needs to exist.
    pub fn new(own: PathBuf, user: Option<PathBuf>) -> Self {
        Self { own, others: user.into_iter().collect() }
    }

    /// The same files and, after them, further ones that are only read, such as those that ssh's configuration names.
    #[must_use]
    pub fn and(&self, files: &[PathBuf]) -> Self {
        let mut hosts = self.clone();
        for file in files {
            if *file != hosts.own && !hosts.others.contains(file) {
                hosts.others.push(file.clone());
            }
        }
        hosts
    }

    /// `<home>/known_hosts` and the user's `~/.ssh/known_hosts`.
    pub fn in_home(home: &Path) -> Self {
        let user = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".ssh/known_hosts"));
        Self::new(home.join("known_hosts"), user)
    }

    /// The file that [`Self::store`] appends to.
    pub fn own_file(&self) -> &Path {
        &self.own
    }

    /// What the files say about `key` of the server at `address`.
    ///
    /// # Errors
    /// [`Error::File`] if a file exists and cannot be read: to go on without it could overlook a revocation.
    pub fn check(&self, address: &Address, key: &HostKey) -> Result<Verdict, Error> {
        let texts = self.read()?;
        let verdict = judge(&texts, &lookup_name(&address.host, address.port), key);
        // ssh(1), too, accepts the host's portless entry for a server on another port, but never holds it against it.
        if verdict == Verdict::Unknown && address.port != DEFAULT_PORT {
            let portless = judge(&texts, &lookup_name(&address.host, DEFAULT_PORT), key);
            if matches!(portless, Verdict::Known | Verdict::Revoked { .. }) {
                return Ok(portless);
            }
        }
        Ok(verdict)
    }

    /// Types of the keys that the files hold for the server, own file first; what the handshake should ask for.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn key_types(&self, address: &Address) -> Result<Vec<String>, Error> {
        let mut types = Vec::new();
        let mut names = vec![lookup_name(&address.host, address.port)];
        if address.port != DEFAULT_PORT {
            names.push(lookup_name(&address.host, DEFAULT_PORT));
        }
        let texts = self.read()?;
        for name in names {
            for entry in texts.iter().flat_map(|(_, text)| entries(text)) {
                let key_type = entry.key.key_type();
                if entry.marker == Marker::None && names_host(entry.hosts, &name) && !types.iter().any(|t| t == key_type) {
                    types.push(key_type.to_owned());
                }
            }
        }
        Ok(types)
    }

    /// Trusts `key`: appends one line to the own file, which is made if need be. Only for a key that a person agreed to.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn store(&self, address: &Address, key: &HostKey) -> Result<(), Error> {
        let failed = |source| Error::File { action: "write", path: self.own.clone(), source };
        if let Some(dir) = self.own.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        }
        // A file that lost its last newline must not swallow the new line.
        let whole = match fs::read(&self.own) {
            Ok(bytes) => bytes.last().is_none_or(|last| *last == b'\n'),
            Err(e) if e.kind() == ErrorKind::NotFound => true,
            Err(e) => return Err(failed(e)),
        };
        let name = lookup_name(&address.host, address.port);
        let line = format!("{}{name} {} {}\n", if whole { "" } else { "\n" }, key.key_type(), STANDARD.encode(key.blob()));
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.own).map_err(failed)?;
        file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
    }

    fn read(&self) -> Result<Vec<(PathBuf, String)>, Error> {
        let mut texts = Vec::new();
        for path in std::iter::once(&self.own).chain(&self.others) {
            match fs::read(path) {
                // Names and keys are ASCII; a comment in another encoding must not hide the rest of the file.
                Ok(bytes) => texts.push((path.clone(), String::from_utf8_lossy(&bytes).into_owned())),
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(Error::File { action: "read", path: path.clone(), source }),
            }
        }
        Ok(texts)
    }
}

/// The name under which a server is listed.
fn lookup_name(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == DEFAULT_PORT { host } else { format!("[{host}]:{port}") }
}

fn judge(texts: &[(PathBuf, String)], name: &str, key: &HostKey) -> Verdict {
    let mut known = false;
    let mut others = Vec::new();
    for (file, text) in texts {
        for entry in entries(text).filter(|entry| names_host(entry.hosts, name)) {
            match entry.marker {
                Marker::Revoked if entry.key == *key => {
                    return Verdict::Revoked { file: file.clone(), line: entry.line };
                }
                // A certificate authority's key is never a host's own.
                Marker::Revoked | Marker::CertAuthority => {}
                Marker::None if entry.key == *key => known = true,
                Marker::None => others.push(KnownKey {
                    file: file.clone(),
                    line: entry.line,
                    key_type: entry.key.key_type().to_owned(),
                    fingerprint: entry.key.fingerprint(),
                }),
            }
        }
    }
    if known {
        return Verdict::Known;
    }
    let (same, other): (Vec<_>, Vec<_>) = others.into_iter().partition(|known| known.key_type == key.key_type());
    match (same.is_empty(), other.is_empty()) {
        (false, _) => Verdict::Changed(same),
        (true, false) => Verdict::OtherKeyType(other),
        (true, true) => Verdict::Unknown,
    }
}

fn entries(text: &str) -> impl Iterator<Item = Entry<'_>> {
    text.lines().enumerate().filter_map(|(index, line)| parse_line(index + 1, line))
}

fn parse_line(line: usize, text: &str) -> Option<Entry<'_>> {
    let mut words = text.split([' ', '\t']).filter(|word| !word.is_empty());
    let mut hosts = words.next()?;
    if hosts.starts_with('#') {
        return None;
    }
    let mut marker = Marker::None;
    if hosts.starts_with('@') {
        marker = match hosts {
            "@revoked" => Marker::Revoked,
            "@cert-authority" => Marker::CertAuthority,
            _ => return None,
        };
        hosts = words.next()?;
    }
    let key_type = words.next()?;
    let key = HostKey::from_blob(&STANDARD.decode(words.next()?.trim_end()).ok()?)?;
    (key.key_type() == key_type).then_some(Entry { line, marker, hosts, key })
}

/// Whether a line's list of hosts names this one.
fn names_host(hosts: &str, name: &str) -> bool {
    if let Some(hashed) = hosts.strip_prefix("|1|") {
        return matches_hash(hashed, name).unwrap_or(false);
    }
    let mut found = false;
    for pattern in hosts.split(',') {
        match pattern.strip_prefix('!') {
            // One negation that matches takes the whole line away.
            Some(pattern) if matches_glob(&pattern.to_ascii_lowercase(), name) => return false,
            Some(_) => {}
            None => found |= matches_glob(&pattern.to_ascii_lowercase(), name),
        }
    }
    found
}

fn matches_hash(hashed: &str, name: &str) -> Option<bool> {
    let (salt, hash) = hashed.split_once('|')?;
    let mut mac = Hmac::<Sha1>::new_from_slice(&STANDARD.decode(salt).ok()?).ok()?;
    mac.update(name.as_bytes());
    Some(mac.verify_slice(&STANDARD.decode(hash).ok()?).is_ok())
}

#[cfg(test)]
#[path = "known_hosts_tests.rs"]
mod tests;
