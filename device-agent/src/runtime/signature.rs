//! The inputs and outputs of a decoder graph, told by their names: Optimum's convention.
//!
//! Both runtimes take inputs by position here, so that a step costs no look-up by name.

use std::collections::HashMap;

/// What one input of the graph is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// Token ids, `[batch, sequence]`.
    Ids,
    /// Ones over the cache and the new tokens, `[batch, past + sequence]`.
    Mask,
    /// Positions of the new tokens, `[batch, sequence]`.
    Positions,
    /// How many last rows get logits; a scalar.
    LogitsToKeep,
    /// Part of the cache, by its index among the parts.
    Past(usize),
}

/// What one output of the graph is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// `[batch, rows, vocabulary]`.
    Logits,
    /// The part of the cache with this index, grown by the new tokens.
    Present(usize),
}

/// The order of a graph's inputs and outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) inputs: Vec<Input>,
    pub(super) outputs: Vec<Output>,
    /// Parts of the cache: keys and values of every layer.
    pub(super) parts: usize,
}

impl Signature {
    /// Recognises inputs and outputs by their names; says what is strange otherwise.
    pub(super) fn new<'a>(inputs: impl Iterator<Item = &'a str>, outputs: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut parts: HashMap<&str, usize> = HashMap::new();
        let inputs = inputs
            .map(|name| match name {
                "input_ids" => Ok(Input::Ids),
                "attention_mask" => Ok(Input::Mask),
                "position_ids" => Ok(Input::Positions),
                "num_logits_to_keep" => Ok(Input::LogitsToKeep),
                _ => {
                    let part = name.strip_prefix("past_key_values.").ok_or_else(|| format!("unknown input `{name}`"))?;
                    let index = parts.len();
                    match parts.insert(part, index) {
                        None => Ok(Input::Past(index)),
                        Some(_) => Err(format!("two inputs `{name}`")),
                    }
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        let count = parts.len();
        let outputs = outputs
            .map(|name| match name {
                "logits" => Ok(Output::Logits),
                _ => name
                    .strip_prefix("present.")
                    .and_then(|part| parts.remove(part))
                    .map(Output::Present)
                    .ok_or_else(|| format!("output `{name}` belongs to no input")),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(part) = parts.keys().min() {
            return Err(format!("input `past_key_values.{part}` has no output `present.{part}`"));
        }
        if outputs.iter().filter(|&&output| output == Output::Logits).count() != 1 {
            return Err("not one output `logits`".to_owned());
        }
        if !inputs.contains(&Input::Ids) {
            return Err("no input `input_ids`".to_owned());
        }
        Ok(Self { inputs, outputs, parts: count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(inputs: &[&str], outputs: &[&str]) -> Result<Signature, String> {
        Signature::new(inputs.iter().copied(), outputs.iter().copied())
    }

    #[test]
    fn any_order_is_recognised() {
        let got = signature(
            &["past_key_values.1.key", "input_ids", "past_key_values.0.value", "attention_mask"],
            &["present.0.value", "logits", "present.1.key"],
        )
        .unwrap();
        assert_eq!(got.inputs, [Input::Past(0), Input::Ids, Input::Past(1), Input::Mask]);
        assert_eq!(got.outputs, [Output::Present(1), Output::Logits, Output::Present(0)]);
        assert_eq!(got.parts, 2);
    }

    #[test]
    fn what_is_strange_is_named() {
        let (ids, past) = ("input_ids", "past_key_values.0.key");
        assert_eq!(signature(&[ids, "pixels"], &["logits"]).unwrap_err(), "unknown input `pixels`");
        assert_eq!(signature(&[ids, past, past], &["logits"]).unwrap_err(), format!("two inputs `{past}`"));
        assert!(signature(&[ids, past], &["logits"]).unwrap_err().contains("no output `present.0.key`"));
        assert!(signature(&[ids], &["logits", "present.0.key"]).unwrap_err().contains("belongs to no input"));
        assert!(signature(&[ids], &[]).unwrap_err().contains("logits"));
        assert!(signature(&["attention_mask"], &["logits"]).unwrap_err().contains("input_ids"));
    }
}
