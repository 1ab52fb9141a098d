//! Whether one device's order of the candidates is another's, and whether something cheap has the same order.

use std::cmp::Ordering;

/// A quantity by its name, with a value per candidate where it has one. All quantities of a table list the same candidates.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantity {
    /// A device, or what stands for one: `parameters`, `artifact_bytes`, ...
    pub name: String,
    /// One entry per candidate.
    pub values: Vec<Option<f64>>,
}

/// How two quantities agree on the order of the candidates that both have.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreement {
    /// The device or proxy that would predict.
    pub a: String,
    /// The device that would be predicted.
    pub b: String,
    /// Kendall's tau-b; `None` for fewer than three candidates, or if one quantity is the same for all.
    pub kendall: Option<f64>,
    /// Spearman's rho; `None` likewise.
    pub spearman: Option<f64>,
    /// Candidates that both have.
    pub n: usize,
}

/// Fewer candidates have no order to speak of.
const LEAST: usize = 3;

/// Every pair of devices, then every proxy against every device.
pub fn portability(devices: &[Quantity], proxies: &[Quantity]) -> Vec<Agreement> {
    let pairs = devices.iter().enumerate().flat_map(|(i, a)| devices[i + 1..].iter().map(move |b| (a, b)));
    let by_proxy = proxies.iter().flat_map(|a| devices.iter().map(move |b| (a, b)));
    pairs.chain(by_proxy).map(|(a, b)| agreement(a, b)).collect()
}

fn agreement(a: &Quantity, b: &Quantity) -> Agreement {
    let finite = |x: &Option<f64>| x.filter(|x| x.is_finite());
    let both = a.values.iter().zip(&b.values).filter_map(|(x, y)| Some((finite(x)?, finite(y)?)));
    let (x, y): (Vec<f64>, Vec<f64>) = both.unzip();
    let enough = x.len() >= LEAST;
    Agreement {
        a: a.name.clone(),
        b: b.name.clone(),
        kendall: if enough { kendall(&x, &y) } else { None },
        spearman: if enough { spearman(&x, &y) } else { None },
        n: x.len(),
    }
}

/// Kendall's tau-b of two lists of the same candidates, in `-1..=1`: pairs in the same order less pairs in the opposite order,
/// over the geometric mean of the pairs that each list tells apart. `None` if the lists differ in length, hold NaN, or one of them
/// tells no pair apart.
///
/// Every pair is looked at, which is fine for a few thousand candidates.
pub fn kendall(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.len() != y.len() {
        return None;
    }
    let (mut score, mut of_x, mut of_y) = (0i64, 0u64, 0u64);
    for i in 0..x.len() {
        for j in 0..i {
            let (a, b) = (x[i].partial_cmp(&x[j])? as i64, y[i].partial_cmp(&y[j])? as i64);
            score += a * b;
            of_x += u64::from(a != 0);
            of_y += u64::from(b != 0);
        }
    }
    let scale = (of_x as f64 * of_y as f64).sqrt();
    (scale > 0.0).then(|| (score as f64 / scale).clamp(-1.0, 1.0))
}

/// Spearman's rho of two lists of the same candidates, in `-1..=1`: the correlation of their ranks, equal values sharing the mean
/// of theirs. `None` as for [`kendall`].
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.len() != y.len() || x.iter().chain(y).any(|v| v.is_nan()) {
        return None;
    }
    let (x, y) = (ranks(x), ranks(y));
    let middle = f64::midpoint(1.0, x.len() as f64);
    let product = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(a, b)| (a - middle) * (b - middle)).sum::<f64>();
    let scale = (product(&x, &x) * product(&y, &y)).sqrt();
    (scale > 0.0).then(|| (product(&x, &y) / scale).clamp(-1.0, 1.0))
}

