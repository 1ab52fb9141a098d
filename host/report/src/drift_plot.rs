//! How steady the device was: its sentinels, relative to the first.

use crate::{
    data::{Device, DriftPoint},
    format::{number, short},
    markup::{escape, put},
    plot::{Frame, Side},
};

const FRAME: Frame =
    Frame { class: "plot small", width: 420.0, height: 196.0, left: 66.0, right: 406.0, top: 12.0, bottom: 150.0 };
/// The share within which a sentinel counts as unmoved on any device, and which is always in view.
const STEADY: f64 = 0.03;
/// From so many points on they are drawn smaller.
const MANY: usize = 30;

/// Class, name, and which ratio it shows.
type Series = (&'static str, &'static str, fn(&DriftPoint) -> f64);

const SERIES: [Series; 2] =
    [("tpot", "time per output token", |d| d.tpot_ratio), ("ttft", "time to first token", |d| d.ttft_ratio)];

/// The plot, or a sentence where the baseline was never measured.
pub(crate) fn drift_plot(device: &Device) -> String {
    let mut out = String::new();
    let finite = |d: &&DriftPoint| [d.minutes, d.ttft_ratio, d.tpot_ratio].iter().all(|v| v.is_finite());
    let points: Vec<&DriftPoint> = device.drift.iter().filter(finite).collect();
    let Some(span) = points.iter().map(|d| d.minutes).reduce(f64::max) else {
        out.push_str(r#"<p class="empty">The baseline was not measured, so nothing is known about drift.</p>"#);
        return out;
    };
    let (minutes, unit) = unit(span);
    // A lone point stands at the left end of an axis that is not made of thin air.
    let xs = FRAME.x(points.iter().map(|d| d.minutes / minutes)).at_least(0.0, 1.0);
    let ratios = points.iter().flat_map(|d| SERIES.map(|(_, _, value)| value(d)));
    let ys = FRAME.y(ratios).at_least(1.0 - 1.4 * STEADY, 1.0 + 1.4 * STEADY);
    let verdict = verdict(&points, span / minutes, unit);
    FRAME.open(&mut out, &format!("Drift of the baseline on {}. {verdict}", escape(&device.name)));
    let (high, low) = (ys.at(1.0 + STEADY), ys.at(1.0 - STEADY));
    let Frame { left, right, .. } = FRAME;
    put!(&mut out, r#"<rect class="band" x="{left}" y="{high:.1}" width="{:.1}" height="{:.1}"/>"#, right - left, low - high);
    let x = Side { scale: &xs, title: &format!("{unit} after the first"), ticks: 5, label: short };
    FRAME.axes(&mut out, &x, &Side { scale: &ys, title: "against the first", ticks: 6, label: change });
    let radius = if points.len() < MANY { 3.5 } else { 2.0 };
    for (class, name, value) in SERIES {
        let place = |d: &DriftPoint| (xs.at(d.minutes / minutes), ys.at(value(d)));
        line(&mut out, class, points.iter().map(|d| place(d)));
        for d in &points {
            let (x, y) = place(d);
            let text = format!("{name}: {:+.2} % after {} {unit}", (value(d) - 1.0) * 100.0, number(d.minutes / minutes));
            put!(
                &mut out,
                r#"<circle class="dot" cx="{x:.1}" cy="{y:.1}" r="{radius}" data-tip="{text}"><title>{text}</title></circle>"#
            );
        }
        out.push_str("</g>");
    }
    out.push_str("</svg>");
    legend(&mut out);
    put!(&mut out, r#"<p class="note">{verdict}</p>"#);
    out
}

/// Opens a series with the line through its points.
fn line(out: &mut String, class: &str, places: impl Iterator<Item = (f64, f64)>) {
    put!(out, r#"<g class="{class}"><path class="line" d=""#);
    for (k, (x, y)) in places.enumerate() {
        put!(out, "{}{x:.1} {y:.1}", if k == 0 { 'M' } else { 'L' });
    }
    out.push_str(r#""/>"#);
}

fn legend(out: &mut String) {
    out.push_str(r#"<ul class="legend">"#);
    for (class, name, _) in SERIES {
        put!(
            out,
            r#"<li><svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true"><g class="{class}"><path class="line" d="M1 8H15"/><circle class="dot" cx="8" cy="8" r="3.5"/></g></svg>{name}</li>"#
        );
    }
    put!(out, r#"<li><i class="band"></i>within {} %</li></ul>"#, STEADY * 100.0);
}

/// What the plot says, in a sentence.
fn verdict(points: &[&DriftPoint], span: f64, unit: &str) -> String {
    if points.len() == 1 {
        return "The baseline was measured in one block only, so nothing is known about drift.".to_owned();
    }
    let away = |d: &DriftPoint| SERIES.map(|(_, _, value)| (value(d) - 1.0).abs()).into_iter().fold(0.0, f64::max);
    let furthest = points.iter().map(|d| away(d)).fold(0.0, f64::max);
    let outside = points.iter().filter(|d| away(d) > STEADY).count();
    format!(
        "The baseline was measured at the start of each of {} blocks, over {} {unit}: at most {:.1} % from the first, {} \
         outside ±{} %.",
        points.len(),
        number(span),
        furthest * 100.0,
        if outside == 0 { "none".to_owned() } else { outside.to_string() },
        STEADY * 100.0
    )
}

/// How many minutes the unit has in which a time of this length reads best, and its name.
fn unit(minutes: f64) -> (f64, &'static str) {
    match minutes {
        ..300.0 => (1.0, "minutes"),
        ..4320.0 => (60.0, "hours"),
        _ => (1440.0, "days"),
    }
}

/// A ratio as a change in percent.
fn change(ratio: f64) -> String {
    let percent = (ratio - 1.0) * 100.0;
    let digits = usize::from((percent - percent.round()).abs() > 1e-6);
    // A rounding below zero is no minus zero.
    let percent = if percent.abs() < 1e-6 { 0.0 } else { percent };
    let sign = if percent > 0.0 { "+" } else { "" };
    format!("{sign}{percent:.digits$} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_a_sign_and_no_idle_digits() {
        let cases = [(1.0, "0 %"), (1.0 - 1e-12, "0 %"), (1.02, "+2 %"), (0.975, "-2.5 %"), (3.0, "+200 %")];
        assert_eq!(cases.map(|c| change(c.0)), cases.map(|c| c.1));
    }

    #[test]
    fn the_verdict_counts_what_left_the_band() {
        let point = |minutes, ttft_ratio, tpot_ratio| DriftPoint { minutes, ttft_ratio, tpot_ratio };
        let points = [point(0.0, 1.0, 1.0), point(5.0, 1.029, 0.99), point(10.0, 0.96, 1.05)];
        let of = |n: usize| verdict(&points.iter().take(n).collect::<Vec<_>>(), 10.0, "minutes");
        assert!(of(1).contains("one block only"));
        assert!(of(2).ends_with("at most 2.9 % from the first, none outside ±3 %."), "{}", of(2));
        assert!(of(3).ends_with("at most 5.0 % from the first, 1 outside ±3 %."), "{}", of(3));
        assert_eq!([0.0, 299.0, 300.0, 5000.0].map(|m| unit(m).1), ["minutes", "minutes", "hours", "days"]);
    }
}
