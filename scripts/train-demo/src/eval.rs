//! Held-out quality of the model and of its sub-networks.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::model::{Model, SubNet};

/// Windows in one forward pass: more only makes the scores larger than the caches.
const BATCH: usize = 2;

/// The loss over a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quality {
    /// Nats, summed over the scored tokens.
    pub(crate) nll: f64,
    /// Scored tokens: all but the first of each window.
    pub(crate) tokens: usize,
    /// Bytes of text that the scored tokens stand for.
    pub(crate) bytes: usize,
}

impl Quality {
    pub(crate) fn per_token(self) -> f64 {
        self.nll / self.tokens as f64
    }

    pub(crate) fn perplexity(self) -> f64 {
        self.per_token().exp()
    }

    pub(crate) fn bits_per_byte(self) -> f64 {
        self.nll / self.bytes as f64 / std::f64::consts::LN_2
    }
}

/// Scores every token but the first of each window.
pub(crate) fn evaluate(model: &Model, sub: &SubNet, windows: &[&[u32]], token_bytes: &[usize]) -> Result<Quality> {
    ensure!(!windows.is_empty(), "the text is shorter than one window");
    let mut quality = Quality { nll: 0.0, tokens: 0, bytes: 0 };
    for batch in windows.chunks(BATCH) {
        let tokens: usize = batch.iter().map(|window| window.len() - 1).sum();
        quality.nll += f64::from(model.loss(batch, sub)?.to_scalar::<f32>()?) * tokens as f64;
        quality.tokens += tokens;
        quality.bytes += batch.iter().flat_map(|w| &w[1..]).map(|&id| token_bytes[id as usize]).sum::<usize>();
    }
    Ok(quality)
}

/// Perplexities of the model cut in one dimension at a time, without any fine-tuning.
///
/// The layers to drop are chosen on `choosing` windows, which must not be the held-out ones: the
/// figure is then what a search could reach without having seen the text it reports on.
pub(crate) fn by_size(model: &Model, held_out: &[&[u32]], choosing: &[&[u32]], token_bytes: &[usize]) -> Result<Value> {
    let config = model.config();
    let full = SubNet::full(config);
    let mut sizes = vec![
        ("full", full.clone()),
        ("mlp_75_percent", full.clone().with_neurons(config.mlp * 3 / 4)),
        ("mlp_50_percent", full.clone().with_neurons(config.mlp / 2)),
        ("kv_groups_2_of_3", full.clone().with_groups(config.kv_groups * 2 / 3)),
        ("width_5_of_6", full.clone().with_width(config.width * 5 / 6)),
    ];
    let mut kept = full;
    for name in ["drop_1_layer", "drop_2_layers"] {
        let mut best: Option<(f64, SubNet)> = None;
        for layer in &kept.layers {
            let sub = kept.clone().without_layer(layer.index);
            let loss = evaluate(model, &sub, choosing, token_bytes)?.per_token();
            if best.as_ref().is_none_or(|(least, _)| loss < *least) {
                best = Some((loss, sub));
            }
        }
        let Some((_, sub)) = best else { break };
        kept = sub.clone();
        sizes.push((name, sub));
    }
    let mut table = serde_json::Map::new();
    for (name, sub) in sizes {
        let quality = evaluate(model, &sub, held_out, token_bytes)?;
        let layers: Vec<usize> = sub.layers.iter().map(|layer| layer.index).collect();
        table.insert(
            name.to_owned(),
            json!({
                "perplexity": quality.perplexity(),
                "bits_per_byte": quality.bits_per_byte(),
                "layers": layers,
            }),
        );
    }
    Ok(Value::Object(table))
}
