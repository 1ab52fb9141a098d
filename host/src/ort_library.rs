//! Finding ONNX Runtime for a device's platform: what the user names, the environment, our cache, the system; and fetching it.

use crate::{
    exit_code,
    failure::Failure,
    home::{HOME_VARIABLE, Home},
};
use edgewise_fleet::Platform;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The variable that the `ort` crate reads as well.
pub(crate) const VARIABLE: &str = "ORT_DYLIB_PATH";
const SYSTEM: [&str; 4] = ["/usr/lib", "/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
const FILE: &str = "libonnxruntime.so";

/// The script that people run by hand, so that there is one place that knows versions and hashes; and what it sources.
const FETCH: [(&str, &str); 2] = [
    ("fetch-onnxruntime", include_str!("../../scripts/fetch-onnxruntime")),
    ("lib/fetch.sh", include_str!("../../scripts/lib/fetch.sh")),
];

/// Where libraries may be.
pub(crate) struct Libraries {
    flag: Option<PathBuf>,
    variable: Option<PathBuf>,
    home: Home,
}

/// What there is for a platform.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// This file.
    Library(PathBuf),
    /// The user named one that is for another platform; nothing else is tried behind their back.
    Misfit(String),
    /// None.
    Nothing,
}

impl Libraries {
    /// Checks what the user names: it must exist.
    pub(crate) fn new(flag: Option<&Path>, home: &Home) -> Result<Self, Failure> {
        let from_variable = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from);
        let check = |path: PathBuf, what: &str| {
            if path.is_file() {
                return std::path::absolute(&path).map_err(|e| Failure::file("use", &path, &e));
            }
            Err(Failure::usage(format!("{what} names `{}`, which is no file", path.display()))
                .hint("scripts/fetch-onnxruntime fetches the library and prints its path"))
        };
        Ok(Self {
            flag: flag.map(|path| check(path.to_owned(), "--ort-library")).transpose()?,
            variable: from_variable.map(|path| check(path, VARIABLE)).transpose()?,
            home: home.clone(),
        })
    }

    /// The library for agents of this triple.
    pub(crate) fn of(&self, triple: &str) -> Result<Found, Failure> {
        if let Some(path) = &self.flag {
            return Ok(match Platform::of_file(path)? {
                Some(platform) if platform.fits(triple) => Found::Library(path.clone()),
                Some(platform) => Found::Misfit(format!("`{}` is for {platform}, the agent for {triple}", path.display())),
                None => Found::Misfit(format!("`{}` is no library for {triple}", path.display())),
            });
        }
        // The variable may be meant for this host alone.
        let fits = |path: &Path| Platform::of_file(path).is_ok_and(|found| found.is_some_and(|p| p.fits(triple)));
        let variable = self.variable.iter().filter(|path| fits(path));
        let cached = self.cached(architecture(triple));
        let system = SYSTEM.iter().map(|dir| Path::new(dir).join(FILE)).filter(|path| path.is_file());
        let system = system.filter(|path| fits(path));
        Ok(variable.cloned().chain(cached).chain(system).next().map_or(Found::Nothing, Found::Library))
    }

    /// The newest that was fetched, if it is not for another system than Linux that it is asked for.
    fn cached(&self, architecture: &str) -> Option<PathBuf> {
        let entries = fs::read_dir(self.home.cache.join("onnxruntime")).into_iter().flatten().flatten();
        let suffix = format!("-{architecture}");
        entries
            .filter_map(|entry| {
                let version = entry.file_name().to_str()?.strip_suffix(&suffix)?.to_owned();
                let numbers: Vec<u32> = version.split('.').filter_map(|part| part.parse().ok()).collect();
                Some((numbers, entry.path().join(FILE)))
            })
            .filter(|(_, path)| path.is_file())
            .max()
            .map(|(_, path)| path)
    }

    /// Brings the library for agents of this triple into the cache, from the Python package index.
    pub(crate) fn fetch(&self, triple: &str) -> Result<PathBuf, Failure> {
        let failed = |e: &std::io::Error| Failure::file("write", &std::env::temp_dir(), e);
        let folder = tempfile::tempdir().map_err(|e| failed(&e))?;
        for (name, text) in FETCH {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap_or(folder.path())).map_err(|e| failed(&e))?;
            fs::write(&path, text).map_err(|e| failed(&e))?;
        }
        let mut command = Command::new("sh");
        command.arg(folder.path().join(FETCH[0].0)).args(["--platform", architecture(triple)]);
        // The script has its own idea of where the cache is.
        if std::env::var_os(HOME_VARIABLE).is_none_or(|home| home.is_empty()) {
            command.env("XDG_CACHE_HOME", self.home.cache.parent().unwrap_or(&self.home.cache));
        }
        let cannot = |why: String| {
            let mut failure = Failure::new(exit_code::AGENT, format!("cannot fetch ONNX Runtime for {triple}"))
                .hint("--ort-library names a file that you have; --runtime tract needs none");
            failure.causes = vec![why];
            failure
        };
        let output = command.output().map_err(|e| cannot(format!("sh: {e}")))?;
        let path = String::from_utf8_lossy(&output.stdout).lines().last().map(PathBuf::from);
        path.filter(|path| output.status.success() && path.is_file()).ok_or_else(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            cannot(said.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; "))
        })
    }
}

fn architecture(triple: &str) -> &str {
    triple.split('-').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn libraries(folder: &Path) -> Libraries {
        let at = |name: &str| folder.join(name);
        let home = Home {
            config: at(""),
            cache: at("cache"),
            studies: at("studies"),
            agents: at("agents"),
            local_store: at("local"),
            targets: at("targets"),
        };
        Libraries { flag: None, variable: None, home }
    }

    #[test]
    fn the_newest_of_the_cache_is_taken_for_its_architecture() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["1.9.0-aarch64", "1.32.0-aarch64", "1.33.0-x86_64", "1.40.0-aarch64"] {
            fs::create_dir_all(dir.path().join("cache/onnxruntime").join(name)).unwrap();
        }
        for name in ["1.9.0-aarch64", "1.32.0-aarch64", "1.33.0-x86_64"] {
            fs::write(dir.path().join("cache/onnxruntime").join(name).join(FILE), "").unwrap();
        }
        let found = libraries(dir.path()).of("aarch64-unknown-linux-gnu").unwrap();
        assert_eq!(found, Found::Library(dir.path().join("cache/onnxruntime/1.32.0-aarch64").join(FILE)));
        assert_eq!(libraries(dir.path()).of("riscv64gc-unknown-linux-gnu").unwrap(), Found::Nothing);
    }

    #[test]
    fn a_library_for_another_platform_is_said_to_be() {
        let dir = tempfile::tempdir().unwrap();
        // This program is as good as any file of this machine's platform.
        let own = std::env::current_exe().unwrap();
        let with_flag = Libraries { flag: Some(own.clone()), ..libraries(dir.path()) };
        let Found::Misfit(why) = with_flag.of("armv7-unknown-linux-gnueabihf").unwrap() else { panic!("it does not fit") };
        assert!(why.contains("armv7-unknown-linux-gnueabihf"), "{why}");
        assert_eq!(with_flag.of(env!("EDGEWISE_TRIPLE")).unwrap(), Found::Library(own.clone()));
        // A variable may be for the host alone.
        let with_variable = Libraries { variable: Some(own), ..libraries(dir.path()) };
        assert_eq!(with_variable.of("armv7-unknown-linux-gnueabihf").unwrap(), Found::Nothing);
    }
}
