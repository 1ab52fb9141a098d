//! How steady the device was: the baseline measured again, relative to its first time.

use crate::{
    data::{Device, DriftPoint},
    format::number,
    markup::{escape, put},
    scale::Scale,
};

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 180.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 38.0;
/// The band inside which two measurements count as the same, and which is always in view.
const STEADY: f64 = 0.01;

/// Class, name, and which ratio it shows.
type Series = (&'static str, &'static str, fn(&DriftPoint) -> f64);

/// The plot, or a sentence where the baseline was measured but once.
pub(crate) fn drift_plot(device: &Device) -> String {
    let mut out = String::new();
    let finite = |d: &&DriftPoint| [d.minutes, d.ttft_ratio, d.tpot_ratio].iter().all(|v| v.is_finite());
    let points: Vec<&DriftPoint> = device.drift.iter().filter(finite).collect();
    if points.is_empty() {
        out.push_str(r#"<p class="empty">The baseline was not measured again, so nothing is known about drift.</p>"#);
        return out;
    }
    let bottom = HEIGHT - BOTTOM;
    let right = WIDTH - RIGHT;
    let start = std::iter::once(0.0);
    let xs = Scale::new(start.chain(points.iter().map(|d| d.minutes)), LEFT, right);
    let ratios = points.iter().flat_map(|d| [d.ttft_ratio, d.tpot_ratio]);
    let ys = Scale::new(ratios, bottom, TOP).at_least(1.0 - 2.5 * STEADY, 1.0 + 2.5 * STEADY);
    let series: [Series; 2] =
        [("tpot", "time per output token", |d| d.tpot_ratio), ("ttft", "time to first token", |d| d.ttft_ratio)];
    let worst = points.iter().flat_map(|d| [d.ttft_ratio, d.tpot_ratio]).map(|r| (r - 1.0).abs()).fold(0.0, f64::max);
    put!(
        &mut out,
        r#"<svg class="plot small" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" aria-label="Drift of the baseline on {}: {} repeats, at most {} % away from the first">"#,
        escape(&device.name),
        points.len(),
        number(worst * 100.0)
    );
    let (high, low) = (ys.at(1.0 + STEADY), ys.at(1.0 - STEADY));
    put!(
        &mut out,
        r#"<rect class="band" x="{LEFT}" y="{high:.1}" width="{:.1}" height="{:.1}"/><g class="axes">"#,
        right - LEFT,
        low - high
    );
    for tick in ys.ticks(4) {
        let y = ys.at(tick);
        put!(&mut out, r#"<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1}" y2="{y:.1}"/>"#);
        let percent = (tick - 1.0) * 100.0;
        let digits = usize::from((percent - percent.round()).abs() > 1e-6);
        // A rounding below zero is no minus zero.
        let percent = if percent.abs() < 1e-6 { 0.0 } else { percent };
        let sign = if percent > 0.0 { "+" } else { "" };
        put!(&mut out, r#"<text x="{}" y="{:.1}" text-anchor="end">{sign}{percent:.digits$} %</text>"#, LEFT - 6.0, y + 4.0);
    }
    for tick in xs.ticks(5) {
        put!(
            &mut out,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            xs.at(tick),
            bottom + 16.0,
            tick_label(tick)
        );
    }
    put!(
        &mut out,
        r#"<text class="title" x="{:.1}" y="{:.1}" text-anchor="middle">minutes after the first measurement</text></g>"#,
        f64::midpoint(LEFT, right),
        HEIGHT - 4.0
    );
    for (class, name, value) in series {
        let mut path = format!("M{:.1} {:.1}", xs.at(0.0), ys.at(1.0));
        for d in &points {
            put!(&mut path, "L{:.1} {:.1}", xs.at(d.minutes), ys.at(value(d)));
        }
        put!(&mut out, r#"<g class="{class}"><path class="line" d="{path}"/>"#);
        for d in &points {
            let (x, y) = (xs.at(d.minutes), ys.at(value(d)));
            let text = format!("{name}: {:+.2} % after {} min", (value(d) - 1.0) * 100.0, number(d.minutes));
            put!(
                &mut out,
                r#"<circle class="dot" cx="{x:.1}" cy="{y:.1}" r="3.5" data-tip="{text}"><title>{text}</title></circle>"#
            );
        }
        out.push_str("</g>");
    }
    out.push_str("</svg>");
    out.push_str(r#"<ul class="legend">"#);
    for (class, name, _) in series {
        put!(
            &mut out,
            r#"<li><svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true"><g class="{class}"><path class="line" d="M1 8H15"/><circle class="dot" cx="8" cy="8" r="3.5"/></g></svg>{name}</li>"#
        );
    }
    out.push_str("<li><i class=\"band\"></i>within 1 %</li></ul>");
    out
}

fn tick_label(minutes: f64) -> String {
    if (minutes - minutes.round()).abs() < 1e-9 { format!("{minutes:.0}") } else { number(minutes) }
}
