//! Draws that depend on a seed and on nothing else, whatever version of a library makes them.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

/// What is drawn; each has random numbers of its own, so that more of one changes nothing of the other.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    /// The order of examples.
    Examples = 0,
    /// Which questions are asked.
    Questions = 1,
}

/// A source of random numbers.
pub(crate) struct Draw(ChaCha8Rng);

impl Draw {
    pub(crate) fn new(seed: u64, stream: Stream) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream as u64);
        Self(random)
    }

    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// Shuffles (Fisher and Yates), from the front: the first places are drawn first.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for place in 0..items.len() {
            items.swap(place, place + self.below(items.len() - place));
        }
    }

    /// `n` of the numbers below `count`, ascending; all of them if there are not more.
    pub(crate) fn sample(&mut self, count: usize, n: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..count).collect();
        if n < count {
            self.shuffle(&mut all);
            all.truncate(n);
            all.sort_unstable();
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_what_they_were() {
        let sample = |seed, n| Draw::new(seed, Stream::Questions).sample(1000, n);
        assert_eq!(sample(0, 5), sample(0, 5));
        assert_ne!(sample(0, 5), sample(1, 5));
        // More of the same draw: what was drawn stays drawn.
        assert!(sample(0, 5).iter().all(|row| sample(0, 9).contains(row)));
        assert_eq!(sample(3, 2000), (0..1000).collect::<Vec<_>>());
        let mut order: Vec<usize> = (0..50).collect();
        Draw::new(0, Stream::Examples).shuffle(&mut order);
        assert_ne!(order, (0..50).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
    }
}
