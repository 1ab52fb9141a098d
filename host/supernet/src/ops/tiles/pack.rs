//! Blocks of matrices in the form in which the unit multiplies them.
//!
//! A block is 32 rows of `x`, or 32 rows of `w`, which are the product's columns. Of each step of 32 inner positions it has four
//! tiles of 16 lines: high parts of its first and second 16 rows, then low parts. In a tile of the left factor a line is a row. In
//! one of the right factor a line is a pair of positions, of which it holds both numbers of each row. What a matrix does not have
//! is zero.

use super::{
    super::product::Matrix,
    unit::{BLOCK, LINES, Line, STEP},
};
use std::{
    arch::x86_64::{
        __m256i, __m512, __m512bh, __m512i, _mm512_castsi512_ps, _mm512_castsi512_si256, _mm512_cvtepu16_epi32,
        _mm512_cvtne2ps_pbh, _mm512_extracti64x4_epi64, _mm512_loadu_si512, _mm512_maskz_loadu_ps, _mm512_permutexvar_epi16,
        _mm512_setzero_ps, _mm512_shuffle_i32x4, _mm512_slli_epi32, _mm512_storeu_si512, _mm512_sub_ps, _mm512_unpackhi_epi32,
        _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    },
    array,
    mem::transmute,
};

/// Rows of a tile.
const TILE: usize = 16;

/// Whether blocks can be made of a matrix whose rows are to be in lines, or in pairs: one of its dimensions has to be contiguous.
pub(super) fn takes(matrix: &Matrix<'_>, paired: bool) -> bool {
    matrix.column_stride == 1 || paired && matrix.row_stride == 1
}

/// Lines of a block of this many inner positions.
pub(super) fn lines(inner: usize) -> usize {
    inner.div_ceil(STEP) * LINES
}

/// The block of rows from `first` on of a matrix that is taken, as a left factor.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn left(x: &Matrix<'_>, first: usize, out: &mut [Line]) {
    for (step, tiles) in out.as_chunks_mut::<LINES>().0.iter_mut().enumerate() {
        let (high, low) = tiles.split_at_mut(BLOCK);
        for (row, (high, low)) in high.iter_mut().zip(low).enumerate() {
            (*high, *low) = row_of(x, first + row, step * STEP);
        }
    }
}

/// Likewise as a right factor.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn right(w: &Matrix<'_>, first: usize, out: &mut [Line]) {
    for (step, tiles) in out.as_chunks_mut::<LINES>().0.iter_mut().enumerate() {
        let position = step * STEP;
        let (high, low) = tiles.split_at_mut(BLOCK);
        let tiles = high.as_chunks_mut::<TILE>().0.iter_mut().zip(low.as_chunks_mut::<TILE>().0);
        for (tile, (high, low)) in tiles.enumerate() {
            let row = first + tile * TILE;
            if w.column_stride == 1 {
                let rows: [(Line, Line); TILE] = array::from_fn(|k| row_of(w, row + k, position));
                *high = turned(&array::from_fn(|k| rows[k].0));
                *low = turned(&array::from_fn(|k| rows[k].1));
            } else {
                for (pair, (high, low)) in high.iter_mut().zip(low).enumerate() {
                    (*high, *low) = pair_of(w, row, position + 2 * pair);
                }
            }
        }
    }
}

/// Numbers from an index on, as many as a vector holds; zero where there are fewer.
#[target_feature(enable = "avx512f")]
fn sixteen(values: &[f32]) -> __m512 {
    let mask = if values.len() >= 16 { !0 } else { (1 << values.len()) - 1 };
    // SAFETY: only the elements of the mask are read, and those are in the slice.
    unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr()) }
}

