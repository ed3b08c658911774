//! Differences in words: which rows started and ended, and what of the others changed by how much.
//!
//! Counters (columns that only ever grow) are told as what they grew by, and how fast; sizes and times with their units. Where a
//! counter is smaller than before, it began anew, and has grown by all that it says.

use std::collections::HashMap;

use arrow_schema::DataType;
use vwatch_client::output::{pad, shorten};

use super::{Change, Picture};
use crate::listing::human_bytes;

/// What is known of a column beside its values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trait {
    pub unit: String,
    pub counter: bool,
}

/// Both pictures, and how to speak of them.
pub struct Words<'a> {
    pub table: &'a str,
    pub before: &'a Picture,
    pub after: &'a Picture,
    pub traits: &'a HashMap<String, Trait>,
    /// Between the two moments that were asked for.
    pub asked_ns: i64,
    pub width: Option<usize>,
    pub color: bool,
}

/// Columns that tell apart what has the same other keys, and nothing to a person.
const SILENT_KEYS: [&str; 1] = ["start_ticks"];
/// A row that came or went is told by so many of its columns where the width has no end.
const MOST_TOLD: usize = 12;

impl Words<'_> {
    /// `12 started, 3 ended, 40 changed, 160 the same`.
    pub fn summary(&self, changes: &[Change]) -> String {
        let count = |wanted: fn(&Change) -> bool| changes.iter().filter(|c| wanted(c)).count();
        let came = count(|c| matches!(c, Change::Came(_)));
        let went = count(|c| matches!(c, Change::Went(_)));
        let changed = count(|c| matches!(c, Change::Changed(..)));
        let same = self.after.rows.num_rows() - came - changed;
        let [began, ended] = self.verbs();
        format!("{came} {began}, {went} {ended}, {changed} changed, {same} the same")
    }

    /// Processes start and end; a mount comes and goes.
    fn verbs(&self) -> [&'static str; 2] {
        match self.after.keys.iter().any(|&c| self.after.name(c) == "pid") {
            true => ["started", "ended"],
            false => ["came", "went"],
        }
    }

    pub fn lines(&self, changes: &[Change]) -> String {
        let [began, ended] = self.verbs();
        let label = self.label_column();
        let told: Vec<(&str, &str, String, String)> = changes
            .iter()
            .map(|change| match *change {
                Change::Went(a) => (
                    ended,
                    "31",
                    self.key(self.before, a, label),
                    self.row(self.before, a, label),
                ),
                Change::Came(b) => (
                    began,
                    "32",
                    self.key(self.after, b, label),
                    self.row(self.after, b, label),
                ),
                Change::Changed(a, b) => ("changed", "33", self.key(self.after, b, label), self.alterations(a, b)),
            })
            .collect();
        let width = |part: fn(&(&str, &str, String, String)) -> usize| told.iter().map(part).max().unwrap_or(0);
        let (verbs, keys) = (width(|t| t.0.chars().count()), width(|t| t.2.chars().count()));
        let mut text = format!(
            "--- {} at {}\n+++ {} at {}\n",
            self.table, self.before.at, self.table, self.after.at
        );
        for (verb, code, key, what) in &told {
            let gap = if keys > 0 { "  " } else { "" };
            let line = format!("{}  {}{gap}{what}", pad(verb, verbs, false), pad(key, keys, false));
            let line = self.width.map_or(line.clone(), |width| shorten(&line, width));
            let line = line.trim_end();
            text.push_str(&match self.color {
                true => format!("\x1b[{code}m{line}\x1b[0m\n"),
                false => format!("{line}\n"),
            });
        }
        text
    }

    /// The column that a person knows a row by: the first text that is no key.
    fn label_column(&self) -> Option<usize> {
        let is_text = |c: &&usize| *self.after.rows.column(**c).data_type() == DataType::Utf8;
        self.after.compared.iter().find(is_text).copied()
    }

    fn key(&self, picture: &Picture, row: usize, label: Option<usize>) -> String {
        let loud = |c: &&usize| picture.keys.len() == 1 || !SILENT_KEYS.contains(&&*picture.name(**c));
        let keys: Vec<usize> = picture.keys.iter().filter(loud).copied().collect();
        let label = label.filter(|&c| !picture.cells[c].is_null(row));
        let name = label.map(|c| picture.readable(c, row)).filter(|name| !name.is_empty());
        let keys = picture.pairs(&keys, row);
        match name {
            Some(name) if keys.is_empty() => name,
            Some(name) => format!("{keys} {name}"),
            None => keys,
        }
    }

    /// What a row says of itself: everything that is not nothing.
    fn row(&self, picture: &Picture, row: usize, label: Option<usize>) -> String {
        let says = |c: &&usize| {
            let json = picture.json(**c, row);
            Some(**c) != label && !matches!(json.as_str(), "null" | "0" | "0.0" | "false" | "\"\"")
        };
        let shown = picture.compared.iter().filter(says).take(MOST_TOLD);
        let told = shown.map(|&c| format!("{}={}", picture.name(c), self.value(picture, c, row)));
        told.collect::<Vec<_>>().join(" ")
    }

    fn value(&self, picture: &Picture, column: usize, row: usize) -> String {
        let unit = self.of(picture, column).unit;
        let number = picture.json(column, row).parse::<f64>().ok();
        number
            .and_then(|n| figure(n, &unit))
            .unwrap_or_else(|| picture.readable(column, row))
    }

    fn of(&self, picture: &Picture, column: usize) -> Trait {
        let name = picture.rows.schema_ref().field(column).name().clone();
        self.traits.get(&name).cloned().unwrap_or_default()
    }

    /// `rss_bytes 4.0 KiB → 8.0 KiB (+4.0 KiB), utime_ns +1.2s (24%), state S → R`.
    fn alterations(&self, a: usize, b: usize) -> String {
        let columns = self.after.compared.iter().copied();
        let differ = columns.filter(|&c| self.before.json(c, a) != self.after.json(c, b));
        let told = differ.map(|c| self.alteration(c, a, b));
        told.collect::<Vec<_>>().join(", ")
    }

    fn alteration(&self, column: usize, a: usize, b: usize) -> String {
        let name = self.after.name(column);
        let about = self.of(self.after, column);
        let number = |picture: &Picture, row| picture.json(column, row).parse::<f64>().ok();
        let (Some(old), Some(new)) = (number(self.before, a), number(self.after, b)) else {
            let (old, new) = (self.value(self.before, column, a), self.value(self.after, column, b));
            return format!("{name} {old} → {new}");
        };
        if about.counter {
            let grown = if new >= old { new - old } else { new };
            let shown = figure(grown, &about.unit).unwrap_or_else(|| plain(grown));
            let rate = self
                .rate(grown, &about.unit, a, b)
                .map(|r| format!(" ({r})"))
                .unwrap_or_default();
            let anew = if new >= old { "" } else { " since it began anew" };
            return format!("{name} +{shown}{rate}{anew}");
        }
        let (from, to) = (self.value(self.before, column, a), self.value(self.after, column, b));
        match figure((new - old).abs(), &about.unit) {
            // A size: what it grew or shrank by.
            Some(by) => format!("{name} {from} → {to} ({}{by})", if new >= old { "+" } else { "-" }),
            None => format!("{name} {from} → {to}"),
        }
    }

    /// `61.0 KiB/s`; of CPU time the share of one CPU.
    fn rate(&self, grown: f64, unit: &str, a: usize, b: usize) -> Option<String> {
        let elapsed_ns = match (self.before.time_ns(a), self.after.time_ns(b)) {
            (Some(from), Some(to)) => to - from,
            _ => self.asked_ns,
        };
        let seconds = elapsed_ns as f64 / 1e9;
        if seconds <= 0.0 {
            return None;
        }
        Some(match unit {
            "ns" => format!("{:.1}%", 100.0 * grown / elapsed_ns as f64),
            "bytes" => format!("{}/s", human_bytes((grown / seconds) as u64)),
            _ => format!("{}/s", plain(round(grown / seconds))),
        })
    }
}

