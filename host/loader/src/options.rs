//! Options of a probe: from what a person wrote (`total=false window=5m`) to the typed values that cross the ABI.

use crate::fault::Fault;
use crate::manifest::{OptionType, ProbeEntry, ProbeOption};
use serde_json::{Map, Number, Value};
use vwatch_model::unit;

/// Reads options as people (text) or programs (JSON values) give them, and fills in the defaults. The answer has every
/// option that has a value, in the form in which it crosses; reading an answer again gives the same.
pub fn read_options(entry: &ProbeEntry, given: &Map<String, Value>) -> Result<Map<String, Value>, Fault> {
    for name in given.keys() {
        if !entry.options.iter().any(|o| o.name == *name) {
            return Err(unknown(entry, name));
        }
    }
    let mut values = Map::new();
    for option in &entry.options {
        match given.get(&option.name) {
            Some(value) if !value.is_null() => {
                let value = read(option.kind, value).map_err(|why| {
                    Fault::bad_input(format!("option {} of probe {}: {why}", option.name, entry.name))
                })?;
                values.insert(option.name.clone(), value);
            }
            _ if option.required => return Err(missing(entry, option)),
            _ if !option.default.is_null() => {
                values.insert(option.name.clone(), option.default.clone());
            }
            _ => {}
        }
    }
    Ok(values)
}

fn unknown(entry: &ProbeEntry, name: &str) -> Fault {
    let nearest = entry
        .options
        .iter()
        .map(|o| (strsim::damerau_levenshtein(name, &o.name), o.name.as_str()))
        .min()
        .filter(|(distance, known)| *distance <= 1 + known.len() / 3);
    let names: Vec<&str> = entry.options.iter().map(|o| o.name.as_str()).collect();
    let advice = match (nearest, names.is_empty()) {
        (Some((_, known)), _) => format!("did you mean {known}?"),
        (None, false) => format!("it has: {}", names.join(", ")),
        (None, true) => "it has none".to_owned(),
    };
    Fault::bad_input(format!("probe {} has no option {name:?}; {advice}", entry.name))
}

fn missing(entry: &ProbeEntry, option: &ProbeOption) -> Fault {
    let doc = option.doc.lines().next().unwrap_or_default();
    let doc = if doc.is_empty() {
        String::new()
    } else {
        format!(": {doc}")
    };
    Fault::bad_input(format!(
        "probe {} needs option {}=… ({}){doc}",
        entry.name,
        option.name,
        option.kind.word()
    ))
}

/// Whether a value already has the form in which a `kind` crosses.
pub(crate) fn crosses_as(kind: OptionType, value: &Value) -> bool {
    match kind {
        OptionType::Bool => value.is_boolean(),
        OptionType::Integer => value.is_i64(),
        OptionType::Float => value.is_number(),
        OptionType::String => value.is_string(),
        // Within i64 too: what crosses is read as a signed number in other languages.
        OptionType::Duration | OptionType::Bytes => value.as_i64().is_some_and(|n| n >= 0),
        OptionType::List => value.as_array().is_some_and(|a| a.iter().all(Value::is_string)),
    }
}

fn read(kind: OptionType, value: &Value) -> Result<Value, String> {
    if crosses_as(kind, value) && kind != OptionType::List {
        return Ok(value.clone());
    }
    match (kind, value) {
        (OptionType::List, Value::Array(items)) => items.iter().map(item).collect::<Result<_, _>>().map(Value::Array),
        (OptionType::String, Value::Number(_) | Value::Bool(_)) => Ok(Value::String(value.to_string())),
        (_, Value::String(text)) => read_text(kind, text),
        _ => Err(format!("{value} is no {}", kind.word())),
    }
}

/// An item of a list: a number given in JSON is meant as its text.
fn item(value: &Value) -> Result<Value, String> {
    match value {
        Value::String(_) => Ok(value.clone()),
        Value::Number(n) => Ok(Value::String(n.to_string())),
        _ => Err(format!("{value} in a list is no text")),
    }
}

