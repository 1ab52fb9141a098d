//! `config.json` of Hugging Face's Llama family.

use crate::Error;
use edgewise_onnx::{ModelConfig, RopeScaling};
use serde_json::Value;
use std::path::Path;

struct Reader<'a> {
    json: &'a Value,
    path: &'a Path,
}

impl Reader<'_> {
    fn bad(&self, reason: String) -> Error {
        Error::BadConfig { path: self.path.to_owned(), reason }
    }

    fn find(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|v| !v.is_null())
    }

    fn size(&self, key: &str) -> Result<usize, Error> {
        self.size_or(key, None)
    }

    fn size_or(&self, key: &str, default: Option<usize>) -> Result<usize, Error> {
        match (self.find(key), default) {
            (None, Some(value)) => Ok(value),
            (None, None) => Err(self.bad(format!("`{key}` is missing"))),
            (Some(value), _) => value
                .as_u64()
                .and_then(|v| usize::try_from(v).ok())
                .ok_or_else(|| self.bad(format!("`{key}` is {value}, a whole number is needed"))),
        }
    }

    fn number_or(&self, object: &Value, key: &str, default: Option<f64>) -> Result<f64, Error> {
        match (object.get(key).filter(|v| !v.is_null()), default) {
            (None, Some(value)) => Ok(value),
            (None, None) => Err(self.bad(format!("`{key}` is missing"))),
            (Some(value), _) => value.as_f64().ok_or_else(|| self.bad(format!("`{key}` is {value}, a number is needed"))),
        }
    }

    fn flag(&self, key: &str) -> Result<bool, Error> {
        self.find(key)
            .map_or(Ok(false), |v| v.as_bool().ok_or_else(|| self.bad(format!("`{key}` is {v}, true or false is needed"))))
    }

    /// A token number, or the tokens of a list.
    fn tokens(&self, key: &str) -> Result<Vec<u32>, Error> {
        let one = |v: &Value| {
            v.as_u64()
                .and_then(|t| u32::try_from(t).ok())
                .ok_or_else(|| self.bad(format!("`{key}` holds {v}, a token is needed")))
        };
        match self.find(key) {
            None => Ok(vec![]),
            Some(Value::Array(list)) => list.iter().map(one).collect(),
            Some(value) => Ok(vec![one(value)?]),
        }
    }
}

/// Reads the architecture from the text of `config.json`.
///
/// # Errors
/// [`Error::BadConfig`] naming the key, [`Error::Architecture`].
pub(crate) fn parse(text: &str, path: &Path) -> Result<ModelConfig, Error> {
    let json: Value =
        serde_json::from_str(text).map_err(|e| Error::BadConfig { path: path.to_owned(), reason: format!("not JSON: {e}") })?;
    let r = Reader { json: &json, path };
    let architecture = json["architectures"][0].as_str().or(json["model_type"].as_str()).unwrap_or("(none named)");
    match architecture {
        "LlamaForCausalLM" | "llama" => {}
        "MistralForCausalLM" | "mistral" if r.find("sliding_window").is_none() => {}
        other => return Err(Error::Architecture { path: path.to_owned(), found: other.to_owned() }),
    }
    if let Some(act) = r.find("hidden_act").filter(|act| act.as_str() != Some("silu")) {
        return Err(r.bad(format!("`hidden_act` is {act}, only \"silu\" is supported")));
    }
    let hidden_size = r.size("hidden_size")?;
    let num_heads = r.size("num_attention_heads")?;
    let default_head = hidden_size.checked_div(num_heads).filter(|_| hidden_size.is_multiple_of(num_heads));
    // Newer files keep the base of the frequencies together with their scaling.
    let rope = r.find("rope_parameters").or_else(|| r.find("rope_scaling")).cloned().unwrap_or(Value::Null);
    let theta_default = r.number_or(&json, "rope_theta", Some(10_000.0))?;
    let config = ModelConfig {
        vocab_size: r.size("vocab_size")?,
        hidden_size,
        num_layers: r.size("num_hidden_layers")?,
        num_heads,
        num_kv_heads: r.size_or("num_key_value_heads", Some(num_heads))?,
        head_dim: r.size_or("head_dim", default_head)?,
        mlp_size: r.size("intermediate_size")?,
        max_positions: r.size_or("max_position_embeddings", Some(2048))?,
        rope_theta: r.number_or(&rope, "rope_theta", Some(theta_default))?,
        rope_scaling: scaling(&r, &rope)?,
        norm_eps: r.number_or(&json, "rms_norm_eps", Some(1e-6))?,
        tied_embeddings: r.flag("tie_word_embeddings")?,
        attention_bias: r.flag("attention_bias")?,
        mlp_bias: r.flag("mlp_bias")?,
        bos_token: r.tokens("bos_token_id")?.first().copied(),
        eos_tokens: r.tokens("eos_token_id")?,
    };
    config.validate().map_err(|e| r.bad(e.to_string()))?;
    Ok(config)
}

