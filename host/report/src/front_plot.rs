//! The front: latency against perplexity or another quality, with intervals.

use crate::{
    data::{Candidate, Device, Estimate, ReportData},
    format::{half_width, number, percent, short},
    markup::{escape, put},
    plot::{Frame, Side},
    scale::Scale,
    ties::{Ties, anchor},
};

const FRAME: Frame = Frame { class: "plot", width: 760.0, height: 400.0, left: 62.0, right: 742.0, top: 18.0, bottom: 350.0 };

/// A fixed recipe that is worse than the search's worst by more than this factor is shown at the plot's upper edge: cut deep, some
/// are worse by a factor of 100,000, and of everything else a line would be left.
const FAR: f64 = 3.0;

/// One candidate that has both coordinates.
struct Point<'a> {
    candidate: &'a Candidate,
    x: Estimate,
    y: f64,
    front: bool,
    baseline: bool,
    /// Shown at the upper edge, whatever its height.
    beyond: bool,
}

/// The plot of one device, or a sentence where nothing was measured.
pub(crate) fn front_plot(data: &ReportData, device: &Device, ties: &Ties<'_>) -> String {
    let points = points(data, device);
    let mut out = String::new();
    if points.is_empty() {
        put!(&mut out, r#"<p class="empty">Nothing was measured on this device yet.</p>"#);
        return out;
    }
    let xs = FRAME.x(points.iter().flat_map(|p| [p.x.median, p.x.ci95[0], p.x.ci95[1]]));
    let ys = FRAME.y(points.iter().filter(|p| !p.beyond).map(|p| p.y));
    let on_front = points.iter().filter(|p| p.front).count();
    let joined = joined(&points, ties);
    out.push_str(r#"<div class="scroll">"#);
    let name = format!(
        "Front of {} against {} on {}: {} candidates, {on_front} on the front, {} pairs tied",
        data.quality.title(),
        data.axis.title(),
        escape(&device.name),
        points.len(),
        joined.len()
    );
    FRAME.open(&mut out, &name);
    let x = Side { scale: &xs, title: data.axis.title(), ticks: 8, label: short };
    FRAME.axes(&mut out, &x, &Side { scale: &ys, title: data.quality.title(), ticks: 6, label: short });
    front_line(&mut out, &xs, &ys, &points);
    bands(&mut out, &xs, &ys, &joined);
    // The front is drawn last, so that nothing covers it.
    for front in [false, true] {
        for point in points.iter().filter(|p| p.front == front) {
            draw(&mut out, &xs, &ys, point, data, device, ties);
        }
    }
    out.push_str("</svg></div>");
    legend(&mut out, &points, !joined.is_empty());
    if !joined.is_empty() {
        out.push_str(concat!(
            r#"<p class="note">Candidates that a band joins are tied: noise does not tell their latencies apart, so which of them is "#,
            "on the front is chance. Choose among them by something else, or measure them more often.</p>"
        ));
    }
    out
}

fn points<'a>(data: &'a ReportData, device: &Device) -> Vec<Point<'a>> {
    let point = |candidate: &'a Candidate| {
        let x = data.axis.of(candidate, candidate.on(&device.name)?)?;
        let y = data.quality.of(candidate)?;
        let finite = y.is_finite() && x.median.is_finite() && x.ci95.iter().all(|v| v.is_finite());
        let front = device.front.contains(&candidate.id);
        finite.then(|| Point { candidate, x, y, front, baseline: candidate.id == data.baseline, beyond: false })
    };
    let mut points: Vec<Point<'_>> = data.candidates.iter().filter_map(point).collect();
    // Recipes alone are all shown.
    if let Some(worst) = points.iter().filter(|p| kind(p) != "recipe").map(|p| p.y).reduce(f64::max) {
        points.iter_mut().filter(|p| kind(p) == "recipe").for_each(|p| p.beyond = p.y > FAR * worst);
    }
    points
}

