//! `devices.toml`, which people edit: what is read can be added to and taken from again, and stays readable.
#![no_main]

use edgewise_fleet::{DeviceEntry, Registry};
use edgewise_fuzz::{folder, seed};
use libfuzzer_sys::fuzz_target;
use std::fs;

const FULL: &str = r#"# mine
[device.jetson]   # the quick one
target = "jetson"
address = "nvidia@jetson.local"
port = 2222
identity = "/home/me/.ssh/id"
shares_host = true
agent = "/opt/agent"
store = "~/edge wise"
groups = ["fast", "desk"]
lease = "jetson"
ssh_config = false

[device.pi-5]
target = "raspberry-pi"
address = "pi@[fe80::1]"

[device.phone]
target = "android"
address = "adb:0123456789ABCDEF"
"#;
const INLINE: &str =
    r#"device = { a = { target = "android", address = "u0@phone" }, "b.c" = { target = "t", address = "x@y" } }"#;
const DOTTED: &str = "device.a.target = 't'\ndevice.a.address = 'u@h'\n";

const NEW: &str = "0-fuzz";

fuzz_target!(init: seed([FULL, INLINE, DOTTED].map(|text| text.as_bytes().to_vec())), |data: &[u8]| {
    let path = folder().join("devices.toml");
    fs::write(&path, data).expect("the temporary folder can be written");
    let Ok(mut registry) = Registry::load_file(&path) else { return };
    let before = registry.list();
    for device in &before {
        assert_eq!(&registry.get(&device.name).expect("it is listed"), device);
    }
    let entry = DeviceEntry {
        target: "t".into(),
        address: "user@host".into(),
        port: Some(1),
        identity: None,
        shares_host: false,
        agent: None,
        store: Some("a \"b\"\\".into()),
        groups: vec!["a".into(), "b".into()],
        lease: Some("bench".into()),
        ssh_config: Some(false),
    };
    if registry.add(NEW, entry).is_err() {
        return;
    }
    let mut again = Registry::load_file(&path).expect("what was written can be read");
    assert_eq!(again.list(), registry.list());
    assert_eq!(again.list().len(), before.len() + 1);
    again.remove(NEW).expect("it is there");
    assert_eq!(Registry::load_file(&path).expect("what was written can be read").list(), before);
});
