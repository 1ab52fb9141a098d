//! Private key files: whether one has a passphrase, and which public key belongs to it.

use crate::Error;
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Whether a private key file has a passphrase; a file that is no private key is an error.
pub(super) fn is_encrypted(path: &Path) -> Result<bool, Error> {
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
    let bytes = STANDARD.decode(body.trim()).unwrap_or_default();
    Ok(bytes.strip_prefix(b"openssh-key-v1\0\0\0\0").is_some_and(|rest| !rest.starts_with(b"\x04none")))
}

/// The public key of an identity, from the file beside it or, as ssh allows for keys that only an agent holds, the file
/// itself. `None` if neither is one.
pub(super) fn public_blob(identity: &Path) -> Option<Vec<u8>> {
    let mut beside = identity.as_os_str().to_owned();
    beside.push(".pub");
    let read = |path: &Path| {
        let text = fs::read_to_string(path).ok()?;
        let mut words = text.split_whitespace();
        let key_type = words.next()?;
        let blob = STANDARD.decode(words.next()?).ok()?;
        (crate::HostKey::from_blob(&blob)?.key_type() == key_type).then_some(blob)
    };
    read(&PathBuf::from(beside)).or_else(|| read(identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (tempfile::TempDir, impl Fn(&str, &str) -> PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().to_owned();
        let write = move |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        (dir, write)
    }

    #[test]
    fn key_files_are_told_apart() {
        let (dir, write) = files();
        let openssh = |bytes: &[u8]| {
            let body = STANDARD.encode(bytes);
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

    #[test]
    fn the_public_key_is_found_beside_the_private_one_or_in_its_place() {
        let (dir, write) = files();
        let blob = [&[0, 0, 0, 11][..], b"ssh-ed25519", &[0, 0, 0, 1, 7]].concat();
        let line = format!("ssh-ed25519 {} me@here\n", STANDARD.encode(&blob));
        let private = write("id", "-----BEGIN OPENSSH PRIVATE KEY-----\n");
        assert_eq!(public_blob(&private), None);
        let public = write("id.pub", &line);
        assert_eq!(public_blob(&private), Some(blob.clone()));
        assert_eq!(public_blob(&public), Some(blob));
        assert_eq!(public_blob(&write("other", &line.replace("ssh-ed25519 ", "ssh-rsa "))), None);
        assert_eq!(public_blob(&dir.path().join("none")), None);
    }
}
