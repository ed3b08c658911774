//! The differences in words: what started, what ended, and by how much the rest grew.
//!
//! A counter is told by what it grew by and how much that is a second, by the times at which both rows were read; a quantity
//! (a column with a unit) by what it grew or shrank by; anything else as `old → new`. A counter that went back has begun
//! anew, and is told like anything else. Zeros, NULLs and empty texts of a row that started or ended say nothing, and are left out.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef};
use arrow_cast::cast;
use arrow_schema::{DataType, TimeUnit};
use std::collections::HashSet;
use vwatch_client::output::{pad, shorten};
use vwatch_model::table::TIME;

use super::{Change, Picture};
use crate::listing::{clean, human_number};

/// `12 started, 3 ended, 40 changed`.
pub fn summary(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "no difference".to_owned();
    }
    let count = |kind: u8| changes.iter().filter(|c| group(c) == kind).count();
    format!("{} started, {} ended, {} changed", count(0), count(1), count(2))
}

/// Started, ended, changed.
fn group(change: &Change) -> u8 {
    match change {
        Change::Started(_) => 0,
        Change::Ended(_) => 1,
        Change::Changed(..) => 2,
    }
}

/// A column of numbers, widened.
enum Numbers {
    Whole(ArrayRef),
    Broken(ArrayRef),
}

impl Numbers {
    /// None for a column of something else.
    fn of(array: &ArrayRef) -> Option<Numbers> {
        match array.data_type() {
            // What i64 does not hold becomes NULL, and is told as text.
            kind if kind.is_integer() => cast(array, &DataType::Int64).ok().map(Numbers::Whole),
            DataType::Timestamp(..) => {
                let ns = cast(array, &DataType::Timestamp(TimeUnit::Nanosecond, None)).ok()?;
                cast(&ns, &DataType::Int64).ok().map(Numbers::Whole)
            }
            DataType::Float32 | DataType::Float64 => cast(array, &DataType::Float64).ok().map(Numbers::Broken),
            _ => None,
        }
    }

    fn value(&self, row: usize) -> Option<f64> {
        match self {
            Numbers::Whole(a) if a.is_valid(row) => Some(a.as_primitive::<Int64Type>().value(row) as f64),
            Numbers::Broken(a) if a.is_valid(row) => Some(a.as_primitive::<Float64Type>().value(row)),
            _ => None,
        }
    }

    /// `after[b] - self[a]`; whole numbers are subtracted before they are rounded.
    fn growth(&self, a: usize, after: &Numbers, b: usize) -> Option<f64> {
        match (self, after) {
            (Numbers::Whole(old), Numbers::Whole(new)) if old.is_valid(a) && new.is_valid(b) => {
                let value = |array: &ArrayRef, row| i128::from(array.as_primitive::<Int64Type>().value(row));
                Some((value(new, b) - value(old, a)) as f64)
            }
            _ => Some(after.value(b)? - self.value(a)?),
        }
    }
}

/// One picture with its numbers.
struct Side<'a> {
    picture: &'a Picture,
    numbers: Vec<Option<Numbers>>,
}

impl Side<'_> {
    fn new(picture: &Picture) -> Side<'_> {
        Side {
            numbers: picture.rows.columns().iter().map(Numbers::of).collect(),
            picture,
        }
    }

    fn text(&self, column: usize, row: usize) -> String {
        if self.picture.cells[column].is_null(row) {
            return "NULL".to_owned();
        }
        let unit = &self.picture.columns[column].unit;
        match self.numbers[column].as_ref().and_then(|n| n.value(row)) {
            Some(value) if !unit.is_empty() => human_number(value, unit),
            _ => {
                let mut text = String::new();
                self.picture.cells[column].readable(row, &mut text);
                text
            }
        }
    }

    fn name(&self, column: usize) -> String {
        clean(&self.picture.columns[column].name)
    }

    fn says_something(&self, column: usize, row: usize) -> bool {
        let json = self.picture.json(column, row);
        !matches!(json.as_str(), "null" | "0" | "0.0" | "\"\"" | "false")
    }

    /// `pid=7 comm=sh`.
    fn pairs(&self, columns: impl IntoIterator<Item = usize>, row: usize) -> String {
        let pair = |c| format!("{}={}", self.name(c), self.text(c, row));
        columns.into_iter().map(pair).collect::<Vec<_>>().join(" ")
    }
}

pub struct Words<'a> {
    before: Side<'a>,
    after: Side<'a>,
    /// The text that tells rows apart for people, where the key does not: `comm`.
    title: Option<usize>,
    /// The times of the rows.
    time: Option<usize>,
}

