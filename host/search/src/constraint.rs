//! Limits on objectives, such as `tpot_ms<=20`.

use crate::objective::{Objective, ObjectiveError};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// How a value relates to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relation {
    /// `<`
    #[serde(rename = "<")]
    Below,
    /// `<=`
    #[serde(rename = "<=")]
    AtMost,
    /// `>`
    #[serde(rename = ">")]
    Above,
    /// `>=`
    #[serde(rename = ">=")]
    AtLeast,
}

/// A limit that a useful candidate keeps. Its values are those of the objective, in the objective's unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constraint {
    /// What is limited; it need not be an objective of the search.
    pub objective: Objective,
    /// The side of the limit that is allowed.
    pub relation: Relation,
    /// The limit; finite.
    pub limit: f64,
}

/// Why a constraint could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// No relation in the text.
    #[error("`{text}` has none of `<=`, `<`, `>=`, `>`")]
    NoRelation {
        /// The whole text.
        text: String,
    },
    /// The left side is unknown.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    /// The right side is not a finite number.
    #[error("limit `{limit}` of `{objective}` is not a finite number")]
    Limit {
        /// What it should limit.
        objective: Objective,
        /// The right side.
        limit: String,
    },
}

impl Constraint {
    /// Whether `value` keeps the limit; NaN does not.
    pub fn holds(&self, value: f64) -> bool {
        match self.relation {
            Relation::Below => value < self.limit,
            Relation::AtMost => value <= self.limit,
            Relation::Above => value > self.limit,
            Relation::AtLeast => value >= self.limit,
        }
    }

    /// How far `value` is on the wrong side, as a share of the limit; 0 where it holds, positive where it does not.
    pub fn violation(&self, value: f64) -> f64 {
        if self.holds(value) {
            return 0.0;
        }
        if value.is_nan() {
            return f64::INFINITY;
        }
        let scale = if self.limit == 0.0 { 1.0 } else { self.limit.abs() };
        // A value exactly at a strict limit breaks it too, so the result may not be zero.
        ((value - self.limit).abs() / scale).max(f64::MIN_POSITIVE)
    }
}

/// The sum of all violations, with `value` giving each objective's value; a value that is missing breaks its constraint fully.
pub fn violation(constraints: &[Constraint], value: impl Fn(Objective) -> Option<f64>) -> f64 {
    constraints.iter().map(|c| value(c.objective).map_or(f64::INFINITY, |v| c.violation(v))).sum()
}

impl FromStr for Constraint {
    type Err = ConstraintError;

    fn from_str(text: &str) -> Result<Self, ConstraintError> {
        // Two-character relations first: `<` is a prefix of `<=`.
        let relations = [("<=", Relation::AtMost), (">=", Relation::AtLeast), ("<", Relation::Below), (">", Relation::Above)];
        let split = relations.iter().find_map(|(sign, relation)| text.split_once(sign).map(|(l, r)| (l, *relation, r)));
        let (left, relation, right) = split.ok_or_else(|| ConstraintError::NoRelation { text: text.to_owned() })?;
        let objective = left.trim().parse()?;
        match right.trim().parse::<f64>() {
            Ok(limit) if limit.is_finite() => Ok(Self { objective, relation, limit }),
            _ => Err(ConstraintError::Limit { objective, limit: right.trim().to_owned() }),
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.relation {
            Relation::Below => "<",
            Relation::AtMost => "<=",
            Relation::Above => ">",
            Relation::AtLeast => ">=",
        };
        write!(f, "{}{sign}{}", self.objective, self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints() {
        for (text, value, holds) in [
            ("tpot_ms<=20", 20.0, true),
            ("tpot_ms<20", 20.0, false),
            ("parameters>=100", 100.0, true),
            ("parameters>100", 100.0, false),
        ] {
            let c: Constraint = text.parse().unwrap();
            assert_eq!(c.to_string(), text);
            assert_eq!(c.holds(value), holds, "{text}");
            assert_eq!(c.violation(value) == 0.0, holds, "{text}");
        }
        let rss: Constraint = "peak_rss_bytes <= 1.5e9".parse().unwrap();
        assert_eq!(rss, Constraint { objective: Objective::PeakRssBytes, relation: Relation::AtMost, limit: 1.5e9 });
        assert!((rss.violation(3.0e9) - 1.0).abs() < 1e-12);
        assert!(!rss.holds(f64::NAN));
    }

    #[test]
    fn errors_name_the_part() {
        let error = |text: &str| text.parse::<Constraint>().unwrap_err().to_string();
        assert_eq!(error("tpot_ms=20"), "`tpot_ms=20` has none of `<=`, `<`, `>=`, `>`");
        assert!(error("speed<=20").contains("known are `perplexity`"));
        assert_eq!(error("tpot_ms<=fast"), "limit `fast` of `tpot_ms` is not a finite number");
        assert_eq!(error("tpot_ms<=inf"), "limit `inf` of `tpot_ms` is not a finite number");
        assert_eq!(error("tpot_ms<==2"), "limit `=2` of `tpot_ms` is not a finite number");
    }

    #[test]
    fn violations_add_up_and_a_missing_value_is_the_worst() {
        let constraints = ["tpot_ms<=10".parse().unwrap(), "perplexity<=8".parse().unwrap()];
        let both = |o| Some(if o == Objective::TpotMs { 15.0 } else { 16.0 });
        assert!((violation(&constraints, both) - 1.5).abs() < 1e-12);
        assert!(violation(&constraints, |_| None).is_infinite());
        assert!(violation(&[], |_| None) <= 0.0);
    }
}
