//! The learning rate: linear warm-up, then a cosine down to a floor (Loshchilov and Hutter, arXiv 1608.03983).

use serde::{Deserialize, Serialize};

/// A learning rate over the course of a training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f64,
    /// Steps of warm-up; the first has a share of the rate already.
    pub warm_up: u64,
    /// What the cosine falls to, as a share of the peak.
    pub floor: f64,
}

impl Schedule {
    /// The rate of step `step` (from 0), when the share `progress` of the training is done.
    pub fn rate(&self, step: u64, progress: f64) -> f64 {
        let warmth = if step < self.warm_up { (step + 1) as f64 / self.warm_up as f64 } else { 1.0 };
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress.clamp(0.0, 1.0)).cos());
        self.peak * warmth * (self.floor + (1.0 - self.floor) * cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_and_falls() {
        let schedule = Schedule { peak: 2.0, warm_up: 4, floor: 0.1 };
        let rates: Vec<f64> = (0..=100).map(|step| schedule.rate(step, step as f64 / 100.0)).collect();
        assert!((rates[0] - 0.5).abs() < 1e-9 && rates[..4].is_sorted());
        assert!(rates[4..].is_sorted_by(|a, b| a >= b) && (rates[50] - 1.1).abs() < 1e-9);
        assert!((rates[100] - 0.2).abs() < 1e-9 && (schedule.rate(200, 2.0) - 0.2).abs() < 1e-9);
        assert!((Schedule { warm_up: 0, ..schedule }.rate(0, 0.0) - 2.0).abs() < 1e-9);
    }
}
