//! The quantile that turns a standard error into a 95 % interval.

/// Intervals of the angle that the integral is summed over.
const STEPS: u32 = 1 << 11;

/// The 97.5 % quantile of Student's distribution with `freedom` degrees of freedom, a real number; below 1 it counts as 1.
///
/// With `t = sqrt(freedom) * tan(angle)` the density becomes `cos(angle)^(freedom - 1)` on a finite range, so that sums over
/// the angle do and no gamma function is needed.
pub(super) fn t975(freedom: f64) -> f64 {
    // Beyond a thousand the difference from the normal distribution is in the fourth digit.
    let freedom = freedom.clamp(1.0, 1000.0);
    let step = std::f64::consts::FRAC_PI_2 / f64::from(STEPS);
    let density: Vec<f64> = (0..STEPS).map(|k| ((f64::from(k) + 0.5) * step).cos().powf(freedom - 1.0)).collect();
    // Half of the distribution is above 0; 95 % of that half lie below the quantile.
    let mut left = 0.95 * density.iter().sum::<f64>();
    let mut angle = 0.0;
    for d in density {
        if left <= d {
            angle += left / d * step;
            break;
        }
        left -= d;
        angle += step;
    }
    freedom.sqrt() * angle.tan()
}

#[cfg(test)]
mod tests {
    use super::t975;

    #[test]
    fn the_printed_table() {
        let table = [
            (1.0, 12.7062),
            (2.0, 4.302_65),
            (3.0, 3.182_45),
            (4.0, 2.776_45),
            (5.0, 2.570_58),
            (7.0, 2.364_62),
            (10.0, 2.228_14),
            (20.0, 2.085_96),
            (30.0, 2.042_27),
            (60.0, 2.000_30),
            (120.0, 1.979_93),
            (1e9, 1.962_34),
        ];
        for (freedom, expected) in table {
            let found = t975(freedom);
            assert!((found / expected - 1.0).abs() < 1e-4, "{freedom}: {found}, expected {expected}");
        }
        assert!(t975(1.6) < t975(1.2) && t975(1.6) > t975(2.0));
        assert_eq!(t975(0.0).to_bits(), t975(1.0).to_bits());
    }
}
