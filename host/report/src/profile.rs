//! A candidate at a glance: one bar per layer of the full network, as high as the layer kept neurons.

use crate::{
    data::{Candidate, Model},
    markup::put,
};

const HEIGHT: f64 = 24.0;
/// Layers that are drawn one by one; a bar would be thinner than a pixel beyond.
const MOST: u32 = 200;

/// The picture, as wide as the network is deep.
pub(crate) fn profile(candidate: &Candidate, model: &Model) -> String {
    let layers = model.layers.clamp(1, MOST);
    let pitch = (120.0 / f64::from(layers)).clamp(2.0, 8.0);
    let width = pitch * f64::from(layers);
    let mut out = String::new();
    put!(
        &mut out,
        r#"<svg class="profile" width="{width:.0}" height="{HEIGHT:.0}" viewBox="0 0 {width:.1} {HEIGHT:.0}" role="img" aria-label="{} of {} layers kept">"#,
        candidate.layers.len(),
        model.layers
    );
    for layer in 0..layers {
        let x = f64::from(layer) * pitch;
        let bar = pitch * 0.75;
        let Ok(at) = candidate.layers.binary_search(&layer) else {
            put!(&mut out, r#"<rect class="gone" x="{x:.1}" y="{:.1}" width="{bar:.1}" height="1.5"/>"#, HEIGHT - 1.5);
            continue;
        };
        let share = |list: &[u32], full: u32| list.get(at).map_or(0.0, |&v| (f64::from(v) / f64::from(full.max(1))).min(1.0));
        let height = (share(&candidate.mlp, model.mlp) * HEIGHT).max(1.5);
        // Fewer key/value groups make the bar paler.
        let opacity = 0.35 + 0.65 * share(&candidate.kv_groups, model.kv_groups);
        put!(
            &mut out,
            r#"<rect class="kept" x="{x:.1}" y="{:.1}" width="{bar:.1}" height="{height:.1}" opacity="{opacity:.2}"/>"#,
            HEIGHT - height
        );
    }
    out.push_str("</svg>");
    out
}
