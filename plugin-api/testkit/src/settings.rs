//! Options as people write them, `cpu=1 wait=250ms`, turned into what the host sends.

use serde_json::{Value, json};
use vwatch_sdk::__private::{bytes, duration_ns, list};
use vwatch_sdk::describe::{OptionType, ProbeOption};
use vwatch_sdk::{JsonObject, ProbeError, Result};

/// Words are separated by white space. An unknown name crosses as a text, for the probe to refuse.
pub fn parse(text: &str, known: &[ProbeOption]) -> Result<JsonObject> {
    let mut given = JsonObject::new();
    for word in text.split_whitespace() {
        let Some((name, value)) = word.split_once('=') else {
            return Err(ProbeError::bad_input(format!("{word:?} is not of the form NAME=VALUE")));
        };
        let kind = known.iter().find(|o| o.name == name).map(|o| o.kind);
        given.insert(name.to_owned(), typed(name, value, kind)?);
    }
    Ok(given)
}

fn typed(name: &str, value: &str, kind: Option<OptionType>) -> Result<Value> {
    let read = match kind {
        Some(OptionType::Bool) => value.parse::<bool>().ok().map(|v| json!(v)),
        Some(OptionType::Integer) => value.parse::<i64>().ok().map(|v| json!(v)),
        Some(OptionType::Float) => value.parse::<f64>().ok().map(|v| json!(v)),
        Some(OptionType::Duration) => duration_ns(value).map(|v| json!(v)),
        Some(OptionType::Bytes) => bytes(value).map(|v| json!(v)),
        Some(OptionType::List) => Some(json!(list(value))),
        Some(OptionType::String) | None => Some(json!(value)),
    };
    read.ok_or_else(|| ProbeError::bad_option(name, format!("{value:?} cannot be read as {kind:?}")))
}
