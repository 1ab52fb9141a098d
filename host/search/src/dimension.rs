//! The sizes that one dimension of a space may take.

use crate::space::SpaceError;
use serde::{Deserialize, Serialize};

/// Most sizes that a list may have.
const MOST_LISTED: usize = 32;

/// Sizes that one dimension may take. The largest is always among them, since the full model must be in its own space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Dimension(Sizes);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Sizes {
    /// The multiples of `step` from `min` on, and `max` itself, multiple or not.
    Steps { min: u32, max: u32, step: u32 },
    /// The first `count` of these, ascending. All others are zero, so that equal lists are equal.
    Listed { sizes: [u32; MOST_LISTED], count: u8 },
}

/// How a dimension is stored: the ends and the step, and the sizes themselves where they are no multiples of a step.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    min: u32,
    max: u32,
    step: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sizes: Vec<u32>,
}

impl From<Dimension> for Stored {
    fn from(dimension: Dimension) -> Self {
        match dimension.0 {
            Sizes::Steps { min, max, step } => Self { min, max, step, sizes: Vec::new() },
            Sizes::Listed { sizes, count } => {
                Self { min: dimension.smallest(), max: dimension.largest(), step: 1, sizes: sizes[..usize::from(count)].to_vec() }
            }
        }
    }
}

impl TryFrom<Stored> for Dimension {
    type Error = SpaceError;

    fn try_from(stored: Stored) -> Result<Self, SpaceError> {
        let Stored { min, max, step, sizes } = stored;
        if sizes.is_empty() {
            return Self::new(min, max, step);
        }
        let listed = Self::listed(&sizes)?;
        let agrees = (listed.smallest(), listed.largest(), step) == (min, max, 1);
        if agrees { Ok(listed) } else { Err(SpaceError::Dimension { min, max, step }) }
    }
}

impl Dimension {
    /// Sizes from `min` (taken up to the next multiple of `step`) to `max`: the multiples of `step`, and `max` itself.
    ///
    /// # Errors
    /// [`SpaceError::Dimension`] if `step` or `max` is 0 or `min` is above `max`.
    pub fn new(min: u32, max: u32, step: u32) -> Result<Self, SpaceError> {
        if step == 0 || max == 0 || min > max {
            Err(SpaceError::Dimension { min, max, step })
        } else {
            Ok(Self(Sizes::Steps { min, max, step }))
        }
    }

    /// A dimension that is not searched.
    ///
    /// # Errors
    /// [`SpaceError::Dimension`] if `value` is 0.
    pub fn fixed(value: u32) -> Result<Self, SpaceError> {
        Self::new(value, value, 1)
    }

    /// These sizes and no others.
    ///
    /// # Errors
    /// [`SpaceError::Sizes`] if there are none or more than 32, or if they do not go up from at least 1.
    pub fn listed(list: &[u32]) -> Result<Self, SpaceError> {
        let ascending = list.first().is_some_and(|&first| first > 0) && list.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || list.len() > MOST_LISTED {
            return Err(SpaceError::Sizes);
        }
        let mut sizes = [0; MOST_LISTED];
        sizes[..list.len()].copy_from_slice(list);
        Ok(Self(Sizes::Listed { sizes, count: list.len() as u8 }))
    }