/// The stepped line under which nothing was found, and the faint area it dominates.
fn front_line(out: &mut String, xs: &Scale, ys: &Scale, points: &[Point<'_>]) {
    let mut front: Vec<(f64, f64)> = points.iter().filter(|p| p.front).map(|p| (xs.at(p.x.median), ys.at(p.y))).collect();
    front.sort_by(|a, b| a.0.total_cmp(&b.0));
    let Some(&(first, _)) = front.first() else { return };
    let Frame { top, right, .. } = FRAME;
    let mut path = format!("M{first:.1} {top}");
    for (k, (x, y)) in front.iter().enumerate() {
        put!(&mut path, "V{y:.1}");
        // With a third objective the front is no staircase here; the line then still joins its points in order.
        let next = front.get(k + 1).map_or(right, |n| n.0);
        put!(&mut path, "H{:.1}", next.max(*x));
    }
    put!(out, r#"<path class="area" d="{path}V{top}Z"/><path class="front" d="{path}"/>"#);
}

/// Pairs of points that noise does not tell apart.
fn joined<'p, 'a>(points: &'p [Point<'a>], ties: &Ties<'_>) -> Vec<[&'p Point<'a>; 2]> {
    let find = |id: &str| points.iter().find(|p| p.candidate.id == id);
    ties.pairs().filter_map(|(a, b)| Some([find(a)?, find(b)?])).collect()
}

/// Light bands around tied points: as one group, so that where they overlap they are no darker.
fn bands(out: &mut String, xs: &Scale, ys: &Scale, joined: &[[&Point<'_>; 2]]) {
    out.push_str(r#"<g class="ties">"#);
    for [a, b] in joined.iter().map(|pair| pair.map(|p| (xs.at(p.x.median), ys.at(p.y)))) {
        put!(out, r#"<path d="M{:.1} {:.1}L{:.1} {:.1}"/>"#, a.0, a.1, b.0, b.1);
    }
    out.push_str("</g>");
}

fn draw(out: &mut String, xs: &Scale, ys: &Scale, point: &Point<'_>, data: &ReportData, device: &Device, ties: &Ties<'_>) {
    let (x, y) = (xs.at(point.x.median), ys.at(point.y));
    let kind = kind(point);
    let interval = half_width(&point.x).filter(|w| *w > 0.0).map_or_else(String::new, |w| format!(" ± {}", percent(w)));
    let text = format!(
        "{}{} · {} {} · {} {}{interval} · {} of {} layers{}",
        point.candidate.id,
        if point.baseline { " (baseline)" } else { "" },
        data.quality.title(),
        number(point.y),
        data.axis.title(),
        number(point.x.median),
        point.candidate.layers.len(),
        data.model.layers,
        ties.in_words(&point.candidate.id)
    );
    let text = escape(&text);
    put!(
        out,
        r##"<a class="point {kind}{}" href="#{}" data-tip="{text}" aria-label="{text}">"##,
        if point.front { " best" } else { "" },
        anchor(device, &point.candidate.id, data).unwrap_or_default()
    );
    let (low, high) = (xs.at(point.x.ci95[0]), xs.at(point.x.ci95[1]));
    // Shorter than the mark it would be hidden under, an interval would only look like a smudge.
    if high - low > 1.0 {
        put!(out, r#"<path class="bar" d="M{low:.1} {y:.1}H{high:.1}M{low:.1} {:.1}v6M{high:.1} {:.1}v6"/>"#, y - 3.0, y - 3.0);
    }
    match kind {
        "baseline" => put!(out, r#"<path class="mark" d="M{x:.1} {:.1}l8 8l-8 8l-8 -8Z"/>"#, y - 8.0),
        "recipe" if point.beyond => put!(out, r#"<path class="mark" d="M{x:.1} {:.1}l5.5 10h-11Z"/>"#, y - 5.0),
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

fn legend(out: &mut String, points: &[Point<'_>], tied: bool) {
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
    let recipe = |beyond: bool| points.iter().any(|p| kind(p) == "recipe" && p.beyond == beyond);
    entry(recipe(false), "recipe", square, "fixed pruning recipe");
    entry(
        recipe(true),
        "recipe",
        r#"<path class="mark" d="M8 3l5.5 10h-11Z"/>"#,
        "recipe so much worse that it is beyond the upper edge",
    );
    let bar = r#"<path class="bar" d="M1 8H15M1 5v6M15 5v6"/>"#;
    entry(points.iter().any(|p| p.x.ci95[1] > p.x.ci95[0]), "search best", bar, "95 % interval of the median");
    if tied {
        out.push_str(concat!(
            r#"<li><svg width="30" height="16" viewBox="0 0 30 16" aria-hidden="true"><g class="ties small"><path d="M8 8H22"/></g>"#,
            r#"<g class="point search best"><circle class="mark" cx="8" cy="8" r="5"/></g>"#,
            r#"<g class="point search"><circle class="mark" cx="22" cy="8" r="4"/></g></svg>tied</li>"#
        ));
    }
    out.push_str("</ul>");
}
