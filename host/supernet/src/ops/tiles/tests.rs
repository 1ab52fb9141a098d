//! The unit against double precision; on a processor without it, that nothing is touched.

use super::{
    super::product::{Matrix, write_product},
    product::product,
    unit::available,
};
use crate::ops::uniform;
use proptest::prelude::*;
use std::mem::MaybeUninit;

/// What memory holds before.
const BEFORE: f32 = 1e30;

/// A matrix in memory with gaps: rows, or columns if turned, begin `stride` apart.
struct Numbers {
    values: Vec<f32>,
    rows: usize,
    columns: usize,
    stride: usize,
    turned: bool,
}

impl Numbers {
    fn new(seed: u64, [rows, columns]: [usize; 2], gap: usize, turned: bool) -> Self {
        let (lines, length) = if turned { (columns, rows) } else { (rows, columns) };
        let stride = length + gap;
        // Nothing follows the last line: what reads too far is outside.
        Self { values: uniform(seed, lines * stride - gap), rows, columns, stride, turned }
    }

    fn matrix(&self) -> Matrix<'_> {
        let &Self { ref values, rows, columns, stride, turned } = self;
        let (row_stride, column_stride) = if turned { (1, stride) } else { (stride, 1) };
        Matrix { values, rows, columns, row_stride, column_stride }
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        let at = if self.turned { column * self.stride + row } else { row * self.stride + column };
        f64::from(self.values[at])
    }
}

/// The unit's product, None where it is refused, after which the memory has to be what it was.
fn product_of(x: &Numbers, w: &Numbers, threads: usize) -> Option<Vec<f32>> {
    let mut out = vec![MaybeUninit::new(BEFORE); x.rows * w.rows];
    let done = product(&x.matrix(), &w.matrix(), &mut out, threads);
    // SAFETY: they were before.
    let out: Vec<f32> = out.into_iter().map(|value| unsafe { value.assume_init() }).collect();
    assert!(done || out.iter().all(|value| value.to_bits() == BEFORE.to_bits()));
    done.then_some(out)
}

/// The largest difference from double precision, relative to the sum of the products' magnitudes.
fn error(x: &Numbers, w: &Numbers, found: &[f32]) -> f64 {
    let relative = |at: usize| {
        let terms = (0..x.columns).map(|k| x.at(at / w.rows, k) * w.at(at % w.rows, k));
        let (sum, magnitude) = terms.fold((0f64, 0f64), |(sum, magnitude), term| (sum + term, magnitude + term.abs()));
        (f64::from(found[at]) - sum).abs() / magnitude
    };
    // What is not a number is not less than anything.
    (0..found.len()).map(relative).fold(0.0, |most, error| if error <= most { most } else { error })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn products_are_those_of_double_precision(
        rows in 65usize..140, columns in 16usize..140, inner in 32usize..200, gaps in [0usize..3, 0..3], turned: bool, threads in 1usize..4,
    ) {
        let (x, w) = (Numbers::new(1, [rows, inner], gaps[0], false), Numbers::new(2, [columns, inner], gaps[1], turned));
        let found = product_of(&x, &w, threads);
        prop_assert_eq!(found.is_some(), available());
        if let Some(found) = found {
            let error = error(&x, &w, &found);
            prop_assert!(error < 1.0 / 65536.0, "{}", error);
        }
    }
}

/// Otherwise all would be slower, and no other test would see it.
#[test]
fn where_the_system_tells_of_the_unit_it_is_used() {
    const ARCH_GET_XCOMP_SUPP: libc::c_int = 0x1021;
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let flags: Vec<&str> = told.lines().find(|line| line.starts_with("flags")).unwrap().split_whitespace().collect();
    let processor = ["amx_tile", "amx_bf16", "avx512f", "avx512bw", "avx512_bf16"].iter().all(|flag| flags.contains(flag));
    let mut states = 0u64;
    // SAFETY: the call writes one number of 64 bits.
    let asked = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_GET_XCOMP_SUPP, &raw mut states) };
    assert_eq!(available(), processor && asked == 0 && states & 1 << 18 != 0);

    let (x, w) = (Numbers::new(9, [65, 64], 0, false), Numbers::new(10, [40, 64], 0, true));
    if let Some(found) = product_of(&x, &w, 1) {
        let mut out = Vec::new();
        write_product(&x.matrix(), &w.matrix(), &mut out, 2).unwrap();
        assert_eq!(out, found);
    }
}

#[test]
fn an_element_is_of_its_row_and_column_alone() {
    // More rows and columns than are packed at one time.
    let (x, w) = (Numbers::new(3, [700, 4200], 0, false), Numbers::new(4, [300, 4200], 0, false));
    let Some(whole) = product_of(&x, &w, 2) else { return assert!(!available()) };
    assert_eq!(product_of(&x, &w, 1).unwrap(), whole);
    let part = |numbers: &Numbers, rows: usize| {
        let values = numbers.values[..rows * 4200].to_vec();
        Numbers { values, rows, columns: 4200, stride: 4200, turned: false }
    };
    let few = product_of(&part(&x, 67), &part(&w, 19), 1).unwrap();
    for (few, whole) in few.chunks_exact(19).zip(whole.chunks_exact(300)) {
        assert_eq!(few, &whole[..19]);
    }
    let last = Numbers { values: x.values[630 * 4200..].to_vec(), rows: 70, columns: 4200, stride: 4200, turned: false };
    assert_eq!(product_of(&last, &w, 3).unwrap(), whole[630 * 300..]);
}

#[test]
fn what_is_not_a_number_stays_none() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (mut x, w) = (Numbers::new(5, [65, 70], 0, false), Numbers::new(6, [50, 70], 0, true));
        x.values[33 * 70 + 69] = value;
        let Some(found) = product_of(&x, &w, 1) else { return assert!(!available()) };
        for (row, values) in found.chunks_exact(50).enumerate() {
            assert!(values.iter().all(|value| value.is_finite() == (row != 33)), "{value} {row} {values:?}");
        }
    }
}

#[test]
fn what_it_is_of_no_use_for_is_left_to_others() {
    let refused = |x: [usize; 2], x_turned, w: [usize; 2]| {
        product_of(&Numbers::new(7, x, 1, x_turned), &Numbers::new(8, w, 1, false), 1).is_none()
    };
    assert!(refused([64, 64], false, [64, 64]) && refused([65, 64], false, [15, 64]) && refused([65, 31], false, [64, 31]));
    assert!(refused([65, 64], true, [64, 64]) && refused([65, 64], false, [64, 65]));
    assert_ne!(refused([65, 32], false, [16, 32]), available());
}
