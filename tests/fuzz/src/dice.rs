//! Numbers for mutations, from the seed that libFuzzer gives.

/// A counter whose steps are mixed well.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Begins at `seed`.
    pub fn new(seed: u32) -> Self {
        Self(u64::from(seed))
    }

    /// A number below `most`; 0 if there is none.
    pub fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % most.max(1) as u64) as usize
    }
}
