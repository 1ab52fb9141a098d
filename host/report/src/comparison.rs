//! What the search found against fixed pruning recipes, at equal latency.

use crate::{
    data::Device,
    format::{NONE, number},
    markup::{escape, put},
};

/// A table with the lowest perplexity of each column marked; nothing if no recipe was measured.
pub(crate) fn comparison(out: &mut String, device: &Device) {
    let Some(first) = device.comparison.first() else { return };
    out.push_str(r#"<div class="card"><h3>Search and fixed recipes at equal latency</h3><div class="scroll"><table class="comparison"><thead><tr>"#);
    out.push_str(r#"<th scope="col">series</th>"#);
    for cut in &first.cuts {
        put!(out, r#"<th scope="col">perplexity at {:.0} % less</th>"#, cut.less * 100.0);
    }
    out.push_str("</tr></thead><tbody>");
    for row in &device.comparison {
        put!(out, r#"<tr><th scope="row">{}</th>"#, escape(row.series.strip_prefix("baseline:").unwrap_or(&row.series)));
        for (column, cut) in row.cuts.iter().enumerate() {
            let all = device.comparison.iter().filter_map(|r| r.cuts.get(column)?.perplexity);
            let lowest = all.min_by(f64::total_cmp);
            match cut.perplexity {
                Some(value) if lowest == Some(value) => put!(out, "<td><strong>{}</strong></td>", number(value)),
                Some(value) => put!(out, "<td>{}</td>", number(value)),
                None => put!(out, "<td>{NONE}</td>"),
            }
        }
        out.push_str("</tr>");
    }
    out.push_str(concat!(
        "</tbody></table></div><p class=\"note\">The search is taken at its best candidate that is fast enough; a recipe, which may ",
        "have no candidate right there, between its neighbours on a logarithmic scale.</p></div>"
    ));
}
