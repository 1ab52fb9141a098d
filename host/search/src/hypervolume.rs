//! The volume that a set of points dominates: how good a front is, in one number.

use crate::{
    objective::Objective,
    pareto::{PointError, check, front, lexicographic},
};

/// How many times the baseline's perplexity a candidate may have to be of use.
const WORST_RATIO: f64 = 4.0;

/// The exact volume dominated by `points` and bounded by `reference`, all minimised. Points that are not better than the
/// reference in every coordinate add nothing; duplicates change nothing.
///
/// Cost: n log n comparisons in two and three dimensions, exponential in the number of points at worst beyond (exclusive volumes
/// of limited sets), which is fine for the few hundred points of a study.
///
/// # Errors
/// [`PointError`] where a point or the reference is not finite, or lengths differ.
pub fn hypervolume<P: AsRef<[f64]>>(points: &[P], reference: &[f64]) -> Result<f64, PointError> {
    if reference.is_empty() {
        return Err(PointError::NoCoordinates);
    }
    if !reference.iter().all(|x| x.is_finite()) {
        return Err(PointError::Reference);
    }
    check(points, reference.len())?;
    let inside = points.iter().map(AsRef::as_ref).filter(|p| p.iter().zip(reference).all(|(x, r)| x < r));
    Ok(volume(inside.map(<[f64]>::to_vec).collect(), reference))
}

/// The reference point of a study: 4 × the baseline's perplexity, which is a divergence of ln 4, an error of 1 on tasks, and 1.1 ×
/// the baseline's value of every other objective.
///
/// It depends on the baseline alone, never on what the search found: the figure can be recomputed from the study, does not move
/// while the study grows, and two studies with the same baseline can be compared. A candidate that costs more than the full
/// network plus noise, or that quadruples its perplexity, is of no use to anyone and counts nothing.
pub fn reference_point(objectives: &[Objective], baseline: &[f64]) -> Vec<f64> {
    let limit = |(objective, value): (&Objective, &f64)| match objective {
        Objective::Perplexity => WORST_RATIO * value,
        // The full network diverges from itself by nothing, of which there is no multiple.
        Objective::Kl => value + WORST_RATIO.ln(),
        // Of a baseline that makes no mistakes there is no multiple either.
        Objective::TaskError => 1.0,
        _ => 1.1 * value,
    };
    objectives.iter().zip(baseline).map(limit).collect()
}

fn volume(points: Vec<Vec<f64>>, reference: &[f64]) -> f64 {
    match reference.len() {
        1 => points.iter().map(|p| reference[0] - p[0]).fold(0.0, f64::max),
        2 => area(points, reference),
        3 => sweep(points, reference),
        _ => exclusive(points, reference),
    }
}

fn area(mut points: Vec<Vec<f64>>, reference: &[f64]) -> f64 {
    points.sort_by(|a, b| lexicographic(a, b));
    let mut floor = reference[1];
    let mut total = 0.0;
    for p in points {
        if p[1] < floor {
            total += (reference[0] - p[0]) * (floor - p[1]);
            floor = p[1];
        }
    }
    total
}

/// Three dimensions: a plane rises along the third coordinate; below it the staircase of the first two is kept with its area.
fn sweep(mut points: Vec<Vec<f64>>, reference: &[f64]) -> f64 {
    points.sort_by(|a, b| a[2].total_cmp(&b[2]).then_with(|| lexicographic(a, b)));
    let mut stairs: Vec<[f64; 2]> = Vec::new(); // x ascending, y descending, no two equal
    let (mut covered, mut total) = (0.0, 0.0);
    for (k, p) in points.iter().enumerate() {
        covered += step(&mut stairs, [p[0], p[1]], reference);
        let next = points.get(k + 1).map_or(reference[2], |q| q[2]);
        total += covered * (next - p[2]);
    }
    total
}

