//! Which tensors a model has, in the order in which a super-network travels.

use crate::{ModelConfig, names};

/// Every tensor that `config` asks for: its name and its shape, that of a vector or of a matrix `[out, in]`. First what depends
/// on no layer, then layer by layer.
///
/// `config` must be valid: see [`ModelConfig::validate`].
pub fn tensors(config: &ModelConfig) -> impl Iterator<Item = (String, Vec<usize>)> + '_ {
    let (h, v, m) = (config.hidden_size, config.vocab_size, config.mlp_size);
    let (q, kv) = (config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim);
    let output = (!config.tied_embeddings).then(|| (names::OUTPUT.to_owned(), vec![v, h]));
    let ends = [(names::EMBEDDING.to_owned(), vec![v, h]), (names::FINAL_NORM.to_owned(), vec![h])];
    let layers = (0..config.num_layers).flat_map(move |layer| {
        let norms = names::NORMS.into_iter().map(move |norm| (names::weight(layer, norm), vec![h]));
        let attention = names::ATTENTION.into_iter().zip([[q, h], [kv, h], [kv, h], [h, q]]);
        let mlp = names::MLP.into_iter().zip([[m, h], [m, h], [h, m]]);
        let parts = attention.map(|part| (part, config.attention_bias)).chain(mlp.map(|part| (part, config.mlp_bias)));
        norms.chain(parts.flat_map(move |((part, shape), bias)| {
            let bias = bias.then(|| (names::bias(layer, part), vec![shape[0]]));
            bias.into_iter().chain([(names::weight(layer, part), shape.to_vec())])
        }))
    });
    ends.into_iter().chain(output).chain(layers)
}

/// Number of [`tensors`].
pub(crate) fn tensor_count(config: &ModelConfig) -> usize {
    let layer = names::NORMS.len()
        + names::ATTENTION.len() * if config.attention_bias { 2 } else { 1 }
        + names::MLP.len() * if config.mlp_bias { 2 } else { 1 };
    2 + usize::from(!config.tied_embeddings) + config.num_layers * layer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny_config;

    #[test]
    fn the_count_is_that_of_the_list() {
        for flags in 0..8 {
            let config = ModelConfig {
                tied_embeddings: flags & 1 > 0,
                attention_bias: flags & 2 > 0,
                mlp_bias: flags & 4 > 0,
                ..tiny_config()
            };
            assert_eq!(tensors(&config).count(), tensor_count(&config));
            let parameters: usize = tensors(&config).map(|(_, shape)| shape.iter().product::<usize>()).sum();
            assert_eq!(parameters as u64, config.parameters(&config.full()));
        }
    }
}
