//! What is kept along a dimension of a tensor: a prefix, or the same dimensions of each of the first heads.

use std::sync::Arc;

/// What is kept along one dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// How much is kept.
    pub(crate) count: usize,
    /// Of how much.
    pub(crate) of: usize,
    /// Which dimensions of each head these are; without, they are the first.
    pub(crate) heads: Option<HeadDims>,
}

/// The kept dimensions of heads that lie one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeadDims {
    /// Dimensions of a whole head.
    of: usize,
    /// The kept ones, ascending; at least one.
    dims: Arc<[u32]>,
}

impl Kept {
    /// The first `count`.
    pub(crate) fn first(count: usize, of: usize) -> Self {
        Self { count, of, heads: None }
    }

    /// Of the first `count` of `of` heads what `dims` says, or everything.
    pub(crate) fn heads(count: usize, of: usize, whole: usize, dims: Option<&HeadDims>) -> Self {
        let size = dims.map_or(whole, |dims| dims.dims.len());
        Self { count: count * size, of: of * whole, heads: dims.cloned() }
    }

    /// Where what is kept at `position` lies.
    pub(crate) fn place(&self, position: usize) -> usize {
        self.heads.as_ref().map_or(position, |heads| heads.place(position))
    }
}

impl HeadDims {
    /// Both dimensions of the rotary `pairs` of a head of `of` dimensions: `i` turns with `i + of / 2`.
    pub(crate) fn of_pairs(pairs: &[u32], of: usize) -> Self {
        let half = (of / 2) as u32;
        Self { of, dims: pairs.iter().copied().chain(pairs.iter().map(|pair| pair + half)).collect() }
    }

    /// The first `count` of `of` dimensions.
    pub(crate) fn first(count: usize, of: usize) -> Self {
        Self { of, dims: (0..count as u32).collect() }
    }

    /// Where the kept dimension number `position` lies.
    pub(crate) fn place(&self, position: usize) -> usize {
        let (head, at) = (position / self.dims.len(), position % self.dims.len());
        head * self.of + self.dims[at] as usize
    }

    /// As [`Self::place`], and how many kept ones from there on lie side by side; at most `most`.
    pub(crate) fn run(&self, position: usize, most: usize) -> (usize, usize) {
        let rest = &self.dims[position % self.dims.len()..];
        let beside = rest.windows(2).take_while(|pair| pair[0] + 1 == pair[1]).count() + 1;
        (self.place(position), beside.min(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_with_gaps_and_heads() {
        // Heads of 8 of which pairs 1, 2 and 3 are kept: 1 2 3 5 6 7, and the same 8 further.
        let dims = HeadDims::of_pairs(&[1, 2, 3], 8);
        let runs = |position, most| dims.run(position, most);
        assert_eq!([runs(0, 9), runs(1, 9), runs(3, 9), runs(5, 9), runs(6, 2)], [(1, 3), (2, 2), (5, 3), (7, 1), (9, 2)]);
        let first = HeadDims::first(6, 8);
        assert_eq!([first.run(0, 9), first.run(5, 9), first.run(13, 9)], [(0, 6), (5, 1), (17, 5)]);
        assert_eq!((Kept::heads(2, 3, 8, Some(&dims)).count, Kept::heads(2, 3, 8, None).count), (12, 16));
    }
}
