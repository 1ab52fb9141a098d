//! Finding ONNX Runtime on the host: what the user names, the environment, our cache, the system.

use crate::{failure::Failure, home::Home};
use std::path::{Path, PathBuf};

/// The variable that the `ort` crate reads as well.
pub(crate) const VARIABLE: &str = "ORT_DYLIB_PATH";
const SYSTEM: [&str; 4] = ["/usr/lib", "/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];

/// The library to use on this host, if there is one.
///
/// A path that the user names must exist; nothing else is tried behind their back.
pub(crate) fn find(named: Option<&Path>, home: &Home) -> Result<Option<PathBuf>, Failure> {
    let from_variable = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from);
    for (path, what) in [(named.map(Path::to_owned), "--ort-library"), (from_variable, VARIABLE)] {
        if let Some(path) = path {
            if path.is_file() {
                return std::path::absolute(&path).map(Some).map_err(|e| Failure::file("use", &path, &e));
            }
            return Err(Failure::usage(format!("{what} names `{}`, which is no file", path.display()))
                .hint("scripts/fetch-onnxruntime fetches the library and prints its path"));
        }
    }
    let mut cached: Vec<PathBuf> = std::fs::read_dir(home.cache.join("onnxruntime"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().ends_with(std::env::consts::ARCH))
        .map(|e| e.path().join("libonnxruntime.so"))
        .filter(|p| p.is_file())
        .collect();
    cached.sort();
    Ok(cached.pop().or_else(|| SYSTEM.iter().map(|dir| Path::new(dir).join("libonnxruntime.so")).find(|p| p.is_file())))
}
