//! Numbers for people.

use crate::data::Estimate;

/// What stands where there is no value.
pub(crate) const NONE: &str = "–";

/// Three significant digits or all before the point: `0.0123`, `1.23`, `12.3`, `1234`.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    // The magnitude after rounding: 0.9999 is 1.00, not 1.000.
    let rounded = format!("{value:.2e}");
    let magnitude: i32 = rounded.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    if !(-4..6).contains(&magnitude) {
        return rounded;
    }
    let decimals = (2 - magnitude).clamp(0, 6) as usize;
    format!("{value:.decimals$}")
}

/// A tick's label: no digits that are not there.
pub(crate) fn short(value: f64) -> String {
    let text = number(value);
    match text.split_once('.') {
        Some((_, digits)) if !text.contains('e') => {
            let digits = digits.trim_end_matches('0').len();
            format!("{value:.digits$}")
        }
        _ => text,
    }
}

/// Bytes in binary units.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = count as f64;
    let mut unit = 0;
    // 1023.5 would print as 1024 of the smaller unit.
    while value >= 1023.5 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{} {}", number(value), units[unit]) }
}

/// Counts such as parameters: `951`, `1.23 M`.
pub(crate) fn count(count: u64) -> String {
    let value = count as f64;
    match count {
        0..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{} k", number(value / 1e3)),
        1_000_000..1_000_000_000 => format!("{} M", number(value / 1e6)),
        _ => format!("{} B", number(value / 1e9)),
    }
}

/// Half the width of the interval, as a share of the median.
pub(crate) fn half_width(estimate: &Estimate) -> Option<f64> {
    let share = (estimate.ci95[1] - estimate.ci95[0]) / 2.0 / estimate.median;
    (share.is_finite() && share >= 0.0).then_some(share)
}

/// A share in percent, such as `0.6 %`.
pub(crate) fn percent(share: f64) -> String {
    if !share.is_finite() {
        return NONE.to_owned();
    }
    let percent = share * 100.0;
    if percent.abs() < 10.0 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

/// Seconds in the unit that reads best.
pub(crate) fn seconds(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    if value < 0.1 {
        return format!("{:.1} ms", value * 1e3);
    }
    let whole = value.round() as u64;
    if value < 120.0 { format!("{value:.1} s") } else { format!("{} min {:02} s", whole / 60, whole % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_three_digits() {
        let cases = [(0.0, "0.00"), (6.1431, "6.14"), (17.6, "17.6"), (3598.2, "3598"), (0.01234, "0.0123"), (7e5, "700000")];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
        assert_eq!((number(f64::NAN), number(4e6)), (NONE.to_owned(), "4.00e6".to_owned()));
    }

    #[test]
    fn tick_labels_have_no_idle_zeros() {
        let cases = [(6.0, "6"), (12.5, "12.5"), (0.05, "0.05"), (100.0, "100"), (3000.0, "3000"), (0.0, "0"), (2e7, "2.00e7")];
        assert_eq!(cases.map(|c| short(c.0)), cases.map(|c| c.1));
    }

    #[test]
    fn units_change_where_they_should() {
        assert_eq!([0, 1023, 1024, 1_047_000, 1 << 20].map(bytes), ["0 B", "1023 B", "1.00 KiB", "1022 KiB", "1.00 MiB"]);
        assert_eq!(bytes(1_048_500), "1.00 MiB");
        assert_eq!([9999, 12_300, 134_515_008, 7_000_000_000].map(count), ["9999", "12.3 k", "135 M", "7.00 B"]);
        assert_eq!([0.01, 1.5, 200.0].map(seconds), ["10.0 ms", "1.5 s", "3 min 20 s"]);
        assert_eq!([0.0061, -0.5].map(percent), ["0.6 %", "-50 %"]);
    }

    #[test]
    fn a_half_width_needs_a_median() {
        let estimate = |median| Estimate { median, ci95: [9.0, 11.0], n: 5 };
        assert_eq!(half_width(&estimate(10.0)), Some(0.1));
        assert_eq!(half_width(&estimate(0.0)), None);
    }
}
