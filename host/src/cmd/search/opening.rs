//! The study of a search: opened, or made once it is known that there are devices to measure on.

use crate::{
    devices::Fleet,
    doctor::{self, Severity},
    failure::Failure,
    json::now_ms,
    search::{Found, OpenStudy},
    ui::Printer,
};
use edgewise_search::{Device, Session, Settings, SqliteStudy, StudyStore};
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// A study that is not open yet.
pub(super) struct Opening<'a> {
    pub(super) path: PathBuf,
    pub(super) settings: &'a Settings,
    /// The study, where it exists already.
    pub(super) resumed: Option<SqliteStudy>,
    pub(super) fleet: &'a Fleet,
    pub(super) printer: Printer,
}

impl OpenStudy for Opening<'_> {
    fn open(&mut self) -> Result<Box<dyn StudyStore>, Failure> {
        // A new one is made when a device has answered, so that a mistyped address leaves no empty study behind.
        let mut study = match self.resumed.take() {
            Some(study) => study,
            None => SqliteStudy::create(&self.path, self.settings)?,
        };
        study.set_budget(self.settings.budget)?;
        self.printer.note(&format!("study: {}", self.path.display()));
        Ok(Box::new(study))
    }

    fn greet(&mut self, study: &mut dyn StudyStore, device: &str, found: &Found) -> Result<(), Failure> {
        let mut fingerprint = found.description.fingerprint.clone();
        for status in &found.description.runtimes {
            let state = status.version.clone().or_else(|| status.problem.clone()).unwrap_or_default();
            fingerprint.insert(format!("runtime_{}", status.runtime.name()), state);
        }
        let text = serde_json::to_string(&fingerprint).unwrap_or_default();
        let target = self.fleet.get(device)?.target;
        let health = serde_json::to_value(&found.health).ok();
        study.store_device(&Device { name: device.to_owned(), target, fingerprint, health })?;
        let notes: Vec<String> = found
            .findings
            .iter()
            .filter(|f| f.severity >= Severity::Warning)
            .map(|f| format!("{}: {}", f.check, f.observed))
            .collect();
        study.store_session(
            device,
            &Session {
                at_ms: now_ms(),
                fingerprint: hex::encode(&Sha256::digest(text.as_bytes())[..8]),
                flags: doctor::session_flags(&found.findings),
                note: notes.join("; "),
            },
        )?;
        Ok(())
    }
}