/// Ranks from 1.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut out = vec![0.0; values.len()];
    let mut below = 0;
    // Not by the total order, for which the two zeros differ.
    for group in order.chunk_by(|&i, &j| values[i].partial_cmp(&values[j]) == Some(Ordering::Equal)) {
        let rank = below as f64 + f64::midpoint(1.0, group.len() as f64);
        for &i in group {
            out[i] = rank;
        }
        below += group.len();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(found: Option<f64>, expected: f64) -> bool {
        found.is_some_and(|found| (found - expected).abs() < 1e-12)
    }

    #[test]
    fn small_cases_by_hand() {
        // 5 pairs agree, 1 disagrees.
        assert!(close(kendall(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 4.0, 3.0]), 4.0 / 6.0));
        assert!(close(spearman(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 4.0, 3.0]), 0.8));
        // A tie on one side: 5 pairs told apart by x, 6 by y, all of those 5 in the same order.
        let (x, y) = ([1.0, 2.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0]);
        assert!(close(kendall(&x, &y), 5.0 / 30f64.sqrt()));
        assert!(close(spearman(&x, &y), 4.5 / (4.5f64 * 5.0).sqrt()));
        assert_eq!((kendall(&[1.0; 3], &[1.0, 2.0, 3.0]), spearman(&[1.0; 3], &[1.0, 2.0, 3.0])), (None, None));
        assert_eq!((kendall(&[1.0, f64::NAN], &[1.0, 2.0]), spearman(&[1.0, f64::NAN], &[1.0, 2.0])), (None, None));
        assert_eq!((kendall(&[1.0], &[1.0, 2.0]), spearman(&[1.0], &[1.0, 2.0])), (None, None));
        assert!(close(spearman(&[-0.0, 0.0, 1.0], &[0.0, -0.0, 1.0]), 1.0));
    }

    #[test]
    fn the_table_has_pairs_of_devices_and_proxies_of_each() {
        let quantity = |name: &str, values: &[f64]| Quantity {
            name: name.to_owned(),
            values: values.iter().map(|&x| if x < 0.0 { None } else { Some(x) }).collect(),
        };
        let devices = [
            quantity("pi", &[1.0, 2.0, 3.0, 4.0]),
            quantity("jetson", &[4.0, 3.0, -1.0, 1.0]),
            quantity("phone", &[1.0, -1.0, f64::NAN, 2.0]),
        ];
        let table = portability(&devices, &[quantity("parameters", &[10.0, 20.0, 30.0, 40.0])]);
        let row = |a: &str, b: &str, tau: Option<f64>, n| Agreement { a: a.into(), b: b.into(), kendall: tau, spearman: tau, n };
        assert_eq!(
            table,
            [
                row("pi", "jetson", Some(-1.0), 3),
                row("pi", "phone", None, 2),
                row("jetson", "phone", None, 2),
                row("parameters", "pi", Some(1.0), 4),
                row("parameters", "jetson", Some(-1.0), 3),
                row("parameters", "phone", None, 2),
            ]
        );
    }

    proptest! {
        #[test]
        fn both_are_bounded_symmetric_and_see_nothing_but_the_order(
            pairs in proptest::collection::vec((0i32..8, 0i32..8), 2..40),
        ) {
            let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().map(|&(a, b)| (f64::from(a), f64::from(b))).unzip();
            let bent: Vec<f64> = x.iter().map(|v| (v / 3.0).exp() - 50.0).collect();
            let turned: Vec<f64> = x.iter().map(|v| -v.powi(3)).collect();
            for f in [kendall, spearman] {
                let Some(found) = f(&x, &y) else {
                    prop_assert!([&x, &y].iter().any(|l| ranks(l).windows(2).all(|w| w[0].total_cmp(&w[1]).is_eq())), "{:?} {:?}", x, y);
                    continue;
                };
                prop_assert!((-1.0..=1.0).contains(&found));
                prop_assert!(close(f(&y, &x), found));
                prop_assert!(close(f(&bent, &y), found));
                prop_assert!(close(f(&turned, &y), -found));
                prop_assert!(close(f(&x, &bent), 1.0));
            }
        }
    }
}
