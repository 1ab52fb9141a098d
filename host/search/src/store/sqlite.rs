//! A study in one file.
//!
//! One process writes a study at a time: it holds a lock on `<study>.lock`, which the system releases when the process ends,
//! however it ends. Leases therefore live in memory only; a process that dies leaves none behind. Any number of processes may
//! read meanwhile.

use super::{
    error::Error,
    rows::Reader,
    schema::{configure, create, verify, wrap},
    study::StudyStore,
    trial::{Gap, Role, SENTINEL_SEAT, Session, Trial},
    types::{Artifact, Device, Failure, Origin, Quality, Record, Settings, TaskScore},
};
use crate::candidate::Candidate;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, params};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashSet},
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// An open study in a file.
#[derive(Debug)]
pub struct SqliteStudy {
    connection: Connection,
    path: PathBuf,
    /// Held while open for writing.
    lock: Option<File>,
    leases: HashSet<(String, Option<String>)>,
}

impl SqliteStudy {
    /// Begins a study in a new file. The file appears complete or not at all.
    ///
    /// # Errors
    /// [`Error::Exists`] if the file is there, [`Error::InUse`] while another process begins it, [`Error::NotFinite`] for a
    /// constraint without a limit, [`Error::Io`] or [`Error::Database`] if it cannot be written.
    pub fn create(path: &Path, settings: &Settings) -> Result<Self, Error> {
        if settings.constraints.iter().any(|c| !c.limit.is_finite()) {
            return Err(Error::NotFinite { id: "settings".to_owned(), what: "a constraint" });
        }
        let lock = lock(path)?;
        if path.exists() {
            return Err(Error::Exists { path: path.to_owned() });
        }
        let access = |source| Error::Io { path: path.to_owned(), source };
        let draft = beside(path, ".new");
        for stale in [&draft, &beside(&draft, "-journal")] {
            match std::fs::remove_file(stale) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(access(e)),
                _ => {}
            }
        }
        let json = serde_json::to_string(settings).map_err(|e| access(e.into()))?;
        let write = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let mut connection = Connection::open_with_flags(&draft, flags)?;
            configure(&connection)?;
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            create(&transaction)?;
            transaction.execute("INSERT INTO settings (only, json) VALUES (1, ?1)", [json])?;
            transaction.commit()?;
            connection.close().map_err(|(_, e)| e)
        };
        write().map_err(|e| wrap(path, e))?;
        std::fs::rename(&draft, path).and_then(|()| sync_folder(path)).map_err(access)?;
        Self::open(path, Some(lock))
    }

    /// Opens a study to be read; another process may be writing it.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NotAStudy`], [`Error::Newer`], [`Error::Damaged`], or an error of access.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::open(path, None)
    }

    /// Opens a study to go on with it.
    ///
    /// # Errors
    /// As [`SqliteStudy::read`], and [`Error::InUse`] while another process has it.
    pub fn write(path: &Path) -> Result<Self, Error> {
        // A missing file must not leave a lock file behind.
        if !path.exists() {
            return Err(Error::Missing { path: path.to_owned() });
        }
        let lock = lock(path)?;
        Self::open(path, Some(lock))
    }

    /// Opens a study to go on with it if it was begun with these settings, and takes over their budget; begins it if there is none.
    ///
    /// # Errors
    /// As [`SqliteStudy::write`] and [`SqliteStudy::create`], and [`Error::SettingsDiffer`].
    pub fn resume(path: &Path, settings: &Settings) -> Result<Self, Error> {
        if !path.exists() {
            return Self::create(path, settings);
        }
        let mut study = Self::write(path)?;
        let stored = study.settings()?;
        let names = stored.differences(settings);
        if !names.is_empty() {
            return Err(Error::SettingsDiffer { path: path.to_owned(), names });
        }
        if stored.budget != settings.budget {
            study.set_budget(settings.budget)?;
        }
        Ok(study)
    }

    /// The study's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open(path: &Path, lock: Option<File>) -> Result<Self, Error> {
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_file() => {}
            Ok(_) => return Err(Error::NotAStudy { path: path.to_owned() }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Error::Missing { path: path.to_owned() }),
            Err(source) => return Err(Error::Io { path: path.to_owned(), source }),
        }
        let wrap = |e| wrap(path, e);
        // Also for reading: a journal that a killed process left must be rolled back by whoever comes first.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(wrap)?;
        configure(&connection).map_err(wrap)?;
        verify(&connection, path)?;
        let study = Self { connection, path: path.to_owned(), lock, leases: HashSet::new() };
        study.settings()?;
        Ok(study)
    }

    fn reader(&self) -> Reader<'_> {
        Reader { connection: &self.connection, path: &self.path }
    }

    fn writable(&self) -> Result<(), Error> {
        if self.lock.is_some() { Ok(()) } else { Err(Error::ReadOnly { path: self.path.clone() }) }
    }

    fn known(&self, id: &str) -> Result<(), Error> {
        let found = self.exists("SELECT 1 FROM candidate WHERE id = ?1", [id])?;
        if found { Ok(()) } else { Err(Error::UnknownCandidate { id: id.to_owned() }) }
    }

    /// One statement is one transaction.
    fn execute(&self, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<usize> {
        self.connection.prepare_cached(sql)?.execute(values)
    }

    /// Inserts a row about a candidate that may be there only once.
    fn insert(&self, id: &str, what: &'static str, sql: &str, values: impl rusqlite::Params) -> Result<(), Error> {
        self.writable()?;
        self.known(id)?;
        self.execute(sql, values).map(drop).map_err(|e| once(&self.path, id, what, e))
    }

    fn json(&self, value: &impl Serialize) -> Result<String, Error> {
        serde_json::to_string(value).map_err(|e| Error::Io { path: self.path.clone(), source: e.into() })
    }

    fn exists(&self, sql: &str, values: impl rusqlite::Params) -> Result<bool, Error> {
        self.connection.prepare_cached(sql).and_then(|mut s| s.exists(values)).map_err(|e| wrap(&self.path, e))
    }

    /// Whether a device has screened a candidate.
    fn is_screened(&self, id: &str, device: &str) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM seat WHERE id = ?1 AND device = ?2 AND (kind = 'screen' OR (seat = 0 AND kind <> 'gap'))";
        self.exists(sql, [id, device])
    }

    fn is_done(&self, id: &str, device: Option<&str>) -> Result<bool, Error> {
        let Some(device) = device else {
            let sql = "SELECT 1 FROM quality WHERE id = ?1 UNION ALL SELECT 1 FROM failure WHERE id = ?1 AND device = ''";
            return self.exists(sql, [id]);
        };
        let failed = self.exists("SELECT 1 FROM failure WHERE id = ?1 AND device IN ('', ?2)", [id, device])?;
        Ok(failed || self.is_screened(id, device)?)
    }

    /// Takes a seat of a device's schedule for a trial or a gap.
    fn sit(&self, id: &str, at: (&str, u32, u32), kind: &str, what: &'static str, json: &str) -> Result<(), Error> {
        let (device, block, seat) = at;
        if seat == SENTINEL_SEAT {
            let sql = "SELECT 1 FROM origin WHERE id = ?1 AND series = 'search' AND position = 0";
            self.known(id)?;
            if !self.exists(sql, [id])? {
                return Err(Error::NotTheBaseline { id: id.to_owned(), device: device.to_owned(), block });
            }
        }
        let sql = "INSERT INTO seat (device, block, seat, id, kind, json) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        self.insert(id, what, sql, params![device, block, seat, id, kind, json])
    }
}

