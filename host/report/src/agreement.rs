//! Whose order of the candidates predicts whose.

use crate::{
    data::{Agreement, ReportData},
    format::NONE,
    markup::{escape, put},
};

/// The section, where there is anything to compare.
pub(crate) fn agreement(out: &mut String, data: &ReportData) {
    if data.portability.is_empty() {
        return;
    }
    out.push_str(concat!(
        r#"<section><h2>Whose order predicts whose</h2><div class="card"><p class="note">Candidates put in order by what is "#,
        "named first, against their order by latency on the device named second. 1 is the same order, 0 is no relation, −1 the ",
        r#"reverse; with a τ of 0.8, nine in ten pairs are in the same order.</p><div class="scroll"><table class="agreement">"#,
        r#"<caption>Agreement of orders</caption><thead><tr><th scope="col">Order by</th><th scope="col">Device</th>"#,
        r#"<th scope="col">Kendall’s τ</th><th scope="col">Spearman’s ρ</th><th scope="col">Candidates</th></tr></thead>"#
    ));
    let (devices, proxies): (Vec<&Agreement>, Vec<&Agreement>) =
        data.portability.iter().partition(|row| data.devices.iter().any(|device| device.name == row.a));
    for (title, rows) in [("One device for another", devices), ("What is known without a device", proxies)] {
        if !rows.is_empty() {
            put!(out, r#"<tbody><tr><th scope="rowgroup" colspan="5">{title}</th></tr>"#);
            for row in rows {
                line(out, row);
            }
            out.push_str("</tbody>");
        }
    }
    out.push_str("</table></div></div></section>");
}

fn line(out: &mut String, row: &Agreement) {
    put!(
        out,
        r#"<tr><th scope="row">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>"#,
        escape(match row.a.as_str() {
            "artifact_bytes" => "size of the artifact",
            "parameters" => "number of parameters",
            name => name,
        }),
        escape(&row.b),
        coefficient(row.kendall),
        coefficient(row.spearman),
        row.n
    );
}

fn coefficient(value: Option<f64>) -> String {
    // What would print as minus zero is zero.
    let value = value.filter(|v| v.is_finite()).map(|v| if v.abs() < 0.005 { 0.0 } else { v });
    value.map_or(NONE.to_owned(), |v| format!("{v:.2}").replace('-', "−"))
}

#[cfg(test)]
mod tests {
    use super::coefficient;

    #[test]
    fn coefficients_have_two_decimals_and_a_sign_of_their_own() {
        let cases = [(Some(0.876), "0.88"), (Some(-0.5), "−0.50"), (Some(-0.001), "0.00"), (Some(f64::NAN), "–"), (None, "–")];
        for (value, text) in cases {
            assert_eq!(coefficient(value), text);
        }
    }
}
