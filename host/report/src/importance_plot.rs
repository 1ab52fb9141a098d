//! How much the parts of the full network matter: a row for each layer, with its score, its neurons by tenths, its groups.

use crate::{
    data::{Importance, LayerImportance, ReportData},
    format::number as number_of,
    markup::{escape, put},
};

/// Layers that are drawn; a deeper network is cut.
const MOST_LAYERS: usize = 200;
/// Cells of a row that are drawn.
const MOST_CELLS: usize = 128;
const WIDTH: f64 = 760.0;
const TOP: f64 = 28.0;
/// Height of all rows, as far as they are neither too thin nor too thick.
const ROWS: f64 = 420.0;
/// Left and right end of the bars, ...
const BARS: (f64, f64) = (52.0, 232.0);
/// ... of the neurons, ...
const NEURONS: (f64, f64) = (262.0, 562.0);
/// ... and of the groups.
const GROUPS: (f64, f64) = (592.0, 748.0);
/// Least distance of two labels.
const LABELS: f64 = 13.0;

/// The section, where scores are known.
pub(crate) fn importance_plot(out: &mut String, data: &ReportData) {
    let Some(importance) = data.importance.as_ref().filter(|i| !i.layers.is_empty()) else { return };
    let layers = &importance.layers[..importance.layers.len().min(MOST_LAYERS)];
    let neurons = Shades::of(layers.iter().flat_map(|l| &l.neurons));
    let groups = Shades::of(layers.iter().flat_map(|l| &l.kv_groups));
    let bars = Bars::of(layers);
    let pitch = (ROWS / layers.len() as f64).clamp(3.0, 16.0);
    let bottom = TOP + pitch * layers.len() as f64;
    out.push_str(r#"<section><h2>What matters in the full network</h2><div class="card plotted"><div class="scroll">"#);
    put!(
        out,
        r#"<svg class="plot importance" viewBox="0 0 {WIDTH} {:.0}" role="group" aria-label="Importance of {} layers, their neurons and their groups">"#,
        bottom + 24.0,
        layers.len()
    );
    headings(out, importance, bottom);
    for (number, layer) in layers.iter().enumerate() {
        let y = TOP + pitch * number as f64;
        put!(out, r#"<g class="row" data-tip="{0}" role="img" aria-label="{0}">"#, in_words(number, layer));
        put!(out, r#"<rect class="hit" x="0" y="{y:.1}" width="{WIDTH}" height="{pitch:.1}"/>"#);
        if number.is_multiple_of((LABELS / pitch).ceil() as usize) {
            put!(out, r#"<text x="{:.0}" y="{:.1}" text-anchor="end">{number}</text>"#, BARS.0 - 8.0, y + pitch / 2.0 + 3.5);
        }
        let (y, height) = (y + pitch * 0.08, pitch * 0.84);
        if let Some((left, right)) = bars.ends(layer.score) {
            put!(
                out,
                r#"<rect class="score" x="{left:.1}" y="{y:.1}" width="{:.1}" height="{height:.1}"/>"#,
                (right - left).max(0.5)
            );
        }
        cells(out, &layer.neurons, &neurons, NEURONS, (y, height));
        cells(out, &descending(&layer.kv_groups), &groups, GROUPS, (y, height));
        out.push_str("</g>");
    }
    out.push_str("</svg></div>");
    put!(
        out,
        r#"<p class="note">Scores on the calibration text, by which parts are cut: the least important go first. Bars: layers, by <code>{}</code>. Cells: neurons and key/value groups by <code>{}</code>, the most important of each layer at the left; a cell of neurons is the mean of a tenth of them. The stronger its colour, the more important, on logarithmic scales: neurons {}, groups {}.</p></div></section>"#,
        escape(&importance.layer_ranking),
        escape(&importance.ranking),
        neurons.in_words(),
        groups.in_words()
    );
}

fn headings(out: &mut String, importance: &Importance, bottom: f64) {
    out.push_str(r#"<g class="axes">"#);
    for (text, (left, right)) in [("layer's score", BARS), ("neurons, by tenths", NEURONS), ("key/value groups", GROUPS)] {
        let middle = f64::midpoint(left, right);
        put!(out, r#"<text class="title" x="{middle:.1}" y="14" text-anchor="middle">{text}</text>"#);
    }
    for (left, right) in [NEURONS, GROUPS] {
        put!(out, r#"<text x="{left:.1}" y="{:.1}">most important</text>"#, bottom + 16.0);
        put!(out, r#"<text x="{right:.1}" y="{:.1}" text-anchor="end">least</text>"#, bottom + 16.0);
    }
    let cut = if importance.layers.len() > MOST_LAYERS { "the first layers" } else { "layers" };
    put!(out, r#"<text x="8" y="{:.1}">{cut}</text></g>"#, bottom + 16.0);
}

/// A row of cells that fill their place.
fn cells(out: &mut String, scores: &[f64], shades: &Shades, (left, right): (f64, f64), (y, height): (f64, f64)) {
    let count = scores.len().min(MOST_CELLS);
    let pitch = (right - left) / count.max(1) as f64;
    for (number, score) in scores.iter().take(count).enumerate() {
        let (x, width) = (left + pitch * number as f64, (pitch - 1.0).max(0.5));
        put!(
            out,
            r#"<rect class="cell" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" opacity="{:.2}"/>"#,
            shades.opacity(*score)
        );
    }
}

fn in_words(number: usize, layer: &LayerImportance) -> String {
    let range = |name: &str, scores: &[f64]| match scores {
        [] => String::new(),
        [one] => format!(" · {name} {}", number_of(*one)),
        [first, .., last] => format!(" · {name} {} to {}", number_of(*first), number_of(*last)),
    };
    let (neurons, groups) = (range("neurons", &layer.neurons), range("groups", &descending(&layer.kv_groups)));
    format!("layer {number} · score {}{neurons}{groups}", number_of(layer.score))
}

fn descending(scores: &[f64]) -> Vec<f64> {
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    sorted
}

/// The scale of the bars; it begins at 0, or below where a network does better without a layer.
struct Bars {
    low: f64,
    high: f64,
}

impl Bars {
    fn of(layers: &[LayerImportance]) -> Self {
        let scores = layers.iter().map(|l| l.score).filter(|s| s.is_finite());
        let (low, high) = scores.fold((0.0f64, 0.0f64), |(low, high), s| (low.min(s), high.max(s)));
        Self { low, high }
    }

    /// Left and right end of a score's bar.
    fn ends(&self, score: f64) -> Option<(f64, f64)> {
        let at = |value: f64| BARS.0 + (value - self.low) / (self.high - self.low) * (BARS.1 - BARS.0);
        let (zero, end) = (at(0.0), at(score));
        (zero.is_finite() && end.is_finite()).then(|| (zero.min(end), zero.max(end)))
    }
}

/// How dark cells are: logarithmic between the smallest and the largest score above zero.
struct Shades {
    low: f64,
    high: f64,
}

impl Shades {
    fn of<'a>(scores: impl Iterator<Item = &'a f64>) -> Self {
        let positive = scores.copied().filter(|s| s.is_finite() && *s > 0.0);
        let (low, high) = positive.fold((f64::INFINITY, 0.0f64), |(low, high), s| (low.min(s), high.max(s)));
        Self { low, high }
    }

    fn opacity(&self, score: f64) -> f64 {
        // Nothing is as pale as what scores nothing.
        if !score.is_finite() || score <= 0.0 {
            return 0.0;
        }
        let share = (score / self.low).ln() / (self.high / self.low).ln();
        // Of a single score there is no scale.
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 1.0 };
        0.06 + 0.94 * share
    }

    fn in_words(&self) -> String {
        if self.high > 0.0 { format!("{} to {}", number_of(self.low), number_of(self.high)) } else { "nothing".to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_are_logarithmic_and_bars_begin_at_zero() {
        let shades = Shades::of([0.0, 0.01, 1.0, f64::NAN, 100.0].iter());
        let found = [0.0, 0.01, 1.0, 100.0, f64::NAN].map(|score| format!("{:.2}", shades.opacity(score)));
        assert_eq!(found, ["0.00", "0.06", "0.53", "1.00", "0.00"]);
        assert_eq!(format!("{:.2}", Shades::of([2.0].iter()).opacity(2.0)), "1.00", "one score is the largest");
        let layer = |score| LayerImportance { score, kv_groups: Vec::new(), neurons: Vec::new() };
        let bars = Bars::of(&[3.0, -1.0, f64::NAN].map(layer));
        let quarter = BARS.0 + (BARS.1 - BARS.0) / 4.0;
        assert_eq!(bars.ends(-1.0), Some((BARS.0, quarter)));
        assert_eq!(bars.ends(3.0), Some((quarter, BARS.1)));
        assert_eq!((bars.ends(f64::NAN), Bars::of(&[layer(0.0)]).ends(0.0)), (None, None));
    }
}