/// Adds a point to the staircase and says by how much the area grew.
fn step(stairs: &mut Vec<[f64; 2]>, p: [f64; 2], reference: &[f64]) -> f64 {
    let at = stairs.partition_point(|s| s[0] < p[0]);
    // The stair to the left ends here; it is also the ceiling of the new area.
    let ceiling = if at == 0 { reference[1] } else { stairs[at - 1][1] };
    if ceiling <= p[1] || stairs.get(at).is_some_and(|s| s[0] <= p[0] && s[1] <= p[1]) {
        return 0.0;
    }
    let mut grown = 0.0;
    let (mut x, mut top, mut end) = (p[0], ceiling, at);
    while let Some(s) = stairs.get(end) {
        grown += (s[0] - x) * (top - p[1]);
        (x, top) = (s[0], s[1]);
        if s[1] < p[1] {
            stairs.splice(at..end, [p]);
            return grown;
        }
        end += 1;
    }
    grown += (reference[0] - x) * (top - p[1]);
    stairs.splice(at..end, [p]);
    grown
}

/// Any dimension: the sum over points of what each adds to those after it (the set limited by the point, as in WFG).
fn exclusive(points: Vec<Vec<f64>>, reference: &[f64]) -> f64 {
    let mut points = non_dominated(points);
    // Worst in the last coordinate first keeps the limited sets small.
    points.sort_by(|a, b| b[b.len() - 1].total_cmp(&a[a.len() - 1]).then_with(|| lexicographic(a, b)));
    let mut total = 0.0;
    for (k, p) in points.iter().enumerate() {
        let whole: f64 = p.iter().zip(reference).map(|(x, r)| r - x).product();
        let limit = |q: &Vec<f64>| q.iter().zip(p).map(|(a, b)| a.max(*b)).collect::<Vec<f64>>();
        let limited: Vec<Vec<f64>> = points[k + 1..].iter().map(limit).collect();
        total += whole - if limited.is_empty() { 0.0 } else { exclusive(limited, reference) };
    }
    total
}