/// High and low parts of two vectors, those of the first before those of the second.
#[target_feature(enable = "avx512f,avx512bf16")]
fn split(first: __m512, second: __m512) -> (__m512i, __m512i) {
    // SAFETY: both are 512 bits, and any are allowed.
    let bits = |parts: __m512bh| unsafe { transmute::<__m512bh, __m512i>(parts) };
    let high = bits(_mm512_cvtne2ps_pbh(second, first));
    let wide = |half: __m256i| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)));
    let of_first = _mm512_sub_ps(first, wide(_mm512_castsi512_si256(high)));
    let of_second = _mm512_sub_ps(second, wide(_mm512_extracti64x4_epi64::<1>(high)));
    (high, bits(_mm512_cvtne2ps_pbh(of_second, of_first)))
}

#[target_feature(enable = "avx512f")]
fn line(bits: __m512i) -> Line {
    let mut line = Line::ZERO;
    // SAFETY: a line is 64 bytes.
    unsafe { _mm512_storeu_si512(line.0.as_mut_ptr().cast(), bits) };
    line
}

/// A step's high and low parts of a row whose elements are side by side.
#[target_feature(enable = "avx512f,avx512bf16")]
fn row_of(matrix: &Matrix<'_>, row: usize, position: usize) -> (Line, Line) {
    if row >= matrix.rows {
        return (Line::ZERO, Line::ZERO);
    }
    let from = row * matrix.row_stride;
    let values = &matrix.values[from + position..from + matrix.columns];
    let (high, low) = split(sixteen(values), sixteen(values.get(16..).unwrap_or_default()));
    (line(high), line(low))
}

/// High and low parts of two inner positions of 16 rows that are side by side.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pair_of(matrix: &Matrix<'_>, row: usize, position: usize) -> (Line, Line) {
    let column = |position: usize| {
        if row >= matrix.rows || position >= matrix.columns {
            return _mm512_setzero_ps();
        }
        let from = position * matrix.column_stride;
        sixteen(&matrix.values[from + row..from + matrix.rows])
    };
    let (high, low) = split(column(position), column(position + 1));
    // Halves of 16 bits, of the first and of the second position by turns.
    let by_turns: [u16; 32] = array::from_fn(|at| (at / 2 + at % 2 * 16) as u16);
    // SAFETY: both are 512 bits, and any are allowed.
    let by_turns = unsafe { transmute::<[u16; 32], __m512i>(by_turns) };
    (line(_mm512_permutexvar_epi16(by_turns, high)), line(_mm512_permutexvar_epi16(by_turns, low)))
}

/// Lines as columns.
#[target_feature(enable = "avx512f")]
fn turned(lines: &[Line; TILE]) -> [Line; TILE] {
    // SAFETY: a line is 64 bytes.
    let row = |k: usize| unsafe { _mm512_loadu_si512(lines[k].0.as_ptr().cast()) };
    // Blocks of two, of four, and then whole quarters of vectors change places.
    let twos: [__m512i; TILE] = array::from_fn(|k| match k % 2 {
        0 => _mm512_unpacklo_epi32(row(k), row(k + 1)),
        _ => _mm512_unpackhi_epi32(row(k - 1), row(k)),
    });
    let fours: [__m512i; TILE] = array::from_fn(|k| {
        let at = k / 4 * 4 + k % 4 / 2;
        match k % 2 {
            0 => _mm512_unpacklo_epi64(twos[at], twos[at + 2]),
            _ => _mm512_unpackhi_epi64(twos[at], twos[at + 2]),
        }
    });
    let eights: [__m512i; TILE] = array::from_fn(|k| {
        let at = k / 8 * 8 + k % 4;
        match k / 4 % 2 {
            0 => _mm512_shuffle_i32x4::<0x88>(fours[at], fours[at + 4]),
            _ => _mm512_shuffle_i32x4::<0xdd>(fours[at], fours[at + 4]),
        }
    });
    array::from_fn(|k| {
        let at = k % 8;
        line(match k / 8 {
            0 => _mm512_shuffle_i32x4::<0x88>(eights[at], eights[at + 8]),
            _ => _mm512_shuffle_i32x4::<0xdd>(eights[at], eights[at + 8]),
        })
    })
}
