//! Hands the target triple and the version of tract to the crate: a device reports both.

use std::{env, fs, path::Path};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=EDGEWISE_TRIPLE={}", env::var("TARGET").unwrap_or_default());

    let lock = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../Cargo.lock");
    println!("cargo:rerun-if-changed={}", lock.display());
    // tract exports no version of its own; the lock file is the one place that knows which one is linked.
    let version = fs::read_to_string(&lock).ok().and_then(|text| {
        let rest = text.split_once("name = \"tract-onnx\"\nversion = \"")?.1;
        Some(rest.split('"').next()?.to_owned())
    });
    println!("cargo:rustc-env=EDGEWISE_TRACT_VERSION={}", version.as_deref().unwrap_or("unknown"));
}
