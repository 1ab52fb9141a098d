//! From values to positions, with ticks at round numbers.

/// A linear or logarithmic axis over a range of finite values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    from: f64,
    to: f64,
}

/// Values that span more than this factor are shown on a logarithmic axis, where that is possible.
const LOGARITHMIC_FROM: f64 = 4.0;

impl Scale {
    /// An axis from position `from` to position `to` that holds all `values` with a margin; those that are not finite are left
    /// out.
    pub(crate) fn new(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (low, high) = values.filter(|v| v.is_finite()).fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let logarithmic = low > 0.0 && high / low > LOGARITHMIC_FROM;
        if logarithmic {
            let margin = (high / low).powf(0.06);
            return Self { low: low / margin, high: high * margin, logarithmic, from, to };
        }
        // One value alone, or values a rounding apart, get some room around them.
        let margin = ((high - low) * 0.08).max(high.abs() * 0.005).max(1e-9);
        Self { low: low - margin, high: high + margin, logarithmic, from, to }
    }

    /// The same axis, widened to show `low` to `high` at least.
    pub(crate) fn at_least(self, low: f64, high: f64) -> Self {
        Self { low: self.low.min(low), high: self.high.max(high), ..self }
    }

    pub(crate) const fn is_logarithmic(&self) -> bool {
        self.logarithmic
    }

    /// The position of a value; outside the range it stays at the end.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Round values inside the range, about `wanted` of them.
    pub(crate) fn ticks(&self, wanted: usize) -> Vec<f64> {
        if self.logarithmic {
            return self.decades(wanted);
        }
        let rough = (self.high - self.low) / wanted.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough).unwrap_or(rough);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last).take(4 * wanted.max(1)).map(|k| k as f64 * step).collect()
    }

    fn decades(&self, wanted: usize) -> Vec<f64> {
        let exponents = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        // The finest set of multiples that does not crowd the axis.
        let sets: [&[f64]; 4] = [&[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0], &[1.0, 2.0, 3.0, 5.0], &[1.0, 3.0], &[1.0]];
        let mut best = Vec::new();
        for set in sets {
            let all = exponents.clone().flat_map(|e| set.iter().map(move |m| m * 10f64.powi(e)));
            best = all.filter(|v| (self.low..=self.high).contains(v)).collect();
            if best.len() <= wanted + 2 {
                break;
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_inside_with_a_margin() {
        for values in [vec![6.1, 8.0, 15.3], vec![6.1, 3598.0], vec![5.0], vec![-1.0, 1.0], vec![0.0]] {
            let scale = Scale::new(values.iter().copied(), 400.0, 0.0);
            for v in values {
                assert!((1.0..399.0).contains(&scale.at(v)), "{v}: {}", scale.at(v));
            }
        }
        assert!(Scale::new([6.1, 3598.0].into_iter(), 0.0, 1.0).is_logarithmic());
        assert!(!Scale::new([6.1, 15.3].into_iter(), 0.0, 1.0).is_logarithmic());
    }

    #[test]
    fn ticks_are_round_few_and_inside() {
        for (low, high) in [(6.1, 15.3), (6.1, 3598.0), (1e-3, 2e-3), (0.2, 7e5), (99.0, 101.0), (5.0, 5.0)] {
            let scale = Scale::new([low, high].into_iter(), 0.0, 100.0);
            let ticks = scale.ticks(6);
            assert!((2..=12).contains(&ticks.len()), "{low} {high}: {ticks:?}");
            assert!(ticks.iter().all(|t| (0.0..=100.0).contains(&scale.at(*t))));
            assert!(ticks.windows(2).all(|w| w[0] < w[1]), "{ticks:?}");
        }
    }

    #[test]
    fn no_values_make_an_empty_axis() {
        let scale = Scale::new([f64::NAN, f64::INFINITY].into_iter(), 0.0, 10.0);
        assert!(scale.at(0.5).is_finite() && scale.at(f64::MAX).is_finite());
    }
}