/// A number with its unit, where it has one that people read.
fn figure(n: f64, unit: &str) -> Option<String> {
    let sign = if n < 0.0 { "-" } else { "" };
    match unit {
        "bytes" => Some(format!("{sign}{}", human_bytes(n.abs() as u64))),
        "ns" => Some(format!("{sign}{}", span(n.abs()))),
        _ => None,
    }
}

/// `850us`, `12.5ms`, `3.2s`, `5m 10s`.
fn span(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0}ns"),
        ns if ns < 1e6 => format!("{:.0}us", ns / 1e3),
        ns if ns < 1e9 => format!("{:.1}ms", ns / 1e6),
        ns if ns < 1e11 => format!("{:.1}s", ns / 1e9),
        ns => crate::listing::human_span(std::time::Duration::from_nanos(ns as u64)),
    }
}

/// Three digits that matter.
fn round(n: f64) -> f64 {
    match n {
        n if n >= 100.0 => n.round(),
        n if n >= 1.0 => (n * 10.0).round() / 10.0,
        n => (n * 1000.0).round() / 1000.0,
    }
}

fn plain(n: f64) -> String {
    format!("{n}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_their_units() {
        assert_eq!(figure(4096.0, "bytes").as_deref(), Some("4.0 KiB"));
        assert_eq!(figure(-1536.0, "bytes").as_deref(), Some("-1.5 KiB"));
        assert_eq!(figure(1_250_000_000.0, "ns").as_deref(), Some("1.2s"));
        assert_eq!(figure(12_500_000.0, "ns").as_deref(), Some("12.5ms"));
        assert_eq!(figure(310e9, "ns").as_deref(), Some("5m 10s"));
        assert_eq!(figure(7.0, ""), None);
        assert_eq!(
            (plain(round(0.12345)), plain(round(61.04)), plain(round(1234.5))),
            ("0.123".into(), "61".into(), "1235".into())
        );
    }
}
