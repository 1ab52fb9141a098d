//! Candidates that noise does not tell apart on a device, seen from either side.

use crate::{
    data::{Device, ReportData},
    markup::{escape, put},
};
use std::collections::{BTreeMap, BTreeSet};

/// Ids that are named before the rest is folded away.
const SHOWN: usize = 2;

/// Who is tied with whom.
#[derive(Debug, Default)]
pub(crate) struct Ties<'a>(BTreeMap<&'a str, BTreeSet<&'a str>>);

impl<'a> Ties<'a> {
    pub(crate) fn of(device: &'a Device) -> Self {
        let mut out = Self::default();
        for (member, others) in &device.ties {
            for other in others.iter().filter(|other| *other != member) {
                out.0.entry(member).or_default().insert(other);
                out.0.entry(other).or_default().insert(member);
            }
        }
        out
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that a candidate is tied with.
    pub(crate) fn with(&self, id: &str) -> impl ExactSizeIterator<Item = &'a str> + '_ {
        static NOBODY: BTreeSet<&str> = BTreeSet::new();
        self.0.get(id).unwrap_or(&NOBODY).iter().copied()
    }

    /// Every pair once.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> + '_ {
        self.0.iter().flat_map(|(a, others)| others.iter().filter(move |b| a < *b).map(move |b| (*a, *b)))
    }

    /// A candidate's ties in words, or nothing.
    pub(crate) fn in_words(&self, id: &str) -> String {
        let with = self.with(id);
        let more = with.len().saturating_sub(SHOWN);
        let named: Vec<&str> = with.take(SHOWN).collect();
        match (named.is_empty(), more) {
            (true, _) => String::new(),
            (false, 0) => format!(" · tied with {}", named.join(" and ")),
            (false, _) => format!(" · tied with {} and {more} more", named.join(", ")),
        }
    }

    /// A candidate's ties as links to their rows; many are folded.
    pub(crate) fn as_links(&self, data: &ReportData, device: &Device, id: &str) -> String {
        let mut out = String::new();
        let with = self.with(id);
        let more = with.len().saturating_sub(SHOWN);
        for (k, other) in with.enumerate() {
            if k == SHOWN {
                put!(&mut out, "<details><summary>{more} more</summary>");
            }
            let name = escape(other);
            match anchor(device, other, data) {
                Some(row) => put!(&mut out, r##"<span>≈ <a href="#{row}"><code>{name}</code></a></span> "##),
                None => put!(&mut out, "<span>≈ <code>{name}</code></span> "),
            }
        }
        out.push_str(if more > 0 { "</details>" } else { "" });
        out
    }
}

/// The id of a candidate's row in a device's table: numbers, because ids of elements may not hold everything a name may. `None`
/// if it has no row.
pub(crate) fn anchor(device: &Device, id: &str, data: &ReportData) -> Option<String> {
    let d = data.devices.iter().position(|d| d.name == device.name)?;
    let c = data.candidates.iter().position(|c| c.id == id)?;
    Some(format!("d{d}-c{c}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(ties: &[(&str, &[&str])]) -> Device {
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        Device {
            name: "pi".to_owned(),
            target: String::new(),
            fingerprint: Vec::new(),
            front: Vec::new(),
            ties: ties.iter().map(|(member, others)| ((*member).to_owned(), owned(others))).collect(),
            flags: Vec::new(),
            hypervolume: None,
            comparison: Vec::new(),
            drift: Vec::new(),
        }
    }

    #[test]
    fn ties_hold_in_both_directions_and_nothing_is_tied_with_itself() {
        let device = device(&[("b", &["a", "b", "z"]), ("a", &["b"]), ("c", &[])]);
        let ties = Ties::of(&device);
        assert_eq!(ties.pairs().collect::<Vec<_>>(), [("a", "b"), ("b", "z")]);
        assert_eq!(ties.with("b").collect::<Vec<_>>(), ["a", "z"]);
        assert_eq!(ties.with("z").collect::<Vec<_>>(), ["b"]);
        assert_eq!((ties.with("c").len(), ties.with("unknown").len()), (0, 0));
    }

    #[test]
    fn many_ties_are_counted() {
        let device = device(&[("m", &["a", "b", "c", "d"]), ("n", &["o", "p"])]);
        let ties = Ties::of(&device);
        assert_eq!(ties.in_words("m"), " · tied with a, b and 2 more");
        assert_eq!(ties.in_words("n"), " · tied with o and p");
        assert_eq!(ties.in_words("a"), " · tied with m");
        assert_eq!(ties.in_words("x"), "");
    }
}
