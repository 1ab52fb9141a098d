//! A board that is only noise, for the tests of what is said about noise.

use super::{draws::Draws, reading::Reading};

/// The baseline's latency on every simulated board, in milliseconds.
pub(super) const BASELINE: f64 = 20.0;

/// Processes differ by a lognormal factor, blocks by another, and everything gets slowly slower.
pub(super) struct Board {
    draws: Draws,
    sd: f64,
    block_sd: f64,
    drift: f64,
}

impl Board {
    /// A board whose processes scatter by `sd`.
    pub(super) fn new(name: &str, number: u64, sd: f64) -> Self {
        Self { draws: Draws::new(name, number), sd, block_sd: 0.0, drift: 0.0 }
    }

    /// What a block has in common scatters by this.
    pub(super) fn with_blocks(mut self, sd: f64) -> Self {
        self.block_sd = sd;
        self
    }

    /// Every block is slower than the last by this share.
    pub(super) fn with_drift(mut self, share: f64) -> Self {
        self.drift = share;
        self
    }

    /// One block: readings of the baseline and of candidates with these latencies.
    pub(super) fn block(&mut self, block: u32, latencies: &[f64]) -> (Reading, Vec<Reading>) {
        let common = self.block_sd * self.draws.normal() + self.drift * f64::from(block);
        let mut read = |ms: f64| {
            let log = common + self.sd * self.draws.normal();
            Reading::new(block, ms * log.exp()).unwrap()
        };
        (read(BASELINE), latencies.iter().map(|&ms| read(ms)).collect())
    }

    /// Readings of the baseline and of each candidate in that many blocks.
    pub(super) fn blocks(&mut self, blocks: u32, latencies: &[f64]) -> (Vec<Reading>, Vec<Vec<Reading>>) {
        let mut lists = vec![Vec::new(); latencies.len()];
        let sentinel = (0..blocks).map(|block| {
            let (sentinel, others) = self.block(block, latencies);
            lists.iter_mut().zip(others).for_each(|(list, r)| list.push(r));
            sentinel
        });
        (sentinel.collect(), lists)
    }

    /// Samples of one process, in nanoseconds: noise of half a percent around the process, one in ten with a tail to the right.
    pub(super) fn samples(&mut self, ms: f64, n: usize) -> Vec<u64> {
        let process = ms * (self.sd * self.draws.normal()).exp();
        (0..n).map(|_| (process * 1e6 * self.sample_factor()).round() as u64).collect()
    }

    pub(super) fn sample_factor(&mut self) -> f64 {
        let tail = if self.draws.uniform() < 0.1 { -0.1 * (1.0 - self.draws.uniform()).ln() } else { 0.0 };
        (0.005 * self.draws.normal() + tail).exp()
    }
}
