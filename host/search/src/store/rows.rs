//! Reading a study's rows back. Nothing in them is believed before it was checked.

use super::{
    error::Error,
    schema::wrap,
    types::{Failure, MeasurementRecord, Origin, Record},
};
use crate::candidate::Candidate;
use rusqlite::{Connection, Row};
use serde::de::DeserializeOwned;
use std::{collections::HashMap, path::Path};

/// A connection with the path that its errors name.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) connection: &'a Connection,
    pub(super) path: &'a Path,
}

impl Reader<'_> {
    pub(super) fn all<T>(&self, sql: &str, read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Result<Vec<T>, Error> {
        let run = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map([], read)?.collect::<rusqlite::Result<Vec<T>>>()
        };
        run().map_err(|e| wrap(self.path, e))
    }

    fn damaged(&self, what: String) -> Error {
        Error::Damaged { path: self.path.to_owned(), what }
    }

    pub(super) fn parse<T: DeserializeOwned>(&self, what: &str, json: &str) -> Result<T, Error> {
        serde_json::from_str(json).map_err(|e| self.damaged(format!("{what}: {e}")))
    }

    /// All rows of a table with one JSON value each, in order.
    pub(super) fn values<T: DeserializeOwned>(&self, table: &str) -> Result<Vec<T>, Error> {
        let rows = self.all(&format!("SELECT json FROM {table} ORDER BY seq"), |row| row.get::<_, String>(0))?;
        rows.iter().map(|json| self.parse(table, json)).collect()
    }

    pub(super) fn records(&self) -> Result<Vec<Record>, Error> {
        let mut out = Vec::new();
        let mut at = HashMap::new();
        let pair = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
        for (id, config) in self.all("SELECT id, config FROM candidate ORDER BY seq", pair)? {
            let candidate: Candidate = self.parse(&id, &config)?;
            if candidate.check().is_err() || candidate.id() != id {
                return Err(self.damaged(format!("the configuration of `{id}` is not its own")));
            }
            at.insert(id.clone(), out.len());
            let empty = Vec::new();
            out.push(Record {
                id,
                candidate,
                origins: empty,
                quality: None,
                artifact: None,
                measurements: Vec::new(),
                failures: Vec::new(),
            });
        }
        let find =
            |id: &str| at.get(id).copied().ok_or_else(|| self.damaged(format!("a result of `{id}`, which it does not hold")));
        let origin = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?));
        for (id, series, position) in self.all("SELECT id, series, position FROM origin ORDER BY series, position", origin)? {
            out[find(&id)?].origins.push(Origin { series, position });
        }
        for (id, json) in self.all("SELECT id, json FROM quality", pair)? {
            out[find(&id)?].quality = Some(self.parse(&id, &json)?);
        }
        for (id, json) in self.all("SELECT id, json FROM artifact", pair)? {
            out[find(&id)?].artifact = Some(self.parse(&id, &json)?);
        }
        let outcome = |row: &Row<'_>| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, row.get::<_, String>(3)?))
        };
        for (id, device, kind, json) in self.all("SELECT id, device, kind, json FROM outcome ORDER BY id, device", outcome)? {
            let record = &mut out[find(&id)?];
            let stored_for = if kind == "measured" {
                record.measurements.push(self.parse::<MeasurementRecord>(&id, &json)?);
                record.measurements.last().map(|m| m.device.clone())
            } else {
                record.failures.push(self.parse::<Failure>(&id, &json)?);
                record.failures.last().map(|f| f.device.clone().unwrap_or_default())
            };
            if stored_for.as_deref() != Some(device.as_str()) {
                return Err(self.damaged(format!("a result of `{id}` on `{device}` names another device")));
            }
        }
        if let Some(lost) = out.iter().find(|r| r.origins.is_empty()) {
            return Err(self.damaged(format!("`{}` belongs to no series", lost.id)));
        }
        Ok(out)
    }
}