    /// `max`, its half, its quarter and so on, as long as they are not below `min`; each is taken up to a multiple of `step`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn halved(min: u32, max: u32, step: u32) -> Result<Self, SpaceError> {
        Self::new(min, max, step)?;
        let halves = (0..u32::BITS).map(|times| max.div_ceil(1 << times)).take_while(|&size| size >= min);
        let mut sizes: Vec<u32> = halves.map(|size| snapped(u64::from(size), step, max)).collect();
        sizes.dedup();
        sizes.reverse();
        Self::listed(&sizes)
    }

    /// The multiples of `share.0 / share.1` of `max`, each taken up to a multiple of `step`, and `max` itself.
    ///
    /// # Errors
    /// As [`Self::new`]; [`SpaceError::Sizes`] if the share is nothing, or so small that it has more than 32 multiples.
    pub fn shares(share: (u32, u32), max: u32, step: u32) -> Result<Self, SpaceError> {
        let (part, of) = (u64::from(share.0), u64::from(share.1));
        Self::new(1, max, step)?;
        if part == 0 || of == 0 || of > part * MOST_LISTED as u64 {
            return Err(SpaceError::Sizes);
        }
        let multiples = (1..).map(|times| times * part).take_while(|&parts| parts < of);
        let mut sizes: Vec<u32> = multiples.map(|parts| snapped((parts * u64::from(max)).div_ceil(of), step, max)).collect();
        sizes.push(max);
        sizes.dedup();
        Self::listed(&sizes)
    }

    /// How many sizes there are, at least 1.
    pub fn count(self) -> u32 {
        match self.0 {
            Sizes::Listed { count, .. } => u32::from(count),
            Sizes::Steps { min, max, step } => {
                let (low, max) = (lowest_multiple(min, step), u64::from(max));
                if low >= max { 1 } else { ((max - 1 - low) / u64::from(step)) as u32 + 2 }
            }
        }
    }

    /// The size number `index`, from the smallest; past the end it is the largest.
    pub fn at(self, index: u32) -> u32 {
        if index.saturating_add(1) >= self.count() {
            return self.largest();
        }
        match self.0 {
            Sizes::Steps { min, step, .. } => (lowest_multiple(min, step) + u64::from(index) * u64::from(step)) as u32,
            Sizes::Listed { sizes, .. } => sizes[index as usize],
        }
    }

    /// The number of the largest size that is at most `value`, or 0.
    pub fn index(self, value: u32) -> u32 {
        if value >= self.largest() {
            return self.count() - 1;
        }
        match self.0 {
            Sizes::Listed { sizes, count } => {
                sizes[..usize::from(count)].partition_point(|&size| size <= value).saturating_sub(1) as u32
            }
            Sizes::Steps { min, step, .. } => {
                let above = u64::from(value).saturating_sub(lowest_multiple(min, step));
                ((above / u64::from(step)) as u32).min(self.count() - 1)
            }
        }
    }

    /// The size nearest to the share `level` (0 smallest, 1 largest) of the range.
    pub fn at_level(self, level: f64) -> u32 {
        self.at((level.clamp(0.0, 1.0) * f64::from(self.count() - 1)).round() as u32)
    }

    /// Whether `value` is one of the sizes.
    pub fn contains(self, value: u32) -> bool {
        self.at(self.index(value)) == value
    }

    /// The smallest size.
    pub fn smallest(self) -> u32 {
        self.at(0)
    }

    /// The largest size.
    pub const fn largest(self) -> u32 {
        match self.0 {
            Sizes::Steps { max, .. } => max,
            Sizes::Listed { sizes, count } => sizes[count as usize - 1],
        }
    }

    /// Whether there is anything to search.
    pub fn is_fixed(self) -> bool {
        self.count() == 1
    }
}

fn lowest_multiple(min: u32, step: u32) -> u64 {
    u64::from(min.max(1)).div_ceil(u64::from(step)) * u64::from(step)
}