impl StudyStore for SqliteStudy {
    fn settings(&self) -> Result<Settings, Error> {
        let sql = "SELECT json FROM settings WHERE only = 1";
        let json: Option<String> =
            self.connection.query_row(sql, [], |row| row.get(0)).optional().map_err(|e| wrap(&self.path, e))?;
        let Some(json) = json else {
            return Err(Error::Damaged { path: self.path.clone(), what: "it has no settings".to_owned() });
        };
        self.reader().parse("settings", &json)
    }

    fn set_budget(&mut self, budget: u32) -> Result<(), Error> {
        self.writable()?;
        let json = self.json(&Settings { budget, ..self.settings()? })?;
        self.execute("UPDATE settings SET json = ?1 WHERE only = 1", [json]).map(drop).map_err(|e| wrap(&self.path, e))
    }

    fn propose(&mut self, candidate: &Candidate, origin: &Origin) -> Result<String, Error> {
        self.writable()?;
        candidate.check()?;
        let id = candidate.id();
        let config = self.json(candidate)?;
        let place = format!("{} {}", origin.series, origin.position);
        let store = |connection: &mut Connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction
                .execute("INSERT INTO candidate (id, config) VALUES (?1, ?2) ON CONFLICT (id) DO NOTHING", [&id, &config])?;
            let sql = "INSERT INTO origin (series, position, id) VALUES (?1, ?2, ?3)";
            transaction.execute(sql, params![origin.series, origin.position, id])?;
            transaction.commit()
        };
        store(&mut self.connection).map_err(|e| once(&self.path, &place, "the proposal", e))?;
        Ok(id)
    }

    fn lease(&mut self, id: &str, device: Option<&str>) -> Result<bool, Error> {
        self.writable()?;
        self.known(id)?;
        if self.is_done(id, device)? {
            return Ok(false);
        }
        Ok(self.leases.insert((id.to_owned(), device.map(str::to_owned))))
    }

    fn release(&mut self, id: &str, device: Option<&str>) -> Result<(), Error> {
        self.leases.remove(&(id.to_owned(), device.map(str::to_owned)));
        Ok(())
    }

    fn store_quality(&mut self, id: &str, quality: &Quality) -> Result<(), Error> {
        finite(id, "the quality", quality.is_finite())?;
        let json = self.json(quality)?;
        self.insert(id, "the quality", "INSERT INTO quality (id, json) VALUES (?1, ?2)", [id, &json])?;
        self.release(id, None)
    }

    fn store_tasks(&mut self, id: &str, tasks: &BTreeMap<String, TaskScore>) -> Result<(), Error> {
        self.writable()?;
        self.known(id)?;
        let sql = "SELECT json FROM quality WHERE id = ?1";
        let json: Option<String> =
            self.connection.query_row(sql, [id], |row| row.get(0)).optional().map_err(|e| wrap(&self.path, e))?;
        let json = json.ok_or_else(|| Error::NotEvaluated { id: id.to_owned() })?;
        let mut quality: Quality = self.reader().parse(id, &json)?;
        if !quality.tasks.is_empty() {
            return Err(Error::AlreadyStored { id: id.to_owned(), what: "the tasks" });
        }
        quality.tasks.clone_from(tasks);
        finite(id, "the tasks", quality.is_finite())?;
        // One process writes, so nothing comes between reading and writing.
        let json = self.json(&quality)?;
        let sql = "UPDATE quality SET json = ?2 WHERE id = ?1";
        self.execute(sql, [id, &json]).map(drop).map_err(|e| wrap(&self.path, e))
    }

    fn store_artifact(&mut self, id: &str, artifact: &Artifact) -> Result<(), Error> {
        let json = self.json(artifact)?;
        self.insert(id, "the artifact", "INSERT INTO artifact (id, json) VALUES (?1, ?2)", [id, &json])
    }

    fn store_trial(&mut self, id: &str, trial: &Trial) -> Result<(), Error> {
        finite(id, "the trial", trial.is_finite())?;
        let json = self.json(trial)?;
        // One process writes, so nothing comes between the question and the answer.
        if trial.role == Role::Screen && !trial.is_sentinel() && self.is_done(id, Some(&trial.device))? {
            return Err(Error::AlreadyStored { id: id.to_owned(), what: "the screening trial" });
        }
        self.sit(id, (&trial.device, trial.block, trial.seat), trial.role.name(), "the trial", &json)?;
        self.release(id, Some(&trial.device))
    }

    fn store_gap(&mut self, id: &str, gap: &Gap) -> Result<(), Error> {
        let json = self.json(gap)?;
        self.sit(id, (&gap.device, gap.block, gap.seat), "gap", "the gap", &json)
    }

    fn store_failure(&mut self, id: &str, failure: &Failure) -> Result<(), Error> {
        let json = self.json(failure)?;
        let device = failure.device.as_deref();
        if let Some(device) = device
            && self.is_screened(id, device)?
        {
            return Err(Error::AlreadyStored { id: id.to_owned(), what: "the screening trial" });
        }
        let sql = "INSERT INTO failure (id, device, json) VALUES (?1, ?2, ?3)";
        self.insert(id, "the failure", sql, [id, device.unwrap_or_default(), &json])?;
        self.release(id, device)
    }

    fn store_device(&mut self, device: &Device) -> Result<(), Error> {
        self.writable()?;
        let json = self.json(device)?;
        let sql = "INSERT INTO device (name, json) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET json = excluded.json";
        self.execute(sql, [&device.name, &json]).map(drop).map_err(|e| wrap(&self.path, e))
    }

    fn store_session(&mut self, device: &str, session: &Session) -> Result<(), Error> {
        self.writable()?;
        let json = self.json(session)?;
        let sql = "INSERT INTO session (device, json) VALUES (?1, ?2)";
        self.execute(sql, [device, &json]).map(drop).map_err(|e| wrap(&self.path, e))
    }

    fn add_seconds(&mut self, account: &str, seconds: f64) -> Result<(), Error> {
        self.writable()?;
        finite(account, "the time", seconds.is_finite())?;
        let sql = "INSERT INTO seconds (account, total) VALUES (?1, ?2)
                   ON CONFLICT (account) DO UPDATE SET total = total + excluded.total";
        self.execute(sql, params![account, seconds]).map(drop).map_err(|e| wrap(&self.path, e))
    }

    fn devices(&self) -> Result<Vec<Device>, Error> {
        self.reader().devices()
    }

    fn sessions(&self) -> Result<Vec<(String, Session)>, Error> {
        self.reader().sessions()
    }

    fn gaps(&self) -> Result<Vec<(String, Gap)>, Error> {
        self.reader().gaps()
    }

    fn seconds(&self) -> Result<BTreeMap<String, f64>, Error> {
        let rows = self.reader().all("SELECT account, total FROM seconds", |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.into_iter().collect())
    }

    fn records(&self) -> Result<Vec<Record>, Error> {
        self.reader().records()
    }
}

fn finite(id: &str, what: &'static str, finite: bool) -> Result<(), Error> {
    if finite { Ok(()) } else { Err(Error::NotFinite { id: id.to_owned(), what }) }
}

/// A broken uniqueness rule means that the row is there already.
fn once(path: &Path, id: &str, what: &'static str, error: rusqlite::Error) -> Error {
    if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) {
        Error::AlreadyStored { id: id.to_owned(), what }
    } else {
        wrap(path, error)
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Takes the writer's lock. The lock's file stays: removing it would let two processes lock two files of one name.
fn lock(path: &Path) -> Result<File, Error> {
    let access = |source| Error::Io { path: path.to_owned(), source };
    let file = File::options().create(true).truncate(false).write(true).open(beside(path, ".lock")).map_err(access)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(access(source)),
    }
}

/// A rename survives a power cut only once its folder is synced. Other systems cannot open a folder and need not.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}
