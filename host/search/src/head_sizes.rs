//! Sizes that attention heads may have: one for the whole network.

use crate::space::SpaceError;
use serde::{Deserialize, Serialize};

/// Sizes of heads, ascending; the last is the full network's. What follows speaks of a size as candidates do: `None` is the full
/// one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u32>")]
pub struct HeadSizes(Vec<u32>);

impl TryFrom<Vec<u32>> for HeadSizes {
    type Error = SpaceError;

    fn try_from(sizes: Vec<u32>) -> Result<Self, SpaceError> {
        let full = sizes.last().copied().unwrap_or_default();
        Self::new(sizes, full)
    }
}

impl HeadSizes {
    /// These sizes and `full`, that of the full network; in any order.
    ///
    /// # Errors
    /// [`SpaceError::HeadSize`] for a size that is odd, zero or above `full`; [`SpaceError::NoHeadSize`] if none is below it.
    pub fn new(mut sizes: Vec<u32>, full: u32) -> Result<Self, SpaceError> {
        sizes.push(full);
        sizes.sort_unstable();
        sizes.dedup();
        if let Some(&size) = sizes.iter().find(|size| **size == 0 || !size.is_multiple_of(2) || **size > full) {
            return Err(SpaceError::HeadSize { size, full });
        }
        if sizes.len() > 1 { Ok(Self(sizes)) } else { Err(SpaceError::NoHeadSize { full }) }
    }

    /// All sizes, ascending.
    pub fn sizes(&self) -> &[u32] {
        &self.0
    }

    /// How many sizes there are, at least 2.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The size number `index`, from the smallest; past the end it is the full one.
    pub fn at(&self, index: usize) -> Option<u32> {
        self.0[..self.0.len() - 1].get(index).copied()
    }

    /// The number of a size, of the full one where it is none of these.
    pub fn index(&self, size: Option<u32>) -> usize {
        let found = size.and_then(|size| self.0.binary_search(&size).ok());
        found.unwrap_or(self.0.len() - 1)
    }

    /// The size nearest to the share `level` (0 smallest, 1 full) of the list.
    pub fn at_level(&self, level: f64) -> Option<u32> {
        self.at((level.clamp(0.0, 1.0) * (self.0.len() - 1) as f64).round() as usize)
    }

    /// Whether candidates may have this size.
    pub fn contains(&self, size: Option<u32>) -> bool {
        size.is_none() || self.at(self.index(size)) == size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_size_is_always_among_them_and_never_named() {
        let sizes = HeadSizes::new(vec![48, 32, 48], 64).unwrap();
        assert_eq!(sizes.sizes(), [32, 48, 64]);
        assert_eq!([0, 1, 2, 3].map(|i| sizes.at(i)), [Some(32), Some(48), None, None]);
        assert_eq!([Some(32), Some(48), None, Some(64)].map(|size| sizes.index(size)), [0, 1, 2, 2]);
        assert_eq!([0.0, 0.5, 1.0].map(|level| sizes.at_level(level)), [Some(32), Some(48), None]);
        assert!(sizes.contains(None) && sizes.contains(Some(32)));
        assert!(!sizes.contains(Some(64)) && !sizes.contains(Some(40)), "one network has one description");
        let json = serde_json::to_string(&sizes).unwrap();
        assert_eq!((json.as_str(), serde_json::from_str::<HeadSizes>(&json).unwrap()), ("[32,48,64]", sizes));
    }

    #[test]
    fn sizes_that_heads_cannot_have_are_refused() {
        for size in [0, 33, 66] {
            assert_eq!(HeadSizes::new(vec![32, size], 64), Err(SpaceError::HeadSize { size, full: 64 }));
        }
        for sizes in [vec![], vec![64]] {
            assert_eq!(HeadSizes::new(sizes, 64), Err(SpaceError::NoHeadSize { full: 64 }));
        }
        for json in ["[]", "[64]", "[0,64]", "[31,64]"] {
            assert!(serde_json::from_str::<HeadSizes>(json).is_err(), "{json}");
        }
    }
}
