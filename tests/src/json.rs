//! Looking into JSON documents; what is not there fails the test.

use serde_json::Value;
use std::collections::BTreeSet;

/// The elements of a list.
pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).unwrap_or_else(|| panic!("no list at {pointer}: {value}"))
}

/// A text.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no text at {pointer}: {value}"))
}

/// A number.
pub fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number at {pointer}: {value}"))
}

/// A whole number.
pub fn count(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no whole number at {pointer}: {value}"))
}

/// The keys of an object.
pub fn object_keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys().map(String::as_str).collect()
}

/// The ids of a search's candidates, in order.
pub fn ids(search: &Value) -> Vec<&str> {
    list(search, "/candidates").iter().map(|c| text(c, "/id")).collect()
}

/// The candidate with this id.
pub fn find<'a>(search: &'a Value, id: &str) -> &'a Value {
    let found = list(search, "/candidates").iter().find(|c| text(c, "/id") == id);
    found.unwrap_or_else(|| panic!("no candidate {id}: {search}"))
}

/// Candidates without the intervals of their measurements: those are made with the scatter of everything that the device has
/// measured, and so change with each further trial.
pub fn without_intervals(candidates: &[Value]) -> Vec<Value> {
    let mut out = candidates.to_vec();
    for measurement in out.iter_mut().filter_map(|c| c["measurements"].as_array_mut()).flatten() {
        for quantity in ["ttft_ms", "tpot_ms", "latency_ms"] {
            measurement[quantity].as_object_mut().expect("an estimate is an object").remove("ci95").expect("it has an interval");
        }
    }
    out
}
