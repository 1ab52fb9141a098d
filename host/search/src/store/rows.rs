//! Reading a study's rows back. Nothing in them is believed before it was checked.

use super::{
    error::Error,
    schema::wrap,
    trial::{Gap, Session, Trial},
    types::{Device, Failure, Origin, Record},
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

/// A row of the schedule.
struct Seat {
    place: (String, u32, u32),
    id: String,
    kind: String,
    json: String,
}

fn pair(row: &Row<'_>) -> rusqlite::Result<(String, String)> {
    Ok((row.get(0)?, row.get(1)?))
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

    pub(super) fn devices(&self) -> Result<Vec<Device>, Error> {
        let rows = self.all("SELECT json FROM device ORDER BY seq", |row| row.get::<_, String>(0))?;
        rows.iter().map(|json| self.parse("device", json)).collect()
    }

    pub(super) fn sessions(&self) -> Result<Vec<(String, Session)>, Error> {
        let rows = self.all("SELECT device, json FROM session ORDER BY seq", pair)?;
        rows.into_iter().map(|(device, json)| Ok((device, self.parse("session", &json)?))).collect()
    }

    pub(super) fn gaps(&self) -> Result<Vec<(String, Gap)>, Error> {
        let parse = |seat: Seat| {
            let gap: Gap = self.parse(&seat.id, &seat.json)?;
            self.check_seat(&seat, (&gap.device, gap.block, gap.seat))?;
            Ok((seat.id, gap))
        };
        self.seats("kind = 'gap'")?.into_iter().map(parse).collect()
    }

    fn seats(&self, condition: &str) -> Result<Vec<Seat>, Error> {
        let sql = format!("SELECT device, block, seat, id, kind, json FROM seat WHERE {condition} ORDER BY device, block, seat");
        self.all(&sql, |row| {
            let place = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(Seat { place, id: row.get(3)?, kind: row.get(4)?, json: row.get(5)? })
        })
    }

    /// What is stored says itself where it belongs; the row must agree.
    fn check_seat(&self, seat: &Seat, stored: (&str, u32, u32)) -> Result<(), Error> {
        let (device, block, number) = &seat.place;
        if (device.as_str(), *block, *number) == stored {
            return Ok(());
        }
        Err(self.damaged(format!("a trial of `{}` in seat {number} of block {block} on `{device}` names another place", seat.id)))
    }

    pub(super) fn records(&self) -> Result<Vec<Record>, Error> {
        let mut out = Vec::new();
        let mut at = HashMap::new();
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
                trials: Vec::new(),
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
        for seat in self.seats("kind <> 'gap'")? {
            let trial: Trial = self.parse(&seat.id, &seat.json)?;
            self.check_seat(&seat, (&trial.device, trial.block, trial.seat))?;
            if seat.kind != trial.role.name() {
                return Err(self.damaged(format!("a trial of `{}` is stored as `{}`", seat.id, seat.kind)));
            }
            out[find(&seat.id)?].trials.push(trial);
        }
        let failure = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?));
        for (id, device, json) in self.all("SELECT id, device, json FROM failure ORDER BY id, device", failure)? {
            let failure: Failure = self.parse(&id, &json)?;
            if failure.device.as_deref().unwrap_or_default() != device {
                return Err(self.damaged(format!("a failure of `{id}` on `{device}` names another device")));
            }
            out[find(&id)?].failures.push(failure);
        }
        if let Some(lost) = out.iter().find(|r| r.origins.is_empty()) {
            return Err(self.damaged(format!("`{}` belongs to no series", lost.id)));
        }
        Ok(out)
    }
}
