//! Proving who we are: the device's own key file, then the agent's keys, then the default key files. Never a password.

use crate::{Address, Error};
use ssh2::{ErrorCode, Session};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Key files that OpenSSH, too, tries without being told.
const DEFAULT_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];
/// libssh2's code for "the server refuses this key" (`LIBSSH2_ERROR_AUTHENTICATION_FAILED`).
const REFUSED: i32 = -18;
/// libssh2's code for "the signature does not verify", which some servers' refusals turn into.
const UNVERIFIED: i32 = -19;

pub(super) fn authenticate(session: &Session, address: &Address, identity: Option<&Path>) -> Result<(), Error> {
    let mut tried = Vec::new();
    let methods = session.auth_methods(&address.user).map(str::to_owned);
    if session.authenticated() {
        return Ok(());
    }
    match methods {
        Ok(methods) if !methods.split(',').any(|method| method == "publickey") => {
            tried.push(format!("nothing: the server offers only {methods}"));
            return Err(Error::Auth { address: address.clone(), tried });
        }
        Ok(_) => {}
        Err(source) => return Err(Error::Handshake { address: address.clone(), source }),
    }
    if let Some(path) = identity {
        let path = expand(path);
        let encrypted = is_encrypted(&path)?;
        if !encrypted && try_file(session, address, &path, &mut tried)? {
            return Ok(());
        }
        if try_agent(session, address, &mut tried)? {
            return Ok(());
        }
        if encrypted {
            let problem = "it has a passphrase and the ssh agent holds no key that is accepted".into();
            return Err(Error::Identity { path, problem });
        }
    } else {
        if try_agent(session, address, &mut tried)? {
            return Ok(());
        }
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        for name in DEFAULT_KEYS {
            let path = home.join(".ssh").join(name);
            if !path.is_file() {
                continue;
            }
            match is_encrypted(&path) {
                Ok(false) => {
                    if try_file(session, address, &path, &mut tried)? {
                        return Ok(());
                    }
                }
                Ok(true) => tried.push(format!("{}: has a passphrase", path.display())),
                Err(e) => tried.push(e.to_string()),
            }
        }
    }
    Err(Error::Auth { address: address.clone(), tried })
}

fn expand(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => path.to_path_buf(),
    }
}

/// Whether a private key file has a passphrase; a file that is no private key is an error.
fn is_encrypted(path: &Path) -> Result<bool, Error> {
    let bad = |problem: String| Error::Identity { path: path.into(), problem };
    let text = fs::read(path).map_err(|e| bad(e.to_string()))?;
    let text = String::from_utf8_lossy(&text);
    if !text.trim_start().starts_with("-----BEGIN") || !text.contains("PRIVATE KEY-----") {
        return Err(bad("it is not a private key".into()));
    }
    if text.contains("ENCRYPTED") {
        return Ok(true);
    }
    // OpenSSH's own format: magic, then the cipher's name.
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body.trim()).unwrap_or_default();
    Ok(bytes.strip_prefix(b"openssh-key-v1\0\0\0\0").is_some_and(|rest| !rest.starts_with(b"\x04none")))
}

/// True if the server accepted the key; an error if the connection is gone.
fn try_file(session: &Session, address: &Address, path: &Path, tried: &mut Vec<String>) -> Result<bool, Error> {
    match session.userauth_pubkey_file(&address.user, None, path, None) {
        Ok(()) => Ok(session.authenticated()),
        Err(source) => {
            tried.push(format!("{}: {}", path.display(), outcome(&source)));
            keep_going(session, address, source)
        }
    }
}

fn try_agent(session: &Session, address: &Address, tried: &mut Vec<String>) -> Result<bool, Error> {
    if std::env::var_os("SSH_AUTH_SOCK").is_none() {
        tried.push("ssh agent: none runs".into());
        return Ok(false);
    }
    let identities = session.agent().and_then(|mut agent| {
        agent.connect()?;
        agent.list_identities()?;
        let identities = agent.identities()?;
        Ok((agent, identities))
    });
    let (agent, identities) = match identities {
        Ok(both) => both,
        Err(e) => {
            tried.push(format!("ssh agent: {}", e.message()));
            return Ok(false);
        }
    };
    if identities.is_empty() {
        tried.push("ssh agent: holds no keys".into());
    }
    // `userauth_agent` of the library would try the first one only.
    for identity in &identities {
        match agent.userauth(&address.user, identity) {
            Ok(()) if session.authenticated() => return Ok(true),
            Ok(()) => {}
            Err(source) => {
                tried.push(format!("ssh agent's `{}`: {}", identity.comment(), outcome(&source)));
                if keep_going(session, address, source)? {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

fn outcome(error: &ssh2::Error) -> String {
    match error.code() {
        ErrorCode::Session(REFUSED | UNVERIFIED) => "refused".into(),
        _ => error.message().to_owned(),
    }
}

/// A refusal or an unusable key leaves the connection fit for the next attempt, a socket error does not.
fn keep_going(session: &Session, address: &Address, source: ssh2::Error) -> Result<bool, Error> {
    /// `LIBSSH2_ERROR_SOCKET_SEND`, `_TIMEOUT`, `_SOCKET_DISCONNECT`, `_SOCKET_TIMEOUT`, `_SOCKET_RECV`.
    const GONE: [i32; 5] = [-7, -9, -13, -30, -43];
    match source.code() {
        ErrorCode::Session(code) if GONE.contains(&code) => Err(Error::Handshake { address: address.clone(), source }),
        _ => Ok(session.authenticated()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let openssh = |bytes: &[u8]| {
            let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
            format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n")
        };
        let plain = write("plain", &openssh(b"openssh-key-v1\0\0\0\0\x04none\0\0\0\x04none"));
        let locked = write("locked", &openssh(b"openssh-key-v1\0\0\0\0\x0aaes256-ctr\0\0\0\x06bcrypt"));
        let pem = write("pem", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n");
        assert!(!is_encrypted(&plain).unwrap());
        assert!(is_encrypted(&locked).unwrap());
        assert!(is_encrypted(&pem).unwrap());
        for bad in [write("public", "ssh-ed25519 AAAA me\n"), dir.path().join("missing"), dir.path().to_path_buf()] {
            let error = is_encrypted(&bad).unwrap_err();
            assert!(error.to_string().contains(&bad.display().to_string()), "{error}");
        }
    }
}
