//! In which order a front that is cheap to know is taken to a device.

use crate::pareto::{PointError, front};

/// Places on the Pareto front of `points` (quality and size, both minimised), in an order whose every beginning spreads over the
/// front: always the point whose size is farthest, as a ratio, from `from`, the full network's, and from all before. Whatever
/// number of them a device has time for, a larger number begins with the same.
///
/// # Errors
/// [`PointError`] for values that are not finite.
pub fn spread_first(points: &[[f64; 2]], from: f64) -> Result<Vec<usize>, PointError> {
    let mut left = front(points)?;
    // Of points that are equal in both, and for a stable order, the first.
    left.sort_by(|&a, &b| points[b][1].total_cmp(&points[a][1]).then(a.cmp(&b)));
    left.dedup_by(|a, b| (0..2).all(|i| points[*a][i].total_cmp(&points[*b][i]).is_eq()));
    let (mut out, mut covered) = (Vec::new(), vec![from]);
    while !left.is_empty() {
        let distance = |place: usize| {
            let size = points[place][1];
            covered.iter().map(|c| (size / c).ln().abs()).min_by(f64::total_cmp).unwrap_or_default()
        };
        let (at, _) = left
            .iter()
            .enumerate()
            .map(|(at, &place)| (at, distance(place)))
            .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
            .unwrap_or_default();
        let place = left.remove(at);
        covered.push(points[place][1]);
        out.push(place);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ends_first_and_then_the_widest_gap() {
        // The fourth is dominated by the third, the last equals the second.
        let points = [[1.0, 90.0], [4.0, 40.0], [3.0, 50.0], [3.5, 60.0], [9.0, 20.0], [4.0, 40.0]];
        assert_eq!(spread_first(&points, 100.0).unwrap(), [4, 2, 1, 0]);
    }

    proptest! {
        #[test]
        fn every_member_of_the_front_comes_once(points in prop::collection::vec([1.0f64..9.0, 1.0f64..9.0], 0..30)) {
            let mut order = spread_first(&points, 10.0).unwrap();
            order.sort_unstable();
            let mut expected = front(&points).unwrap();
            expected.sort_unstable();
            prop_assert_eq!(order, expected);
        }
    }
}
