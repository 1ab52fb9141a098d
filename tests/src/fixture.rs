//! What not every machine has.

use std::{io::Write, path::PathBuf};

/// Variable that names ONNX Runtime's library.
pub const ONNX_RUNTIME: &str = "ORT_DYLIB_PATH";
/// Variable that names SmolLM2-135M as `.gguf`; `scripts/fetch-smollm2` prints its path.
pub const SMOLLM2: &str = "EDGEWISE_TEST_SMOLLM2";
/// Variable that names Debian Policy as text; `scripts/fetch-policy-text` prints its path.
pub const POLICY_TEXT: &str = "EDGEWISE_TEST_POLICY";
/// Variable that names MMLU's questions; `scripts/fetch-mmlu` prints their path.
pub const MMLU: &str = "EDGEWISE_TEST_MMLU";
/// Variable that allows tests to fetch from the Python package index.
pub const PACKAGE_INDEX: &str = "EDGEWISE_TEST_INDEX";
/// Variable that names a folder of agents that `scripts/build-agents` made.
pub const AGENTS: &str = "EDGEWISE_TEST_AGENTS";
/// Variable that names ONNX Runtime's library for aarch64.
pub const ONNX_RUNTIME_AARCH64: &str = "EDGEWISE_TEST_ORT_AARCH64";
/// Where Debian's cross packages put the libraries of an aarch64 system.
pub const SYSROOT_AARCH64: &str = "/usr/aarch64-linux-gnu";
/// Names under which a headless browser is installed.
pub const CHROMIUM: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// A library that, preloaded, gives a program another wall clock.
pub const FAKE_CLOCK: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"];

/// Says that a test is skipped; with `CI=true`, where everything is promised to be there, fails instead.
pub fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI=true, but {why}");
    // Straight to the stream: the test harness swallows what a macro prints.
    std::io::stderr().write_all(format!("SKIPPED: {why}\n").as_bytes()).expect("stderr is open");
}

/// The file that an environment variable names. `None`, and a visible word, where the variable is not set; a variable that
/// names no file is a mistake and fails.
pub fn file_from(variable: &str) -> Option<PathBuf> {
    let Some(path) = std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from) else {
        skip(&format!("{variable} is not set"));
        return None;
    };
    assert!(path.is_file(), "{variable} names {}, which is no file", path.display());
    Some(path)
}

/// The folder that an environment variable names; likewise.
pub fn folder_from(variable: &str) -> Option<PathBuf> {
    let Some(path) = std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from) else {
        skip(&format!("{variable} is not set"));
        return None;
    };
    assert!(path.is_dir(), "{variable} names {}, which is no folder", path.display());
    Some(path)
}

/// A program of this machine under any of its names or paths. `None`, and a visible word, where there is none.
pub fn tool(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    let found = places.find_map(|dir| names.iter().map(|name| dir.join(name)).find(|p| p.is_file()));
    if found.is_none() {
        skip(&format!("there is no {}", names[0]));
    }
    found
}
