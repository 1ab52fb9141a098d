//! The unit itself: whether this process may use it, and the product of two blocks.

use libc::{SYS_arch_prctl, syscall};
use std::{
    arch::{asm, x86_64::__cpuid_count},
    marker::PhantomData,
    sync::LazyLock,
};

/// Rows of a block of the left factor, columns of one of the right: two tiles.
pub(super) const BLOCK: usize = 32;
/// Factors of an element that a step multiplies: what a row of a tile holds of bfloat16.
pub(super) const STEP: usize = 32;
/// Lines of a block in a step: two tiles of high parts, two of low ones.
pub(super) const LINES: usize = 64;

/// A row of a tile.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u32; 16]);

impl Line {
    pub(super) const ZERO: Self = Self([0; 16]);
}

/// The unit, set up for this thread and given back at the end.
pub(super) struct Unit(PhantomData<*const ()>);

/// Eight tiles of 16 lines.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

static SHAPES: Shapes = {
    let (mut bytes, mut rows) = ([0; 16], [0; 16]);
    let mut tile = 0;
    while tile < 8 {
        (bytes[tile], rows[tile]) = (64, 16);
        tile += 1;
    }
    Shapes { palette: 1, start_row: 0, reserved: [0; 14], bytes, rows }
};

/// Whether the processor has the unit and all vector instructions that packing needs, and the system lets this process use it.
pub(super) fn available() -> bool {
    static AVAILABLE: LazyLock<bool> = LazyLock::new(|| {
        const BF16_AND_TILES: u32 = 1 << 22 | 1 << 24;
        // Linux gives a process the unit's state, 8 KiB of each thread's, only if it asks.
        const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
        const TILE_DATA: libc::c_ulong = 18;
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512bf16")
            && __cpuid_count(7, 0).edx & BF16_AND_TILES == BF16_AND_TILES
            // SAFETY: the call changes nothing but what this process may use.
            && unsafe { syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) } == 0
    });
    *AVAILABLE
}

impl Unit {
    /// None where there is none.
    pub(super) fn new() -> Option<Self> {
        available().then(|| {
            // SAFETY: the instruction exists, reads 64 bytes, and changes what only a `Unit` of this thread uses.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const SHAPES, options(nostack, readonly)) };
            Self(PhantomData)
        })
    }

    /// The product of a block of rows and one of columns, as `pack` makes them, all steps of both.
    ///
    /// # Safety
    /// `out` is to be a place of `BLOCK` rows of as many numbers, the rows `stride` numbers apart, which nobody else uses.
    ///
    /// # Panics
    /// If they have different numbers of steps, or none.
    #[expect(clippy::unused_self, reason = "it shows that the unit is set up")]
    pub(super) unsafe fn multiply(&self, left: &[Line], right: &[Line], out: *mut f32, stride: usize) {
        assert!(!left.is_empty() && left.len() == right.len() && left.len().is_multiple_of(LINES));
        // SAFETY: a step reads 64 lines of both, of which there are as many as steps; what is written the caller grants. Sums are in
        // tiles 0 to 3, left factors in 4 and 5, right ones in 6 and 7. Of three products that of the low parts' halves is left out.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{left} + {line}]",
                "tileloadd tmm6, [{right} + {line}]",
                "tileloadd tmm7, [{right} + {line} + 1024]",
                "tileloadd tmm5, [{left} + {line} + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "tileloadd tmm4, [{left} + {line} + 2048]",
                "tileloadd tmm5, [{left} + {line} + 3072]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "tileloadd tmm4, [{left} + {line}]",
                "tileloadd tmm6, [{right} + {line} + 2048]",
                "tileloadd tmm7, [{right} + {line} + 3072]",
                "tileloadd tmm5, [{left} + {line} + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {left}, 4096",
                "add {right}, 4096",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{out} + {row}], tmm0",
                "tilestored [{out} + {row} + 64], tmm1",
                "add {out}, {rows}",
                "tilestored [{out} + {row}], tmm2",
                "tilestored [{out} + {row} + 64], tmm3",
                left = inout(reg) left.as_ptr() => _,
                right = inout(reg) right.as_ptr() => _,
                steps = inout(reg) left.len() / LINES => _,
                out = inout(reg) out => _,
                line = in(reg) size_of::<Line>(),
                row = in(reg) stride * size_of::<f32>(),
                rows = in(reg) stride * size_of::<f32>() * 16,
                out("tmm0") _,
                out("tmm1") _,
                out("tmm2") _,
                out("tmm3") _,
                out("tmm4") _,
                out("tmm5") _,
                out("tmm6") _,
                out("tmm7") _,
                options(nostack),
            );
        }
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // SAFETY: the thread's `Unit` is gone; without the unit's state a thread is cheaper to switch.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}