fn non_dominated(mut points: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    points.sort_by(|a, b| lexicographic(a, b));
    points.dedup();
    // The points were checked on entry, and limiting keeps them finite.
    let keep = front(&points).unwrap_or_default();
    keep.into_iter().map(|i| std::mem::take(&mut points[i])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::f64::consts::{FRAC_PI_2, PI};

    const DENSE: usize = 100_000;

    fn line(f: impl Fn(f64) -> [f64; 2]) -> Vec<[f64; 2]> {
        (0..=DENSE).map(|i| f(i as f64 / DENSE as f64)).collect()
    }

    /// A finite sample dominates a little less than the curve it lies on, never more.
    fn assert_anchor(name: &str, points: &[impl AsRef<[f64]>], reference: &[f64], expected: f64, gap: f64) {
        let found = hypervolume(points, reference).unwrap();
        let below = expected - found;
        assert!((-1e-6..gap).contains(&below), "{name} at {reference:?}: {found}, expected {expected}");
    }

    #[test]
    fn published_fronts_in_two_objectives() {
        let zdt1 = line(|x| [x, 1.0 - x.sqrt()]);
        let zdt2 = line(|x| [x, 1.0 - x * x]);
        let zdt3 = line(|x| [x, 1.0 - x.sqrt() - x * (10.0 * PI * x).sin()]);
        let zdt6 = line(|x| {
            let f = 1.0 - (-4.0 * x).exp() * (6.0 * PI * x).sin().powi(6);
            [f, 1.0 - f * f]
        });
        let dtlz1 = line(|x| [0.5 * x, 0.5 - 0.5 * x]);
        let dtlz2 = line(|x| [(FRAC_PI_2 * x).cos(), (FRAC_PI_2 * x).sin()]);
        for (name, points, near, far) in [
            ("ZDT1", &zdt1, 0.876_667, 120.666_667),
            ("ZDT2", &zdt2, 0.543_333, 120.333_333),
            ("ZDT3", &zdt3, 1.331_762, 128.778_114),
            ("ZDT6", &zdt6, 0.507_878, 117.518_202),
            ("DTLZ1", &dtlz1, 1.085, 120.875),
            ("DTLZ2", &dtlz2, 0.424_602, 120.214_602),
        ] {
            assert_anchor(name, points, &[1.1, 1.1], near, 2e-4);
            assert_anchor(name, points, &[11.0, 11.0], far, 2e-4);
        }
    }

    #[test]
    fn published_fronts_in_three_objectives() {
        let n = 400;
        let grid = |f: &dyn Fn(f64, f64) -> [f64; 3]| -> Vec<[f64; 3]> {
            (0..=n)
                .flat_map(|i| (0..=n).map(move |j| (f64::from(i) / f64::from(n), f64::from(j) / f64::from(n))))
                .map(|(u, v)| f(u, v))
                .collect()
        };
        let sphere = grid(&|u, v| {
            let (a, b) = (FRAC_PI_2 * u, FRAC_PI_2 * v);
            [a.cos() * b.cos(), a.cos() * b.sin(), a.sin()]
        });
        let plane = grid(&|u, v| [0.5 * u * v, 0.5 * u * (1.0 - v), 0.5 * (1.0 - u)]);
        assert_anchor("DTLZ2", &sphere, &[1.1; 3], 0.807_401, 5e-3);
        assert_anchor("DTLZ1", &plane, &[1.1; 3], 1.310_167, 5e-3);
    }

    #[test]
    fn integers_are_exact() {
        for n in 1..40u32 {
            let mut diagonal: Vec<Vec<f64>> = (0..n).map(|i| vec![f64::from(i), f64::from(n - 1 - i)]).collect();
            let expected = f64::from(n * n - n * (n - 1) / 2);
            assert_eq!(hypervolume(&diagonal, &[f64::from(n); 2]), Ok(expected));
            diagonal.extend(diagonal.clone());
            assert_eq!(hypervolume(&diagonal, &[f64::from(n); 2]), Ok(expected), "duplicates");
        }
        for n in 1..12u32 {
            let cells = (0..n).flat_map(|x| (0..n - x).map(move |y| [x, y, n - 1 - x - y].map(f64::from)));
            let lattice: Vec<[f64; 3]> = cells.collect();
            let expected = f64::from(n.pow(3) - (n - 1) * n * (n + 1) / 6);
            assert_eq!(hypervolume(&lattice, &[f64::from(n); 3]), Ok(expected));
            // The same through the recursion for any dimension, with a fourth coordinate of constant height.
            let tall: Vec<Vec<f64>> = lattice.iter().map(|p| [p.as_slice(), &[0.0]].concat()).collect();
            assert_eq!(hypervolume(&tall, &[f64::from(n), f64::from(n), f64::from(n), 2.0]), Ok(2.0 * expected));
        }
    }

    #[test]
    fn what_has_no_volume_is_zero_or_an_error() {
        assert_eq!(hypervolume::<[f64; 2]>(&[], &[1.0, 1.0]), Ok(0.0));
        assert_eq!(hypervolume(&[[1.0, 0.0], [2.0, 0.0]], &[1.0, 1.0]), Ok(0.0));
        assert_eq!(hypervolume(&[[0.5, f64::NAN]], &[1.0, 1.0]), Err(PointError::NotFinite { index: 0 }));
        assert_eq!(hypervolume(&[[0.5, 0.5]], &[f64::NAN, 1.0]), Err(PointError::Reference));
        assert!(hypervolume(&[vec![0.5]], &[1.0, 1.0]).is_err());
    }

    #[test]
    fn the_reference_depends_on_the_baseline_alone() {
        let objectives = [Objective::Perplexity, Objective::TpotMs];
        assert_eq!(reference_point(&objectives, &[6.0, 10.0]), [24.0, 11.0]);
        assert_eq!(reference_point(&[Objective::Kl], &[0.0]), [4f64.ln()]);
        assert_eq!(reference_point(&[Objective::TaskError], &[0.0]), [1.0]);
    }

    proptest! {
        #[test]
        fn counts_the_cells_of_integer_points(
            points in (1usize..5).prop_flat_map(|d| proptest::collection::vec(proptest::collection::vec(0u32..5, d), 1..12))
        ) {
            let d = points[0].len();
            // Every cell of the cube 0..4 whose lower corner some point reaches.
            let cells = 4u32.pow(d as u32);
            let corner = |cell: u32| (0..d).map(move |k| cell / 4u32.pow(k as u32) % 4);
            let covered = (0..cells).filter(|&c| points.iter().any(|p| p.iter().zip(corner(c)).all(|(&x, y)| x <= y))).count();
            let real: Vec<Vec<f64>> = points.iter().map(|p| p.iter().map(|&x| f64::from(x)).collect()).collect();
            prop_assert_eq!(hypervolume(&real, &vec![4.0; d]), Ok(covered as f64));
        }
    }
}