/// `size` taken up to a multiple of `step`, but not beyond `max`.
pub(crate) fn snapped(size: u64, step: u32, max: u32) -> u32 {
    (size.div_ceil(u64::from(step)) * u64::from(step)).min(u64::from(max)) as u32
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(most: u32) -> impl Strategy<Value = (u32, u32, u32)> {
        (1..=most, 0.0f64..=1.0, prop_oneof![Just(1u32), Just(32), 1u32..80])
            .prop_map(|(max, share, step)| ((f64::from(max) * share) as u32, max, step))
    }

    /// Any sizes up to `most`: in steps, halved, or shares.
    pub(crate) fn dimension(most: u32) -> impl Strategy<Value = Dimension> {
        (numbers(most), 0..4, 1u32..6, 1u32..10).prop_map(|((min, max, step), kind, part, of)| match kind {
            0 => Dimension::halved(min, max, step).unwrap(),
            1 => Dimension::shares((part, of), max, step).unwrap(),
            _ => Dimension::new(min, max, step).unwrap(),
        })
    }

    fn sizes(dimension: Dimension) -> Vec<u32> {
        (0..dimension.count()).map(|i| dimension.at(i)).collect()
    }

    proptest! {
        #[test]
        fn steps_are_what_they_are_said_to_be((min, max, step) in numbers(400)) {
            let dimension = Dimension::new(min, max, step).unwrap();
            let expected: Vec<u32> = (min.max(1)..=max).filter(|v| v.is_multiple_of(step) || *v == max).collect();
            prop_assert_eq!(sizes(dimension), expected);
        }

        #[test]
        fn numbers_of_sizes_lead_back(dimension in dimension(400)) {
            let found = sizes(dimension);
            prop_assert!(found[0] > 0 && found.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", found);
            prop_assert_eq!((found[0], found[found.len() - 1]), (dimension.smallest(), dimension.largest()));
            for value in 0..=dimension.largest() + 2 {
                prop_assert_eq!(dimension.contains(value), found.contains(&value), "{}", value);
            }
            for (i, value) in found.iter().enumerate() {
                prop_assert_eq!(dimension.index(*value), i as u32);
            }
            let json = serde_json::to_string(&dimension).unwrap();
            prop_assert_eq!(serde_json::from_str::<Dimension>(&json).unwrap(), dimension);
        }
    }

    #[test]
    fn halves_and_shares_snap_to_steps() {
        assert_eq!(sizes(Dimension::halved(32, 4096, 32).unwrap()), [32, 64, 128, 256, 512, 1024, 2048, 4096]);
        // 576, 288, 144, 72 and 36.
        assert_eq!(sizes(Dimension::halved(32, 576, 32).unwrap()), [64, 96, 160, 288, 576]);
        assert_eq!(sizes(Dimension::halved(1, 3, 1).unwrap()), [1, 2, 3]);
        assert_eq!(sizes(Dimension::shares((2, 7), 14_336, 32).unwrap()), [4096, 8192, 12_288, 14_336]);
        assert_eq!(sizes(Dimension::shares((1, 4), 100, 32).unwrap()), [32, 64, 96, 100]);
        assert_eq!(sizes(Dimension::shares((3, 2), 100, 32).unwrap()), [100]);
    }

    #[test]
    fn steps_are_stored_as_they_always_were() {
        let steps = Dimension::new(1, 100, 32).unwrap();
        assert_eq!(serde_json::to_string(&steps).unwrap(), r#"{"min":1,"max":100,"step":32}"#);
        let listed = Dimension::listed(&[2, 4, 8]).unwrap();
        assert_eq!(serde_json::to_string(&listed).unwrap(), r#"{"min":2,"max":8,"step":1,"sizes":[2,4,8]}"#);
    }

    #[test]
    fn a_layer_thinner_than_the_step_has_one_size() {
        let d = Dimension::new(5, 20, 32).unwrap();
        assert_eq!((d.count(), d.smallest(), d.largest()), (1, 20, 20));
    }

    #[test]
    fn contradictions_are_refused_also_in_json() {
        assert!(Dimension::new(1, 0, 1).is_err() && Dimension::new(1, 4, 0).is_err() && Dimension::new(5, 4, 1).is_err());
        assert!(Dimension::halved(5, 4, 1).is_err() && Dimension::shares((0, 7), 4, 1).is_err());
        assert!([&[][..], &[0, 1], &[2, 2], &[3, 2]].iter().all(|list| Dimension::listed(list).is_err()));
        assert!(Dimension::listed(&(1..=33).collect::<Vec<u32>>()).is_err() && Dimension::shares((1, 99), 900, 1).is_err());
        let parses = |json: &str| serde_json::from_str::<Dimension>(json).is_ok();
        assert!(parses(r#"{"min":2,"max":8,"step":1,"sizes":[2,4,8]}"#));
        for json in [
            r#"{"min":9,"max":4,"step":1}"#,
            r#"{"min":2,"max":9,"step":1,"sizes":[2,4,8]}"#,
            r#"{"min":2,"max":4,"step":1,"sizes":[4,2]}"#,
            r#"{"min":2,"max":4,"step":1,"sized":[2,4]}"#,
        ] {
            assert!(!parses(json), "{json}");
        }
    }
}
