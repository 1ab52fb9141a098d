//! The front: latency against perplexity, with intervals.

use crate::{
    data::{Axis, Candidate, Device, Estimate, ReportData},
    format::{half_width, number, percent},
    markup::{escape, put},
    scale::Scale,
};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 50.0;

/// One candidate that has both coordinates.
struct Point<'a> {
    candidate: &'a Candidate,
    x: Estimate,
    y: f64,
    front: bool,
    baseline: bool,
}

/// The plot of one device, or a sentence where nothing was measured.
pub(crate) fn front_plot(data: &ReportData, device: &Device) -> String {
    let points = points(data, device);
    let mut out = String::new();
    if points.is_empty() {
        put!(&mut out, r#"<p class="empty">Nothing was measured on this device yet.</p>"#);
        return out;
    }
    let xs = Scale::new(points.iter().flat_map(|p| [p.x.median, p.x.ci95[0], p.x.ci95[1]]), LEFT, WIDTH - RIGHT);
    let ys = Scale::new(points.iter().map(|p| p.y), HEIGHT - BOTTOM, TOP);
    let on_front = points.iter().filter(|p| p.front).count();
    put!(
        &mut out,
        r#"<div class="scroll"><svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" aria-label="Perplexity against {} on {}: {} candidates, {on_front} on the front">"#,
        data.axis.title(),
        escape(&device.name),
        points.len()
    );
    axes(&mut out, &xs, &ys, data.axis);
    front_line(&mut out, &xs, &ys, &points);
    // The front is drawn last, so that nothing covers it.
    for front in [false, true] {
        for point in points.iter().filter(|p| p.front == front) {
            draw(&mut out, &xs, &ys, point, data, device);
        }
    }
    out.push_str("</svg></div>");
    legend(&mut out, &points);
    out
}

fn points<'a>(data: &'a ReportData, device: &Device) -> Vec<Point<'a>> {
    let point = |candidate: &'a Candidate| {
        let x = data.axis.of(candidate, candidate.on(&device.name)?)?;
        let y = candidate.perplexity?;
        let finite = y.is_finite() && x.median.is_finite() && x.ci95.iter().all(|v| v.is_finite());
        let front = device.front.contains(&candidate.id);
        finite.then(|| Point { candidate, x, y, front, baseline: candidate.id == data.baseline })
    };
    data.candidates.iter().filter_map(point).collect()
}

