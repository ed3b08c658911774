//! Documents of the control socket as answers: JSON as they are, every other form as rows.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use vwatch_client::batch_from_rows;
use vwatch_client::output::{Format, OutputError, escape_controls, pad};
use vwatch_model::table::Column;
use vwatch_model::unit::format_duration;

use crate::context::{Context, stdout};
use crate::failure::{Failed, say};

/// Rows laid out in columns.
pub struct Listing {
    pub columns: Vec<Column>,
    pub rows: Vec<Map<String, Value>>,
}

impl Listing {
    pub fn print(&self, context: &Context) -> Result<(), Failed> {
        let batch =
            batch_from_rows(&self.columns, &self.rows, &context.zone()).map_err(|source| OutputError::Encode {
                format: "rows",
                what: source.to_string(),
            })?;
        let mut sink = context.listing_sink()?;
        sink.schema(&batch.schema())?;
        sink.rows(&batch)?;
        for note in sink.finish()? {
            say(&format!("note: {note}\n"));
        }
        Ok(())
    }
}

/// A list of documents: whole in the two JSON forms, as `listing` lays them out otherwise.
pub fn print_list<T: Serialize>(
    context: &Context,
    items: &[T],
    listing: impl FnOnce(&[T]) -> Listing,
) -> Result<(), Failed> {
    match context.format {
        Format::Json => print_json(&serde_json::to_string_pretty(items)),
        Format::Jsonl => items
            .iter()
            .try_for_each(|item| print_json(&serde_json::to_string(item))),
        _ => listing(items).print(context),
    }
}

/// One document: `text` for people, JSON in the JSON forms, else as a list of one.
pub fn print_one<T: Serialize>(
    context: &Context,
    item: &T,
    text: impl FnOnce(&T) -> String,
    listing: impl FnOnce(&[T]) -> Listing,
) -> Result<(), Failed> {
    match context.format {
        Format::Table => print_text(&text(item)),
        Format::Json => print_json(&serde_json::to_string_pretty(item)),
        _ => print_list(context, std::slice::from_ref(item), listing),
    }
}

pub fn print_text(text: &str) -> Result<(), Failed> {
    let mut out = stdout();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn print_json(text: &serde_json::Result<String>) -> Result<(), Failed> {
    match text {
        Ok(text) => print_text(&format!("{text}\n")),
        Err(e) => Err(Failed::because(format!("cannot write the answer as JSON: {e}"))),
    }
}

/// `key  value` lines, the values aligned; lines of a longer value are indented under its first.
pub fn key_values(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (key, value) in pairs {
        let _ = writeln!(text, "{}  {}", pad(key, width, false), clean(value));
    }
    text
}

/// What others wrote, made fit for a terminal.
pub fn clean(text: &str) -> String {
    let mut out = String::new();
    escape_controls(text, &mut out);
    out
}

/// `1.5 GiB`.
pub fn human_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// A span to two units at most: `3h 12m`, `4.2s`.
pub fn human_span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", span.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// `250ms`, `1s`.
pub fn every(ms: u64) -> String {
    format_duration(Duration::from_millis(ms))
}

/// Microseconds of CPU per run: `85 us`, `1.4 ms`.
pub fn human_cpu(us: f64) -> String {
    match us {
        us if us < 1000.0 => format!("{us:.0} us"),
        us if us < 1_000_000.0 => format!("{:.1} ms", us / 1000.0),
        us => format!("{:.1} s", us / 1_000_000.0),
    }
}

/// A number as its column's unit has it: `1.5 GiB`, `1.4 ms`, `12.5 %`; bare where the unit says nothing more.
pub fn human_number(value: f64, unit: &str) -> String {
    let size = value.abs();
    let sign = if value < 0.0 { "-" } else { "" };
    match unit {
        // Saturates at the ends of u64, which no memory reaches.
        "bytes" => format!("{sign}{}", human_bytes(size.round() as u64)),
        "ns" => format!("{sign}{}", human_time(size / 1000.0)),
        "us" => format!("{sign}{}", human_time(size)),
        "percent" => format!("{} %", human_float(value)),
        _ => human_float(value),
    }
}

fn human_time(us: f64) -> String {
    match us {
        us if us < 10_000_000.0 => human_cpu(us),
        us => human_span(Duration::from_secs_f64((us / 1_000_000.0).min(1e15))),
    }
}

/// Whole numbers whole, others to two decimals.
fn human_float(value: f64) -> String {
    match value.fract() == 0.0 {
        true => format!("{value}"),
        false => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_for_people() {
        assert_eq!(human_bytes(1023), "1023 B");
        assert_eq!(human_bytes(1536), "1.5 KiB");
        assert_eq!(human_bytes(3 << 40), "3.0 TiB");
        assert_eq!(human_span(Duration::from_millis(4230)), "4.2s");
        assert_eq!(human_span(Duration::from_secs(11_525)), "3h 12m");
        assert_eq!(human_span(Duration::from_secs(90_000)), "1d 1h");
        assert_eq!(human_cpu(1420.0), "1.4 ms");
        assert_eq!(human_number(-1536.0, "bytes"), "-1.5 KiB");
        assert_eq!(human_number(1_420_000.0, "ns"), "1.4 ms");
        assert_eq!(human_number(90e9, "ns"), "1m 30s");
        assert_eq!(human_number(12.5, "percent"), "12.50 %");
        assert_eq!(human_number(7.0, "ticks"), "7");
    }
}
