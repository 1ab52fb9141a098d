//! Dominance between points that are minimised in every coordinate.

use std::cmp::Ordering;

/// Points that cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PointError {
    /// A coordinate is NaN or infinite.
    #[error("point {index} has a coordinate that is not finite")]
    NotFinite {
        /// Which point.
        index: usize,
    },
    /// A point has another number of coordinates than it should.
    #[error("point {index} has {found} coordinates, not {expected}")]
    Dimensions {
        /// Which point.
        index: usize,
        /// Its number of coordinates.
        found: usize,
        /// What the others (or the reference point) have.
        expected: usize,
    },
    /// The points have no coordinates.
    #[error("points have no coordinates")]
    NoCoordinates,
    /// The reference point is NaN or infinite somewhere.
    #[error("the reference point is not finite")]
    Reference,
}

pub(crate) fn check<P: AsRef<[f64]>>(points: &[P], expected: usize) -> Result<(), PointError> {
    for (index, point) in points.iter().enumerate() {
        let point = point.as_ref();
        if point.len() != expected {
            return Err(PointError::Dimensions { index, found: point.len(), expected });
        }
        if !point.iter().all(|x| x.is_finite()) {
            return Err(PointError::NotFinite { index });
        }
    }
    Ok(())
}

fn checked_dimensions<P: AsRef<[f64]>>(points: &[P]) -> Result<(), PointError> {
    let Some(first) = points.first() else { return Ok(()) };
    if first.as_ref().is_empty() { Err(PointError::NoCoordinates) } else { check(points, first.as_ref().len()) }
}

/// Whether `a` is nowhere worse than `b` and somewhere better. Equal points do not dominate each other; NaN dominates nothing.
pub fn dominates(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x <= y) && a.iter().zip(b).any(|(x, y)| x < y)
}

/// Indices of the points that no other point dominates, ascending. Of equal points all are kept.
///
/// # Errors
/// [`PointError`] where points cannot be compared.
pub fn front<P: AsRef<[f64]>>(points: &[P]) -> Result<Vec<usize>, PointError> {
    checked_dimensions(points)?;
    // In lexicographic order a point can only be dominated by one before it, and if so also by one already kept.
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|&i, &j| lexicographic(points[i].as_ref(), points[j].as_ref()).then(i.cmp(&j)));
    let mut kept: Vec<usize> = Vec::new();
    for i in order {
        if !kept.iter().any(|&k| dominates(points[k].as_ref(), points[i].as_ref())) {
            kept.push(i);
        }
    }
    kept.sort_unstable();
    Ok(kept)
}

pub(crate) fn lexicographic(a: &[f64], b: &[f64]) -> Ordering {
    a.iter().zip(b).map(|(x, y)| x.total_cmp(y)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
}

/// All points in fronts: the first is [`front`], the next is the front of what is left, and so on.
///
/// # Errors
/// [`PointError`] where points cannot be compared.
pub fn sort_fronts<P: AsRef<[f64]>>(points: &[P]) -> Result<Vec<Vec<usize>>, PointError> {
    checked_dimensions(points)?;
    let mut left: Vec<usize> = (0..points.len()).collect();
    let mut fronts = Vec::new();
    while !left.is_empty() {
        let rest: Vec<&[f64]> = left.iter().map(|&i| points[i].as_ref()).collect();
        let best: Vec<usize> = front(&rest)?.into_iter().map(|k| left[k]).collect();
        left.retain(|i| best.binary_search(i).is_err());
        fronts.push(best);
    }
    Ok(fronts)
}

/// How lonely each point of one front is (Deb's crowding distance): the normalised gap between its neighbours, summed over
/// coordinates; infinite at the ends.
///
/// # Errors
/// [`PointError`] where points cannot be compared.
pub fn crowding_distances<P: AsRef<[f64]>>(points: &[P]) -> Result<Vec<f64>, PointError> {
    checked_dimensions(points)?;
    let mut distance = vec![0.0; points.len()];
    let dimensions = points.first().map_or(0, |p| p.as_ref().len());
    for d in 0..dimensions {
        let at = |i: usize| points[i].as_ref()[d];
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_by(|&i, &j| at(i).total_cmp(&at(j)).then(i.cmp(&j)));
        let (first, last) = (order[0], order[order.len() - 1]);
        let range = at(last) - at(first);
        distance[first] = f64::INFINITY;
        distance[last] = f64::INFINITY;
        if range > 0.0 {
            for w in order.windows(3) {
                distance[w[1]] += (at(w[2]) - at(w[0])) / range;
            }
        }
    }
    Ok(distance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn points() -> impl Strategy<Value = Vec<Vec<f64>>> {
        // Few distinct values, so that ties and duplicates are common.
        (1usize..5)
            .prop_flat_map(|d| proptest::collection::vec(proptest::collection::vec((0..6i32).prop_map(f64::from), d), 0..30))
    }

    proptest! {
        #[test]
        fn the_front_is_what_the_definition_says(points in points()) {
            let expected: Vec<usize> =
                (0..points.len()).filter(|&i| !points.iter().any(|q| dominates(q, &points[i]))).collect();
            prop_assert_eq!(front(&points).unwrap(), expected);
        }

        #[test]
        fn fronts_partition_the_points_and_each_is_explained_by_the_one_before(points in points()) {
            let fronts = sort_fronts(&points).unwrap();
            let mut all: Vec<usize> = fronts.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..points.len()).collect::<Vec<_>>());
            for pair in fronts.windows(2) {
                for &i in &pair[1] {
                    prop_assert!(pair[0].iter().any(|&k| dominates(&points[k], &points[i])));
                }
            }
        }
    }

    #[test]
    fn both_of_two_tied_points_stay() {
        assert_eq!(front(&[[1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [2.0, 2.0]]).unwrap(), [0, 1, 2]);
    }

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        assert_eq!(front(&[vec![1.0, f64::NAN]]), Err(PointError::NotFinite { index: 0 }));
        assert_eq!(sort_fronts(&[vec![1.0, 1.0], vec![1.0]]), Err(PointError::Dimensions { index: 1, found: 1, expected: 2 }));
        assert_eq!(front(&[Vec::new()]), Err(PointError::NoCoordinates));
        assert_eq!(front::<Vec<f64>>(&[]), Ok(Vec::new()));
    }

    #[test]
    fn crowding_of_a_line() {
        let d = crowding_distances(&[[0.0, 4.0], [1.0, 3.0], [4.0, 0.0]]).unwrap();
        assert_eq!((d[0], d[2]), (f64::INFINITY, f64::INFINITY));
        assert!((d[1] - 2.0).abs() < 1e-12);
    }
}
