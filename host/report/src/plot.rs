//! What plots have in common: a frame with gridlines, labels and titles around two scales.

use crate::{markup::put, scale::Scale};

/// Where the edges of the plotted area are, in a picture of this size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    /// Classes of the picture.
    pub(crate) class: &'static str,
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) left: f64,
    pub(crate) right: f64,
    pub(crate) top: f64,
    pub(crate) bottom: f64,
}

/// One axis as it is labelled.
pub(crate) struct Side<'a> {
    pub(crate) scale: &'a Scale,
    pub(crate) title: &'a str,
    /// About so many labels.
    pub(crate) ticks: usize,
    pub(crate) label: fn(f64) -> String,
}

impl Side<'_> {
    /// The title, which says so if the axis is not linear.
    fn full_title(&self) -> String {
        format!("{}{}", self.title, if self.scale.is_logarithmic() { ", logarithmic" } else { "" })
    }
}

impl Frame {
    /// A horizontal axis that holds these values.
    pub(crate) fn x(&self, values: impl Iterator<Item = f64>) -> Scale {
        Scale::new(values, self.left, self.right)
    }

    /// A vertical axis that holds these values.
    pub(crate) fn y(&self, values: impl Iterator<Item = f64>) -> Scale {
        Scale::new(values, self.bottom, self.top)
    }

    /// Opens the picture; `name` is read to those who do not see it, and is escaped already.
    pub(crate) fn open(&self, out: &mut String, name: &str) {
        let Self { class, width, height, .. } = self;
        put!(out, r#"<svg class="{class}" viewBox="0 0 {width} {height}" role="group" aria-label="{name}">"#);
    }

    /// Gridlines, labels and titles.
    pub(crate) fn axes(&self, out: &mut String, x: &Side<'_>, y: &Side<'_>) {
        let Self { left, right, top, bottom, .. } = *self;
        out.push_str(r#"<g class="axes">"#);
        for tick in y.scale.ticks(y.ticks) {
            let at = y.scale.at(tick);
            put!(out, r#"<line class="grid" x1="{left}" x2="{right}" y1="{at:.1}" y2="{at:.1}"/>"#);
            put!(out, r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#, left - 8.0, at + 4.0, (y.label)(tick));
        }
        for tick in x.scale.ticks(x.ticks) {
            let at = x.scale.at(tick);
            put!(out, r#"<line class="grid" x1="{at:.1}" x2="{at:.1}" y1="{top}" y2="{bottom}"/>"#);
            put!(out, r#"<text x="{at:.1}" y="{:.1}" text-anchor="middle">{}</text>"#, bottom + 18.0, (x.label)(tick));
        }
        let (middle, centre) = (f64::midpoint(left, right), f64::midpoint(top, bottom));
        put!(
            out,
            r#"<text class="title" x="{middle:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            self.height - 8.0,
            x.full_title()
        );
        put!(
            out,
            r#"<text class="title" transform="translate(14 {centre:.1}) rotate(-90)" text-anchor="middle">{}</text></g>"#,
            y.full_title()
        );
    }
}
