//! A user's own target profile.
#![no_main]

use edgewise_fuzz::{folder, seed};
use edgewise_targets::Profile;
use libfuzzer_sys::fuzz_target;
use std::{fs, path::Path};

fuzz_target!(init: seed(embedded()), |data: &[u8]| {
    let path = folder().join("target.toml");
    fs::write(&path, data).expect("the temporary folder can be written");
    if let Ok(profile) = Profile::load(&path) {
        assert!(!profile.name.is_empty() && !profile.triples.is_empty() && !profile.runtimes.is_empty() && profile.port != 0);
    }
});

fn embedded() -> Vec<Vec<u8>> {
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../targets")).expect("there are profiles");
    files
        .map(|entry| entry.expect("it is listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml") && !path.ends_with("Cargo.toml"))
        .map(|path| fs::read(path).expect("it can be read"))
        .collect()
}
