//! The output directory, in Hugging Face layout.
//!
//! Files are written beside their place and renamed, so that a reader sees an old or a new file
//! and never half of one.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::data;
use crate::model::Model;

/// Replaces a file in one step.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    std::fs::write(&partial, bytes)
        .and_then(|()| std::fs::rename(&partial, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    write(path, text.as_bytes())
}

/// Writes weights, tokenizer, configuration and `training.json`, the account of the run.
pub(crate) fn save(directory: &Path, model: &Model, tokenizer: &Tokenizer, training: &Value) -> Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let tokenizer = tokenizer.to_string(false).map_err(|error| anyhow!("cannot write the tokenizer as JSON: {error}"))?;
    write(&directory.join("tokenizer.json"), tokenizer.as_bytes())?;
    write_json(&directory.join("config.json"), &model.config().to_json(data::END_OF_TEXT_ID))?;
    // Readers of the `transformers` family refuse a file that does not name its tensors' origin.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let weights = safetensors::serialize(model.tensors()?, Some(metadata))?;
    write(&directory.join("model.safetensors"), &weights)?;
    write_json(&directory.join("training.json"), training)
}
