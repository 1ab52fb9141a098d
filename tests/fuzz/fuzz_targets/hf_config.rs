//! `config.json` of a folder that somebody downloaded. There are no weights beside it, so nothing is opened in the end.
#![no_main]

use edgewise_fuzz::{folder, seed};
use edgewise_supernet::Checkpoint;
use libfuzzer_sys::fuzz_target;
use std::fs;

const LLAMA: &str = r#"{"architectures":["LlamaForCausalLM"],"hidden_size":2048,"num_attention_heads":32,
"num_key_value_heads":8,"num_hidden_layers":16,"intermediate_size":8192,"vocab_size":128256,"rms_norm_eps":1e-05,
"max_position_embeddings":131072,"rope_theta":500000.0,"tie_word_embeddings":true,"bos_token_id":128000,"hidden_act":"silu",
"eos_token_id":[128001,128008],"rope_scaling":{"factor":32.0,"low_freq_factor":1.0,"high_freq_factor":4.0,
"original_max_position_embeddings":8192,"rope_type":"llama3"},"head_dim":64,"attention_bias":false,"mlp_bias":false}"#;
const MISTRAL: &str = r#"{"model_type":"mistral","sliding_window":null,"hidden_size":64,"num_attention_heads":4,"vocab_size":9,
"num_hidden_layers":2,"intermediate_size":7,"rope_parameters":{"rope_type":"linear","factor":2,"rope_theta":1e6}}"#;

fuzz_target!(init: seed([LLAMA, MISTRAL].map(|text| text.as_bytes().to_vec())), |data: &[u8]| {
    let folder = folder();
    fs::write(folder.join("config.json"), data).expect("the temporary folder can be written");
    assert!(Checkpoint::open(folder).is_err(), "there are no weights");
});
