//! Random numbers of the distributions that the bootstrap and its tests need, from a named seed.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// A stream of draws.
pub(super) struct Draws {
    rng: ChaCha8Rng,
    spare: Option<f64>,
}

impl Draws {
    /// The stream with this name and number.
    pub(super) fn new(name: &str, number: u64) -> Self {
        let mut hash = Sha256::new_with_prefix(b"edgewise noise ");
        hash.update(name.as_bytes());
        hash.update(number.to_le_bytes());
        Self { rng: ChaCha8Rng::from_seed(hash.finalize().into()), spare: None }
    }

    /// Uniform in `0..1`.
    pub(super) fn uniform(&mut self) -> f64 {
        self.rng.random()
    }

    /// Uniform below `n`, which is not 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n)
    }

    /// Standard normal, by the polar method.
    pub(super) fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let scale = (-2.0 * square.ln() / square).sqrt();
                self.spare = Some(y * scale);
                return x * scale;
            }
        }
    }

    /// Gamma with this shape, at least 1, and scale 1: Marsaglia and Tsang's transformation of a normal draw.
    fn gamma(&mut self, shape: f64) -> f64 {
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.uniform()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// The `m`th smallest of `n` uniform numbers, `1 <= m <= n`, without drawing them all.
    pub(super) fn order_statistic(&mut self, m: usize, n: usize) -> f64 {
        let low = self.gamma(m as f64);
        low / (low + self.gamma((n + 1 - m) as f64))
    }

    /// The smallest of `n` numbers that are uniform above `low`.
    pub(super) fn next_above(&mut self, low: f64, n: usize) -> f64 {
        low + (1.0 - low) * (1.0 - (1.0 - self.uniform()).powf(1.0 / n as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_statistics_have_their_mean_and_variance() {
        let mut draws = Draws::new("order", 0);
        for (m, n) in [(1, 1), (1, 7), (4, 7), (7, 7), (50, 100)] {
            let list: Vec<f64> = (0..40_000).map(|_| draws.order_statistic(m, n)).collect();
            let mean = list.iter().sum::<f64>() / list.len() as f64;
            let variance = list.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / list.len() as f64;
            let (m, n) = (m as f64, n as f64);
            let expected = m * (n + 1.0 - m) / ((n + 1.0).powi(2) * (n + 2.0));
            assert!((mean - m / (n + 1.0)).abs() < 5.0 * (expected / 40_000.0).sqrt(), "{m} of {n}: {mean}");
            assert!((variance / expected - 1.0).abs() < 0.05, "{m} of {n}: {variance}, expected {expected}");
        }
    }

    #[test]
    fn streams_are_their_name_and_number() {
        let first = |name, number| Draws::new(name, number).uniform().to_bits();
        assert_eq!(first("a", 1), first("a", 1));
        assert_ne!(first("a", 1), first("a", 2));
        assert_ne!(first("a", 1), first("b", 1));
    }
}
