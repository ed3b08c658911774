//! Values of a column as text and as JSON, the same for every format.

use std::fmt::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int64Type, UInt64Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int64Array, ListArray, StringArray,
    StructArray, UInt64Array,
};
use arrow_cast::cast;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

/// One column of a batch, widened to the few forms that are written.
pub struct Cells {
    array: ArrayRef,
    form: Form,
}

enum Form {
    Null,
    Bool(BooleanArray),
    Int(Int64Array),
    UInt(UInt64Array),
    Float(Float64Array),
    Float32(Float32Array),
    Text(StringArray),
    Bytes(BinaryArray),
    Time(Int64Array, TimeUnit, Option<TimeZone>),
    List(ListArray, Box<Cells>),
    Struct(StructArray, Vec<Cells>),
}

impl Cells {
    pub fn new(array: &ArrayRef) -> Result<Cells, ArrowError> {
        use DataType::*;
        let to = |kind: &DataType| cast(array, kind);
        let form = match array.data_type() {
            Null => Form::Null,
            Boolean => Form::Bool(array.as_boolean().clone()),
            Int8 | Int16 | Int32 | Int64 => Form::Int(to(&Int64)?.as_primitive::<Int64Type>().clone()),
            UInt8 | UInt16 | UInt32 | UInt64 => Form::UInt(to(&UInt64)?.as_primitive::<UInt64Type>().clone()),
            Float32 => Form::Float32(array.as_primitive::<Float32Type>().clone()),
            Float64 => Form::Float(array.as_primitive::<Float64Type>().clone()),
            Utf8 | LargeUtf8 | Utf8View => Form::Text(to(&Utf8)?.as_string::<i32>().clone()),
            Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => {
                Form::Bytes(to(&Binary)?.as_binary::<i32>().clone())
            }
            Timestamp(unit, zone) => {
                let count = to(&Int64)?.as_primitive::<Int64Type>().clone();
                Form::Time(count, *unit, zone.as_deref().map(time_zone))
            }
            List(_) => {
                let list = array.as_list::<i32>().clone();
                let items = Cells::new(list.values())?;
                Form::List(list, Box::new(items))
            }
            LargeList(item) => {
                let list = to(&List(item.clone()))?;
                return Cells::new(&list);
            }
            Struct(_) => {
                let fields = array.as_struct().clone();
                let cells = fields.columns().iter().map(Cells::new).collect::<Result<_, _>>()?;
                Form::Struct(fields, cells)
            }
            _ => Form::Text(formatted(array)?),
        };
        Ok(Cells {
            array: array.clone(),
            form,
        })
    }

    pub fn is_null(&self, row: usize) -> bool {
        matches!(self.form, Form::Null) || self.array.is_null(row)
    }

    /// As text with every digit; nothing for NULL.
    pub fn text(&self, row: usize, out: &mut String) {
        if self.is_null(row) {
            return;
        }
        match &self.form {
            Form::Text(a) => out.push_str(a.value(row)),
            Form::Bytes(a) => hex(a.value(row), out),
            Form::Time(a, unit, zone) => time(a.value(row), *unit, zone.as_ref(), Shape::Exact, out),
            Form::Float(a) if !a.value(row).is_finite() => put(out, a.value(row)),
            Form::Float32(a) if !a.value(row).is_finite() => put(out, a.value(row)),
            _ => self.json(row, out),
        }
    }

    /// As a person reads it: times to the millisecond, floats to six decimals, no control characters.
    pub fn readable(&self, row: usize, out: &mut String) {
        if self.is_null(row) {
            return;
        }
        match &self.form {
            Form::Time(a, unit, zone) => time(a.value(row), *unit, zone.as_ref(), Shape::Readable, out),
            Form::Float(a) => readable_float(a.value(row), out),
            Form::Float32(a) => readable_float(f64::from(a.value(row)), out),
            Form::Text(a) => escape_controls(a.value(row), out),
            _ => {
                let mut text = String::new();
                self.text(row, &mut text);
                escape_controls(&text, out);
            }
        }
    }

