//! Where the tool keeps what it keeps on the host.

use crate::failure::Failure;
use directories::ProjectDirs;
use std::path::{Path, PathBuf};

/// One folder for everything; without it the platform's folders are used.
pub(crate) const HOME_VARIABLE: &str = "EDGEWISE_HOME";

/// Folders, none of which need exist yet.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    /// `devices.toml` and `known_hosts`.
    pub(crate) config: PathBuf,
    /// Super-networks, models, ONNX Runtime: everything that can be made again.
    pub(crate) cache: PathBuf,
    /// Studies, which cannot.
    pub(crate) studies: PathBuf,
    /// Agent builds, `TRIPLE/device-agent`.
    pub(crate) agents: PathBuf,
    /// The user's own target profiles, `NAME.toml`.
    pub(crate) targets: PathBuf,
    /// The store of device `local`.
    pub(crate) local_store: PathBuf,
}

impl Home {
    /// The folders that the environment asks for.
    pub(crate) fn find() -> Result<Self, Failure> {
        if let Some(home) = std::env::var_os(HOME_VARIABLE).filter(|h| !h.is_empty()) {
            let home = std::path::absolute(&home).map_err(|e| Failure::file("use", Path::new(&home), &e))?;
            return Ok(Self {
                cache: home.join("cache"),
                studies: home.join("studies"),
                agents: home.join("agents"),
                local_store: home.join("local-device"),
                targets: home.join("targets"),
                config: home,
            });
        }
        let dirs = ProjectDirs::from("", "", "edgewise")
            .ok_or_else(|| Failure::usage("this account has no home folder").hint("set EDGEWISE_HOME to a folder"))?;
        Ok(Self {
            config: dirs.config_dir().to_owned(),
            targets: dirs.config_dir().join("targets"),
            cache: dirs.cache_dir().to_owned(),
            studies: dirs.data_dir().join("studies"),
            agents: dirs.data_dir().join("agents"),
            local_store: dirs.cache_dir().join("local-device"),
        })
    }

    /// The study that was changed last.
    pub(crate) fn newest_study(&self) -> Result<PathBuf, Failure> {
        let entries = std::fs::read_dir(&self.studies).into_iter().flatten().flatten();
        let studies = entries.filter(|e| e.path().extension().is_some_and(|x| x == "study"));
        let newest = studies.max_by_key(|e| e.metadata().and_then(|m| m.modified()).ok());
        newest.map(|e| e.path()).ok_or_else(|| {
            Failure::new(crate::exit_code::STUDY, format!("there is no study in `{}`", self.studies.display()))
                .hint("make one with `host search`, or name the study's file")
        })
    }
}
