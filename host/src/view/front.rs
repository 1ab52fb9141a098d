//! The Pareto front of a device, with what noise leaves open, and how devices agree.

use super::{View, measured::Readings};
use crate::failure::Failure;
use edgewise_search::{
    Agreement, Constraint, Contender, Objective, Quantity, Record, Rules, SentinelPoint, front, hypervolume, portability, race,
    reference_point, sentinel_series, ties,
};
use std::collections::BTreeSet;

/// The front of one device.
pub(crate) struct Front {
    /// Ids, in the order of the second objective.
    pub(crate) ids: Vec<String>,
    /// For each of them, the candidates that it cannot be told apart from.
    pub(crate) ties: Vec<Vec<String>>,
    pub(crate) hypervolume: Option<(f64, Vec<f64>)>,
}

/// Candidates that may be on a front.
struct Field<'a> {
    /// Their places among the records.
    at: Vec<usize>,
    values: Vec<Vec<f64>>,
    records: Vec<&'a Record>,
}

impl View {
    fn field(&self, device: &str, more: &[Constraint]) -> Field<'_> {
        let constraints: Vec<Constraint> = self.settings.constraints.iter().chain(more).copied().collect();
        let mut field = Field { at: Vec::new(), values: Vec::new(), records: Vec::new() };
        // Fixed recipes are measured beside the search; they are no part of what it found.
        for (at, record) in self.records.iter().enumerate().filter(|(_, r)| r.is_searched()) {
            if let Some(values) = self.values(record, device).filter(|_| self.keeps(record, device, &constraints)) {
                field.at.push(at);
                field.values.push(values);
                field.records.push(record);
            }
        }
        field
    }

    /// The objective that has noise: the first that is a latency.
    pub(super) fn noisy(&self) -> Option<(usize, Objective)> {
        let latency = |o: &Objective| matches!(o, Objective::TtftMs | Objective::TpotMs | Objective::LatencyMs);
        self.settings.objectives.iter().copied().enumerate().find(|(_, o)| latency(o))
    }

    /// The Pareto front of a device among the candidates that keep the study's constraints and these.
    pub(crate) fn front(&self, device: &str, more: &[Constraint]) -> Result<Front, Failure> {
        let field = self.field(device, more);
        let values = &field.values;
        let mut chosen = front(values).map_err(not_comparable)?;
        chosen.sort_by(|&a, &b| values[a][1].total_cmp(&values[b][1]));
        let hypervolume = match self.baseline().and_then(|b| self.values(b, device)) {
            None => None,
            Some(baseline) => {
                let reference = reference_point(&self.settings.objectives, &baseline);
                let on_front: Vec<&Vec<f64>> = chosen.iter().map(|&i| &values[i]).collect();
                Some((hypervolume(&on_front, &reference).map_err(not_comparable)?, reference))
            }
        };
        let mut tied = vec![Vec::new(); chosen.len()];
        if let Some((noisy, objective)) = self.noisy() {
            let members = self.with_contenders(device, &field, noisy, objective, |contenders, readings| {
                ties(contenders, &readings.sentinel, &readings.spread(), Rules::default())
            })?;
            for member in members {
                if let Some(place) = chosen.iter().position(|&i| i == member.index) {
                    tied[place] = member.ties.into_iter().map(|i| field.records[i].id.clone()).collect();
                }
            }
        }
        Ok(Front { ids: chosen.into_iter().map(|i| field.records[i].id.clone()).collect(), ties: tied, hypervolume })
    }

    /// Ids of the candidates that another trial on a device may still move on or off the front, by the blocks before `block`
    /// alone: a search that resumes in the midst of a block finds the candidates that the block was begun for.
    pub(crate) fn race(&self, device: &str, rules: Rules, block: u32) -> Result<Vec<String>, Failure> {
        let Some((noisy, objective)) = self.noisy() else { return Ok(Vec::new()) };
        let before = self.before(device, block);
        let field = before.field(device, &[]);
        let open = before.with_contenders(device, &field, noisy, objective, |contenders, readings| {
            race(contenders, &readings.sentinel, &readings.spread(), rules)
        })?;
        Ok(open.into_iter().map(|i| field.records[i].id.clone()).collect())
    }

    /// The study as it was for this device before a block.
    fn before(&self, device: &str, block: u32) -> Self {
        let mut out = self.clone();
        for record in &mut out.records {
            record.trials.retain(|t| t.device == device && t.block < block);
        }
        out.gaps.retain(|(_, g)| g.device == device && g.block < block);
        out
    }

    fn with_contenders<T>(
        &self,
        device: &str,
        field: &Field<'_>,
        noisy: usize,
        objective: Objective,
        use_them: impl FnOnce(&[Contender<'_>], &Readings) -> Result<T, edgewise_search::PointError>,
    ) -> Result<T, Failure> {
        let readings = Readings::of(self, device, objective);
        let exact: Vec<Vec<f64>> = field
            .values
            .iter()
            .map(|values| values.iter().enumerate().filter(|(i, _)| *i != noisy).map(|(_, v)| *v).collect())
            .collect();
        let contenders: Vec<Contender<'_>> = field
            .at
            .iter()
            .zip(&exact)
            .zip(&field.values)
            .map(|((&at, exact), values)| {
                let gaps = self.gaps.iter().filter(|(id, g)| *id == self.records[at].id && g.device == device).count();
                let readings = &readings.records[at];
                Contender { exact, latency: values[noisy], readings, attempts: (readings.len() + gaps) as u32 }
            })
            .collect();
        use_them(&contenders, &readings).map_err(not_comparable)
    }

    /// How the baseline moved on a device: each sentinel over the first.
    pub(crate) fn sentinels(&self, device: &str) -> Vec<SentinelPoint> {
        let trials = self.records.iter().flat_map(|r| &r.trials).filter(|t| t.device == device);
        let spread = |objective| Readings::of(self, device, objective).spread();
        sentinel_series(trials, &spread(Objective::TtftMs), &spread(Objective::TpotMs))
    }

    /// Flags of all that a device measured: those of its sessions, and whether its sentinel moved.
    pub(crate) fn session_flags(&self, device: &str) -> Vec<String> {
        let mut flags: BTreeSet<String> =
            self.sessions.iter().filter(|(name, _)| name == device).flat_map(|(_, s)| s.flags.clone()).collect();
        if self.sentinels(device).iter().any(|point| point.moved) {
            flags.insert("sentinel_moved".to_owned());
        }
        flags.into_iter().collect()
    }

    /// How devices agree on the order of the candidates, and how well what is cheap to know predicts them.
    pub(crate) fn portability(&self) -> Vec<Agreement> {
        let Some((_, objective)) = self.noisy() else { return Vec::new() };
        let quantity = |name: &str, value: &dyn Fn(&Record) -> Option<f64>| Quantity {
            name: name.to_owned(),
            values: self.records.iter().map(value).collect(),
        };
        let devices: Vec<Quantity> =
            self.devices.iter().map(|d| quantity(&d.name, &|r| self.value(r, &d.name, objective))).collect();
        let proxies = [
            quantity("parameters", &|r| self.value(r, "", Objective::Parameters)),
            quantity("artifact_bytes", &|r| r.artifact.as_ref().map(|a| a.bytes as f64)),
        ];
        portability(&devices, &proxies)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn not_comparable(error: edgewise_search::PointError) -> Failure {
    Failure::new(crate::exit_code::STUDY, error.to_string())
}