fn scaling(r: &Reader<'_>, rope: &Value) -> Result<Option<RopeScaling>, Error> {
    let kind = rope.get("rope_type").or_else(|| rope.get("type")).and_then(Value::as_str);
    Ok(match kind {
        None | Some("default") => None,
        Some("linear") => Some(RopeScaling::Linear { factor: r.number_or(rope, "factor", None)? }),
        Some("llama3") => Some(RopeScaling::Llama3 {
            factor: r.number_or(rope, "factor", None)?,
            low_freq_factor: r.number_or(rope, "low_freq_factor", None)?,
            high_freq_factor: r.number_or(rope, "high_freq_factor", None)?,
            original_max_positions: r.number_or(rope, "original_max_position_embeddings", None)?,
        }),
        Some(other) => return Err(r.bad(format!("rope scaling `{other}` is not supported (linear and llama3 are)"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<ModelConfig, Error> {
        parse(text, Path::new("config.json"))
    }

    const LLAMA: &str = r#"{"architectures":["LlamaForCausalLM"],"hidden_size":2048,"num_attention_heads":32,
        "num_key_value_heads":8,"num_hidden_layers":16,"intermediate_size":8192,"vocab_size":128256,"rms_norm_eps":1e-05,
        "max_position_embeddings":131072,"rope_theta":500000.0,"tie_word_embeddings":true,"bos_token_id":128000,
        "eos_token_id":[128001,128008],"rope_scaling":{"factor":32.0,"low_freq_factor":1.0,"high_freq_factor":4.0,
        "original_max_position_embeddings":8192,"rope_type":"llama3"}}"#;

    #[test]
    fn llama_3_2_is_read_whole() {
        let config = read(LLAMA).unwrap();
        assert_eq!((config.head_dim, config.heads_per_group(), config.eos_tokens.len()), (64, 4, 2));
        assert!(matches!(config.rope_scaling, Some(RopeScaling::Llama3 { .. })));
        assert_eq!(config.parameters(&config.full()), 1_235_814_400);
    }

    #[test]
    fn other_architectures_are_named() {
        let error = read(&LLAMA.replace("LlamaForCausalLM", "GPT2LMHeadModel")).unwrap_err();
        assert!(error.to_string().contains("GPT2LMHeadModel") && error.to_string().contains("LlamaForCausalLM"), "{error}");
    }

    #[test]
    fn contradictions_name_the_key() {
        for (from, to, says) in [
            ("\"hidden_size\":2048", "\"hidden_size\":\"big\"", "hidden_size"),
            ("\"num_key_value_heads\":8", "\"num_key_value_heads\":7", "7 key/value heads"),
            ("\"intermediate_size\":8192,", "", "intermediate_size"),
            ("llama3", "yarn", "yarn"),
            ("\"num_attention_heads\":32", "\"num_attention_heads\":0", "head_dim"),
        ] {
            let error = read(&LLAMA.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(says), "{error} should name {says}");
        }
    }

    proptest! {
        #[test]
        fn hostile_text_never_panics(at in 0usize..600, with in "[\\x00-\\x7f]{0,6}") {
            let mut text = LLAMA.to_owned();
            let at = at.min(text.len());
            text.insert_str(at, &with);
            let _ = read(&text);
        }
    }
}
