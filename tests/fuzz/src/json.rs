//! Changes of JSON that keep it JSON: flipped bytes rarely get past the syntax.

use crate::Dice;
use serde_json::{Map, Value, json};

/// A mutation for [`libfuzzer_sys::fuzz_mutator`]: mostly of a value in the text behind the first `skip` bytes, else of bytes.
pub fn mutate_json(skip: usize, data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut dice = Dice::new(seed);
    if dice.below(4) > 0
        && let Some(text) = data[..size].get(skip..)
        && let Ok(mut value) = serde_json::from_slice::<Value>(text)
    {
        for _ in 0..=dice.below(3) {
            change_json(&mut value, &mut dice);
        }
        let text = value.to_string();
        if skip + text.len() <= max_size {
            data[skip..skip + text.len()].copy_from_slice(text.as_bytes());
            return skip + text.len();
        }
    }
    libfuzzer_sys::fuzzer_mutate(data, size, max_size)
}

/// Changes one value somewhere in `whole`.
pub fn change_json(whole: &mut Value, dice: &mut Dice) {
    let (from, to) = (dice.below(count(whole)), dice.below(count(whole)));
    let other = nth(whole, &mut { from }).map(|value| value.clone()).unwrap_or_default();
    let Some(value) = nth(whole, &mut { to }) else { return };
    if dice.below(12) == 0 {
        *value = other;
        return;
    }
    match value {
        Value::Null => *value = [json!(0), json!({}), json!([]), json!("")][dice.below(4)].clone(),
        Value::Bool(flag) => *flag = !*flag,
        Value::Number(_) => *value = number(value, dice),
        Value::String(text) => change_text(text, other.as_str(), dice),
        Value::Array(values) => change_list(values, other, dice),
        Value::Object(fields) => change_fields(fields, other, dice),
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(values) => values.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

fn nth<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Array(values) => values.iter_mut().find_map(|inner| nth(inner, left)),
        Value::Object(fields) => fields.values_mut().find_map(|inner| nth(inner, left)),
        _ => None,
    }
}

fn number(value: &Value, dice: &mut Dice) -> Value {
    let near = value.as_u64().unwrap_or_default();
    match dice.below(8) {
        0 => json!(near.wrapping_add(1)),
        1 => json!(near.wrapping_sub(1)),
        2 => json!(near.wrapping_mul(2)),
        3 => json!(dice.below(20)),
        4 => json!(1u64 << dice.below(64)),
        5 => json!((1u64 << dice.below(64)).wrapping_sub(1)),
        6 => [json!(-1), json!(i64::MIN), json!(-0.0), json!(u64::MAX)][dice.below(4)].clone(),
        _ => [json!(0.5), json!(1e-320), json!(1e308), json!(-1e39), json!(1.000_000_1)][dice.below(5)].clone(),
    }
}

fn change_text(text: &mut String, other: Option<&str>, dice: &mut Dice) {
    let at = text.char_indices().map(|(at, _)| at).nth(dice.below(text.chars().count() + 1)).unwrap_or(text.len());
    match dice.below(6) {
        0 => text.clear(),
        1 => text.truncate(at),
        2 => text.insert(at, ['.', '/', '\0', '0', 'A', 'é', '\u{10ffff}'][dice.below(7)]),
        3 => ["..", "/", "a/b", "-", "0", "manifest.json"][dice.below(6)].clone_into(text),
        4 => *text = text.repeat(1 + dice.below(8)),
        _ => other.unwrap_or_default().clone_into(text),
    }
}

fn change_list(values: &mut Vec<Value>, other: Value, dice: &mut Dice) {
    let at = dice.below(values.len());
    match dice.below(5) {
        0 => values.push(other),
        _ if values.is_empty() => {}
        1 => drop(values.remove(at)),
        2 => values.insert(at, values[at].clone()),
        3 => values.swap(at, 0),
        _ => values.truncate(at),
    }
}

fn change_fields(fields: &mut Map<String, Value>, other: Value, dice: &mut Dice) {
    let key = fields.keys().nth(dice.below(fields.len())).cloned().unwrap_or_default();
    match dice.below(4) {
        0 => drop(fields.remove(&key)),
        1 => drop(fields.insert(key + "_", other)),
        _ => drop(fields.insert(key, other)),
    }
}
