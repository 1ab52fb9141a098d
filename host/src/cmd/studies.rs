//! Opening the study that the user means, and the model behind it.

use crate::{cli::Context, exit_code, failure::Failure, model, view::View};
use edgewise_search::{Record, SqliteStudy};
use edgewise_supernet::SuperNetwork;
use std::path::{Path, PathBuf};

/// A study opened for reading.
pub(crate) struct Study {
    pub(crate) path: PathBuf,
    pub(crate) view: View,
}

/// Opens the study named, or the newest one.
pub(crate) fn open(named: Option<&Path>, context: &Context) -> Result<Study, Failure> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => context.home.newest_study()?,
    };
    let study = SqliteStudy::read(&path)?;
    Ok(Study { view: View::read(&study)?, path })
}

impl Study {
    /// The candidate with this id, a beginning of it that is clear, or `baseline`.
    pub(crate) fn candidate(&self, id: &str) -> Result<&Record, Failure> {
        if id == "baseline" {
            return self.view.baseline().ok_or_else(|| self.unknown(id));
        }
        let mut found = self.view.records.iter().filter(|r| r.id.starts_with(id));
        match (found.next(), found.next()) {
            (Some(record), None) => Ok(record),
            (Some(_), Some(_)) => Err(Failure::usage(format!("`{id}` is the beginning of several candidates"))),
            _ => Err(self.unknown(id)),
        }
    }

    fn unknown(&self, id: &str) -> Failure {
        Failure::usage(format!("the study `{}` has no candidate `{id}`", self.path.display()))
            .hint("`host front` lists those on the front, `host report` all of them")
    }

    /// Devices to show: the one named, or all.
    pub(crate) fn devices(&self, named: Option<&str>) -> Result<Vec<String>, Failure> {
        let all: Vec<String> = self.view.devices.iter().map(|d| d.name.clone()).collect();
        match named {
            None => Ok(all),
            Some(name) if all.iter().any(|d| d == name) => Ok(vec![name.to_owned()]),
            Some(name) => Err(Failure::usage(format!("the study has no device `{name}` (it has: {})", all.join(", ")))),
        }
    }

    /// The super-network that a candidate is cut from.
    pub(crate) fn supernet(&self, record: &Record, context: &Context) -> Result<SuperNetwork, Failure> {
        let calibration = Some(self.view.detail("calibration")).filter(|c| !c.is_empty()).map(Path::new);
        let heads = self.view.settings.space.head_sizes().is_some();
        let opened = model::open(self.view.detail("model"), heads, calibration, &context.home, context.printer)?;
        if opened.file.source.sha256 != self.view.detail("model_sha256") {
            return Err(Failure::new(
                exit_code::STUDY,
                format!("the model at `{}` is not the one that the study searched", self.view.detail("model")),
            )
            .hint("put the model back that was there"));
        }
        match record.candidate.order.as_deref() {
            None => Ok(opened),
            order => model::open_in_order(self.view.detail("model"), order, false, calibration, &context.home, context.printer),
        }
    }
}
