//! Cutting the stream of tensors into chunks, and finding tensors in them.

use crate::Error;

/// A chunk grows to this size at most, unless one row is larger: small enough to send again or to check in a moment, large
/// enough that names and round trips are no cost.
pub const CHUNK_BYTES: u64 = 8 << 20;
/// No chunk is larger: the longest row of a valid model.
pub const MAX_CHUNK_BYTES: u64 = 64 << 20;
/// No super-network has more chunks: each is a mapping of its own, of which Linux gives a process 65,530.
pub const MAX_CHUNKS: usize = 1 << 15;

/// A tensor as something to be cut: rows, and the bytes of each. Neither is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) count: u64,
    pub(super) bytes: u64,
}

/// Rows of a tensor that lie in one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Which chunk.
    pub(super) chunk: usize,
    /// Where in it, in bytes.
    pub(super) offset: u64,
    /// The first row.
    pub(super) first: u64,
    /// How many rows, at least one.
    pub(super) count: u64,
}

/// Sizes of the chunks of `tensors`.
pub(super) fn cut(tensors: impl IntoIterator<Item = Rows>, limit: u64) -> Vec<u64> {
    let (mut chunks, mut filled) = (Vec::new(), 0);
    for Rows { mut count, bytes } in tensors {
        while count > 0 {
            if filled > 0 && filled + bytes > limit {
                chunks.push(filled);
                filled = 0;
            }
            let taken = (limit.saturating_sub(filled) / bytes).clamp(1, count);
            filled += taken * bytes;
            count -= taken;
        }
    }
    chunks.extend((filled > 0).then_some(filled));
    chunks
}

/// Where each tensor lies, given the sizes of the chunks.
///
/// # Errors
/// [`Error::BadIndex`] unless the chunks are these tensors, cut between rows.
pub(super) fn find(tensors: impl IntoIterator<Item = Rows>, chunks: &[u64]) -> Result<Vec<Vec<Part>>, Error> {
    let bad = |what: &str| Error::BadIndex(what.to_owned());
    if chunks.iter().any(|&bytes| bytes == 0 || bytes > MAX_CHUNK_BYTES) {
        return Err(bad("a chunk is empty or too large"));
    }
    let (mut chunk, mut offset) = (0, 0);
    let mut found = Vec::new();
    for Rows { count, bytes } in tensors {
        let (mut parts, mut first) = (Vec::new(), 0);
        while first < count {
            let size = *chunks.get(chunk).ok_or_else(|| bad("its chunks hold less than its tensors"))?;
            let taken = ((size - offset) / bytes).min(count - first);
            if taken == 0 {
                return Err(bad("a chunk ends within a row"));
            }
            parts.push(Part { chunk, offset, first, count: taken });
            first += taken;
            offset += taken * bytes;
            if offset == size {
                (chunk, offset) = (chunk + 1, 0);
            }
        }
        found.push(parts);
    }
    if chunk == chunks.len() { Ok(found) } else { Err(bad("its chunks hold more than its tensors")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_stay_whole_and_small_tensors_share() {
        let rows = |count, bytes| Rows { count, bytes };
        assert_eq!(cut([rows(1, 2), rows(1, 2), rows(5, 3), rows(1, 20), rows(1, 1)], 10), [10, 9, 20, 1]);
        assert_eq!(cut([rows(4, 5)], 10), [10, 10]);
        let parts = find([rows(1, 2), rows(1, 2), rows(5, 3)], &[10, 9]).unwrap();
        let part = |chunk, offset, first, count| Part { chunk, offset, first, count };
        assert_eq!(parts, [vec![part(0, 0, 0, 1)], vec![part(0, 2, 0, 1)], vec![part(0, 4, 0, 2), part(1, 0, 2, 3)]]);
        for bad in [&[10, 8][..], &[11, 8], &[10], &[10, 9, 1], &[0, 10, 9], &[]] {
            assert!(find([rows(1, 2), rows(1, 2), rows(5, 3)], bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_cut_is_found(
            tensors in proptest::collection::vec((1u64..2000, 1u64..300), 1..20),
            limit in 1u64..5000,
        ) {
            let tensors: Vec<Rows> = tensors.into_iter().map(|(count, bytes)| Rows { count, bytes }).collect();
            let chunks = cut(tensors.iter().copied(), limit);
            let longest = tensors.iter().map(|t| t.bytes).max().unwrap();
            prop_assert!(chunks.iter().all(|&bytes| bytes <= limit.max(longest)));
            // The stream is covered once, in order.
            let (mut at, mut starts) = (0, vec![0]);
            for bytes in &chunks { at += bytes; starts.push(at); }
            let mut end = 0;
            for (tensor, parts) in tensors.iter().zip(find(tensors.iter().copied(), &chunks).unwrap()) {
                let mut row = 0;
                for part in parts {
                    prop_assert_eq!(starts[part.chunk] + part.offset, end);
                    prop_assert_eq!(part.first, row);
                    row += part.count;
                    end += part.count * tensor.bytes;
                }
                prop_assert_eq!(row, tensor.count);
            }
            prop_assert_eq!(end, at);
        }

        #[test]
        fn chunks_of_any_size_are_errors_or_whole(
            tensors in proptest::collection::vec((1u64..5, 1u64..5), 1..5),
            chunks in proptest::collection::vec(prop_oneof![0u64..12, Just(u64::MAX)], 0..8),
        ) {
            let tensors: Vec<Rows> = tensors.into_iter().map(|(count, bytes)| Rows { count, bytes }).collect();
            let total: u64 = tensors.iter().map(|t| t.count * t.bytes).sum();
            if find(tensors, &chunks).is_ok() {
                prop_assert_eq!(chunks.iter().sum::<u64>(), total);
            }
        }
    }
}
