//! Inputs that are valid, made anew at each start: they follow the formats when those change.

use edgewise_onnx::ModelConfig;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// Puts these inputs into the corpus that libFuzzer was started with; a start without one, to repeat a finding, has none.
pub fn seed(inputs: impl IntoIterator<Item = Vec<u8>>) {
    let Some(corpus) = std::env::args_os().skip(1).map(PathBuf::from).find(|path| path.is_dir()) else { return };
    for (number, bytes) in inputs.into_iter().enumerate() {
        fs::write(corpus.join(format!("seed-{number}")), bytes).expect("the corpus can be written");
    }
}

/// A folder of this process below the system's temporary one. Nobody removes it: libFuzzer ends processes without a word.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("edgewise-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("the temporary folder can be written");
        folder
    })
}

/// A model whose weights are small enough to be mutated.
pub fn tiny_model() -> ModelConfig {
    ModelConfig {
        vocab_size: 6,
        hidden_size: 4,
        num_layers: 1,
        num_heads: 2,
        num_kv_heads: 1,
        head_dim: 2,
        mlp_size: 3,
        max_positions: 4,
        rope_theta: 10_000.0,
        rope_scaling: None,
        norm_eps: 1e-5,
        tied_embeddings: true,
        attention_bias: false,
        mlp_bias: false,
        bos_token: None,
        eos_tokens: vec![0],
    }
}