fn axes(out: &mut String, xs: &Scale, ys: &Scale, axis: Axis) {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    out.push_str(r#"<g class="axes">"#);
    for tick in ys.ticks(6) {
        let y = ys.at(tick);
        put!(out, r#"<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1}" y2="{y:.1}"/>"#);
        put!(out, r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#, LEFT - 8.0, y + 4.0, short(tick));
    }
    for tick in xs.ticks(8) {
        let x = xs.at(tick);
        put!(out, r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{bottom}"/>"#);
        put!(out, r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{}</text>"#, bottom + 18.0, short(tick));
    }
    let note = |scale: &Scale| if scale.is_logarithmic() { ", logarithmic" } else { "" };
    let (middle, centre) = (f64::midpoint(LEFT, right), f64::midpoint(TOP, bottom));
    put!(
        out,
        r#"<text class="title" x="{middle:.1}" y="{:.1}" text-anchor="middle">{}{}</text>"#,
        HEIGHT - 8.0,
        axis.title(),
        note(xs)
    );
    put!(
        out,
        r#"<text class="title" transform="translate(16 {centre:.1}) rotate(-90)" text-anchor="middle">perplexity{}</text></g>"#,
        note(ys)
    );
}

/// A tick's label: no digits that are not there.
fn short(value: f64) -> String {
    let text = number(value);
    match text.split_once('.') {
        Some((_, digits)) if !text.contains('e') => {
            let digits = digits.trim_end_matches('0').len();
            format!("{value:.digits$}")
        }
        _ => text,
    }
}

/// The stepped line under which nothing was found, and the faint area it dominates.
fn front_line(out: &mut String, xs: &Scale, ys: &Scale, points: &[Point<'_>]) {
    let mut front: Vec<(f64, f64)> = points.iter().filter(|p| p.front).map(|p| (xs.at(p.x.median), ys.at(p.y))).collect();
    front.sort_by(|a, b| a.0.total_cmp(&b.0));
    let Some(&(first, _)) = front.first() else { return };
    let mut path = format!("M{first:.1} {TOP}");
    for (k, (x, y)) in front.iter().enumerate() {
        put!(&mut path, "V{y:.1}");
        // With a third objective the front is no staircase here; the line then still joins its points in order.
        let next = front.get(k + 1).map_or(WIDTH - RIGHT, |n| n.0);
        put!(&mut path, "H{:.1}", next.max(*x));
    }
    put!(out, r#"<path class="area" d="{path}V{TOP}Z"/><path class="front" d="{path}"/>"#);
}

fn draw(out: &mut String, xs: &Scale, ys: &Scale, point: &Point<'_>, data: &ReportData, device: &Device) {
    let (x, y) = (xs.at(point.x.median), ys.at(point.y));
    let kind = kind(point);
    let interval = half_width(&point.x).filter(|w| *w > 0.0).map_or_else(String::new, |w| format!(" ± {}", percent(w)));
    let text = format!(
        "{}{} · perplexity {} · {} {}{interval} · {} of {} layers",
        point.candidate.id,
        if point.baseline { " (baseline)" } else { "" },
        number(point.y),
        data.axis.title(),
        number(point.x.median),
        point.candidate.layers.len(),
        data.model.layers
    );
    let text = escape(&text);
    put!(
        out,
        r##"<a class="point {kind}{}" href="#{}" data-tip="{text}" aria-label="{text}">"##,
        if point.front { " best" } else { "" },
        anchor(device, &point.candidate.id, data)
    );
    let (low, high) = (xs.at(point.x.ci95[0]), xs.at(point.x.ci95[1]));
    // Shorter than the mark it would be hidden under, an interval would only look like a smudge.
    if high - low > 1.0 {
        put!(out, r#"<path class="bar" d="M{low:.1} {y:.1}H{high:.1}M{low:.1} {:.1}v6M{high:.1} {:.1}v6"/>"#, y - 3.0, y - 3.0);
    }
    match kind {
        "baseline" => put!(out, r#"<path class="mark" d="M{x:.1} {:.1}l8 8l-8 8l-8 -8Z"/>"#, y - 8.0),
        "recipe" => put!(out, r#"<rect class="mark" x="{:.1}" y="{:.1}" width="9" height="9"/>"#, x - 4.5, y - 4.5),
        _ => put!(out, r#"<circle class="mark" cx="{x:.1}" cy="{y:.1}" r="{}"/>"#, if point.front { 6 } else { 4 }),
    }
    if point.baseline {
        // Below the line to the left: nothing was found there.
        put!(out, r#"<text class="label" x="{:.1}" y="{:.1}" text-anchor="end">full network</text>"#, x - 8.0, y + 16.0);
    }
    out.push_str("</a>");
}

fn kind(point: &Point<'_>) -> &'static str {
    match (point.baseline, point.candidate.is_recipe()) {
        (true, _) => "baseline",
        (_, true) => "recipe",
        _ => "search",
    }
}

/// The id of a candidate's row in a device's table: numbers, because ids of elements may not hold everything a name may.
pub(crate) fn anchor(device: &Device, id: &str, data: &ReportData) -> String {
    let d = data.devices.iter().position(|d| d.name == device.name).unwrap_or(0);
    let c = data.candidates.iter().position(|c| c.id == id).unwrap_or(0);
    format!("d{d}-c{c}")
}

fn legend(out: &mut String, points: &[Point<'_>]) {
    out.push_str(r#"<ul class="legend">"#);
    let mut entry = |shown: bool, class: &str, mark: &str, text: &str| {
        if shown {
            put!(
                out,
                r#"<li><svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true"><g class="point {class}">{mark}</g></svg>{text}</li>"#
            );
        }
    };
    let circle = |r: u32| format!(r#"<circle class="mark" cx="8" cy="8" r="{r}"/>"#);
    entry(points.iter().any(|p| p.front), "search best", &circle(6), "on the front");
    entry(points.iter().any(|p| !p.front && kind(p) == "search"), "search", &circle(4), "dominated");
    entry(points.iter().any(|p| p.baseline), "baseline", r#"<path class="mark" d="M8 1l7 7l-7 7l-7 -7Z"/>"#, "full network");
    let square = r#"<rect class="mark" x="3" y="3" width="9" height="9"/>"#;
    entry(points.iter().any(|p| kind(p) == "recipe"), "recipe", square, "fixed pruning recipe");
    let bar = r#"<path class="bar" d="M1 8H15M1 5v6M15 5v6"/>"#;
    entry(points.iter().any(|p| p.x.ci95[1] > p.x.ci95[0]), "search best", bar, "95 % interval of the median");
    out.push_str("</ul>");
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn tick_labels_have_no_idle_zeros() {
        let cases = [(6.0, "6"), (12.5, "12.5"), (0.05, "0.05"), (100.0, "100"), (3000.0, "3000"), (0.0, "0"), (2e7, "2.00e7")];
        assert_eq!(cases.map(|c| short(c.0)), cases.map(|c| c.1));
    }
}
