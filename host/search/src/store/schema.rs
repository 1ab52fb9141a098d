//! The file's tables, and the checks that a file is a study before anything else touches it.

use super::error::Error;
use rusqlite::{Connection, ErrorCode};
use std::path::Path;

/// The format that this build writes; it reads this one and none other yet.
pub const SCHEMA_VERSION: i64 = 2;
/// `EDWS` in the header of the file: what tells a study from any other database.
const APPLICATION_ID: i64 = 0x4544_5753;

const TABLES: &str = "
CREATE TABLE settings (only INTEGER PRIMARY KEY CHECK (only = 1), json TEXT NOT NULL) STRICT;
CREATE TABLE candidate (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, config TEXT NOT NULL) STRICT;
CREATE TABLE origin (
  series TEXT NOT NULL, position INTEGER NOT NULL, id TEXT NOT NULL REFERENCES candidate (id),
  PRIMARY KEY (series, position), UNIQUE (series, id)) STRICT;
CREATE TABLE quality (id TEXT PRIMARY KEY REFERENCES candidate (id), json TEXT NOT NULL) STRICT;
CREATE TABLE artifact (id TEXT PRIMARY KEY REFERENCES candidate (id), json TEXT NOT NULL) STRICT;
CREATE TABLE failure (
  id TEXT NOT NULL REFERENCES candidate (id), device TEXT NOT NULL, json TEXT NOT NULL, PRIMARY KEY (id, device)) STRICT;
CREATE TABLE seat (
  device TEXT NOT NULL, block INTEGER NOT NULL, seat INTEGER NOT NULL, id TEXT NOT NULL REFERENCES candidate (id),
  kind TEXT NOT NULL CHECK (kind IN ('screen', 'race', 'final', 'gap')), json TEXT NOT NULL,
  PRIMARY KEY (device, block, seat)) STRICT;
CREATE UNIQUE INDEX screened_once ON seat (id, device) WHERE kind = 'screen' AND seat > 0;
CREATE TABLE device (seq INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, json TEXT NOT NULL) STRICT;
CREATE TABLE session (seq INTEGER PRIMARY KEY, device TEXT NOT NULL, json TEXT NOT NULL) STRICT;
CREATE TABLE seconds (account TEXT PRIMARY KEY, total REAL NOT NULL) STRICT;
";

pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLES)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", SCHEMA_VERSION)
}

/// What every connection is set to.
///
/// A rollback journal keeps a study one file that can be copied; `EXTRA` also syncs the folder when the journal is removed, so
/// that a commit which returned survives a power cut. The file may come from anyone, so nothing in its schema is trusted.
pub(super) fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "synchronous", "EXTRA")?;
    connection.pragma_update(None, "foreign_keys", true)
}

/// Checks that the file is a study that this build reads, whole and with exactly the tables it should have.
pub(super) fn verify(connection: &Connection, path: &Path) -> Result<(), Error> {
    let wrap = |e| wrap(path, e);
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(wrap);
    if number("application_id")? != APPLICATION_ID {
        return Err(Error::NotAStudy { path: path.to_owned() });
    }
    let found = number("user_version")?;
    if found > SCHEMA_VERSION {
        return Err(Error::Newer { path: path.to_owned(), found, supported: SCHEMA_VERSION });
    }
    let damaged = |what: &str| Error::Damaged { path: path.to_owned(), what: what.to_owned() };
    if (1..SCHEMA_VERSION).contains(&found) {
        return Err(Error::Older { path: path.to_owned(), found, supported: SCHEMA_VERSION });
    }
    if found != SCHEMA_VERSION {
        return Err(damaged("its format number is unknown"));
    }
    let expected = Connection::open_in_memory().and_then(|c| create(&c).map(|()| c)).map_err(wrap)?;
    // A trigger or a view would run inside our statements.
    if objects(connection).map_err(wrap)? != objects(&expected).map_err(wrap)? {
        return Err(damaged("its tables are not those of a study"));
    }
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(wrap)?;
    if verdict == "ok" { Ok(()) } else { Err(damaged(&verdict)) }
}

fn objects(connection: &Connection) -> rusqlite::Result<Vec<(String, String, Option<String>)>> {
    let mut statement = connection.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    rows.collect()
}

/// Tells a file that is broken from one that cannot be reached.
pub(super) fn wrap(path: &Path, source: rusqlite::Error) -> Error {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => Error::NotAStudy { path },
        // Without a code it is a value of another type than the tables allow, or text that is not UTF-8.
        Some(ErrorCode::DatabaseCorrupt) | None => Error::Damaged { path, what: source.to_string() },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::InUse { path },
        _ => Error::Database { path, source },
    }
}
