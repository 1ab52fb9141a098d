//! A server's public key, as it goes over the wire.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

/// A server's public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    key_type: String,
    blob: Vec<u8>,
}

impl HostKey {
    /// From the bytes of RFC 4253's public key format, which begin with the key's type.
    pub fn from_blob(blob: &[u8]) -> Option<Self> {
        let (length, rest) = blob.split_first_chunk::<4>()?;
        let name = rest.get(..u32::from_be_bytes(*length) as usize)?;
        // The type becomes a word of a line in a file.
        if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        Some(Self { key_type: String::from_utf8(name.to_vec()).ok()?, blob: blob.to_vec() })
    }

    /// Its type, for example `ssh-ed25519`.
    pub fn key_type(&self) -> &str {
        &self.key_type
    }

    /// Its bytes.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// Its SHA-256 as OpenSSH writes it: `SHA256:` and base64 without padding.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&self.blob)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_read_from_the_blob_and_bad_blobs_are_refused() {
        let blob = [&11u32.to_be_bytes()[..], b"ssh-ed25519", &32u32.to_be_bytes(), &[7; 32]].concat();
        assert_eq!(HostKey::from_blob(&blob).unwrap().key_type(), "ssh-ed25519");
        for bad in [&b""[..], b"\0\0", &[0xff; 40], &[0, 0, 0, 0], &[0, 0, 0, 1, b'\n'], &[0, 0, 0, 9, b'a']] {
            assert_eq!(HostKey::from_blob(bad), None, "{bad:?}");
        }
    }
}
