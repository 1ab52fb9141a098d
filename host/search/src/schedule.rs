//! The order in which a device runs trials: randomised complete blocks, each followed by its reverse.
//!
//! A block begins with the sentinel and holds each of its candidates once. Blocks `2m` and `2m + 1` have opposite orders (ABBA), so
//! that a drift that is linear in time adds the same to all of them. The order is a sort by hashes of seed, pair of blocks and
//! id: it is a random permutation that depends on nothing else, so that two candidates come in the same order whoever else is in the
//! block, and a search that resumes in the midst of a block finds its seats as they were.

use crate::store::SENTINEL_SEAT;
use sha2::{Digest, Sha256};

/// A place in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat<'a> {
    /// Its number, from 0, which is the sentinel's.
    pub seat: u32,
    /// Who sits there.
    pub id: &'a str,
}

/// The seats of a block in the order they are run. The order of `ids` does not matter, and neither do repetitions; the sentinel
/// among them has no second seat.
pub fn seats<'a>(seed: u64, block: u32, sentinel: &'a str, ids: &[&'a str]) -> Vec<Seat<'a>> {
    let mut keyed: Vec<([u8; 32], &str)> =
        ids.iter().filter(|&&id| id != sentinel).map(|&id| (key(seed, block / 2, id), id)).collect();
    keyed.sort_unstable();
    keyed.dedup();
    if block % 2 == 1 {
        keyed.reverse();
    }
    let order = std::iter::once(sentinel).chain(keyed.into_iter().map(|(_, id)| id));
    (SENTINEL_SEAT..).zip(order).map(|(seat, id)| Seat { seat, id }).collect()
}

fn key(seed: u64, pair: u32, id: &str) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(b"edgewise schedule");
    hash.update(seed.to_le_bytes());
    hash.update(pair.to_le_bytes());
    hash.update(id.as_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const IDS: [&str; 4] = ["c-a", "c-b", "c-c", "c-d"];

    fn order(seed: u64, block: u32, ids: &[&'static str]) -> Vec<&'static str> {
        seats(seed, block, "base", ids).iter().skip(1).map(|s| s.id).collect()
    }

    proptest! {
        #[test]
        fn blocks_are_complete_numbered_and_reversed(seed in any::<u64>(), pair in 0u32..1000, take in 0usize..5) {
            let ids = &IDS[..take];
            let there = seats(seed, 2 * pair, "base", ids);
            prop_assert_eq!(there[0], Seat { seat: 0, id: "base" });
            prop_assert!(there.iter().zip(0u32..).all(|(s, n)| s.seat == n));
            let mut sorted = order(seed, 2 * pair, ids);
            let mut back = order(seed, 2 * pair + 1, ids);
            back.reverse();
            prop_assert_eq!(&sorted, &back);
            sorted.sort_unstable();
            prop_assert_eq!(sorted, ids.to_vec());
        }

        #[test]
        fn only_seed_block_and_the_set_matter(seed in any::<u64>(), block in 0u32..1000, without in 0usize..4) {
            let whole = order(seed, block, &IDS);
            prop_assert_eq!(&order(seed, block, &["c-d", "c-b", "c-b", "base", "c-a", "c-c"]), &whole);
            let less: Vec<&str> = IDS.into_iter().filter(|&id| id != IDS[without]).collect();
            let kept: Vec<&str> = whole.into_iter().filter(|&id| id != IDS[without]).collect();
            prop_assert_eq!(order(seed, block, &less), kept);
        }
    }

    #[test]
    fn every_order_is_as_likely_as_any_other() {
        let mut counts: HashMap<Vec<&str>, u32> = HashMap::new();
        for block in 0..24_000 {
            *counts.entry(order(7, 2 * block, &IDS)).or_default() += 1;
        }
        // 24 orders, a thousand each; five standard deviations.
        assert_eq!(counts.len(), 24);
        assert!(counts.values().all(|n| (840..=1160).contains(n)), "{counts:?}");
        assert_ne!(
            (0..20).map(|b| order(1, b, &IDS)).collect::<Vec<_>>(),
            (0..20).map(|b| order(2, b, &IDS)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn linear_drift_cancels_over_a_block_and_its_reverse() {
        for pair in 0..20 {
            let mut place: HashMap<&str, u32> = HashMap::new();
            for block in [2 * pair, 2 * pair + 1] {
                for s in seats(3, block, "base", &IDS).iter().skip(1) {
                    *place.entry(s.id).or_default() += s.seat;
                }
            }
            assert!(place.values().all(|sum| *sum == 5), "{place:?}");
        }
    }
}