    pub fn json(&self, row: usize, out: &mut String) {
        if self.is_null(row) {
            out.push_str("null");
            return;
        }
        match &self.form {
            Form::Null => out.push_str("null"),
            Form::Bool(a) => out.push_str(if a.value(row) { "true" } else { "false" }),
            Form::Int(a) => put(out, a.value(row)),
            Form::UInt(a) => put(out, a.value(row)),
            Form::Float(a) => json_float(serde_json::Number::from_f64(a.value(row)), out),
            // Through its own shortest writing: 0.1f32 is 0.1, not 0.10000000149.
            Form::Float32(a) => {
                let shortest: Option<f64> = a.value(row).to_string().parse().ok();
                json_float(shortest.and_then(serde_json::Number::from_f64), out);
            }
            Form::Text(a) => json_string(a.value(row), out),
            Form::Bytes(a) => {
                out.push('"');
                hex(a.value(row), out);
                out.push('"');
            }
            Form::Time(a, unit, zone) => {
                out.push('"');
                time(a.value(row), *unit, zone.as_ref(), Shape::Exact, out);
                out.push('"');
            }
            Form::List(list, items) => {
                let offsets = list.value_offsets();
                out.push('[');
                for (n, item) in (offsets[row] as usize..offsets[row + 1] as usize).enumerate() {
                    out.push_str(if n > 0 { "," } else { "" });
                    items.json(item, out);
                }
                out.push(']');
            }
            Form::Struct(fields, cells) => {
                out.push('{');
                for (n, (name, cell)) in fields.column_names().iter().zip(cells).enumerate() {
                    out.push_str(if n > 0 { "," } else { "" });
                    json_string(name, out);
                    out.push(':');
                    cell.json(row, out);
                }
                out.push('}');
            }
        }
    }
}

/// Types without a form of their own (dates, intervals, decimals): as Arrow writes them.
fn formatted(array: &ArrayRef) -> Result<StringArray, ArrowError> {
    let options = FormatOptions::default();
    let format = ArrayFormatter::try_new(array.as_ref(), &options)?;
    let cell = |row| match array.is_null(row) {
        true => Ok(None),
        false => format.value(row).try_to_string().map(Some),
    };
    (0..array.len()).map(cell).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// RFC 3339, all digits, the offset.
    Exact,
    /// To the millisecond, without the offset.
    Readable,
}

fn time(count: i64, unit: TimeUnit, zone: Option<&TimeZone>, shape: Shape, out: &mut String) {
    let scale: i128 = match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    };
    let ns = i128::from(count) * scale;
    let form = match (shape, zone) {
        (Shape::Readable, _) => "%Y-%m-%d %H:%M:%S%.3f",
        (Shape::Exact, Some(_)) => "%Y-%m-%dT%H:%M:%S%.f%:z",
        (Shape::Exact, None) => "%Y-%m-%dT%H:%M:%S%.f",
    };
    match Timestamp::from_nanosecond(ns) {
        Ok(at) => put(out, at.to_zoned(zone.cloned().unwrap_or(TimeZone::UTC)).strftime(form)),
        // Outside the years that have a calendar writing.
        Err(_) => put(out, format_args!("@{ns}ns")),
    }
}

/// An IANA name or an offset like `+02:00`; UTC where this machine knows neither.
fn time_zone(name: &str) -> TimeZone {
    if let Some(offset) = offset(name) {
        return TimeZone::fixed(offset);
    }
    TimeZone::get(name).unwrap_or(TimeZone::UTC)
}

fn offset(name: &str) -> Option<Offset> {
    let sign = match name.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = name[1..].split_once(':').unwrap_or((&name[1..], "0"));
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let known = (0..24).contains(&hours) && (0..60).contains(&minutes);
    known.then(|| Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok())?
}

fn readable_float(value: f64, out: &mut String) {
    let size = value.abs();
    if !value.is_finite() {
        put(out, value);
    } else if size != 0.0 && !(1e-4..1e15).contains(&size) {
        let text = format!("{value:.6e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let digits = digits.trim_end_matches('0').trim_end_matches('.');
        put(out, format_args!("{digits}e{exponent}"));
    } else {
        let text = format!("{value:.6}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        out.push_str(text);
    }
}

fn json_float(number: Option<serde_json::Number>, out: &mut String) {
    match number {
        Some(number) => put(out, number),
        None => out.push_str("null"),
    }
}

/// JSON leaves DEL and the C1 controls as they are; a terminal would obey them.
pub(super) fn json_string(text: &str, out: &mut String) {
    let quoted = serde_json::Value::String(text.to_owned()).to_string();
    for c in quoted.chars() {
        match c {
            '\u{7f}'..='\u{9f}' => put(out, format_args!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
}

fn hex(bytes: &[u8], out: &mut String) {
    bytes.iter().for_each(|b| put(out, format_args!("{b:02x}")));
}

/// Text for a terminal: what is recorded may hold escape sequences, and must not be obeyed.
pub fn escape_controls(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => put(out, format_args!("\\x{:02x}", u32::from(c))),
            // Marks that turn the direction of the text around them.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                put(out, c.escape_unicode());
            }
            c => out.push(c),
        }
    }
}

fn put(out: &mut String, value: impl std::fmt::Display) {
    // Writing to a string cannot fail.
    let _ = write!(out, "{value}");
}
