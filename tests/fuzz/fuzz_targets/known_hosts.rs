//! A known-hosts file: nothing in it makes a key trusted that it does not hold, and what is stored is found again.
#![no_main]

use edgewise_fleet::{Address, HostKey, KnownHosts, Verdict};
use edgewise_fuzz::{folder, seed};
use libfuzzer_sys::fuzz_target;
use std::fs;

/// Base64 of the key that [`key`] makes.
const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH";
/// What every line with a key of this type holds.
const KEY_PARTS: [&[u8]; 2] = [b"ssh-ed25519", b"AAAAC3NzaC1lZDI1NTE5"];
const LINES: &str = "# comment\npi ssh-ed25519 KEY me\n[pi]:2222,192.168.0.?,!bad* ssh-ed25519 KEY\n@revoked * ssh-ed25519 KEY\n\
                     @cert-authority *.local ssh-ed25519 KEY\n|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= ssh-ed25519 KEY\n";

fn key(fill: u8) -> HostKey {
    let blob = [&11u32.to_be_bytes()[..], b"ssh-ed25519", &32u32.to_be_bytes(), &[fill; 32]].concat();
    HostKey::from_blob(&blob).expect("it is well-formed")
}

fuzz_target!(
    init: {
        let lines = LINES.replace("KEY", KEY);
        seed(lines.lines().map(|line| [b"\0", line.as_bytes()].concat()).chain([[b"\x01", lines.as_bytes()].concat()]));
    },
    |data: &[u8]| {
        // The first byte chooses the port, which decides how the host is named.
        let Some((&port, text)) = data.split_first() else { return };
        let address = Address { user: "me".into(), host: "pi".into(), port: if port == 0 { 22 } else { 2222 } };
        let path = folder().join("known_hosts");
        fs::write(&path, text).expect("the temporary folder can be written");
        let known = KnownHosts::new(path, None);
        known.key_types(&address).expect("the file can be read");
        known.check(&address, &key(7)).expect("the file can be read");
        let stranger = key(0xa5);
        let before = known.check(&address, &stranger).expect("the file can be read");
        // White space may differ.
        let holds = |part: &[u8]| text.windows(part.len()).any(|window| window == part);
        assert!(before != Verdict::Known || KEY_PARTS.iter().all(|part| holds(part)), "trusted without a line of it");
        known.store(&address, &stranger).expect("the file can be written");
        let after = known.check(&address, &stranger).expect("the file can be read");
        // A line that revokes the key under this very name outweighs the one that was added.
        let revoked = matches!(before, Verdict::Revoked { .. }) && address.port == 22;
        assert_eq!(after, if revoked { before } else { Verdict::Known });
    }
);