fn read_text(kind: OptionType, text: &str) -> Result<Value, String> {
    let word = text.trim();
    match kind {
        OptionType::Bool => match word.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(Value::Bool(true)),
            "false" | "no" | "off" | "0" => Ok(Value::Bool(false)),
            _ => Err(format!("{text:?} is neither true nor false")),
        },
        OptionType::Integer => word
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| format!("{text:?} is not a whole number")),
        OptionType::Float => word
            .parse::<f64>()
            .ok()
            .and_then(Number::from_f64)
            .map(Value::Number)
            .ok_or_else(|| format!("{text:?} is not a number")),
        OptionType::String => Ok(Value::String(text.to_owned())),
        OptionType::Duration => {
            let duration = unit::parse_duration(word).map_err(|e| e.to_string())?;
            // parse_duration answers at most 9e18 ns.
            u64::try_from(duration.as_nanos())
                .map(Value::from)
                .map_err(|e| e.to_string())
        }
        OptionType::Bytes => unit::parse_bytes(word).map(Value::from).map_err(|e| e.to_string()),
        OptionType::List => Ok(Value::Array(
            text.split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(|part| Value::String(part.to_owned()))
                .collect(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Mode;
    use serde_json::json;
    use std::time::Duration;

    fn option(name: &str, kind: OptionType, default: Value, required: bool) -> ProbeOption {
        ProbeOption {
            name: name.into(),
            kind,
            doc: "What it is.\nMore.".into(),
            default,
            required,
        }
    }

    fn entry() -> ProbeEntry {
        ProbeEntry {
            name: "p".into(),
            doc: String::new(),
            tables: vec!["t".into()],
            mode: Mode::Poll,
            every: Duration::from_secs(1),
            default_on: true,
            options: vec![
                option("total", OptionType::Bool, json!(true), false),
                option("cpu", OptionType::Integer, Value::Null, false),
                option("share", OptionType::Float, Value::Null, false),
                option("label", OptionType::String, Value::Null, false),
                option("window", OptionType::Duration, json!(1_000), false),
                option("limit", OptionType::Bytes, Value::Null, false),
                option("names", OptionType::List, Value::Null, false),
                option("pid", OptionType::Integer, Value::Null, true),
            ],
        }
    }

    fn check(given: Value, expect: Value) {
        let read = read_options(&entry(), given.as_object().unwrap()).unwrap_or_else(|e| panic!("{given}: {e}"));
        assert_eq!(Value::Object(read.clone()), expect, "{given}");
        assert_eq!(read_options(&entry(), &read).unwrap(), read, "read again");
    }

    fn refused(given: Value, expect: &str) {
        let fault = read_options(&entry(), given.as_object().unwrap()).unwrap_err();
        assert_eq!(fault.message, expect);
        assert_eq!(fault.kind, crate::FaultKind::BadInput);
    }

    #[test]
    fn text_becomes_typed() {
        check(json!({"pid": "7"}), json!({"pid": 7, "total": true, "window": 1000}));
        check(
            json!({"pid": 7, "total": "off", "cpu": "-1", "share": "0.5", "label": "a, b ", "window": "250ms",
                   "limit": "4KiB", "names": "a, b,,c"}),
            json!({"pid": 7, "total": false, "cpu": -1, "share": 0.5, "label": "a, b ", "window": 250_000_000,
                   "limit": 4096, "names": ["a", "b", "c"]}),
        );
        check(
            json!({"pid": 7, "names": ["x", 5], "label": 12, "cpu": null, "share": 2}),
            json!({"pid": 7, "names": ["x", "5"], "label": "12", "share": 2, "total": true, "window": 1000}),
        );
    }

    #[test]
    fn mistakes_are_named() {
        refused(
            json!({"pid": 1, "widow": "5m"}),
            "probe p has no option \"widow\"; did you mean window?",
        );
        refused(
            json!({"pid": 1, "colour": "red"}),
            "probe p has no option \"colour\"; it has: total, cpu, share, label, window, limit, names, pid",
        );
        refused(json!({}), "probe p needs option pid=… (integer): What it is.");
        refused(
            json!({"pid": "x"}),
            "option pid of probe p: \"x\" is not a whole number",
        );
        refused(json!({"pid": 1.5}), "option pid of probe p: 1.5 is no integer");
        refused(
            json!({"pid": 1, "total": "maybe"}),
            "option total of probe p: \"maybe\" is neither true nor false",
        );
        refused(
            json!({"pid": 1, "window": "5"}),
            "option window of probe p: \"5\" is not a duration; write a number and a unit: 250ms, 10s, 5m, 2h, 1d",
        );
        refused(
            json!({"pid": 1, "window": -5}),
            "option window of probe p: -5 is no duration",
        );
        refused(
            json!({"pid": 1, "share": "NaN"}),
            "option share of probe p: \"NaN\" is not a number",
        );
        refused(
            json!({"pid": 1, "names": [{}]}),
            "option names of probe p: {} in a list is no text",
        );
    }
}
