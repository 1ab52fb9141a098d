//! A product of matrices by blocks, shared among threads.

use super::{
    super::product::{MANY_ROWS, Matrix},
    pack::{self, lines},
    unit::{BLOCK, Line, Unit, available},
};
use rayon::prelude::*;
use std::{cell::Cell, mem::MaybeUninit, thread::LocalKey};

/// What is smaller gains little for its packing: rows of `x`, rows of `w`, inner positions.
const LEAST: [usize; 3] = [MANY_ROWS, 16, 32];

/// Lines of `x` that are packed at one time, 8 MiB, unless blocks are so long that this would be few of them.
const LEFT_LINES: usize = 1 << 17;
const LEAST_LEFT_BLOCKS: usize = 16;
/// Lines of a thread's part of `w`, 384 KiB: half of them stay in the smallest second-level cache of such processors.
const RIGHT_LINES: usize = 6 << 10;

thread_local! {
    /// Memory for packed blocks, kept: asking for it anew would cost more than the product.
    static LEFT: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    static RIGHT: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Calls with this thread's memory. While a thread waits for others it may be given another product, which finds none and makes it.
fn with_kept<R>(kept: &'static LocalKey<Cell<Vec<Line>>>, count: usize, call: impl FnOnce(&mut [Line]) -> R) -> R {
    let mut memory = kept.take();
    if memory.len() < count {
        memory.resize(count, Line::ZERO);
    }
    let result = call(&mut memory[..count]);
    kept.set(memory);
    result
}

/// Where the product goes: parts of it are written by several threads.
#[derive(Clone, Copy)]
struct Place {
    start: *mut f32,
    rows: usize,
    columns: usize,
}

// SAFETY: threads write to different columns, as `product` sees to.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

impl Place {
    /// Writes the product of two blocks to where it begins.
    ///
    /// # Safety
    /// Nobody else may use the block, and its beginning has to be inside.
    unsafe fn write(self, unit: &Unit, [left, right]: [&[Line]; 2], row: usize, column: usize) {
        // SAFETY: the beginning is inside.
        let start = unsafe { self.start.add(row * self.columns + column) };
        let (rows, columns) = ((self.rows - row).min(BLOCK), (self.columns - column).min(BLOCK));
        if (rows, columns) == (BLOCK, BLOCK) {
            // SAFETY: the whole block is inside, and nobody else uses it.
            return unsafe { unit.multiply(left, right, start, self.columns) };
        }
        let mut whole = [0f32; BLOCK * BLOCK];
        // SAFETY: that is a block.
        unsafe { unit.multiply(left, right, whole.as_mut_ptr(), BLOCK) };
        for (k, values) in whole.chunks_exact(BLOCK).take(rows).enumerate() {
            // SAFETY: this part of the row is inside, nobody else uses it, and it is not this function's block.
            unsafe { start.add(k * self.columns).copy_from_nonoverlapping(values.as_ptr(), columns) };
        }
    }
}

/// `x [rows, inner]` times the transposed `w [columns, inner]`: all of `out` is written, row after row. False, and nothing written,
/// where the unit is missing or of no use.
pub(in super::super) fn product(x: &Matrix<'_>, w: &Matrix<'_>, out: &mut [MaybeUninit<f32>], threads: usize) -> bool {
    let inner = x.columns;
    let worth = [x.rows, w.rows, inner].iter().zip(LEAST).all(|(&count, least)| count >= least);
    if !worth
        || inner != w.columns
        || out.len() != x.rows * w.rows
        || !pack::takes(x, false)
        || !pack::takes(w, true)
        || !available()
    {
        return false;
    }
    let block = lines(inner);
    let (left_blocks, right_blocks) = (x.rows.div_ceil(BLOCK), w.rows.div_ceil(BLOCK));
    let at_once = (LEFT_LINES / block).max(LEAST_LEFT_BLOCKS).min(left_blocks);
    // Some parts for each thread, so that all end together.
    let part = (RIGHT_LINES / block).min(right_blocks.div_ceil(2 * threads.max(1))).max(1);
    let place = Place { start: out.as_mut_ptr().cast(), rows: x.rows, columns: w.rows };
    for first in (0..left_blocks).step_by(at_once) {
        let blocks = at_once.min(left_blocks - first);
        with_kept(&LEFT, blocks * block, |left| {
            // SAFETY: with the unit come the instructions.
            let pack = |(k, out): (usize, &mut [Line])| unsafe { pack::left(x, (first + k) * BLOCK, out) };
            if threads <= 1 {
                left.chunks_exact_mut(block).enumerate().for_each(pack);
            } else {
                left.par_chunks_exact_mut(block).enumerate().for_each(pack);
            }
            let left = &*left;
            let multiply = |start: usize| {
                let count = part.min(right_blocks - start);
                with_kept(&RIGHT, count * block, |right| {
                    for (k, out) in right.chunks_exact_mut(block).enumerate() {
                        // SAFETY: as above.
                        unsafe { pack::right(w, (start + k) * BLOCK, out) };
                    }
                    let unit = Unit::new().expect("available");
                    for (row, left) in left.chunks_exact(block).enumerate() {
                        for (column, right) in right.chunks_exact(block).enumerate() {
                            // SAFETY: these columns are this part's; the rows are multiplied once.
                            unsafe { place.write(&unit, [left, right], (first + row) * BLOCK, (start + column) * BLOCK) };
                        }
                    }
                });
            };
            if threads <= 1 {
                (0..right_blocks).step_by(part).for_each(multiply);
            } else {
                (0..right_blocks).into_par_iter().step_by(part).for_each(multiply);
            }
        });
    }
    true
}