impl<'a> Words<'a> {
    pub fn new(before: &'a Picture, after: &'a Picture) -> Words<'a> {
        Words {
            before: Side::new(before),
            after: Side::new(after),
            title: title(after),
            time: after.columns.iter().position(|c| c.name == TIME),
        }
    }

    /// Lines of at most `width` characters, by kind of change, and in the order of the keys.
    pub fn text(&self, table: &str, changes: &[Change], width: Option<usize>, color: bool) -> String {
        let mut changes = changes.to_vec();
        changes.sort_by_key(group);
        let keys: Vec<String> = changes.iter().map(|change| self.key(change)).collect();
        let column = keys.iter().map(|k| k.chars().count()).max().unwrap_or(0);
        let (from, to) = (&self.before.picture.at, &self.after.picture.at);
        let mut text = format!("{table} from {from} to {to}\n");
        for (change, key) in changes.iter().zip(&keys) {
            let (mark, code, what) = match *change {
                Change::Started(row) => ("+ started", "32", self.row(&self.after, row)),
                Change::Ended(row) => ("- ended  ", "31", self.row(&self.before, row)),
                Change::Changed(a, b) => ("~ changed", "33", self.alterations(a, b)),
            };
            let gap = if column > 0 { "  " } else { "" };
            let line = format!("{mark}  {}{gap}{what}", pad(key, column, false));
            let line = width.map_or(line.clone(), |width| shorten(&line, width));
            let line = line.trim_end();
            text.push_str(&match color {
                true => format!("\x1b[{code}m{line}\x1b[0m\n"),
                false => format!("{line}\n"),
            });
        }
        text
    }

    fn key(&self, change: &Change) -> String {
        let (side, row) = match *change {
            Change::Ended(a) => (&self.before, a),
            Change::Started(b) | Change::Changed(_, b) => (&self.after, b),
        };
        let title = self.title.filter(|&c| side.says_something(c, row));
        side.pairs(side.picture.keys.iter().copied().chain(title), row)
    }

    fn row(&self, side: &Side<'_>, row: usize) -> String {
        let shown = |c: &usize| Some(*c) != self.title && side.says_something(*c, row);
        side.pairs(side.picture.compared.iter().copied().filter(shown), row)
    }

    /// `utime_ns +1.2 s (24.00 %), rss_bytes grew 5.0 MiB to 25.0 MiB, state S → R`.
    fn alterations(&self, a: usize, b: usize) -> String {
        let (before, after) = (self.before.picture, self.after.picture);
        let differ = |c: &&usize| before.json(**c, a) != after.json(**c, b);
        let told = after.compared.iter().filter(differ).map(|&c| self.alteration(c, a, b));
        told.collect::<Vec<_>>().join(", ")
    }

    fn alteration(&self, column: usize, a: usize, b: usize) -> String {
        let meant = &self.after.picture.columns[column];
        let name = self.after.name(column);
        let growth = self.growth(column, a, b);
        match growth {
            Some(by) if meant.counter && by >= 0.0 => {
                let rate = self.seconds(a, b).map(|seconds| rate(by / seconds, &meant.unit));
                format!("{name} +{}{}", human_number(by, &meant.unit), rate.unwrap_or_default())
            }
            Some(by) if !meant.counter && !meant.unit.is_empty() => {
                let verb = if by < 0.0 { "shrank" } else { "grew" };
                let to = self.after.text(column, b);
                format!("{name} {verb} {} to {to}", human_number(by.abs(), &meant.unit))
            }
            _ => format!(
                "{name} {} → {}",
                self.before.text(column, a),
                self.after.text(column, b)
            ),
        }
    }

    fn growth(&self, column: usize, a: usize, b: usize) -> Option<f64> {
        let (old, new) = (&self.before.numbers[column], &self.after.numbers[column]);
        old.as_ref()?.growth(a, new.as_ref()?, b)
    }

    /// Between the readings of two rows, when the later one was read later.
    fn seconds(&self, a: usize, b: usize) -> Option<f64> {
        let ns = self.growth(self.time?, a, b)?;
        (ns > 0.0).then_some(ns / 1e9)
    }
}

/// ` (13.6 KiB/s)`; time per time is a share: ` (24.00 %)`.
fn rate(per_second: f64, unit: &str) -> String {
    match unit {
        "ns" => format!(" ({:.2} %)", per_second / 1e7),
        "us" => format!(" ({:.2} %)", per_second / 1e4),
        "bytes" => format!(" ({}/s)", human_number(per_second, unit)),
        _ => format!(" ({per_second:.2}/s)"),
    }
}

