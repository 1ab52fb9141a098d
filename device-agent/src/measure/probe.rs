//! The identity check: a model that computes something else than the host expects must not be timed.

use crate::{error::wire, runtime::CausalModel};
use edgewise_protocol::{ErrorCode, Probe, WireError};

/// Feeds the probe's steps from an empty cache and returns the largest difference from the expected logits.
///
/// # Errors
/// [`ErrorCode::ProbeMismatch`] if it is over the tolerance, or no number; the runtime's errors.
pub(super) fn check(model: &mut dyn CausalModel, probe: &Probe) -> Result<f32, WireError> {
    model.reset();
    let mut largest = 0.0_f32;
    for (step, point) in probe.points.iter().enumerate() {
        let logits = model.feed(&point.feed)?;
        for &(entry, expected) in &point.expect {
            let Some(&found) = logits.get(entry as usize) else {
                let message = format!("the model has {} logits, the host expects one of entry {entry}", logits.len());
                return Err(wire(ErrorCode::ProbeMismatch, message));
            };
            let difference = (found - expected).abs();
            // A NaN on either side is over every tolerance.
            if difference.is_nan() || difference > probe.tolerance {
                let message = format!(
                    "logit {entry} of step {step} is {found}, the host computed {expected}: a difference of {difference:e}, \
                     {:e} is accepted",
                    probe.tolerance
                );
                return Err(wire(ErrorCode::ProbeMismatch, message));
            }
            largest = largest.max(difference);
        }
    }
    Ok(largest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgewise_protocol::ProbePoint;

    /// Logit `i` is `i` plus the number of tokens so far.
    struct Counter(Vec<f32>, usize);

    impl CausalModel for Counter {
        fn runtime_version(&self) -> &'static str {
            "0"
        }
        fn reset(&mut self) {
            self.1 = 0;
        }
        fn feed(&mut self, tokens: &[u32]) -> Result<&[f32], WireError> {
            self.1 += tokens.len();
            self.0 = (0..4).map(|i| (i + self.1) as f32).collect();
            Ok(&self.0)
        }
    }

    fn probe(last: f32, tolerance: f32) -> Probe {
        let points = vec![
            ProbePoint { feed: vec![1, 2], expect: vec![(0, 2.0), (3, 5.25)] },
            ProbePoint { feed: vec![3], expect: vec![(1, last)] },
        ];
        Probe { points, tolerance }
    }

    #[test]
    fn the_largest_difference_is_reported() {
        let mut model = Counter(vec![], 99);
        assert_eq!(check(&mut model, &probe(4.125, 0.25)), Ok(0.25));
    }

    #[test]
    fn other_logits_and_nan_are_refused() {
        for (last, tolerance) in [(5.0, 0.5), (f32::NAN, 0.5), (4.0, 0.2)] {
            let error = check(&mut Counter(vec![], 0), &probe(last, tolerance)).unwrap_err();
            assert_eq!(error.code, ErrorCode::ProbeMismatch);
        }
        let error = check(&mut Counter(vec![], 0), &probe(5.0, 0.5)).unwrap_err();
        assert_eq!(error.message, "logit 1 of step 1 is 4, the host computed 5: a difference of 1e0, 5e-1 is accepted");
    }

    #[test]
    fn an_entry_beyond_the_model_is_refused() {
        let probe = Probe { points: vec![ProbePoint { feed: vec![0], expect: vec![(4, 0.0)] }], tolerance: 1.0 };
        assert_eq!(check(&mut Counter(vec![], 0), &probe).unwrap_err().code, ErrorCode::ProbeMismatch);
    }
}