/// The first column of text that has many values: names and paths, not states and kinds.
fn title(picture: &Picture) -> Option<usize> {
    let rows = picture.rows.num_rows();
    let is_text = |c: &usize| matches!(picture.rows.column(*c).data_type(), DataType::Utf8 | DataType::Utf8View);
    let varies = |c: &usize| {
        let values: HashSet<String> = (0..rows).map(|row| picture.json(*c, row)).collect();
        values.len() * 4 >= rows
    };
    // A key of text is title enough.
    match picture.keys.iter().any(is_text) {
        true => None,
        false => picture.compared.iter().copied().filter(is_text).find(varies),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{picture, two};
    use super::super::{Change, Picture, compare};
    use super::{Words, summary};
    use arrow_array::{RecordBatch, TimestampNanosecondArray, record_batch};
    use arrow_schema::{DataType, Field, Schema};
    use std::sync::Arc;

    fn words(before: &Picture, after: &Picture, width: Option<usize>) -> String {
        Words::new(before, after).text("process", &compare(before, after), width, false)
    }

    #[test]
    fn what_started_ended_and_changed() {
        let (before, after) = two();
        assert_eq!(
            words(&before, &after, None),
            "process from T1 to T2\n\
             + started  pid=2 comm=cron   rss=15\n\
             + started  pid=9 comm=top    rss=40\n\
             - ended    pid=5 comm=sleep  rss=30\n\
             ~ changed  pid=3 comm=sh     rss 20 → 25\n"
        );
        assert!(words(&before, &after, Some(14)).contains("\n~ changed  pi…\n"));
        assert_eq!(summary(&compare(&before, &after)), "2 started, 1 ended, 1 changed");
        assert_eq!(summary(&[]), "no difference");
    }

    /// `ms` of the row's time, then user time, faults, memory, state.
    fn one(ms: i64, (utime_ns, minflt): (i64, u64), rss_bytes: Option<i64>, state: &str) -> Picture {
        let rest = record_batch!(
            ("pid", Int32, [7]),
            ("utime_ns", Int64, [utime_ns]),
            ("minflt", UInt64, [minflt]),
            ("rss_bytes", Int64, [rss_bytes]),
            ("state", Utf8, [state])
        )
        .unwrap();
        let time = TimestampNanosecondArray::from(vec![ms * 1_000_000]);
        let kind = DataType::Timestamp(arrow_schema::TimeUnit::Nanosecond, None);
        let mut fields = vec![Arc::new(Field::new("time", kind, false))];
        fields.extend(rest.schema().fields().iter().cloned());
        let mut columns: Vec<arrow_array::ArrayRef> = vec![Arc::new(time)];
        columns.extend(rest.columns().iter().cloned());
        picture(
            "T",
            RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap(),
            &["pid"],
        )
    }

    fn said(before: &Picture, after: &Picture) -> String {
        Words::new(before, after).alterations(0, 0)
    }

    #[test]
    fn counters_grow_by_the_second_and_quantities_by_so_much() {
        const MIB: i64 = 1 << 20;
        let before = one(1000, (1_000_000_000, 100), Some(20 * MIB), "S");
        let after = one(6000, (2_200_000_000, 600), Some(25 * MIB), "R");
        assert_eq!(
            said(&before, &after),
            "utime_ns +1.2 s (24.00 %), minflt +500 (100.00/s), rss_bytes grew 5.0 MiB to 25.0 MiB, state S → R"
        );
        // Back in time there is no rate, and a counter that went back began anew.
        assert_eq!(
            said(&after, &before),
            "utime_ns 2.2 s → 1.0 s, minflt 600 → 100, rss_bytes shrank 5.0 MiB to 20.0 MiB, state R → S"
        );
        let unknown = one(6000, (1_000_000_000, 100), None, "S");
        assert_eq!(said(&before, &unknown), "rss_bytes 20.0 MiB → NULL");
    }

    #[test]
    fn a_column_that_no_i64_holds_is_told_as_it_is() {
        let before = one(0, (0, u64::MAX - 1), None, "S");
        let after = one(1000, (0, u64::MAX), None, "S");
        assert_eq!(
            said(&before, &after),
            "minflt 18446744073709551614 → 18446744073709551615"
        );
        let changes = compare(&before, &after);
        assert_eq!(changes, [Change::Changed(0, 0)]);
        assert!(words(&before, &after, None).contains("~ changed  pid=7 state=S  minflt"));
    }
}
