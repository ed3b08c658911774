//! `vwatchctl diff`: what came, went and changed in a state table between two times.
//!
//! Two questions, compared here by the table's key columns. `time` differs always and says nothing, so it is left out. Cost:
//! both pictures in memory.

mod words;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use arrow_select::concat::concat_batches;
use arrow_select::interleave::interleave;
use vwatch_client::output::{Cells, OutputError};
use vwatch_model::query::{Done, Request};
use vwatch_model::table::{INSTANCE, TIME};
use vwatch_model::time::{Moment, format_ns};

use crate::answer::tell_partial;
use crate::cli::Diff;
use crate::context::{Context, started};
use crate::failure::{Failed, Outcome, say};
use crate::listing::{clean, print_text};
use crate::{show, tables};
pub use words::Trait;
use words::Words;

pub async fn run(context: &Context, diff: Diff) -> Result<Outcome, Failed> {
    let Some(description) = tables::Description::of(context, &diff.table).await? else {
        return Err(tables::unknown(context, &diff.table).await);
    };
    if description.kind != "state" {
        return Err(Failed::Because {
            message: format!(
                "{} is no state table: it has no picture of a moment to compare",
                diff.table
            ),
            hint: Some(format!(
                "ask for what lies between: vwatchctl query \"SELECT * FROM {}\" --from T1 --to T2",
                diff.table
            )),
        });
    }
    let keys = tables::key_columns(context, &diff.table).await?;
    let sql = select(&diff, &keys);
    let before = picture(context, &sql, &keys, diff.from).await?;
    let after = picture(context, &sql, &keys, diff.to).await?;
    let outcome = match (tell_partial(&before.done.partial), tell_partial(&after.done.partial)) {
        (Outcome::Done, Outcome::Done) => Outcome::Done,
        _ => Outcome::Partial,
    };
    // No picture is not an empty one: everything would seem to have come or gone.
    if before.is_missing() || after.is_missing() {
        say("nothing to compare\n");
        return Ok(Outcome::Partial);
    }
    if before.rows.schema() != after.rows.schema() {
        return Err(Failed::because(format!(
            "the columns of {} have changed while it was read; ask again",
            diff.table
        )));
    }
    let changes = compare(&before, &after);
    let now_ns = after.done.now_ns;
    if context.is_for_people() {
        let traits = tables::traits(context, &diff.table).await?;
        let words = Words {
            table: &diff.table,
            before: &before,
            after: &after,
            traits: &traits,
            asked_ns: diff.to.at(now_ns) - diff.from.at(now_ns),
            width: context.style().width,
            color: context.color,
        };
        print_text(&words.lines(&changes))?;
        if !changes.is_empty() {
            say(&format!("{}\n", words.summary(&changes)));
        }
    } else {
        let batch = rows(&before, &after, &changes)?;
        let mut sink = context.sink()?;
        sink.schema(&batch.schema())?;
        sink.rows(&batch)?;
        sink.finish()?;
    }
    if changes.is_empty() {
        say("no difference\n");
    }
    Ok(outcome)
}

fn select(diff: &Diff, keys: &[String]) -> String {
    let columns = match diff.columns.is_empty() {
        true => "*".to_owned(),
        false => {
            let mut columns = keys.to_vec();
            columns.extend(diff.columns.iter().filter(|c| !keys.contains(c)).cloned());
            show::quoted(&columns)
        }
    };
    let conditions = show::conditions(diff.instance.as_deref(), diff.filter.as_deref());
    let order = match keys.is_empty() {
        true => String::new(),
        false => format!(" ORDER BY {}", show::quoted(keys)),
    };
    format!("SELECT {columns} FROM {}{conditions}{order}", diff.table)
}

/// A table at one time.
struct Picture {
    at: String,
    rows: RecordBatch,
    cells: Vec<Cells>,
    done: Done,
    /// Columns that say which row is which.
    keys: Vec<usize>,
    /// Columns that are compared.
    compared: Vec<usize>,
}

async fn picture(context: &Context, sql: &str, keys: &[String], at: Moment) -> Result<Picture, Failed> {
    let request = Request {
        at: Some(at),
        ..context.request(sql)
    };
    let whole = tables::whole(context, &request).await?;
    let at = format_ns(at.at(whole.done.now_ns), started().time_zone());
    let rows = concat_batches(&whole.schema, &whole.batches);
    let rows = rows.map_err(|e| Failed::because(format!("the answer does not fit together: {e}")))?;
    Picture::new(at, rows, whole.done, keys)
}

impl Picture {
    fn new(at: String, rows: RecordBatch, done: Done, keys: &[String]) -> Result<Picture, Failed> {
        let schema = rows.schema();
        let cells = rows.columns().iter().zip(schema.fields()).map(|(array, field)| {
            Cells::new(array).map_err(|source| OutputError::Column {
                column: field.name().clone(),
                source,
            })
        });
        let is_key = |c: &usize| keys.contains(schema.field(*c).name());
        let (keys, others): (Vec<usize>, Vec<usize>) = (0..rows.num_columns()).partition(is_key);
        let constant = |c: &usize| [TIME, INSTANCE].contains(&schema.field(*c).name().as_str());
        Ok(Picture {
            at,
            cells: cells.collect::<Result<_, _>>()?,
            compared: others.into_iter().filter(|c| !constant(c)).collect(),
            keys,
            rows,
            done,
        })
    }

    fn is_missing(&self) -> bool {
        self.rows.num_rows() == 0 && !self.done.partial.is_empty()
    }

    /// The identity of every row: its key columns as JSON (which keeps values apart), and a number where a table without a
    /// full key has several of the same.
    fn identities(&self) -> Vec<String> {
        let mut seen: HashMap<String, usize> = HashMap::new();
        let identity = |row| {
            let mut key = String::new();
            for &column in &self.keys {
                self.cells[column].json(row, &mut key);
                key.push(',');
            }
            let count = seen.entry(key.clone()).or_default();
            *count += 1;
            format!("{key}{count}")
        };
        (0..self.rows.num_rows()).map(identity).collect()
    }

    fn json(&self, column: usize, row: usize) -> String {
        let mut text = String::new();
        self.cells[column].json(row, &mut text);
        text
    }

    fn readable(&self, column: usize, row: usize) -> String {
        let mut text = String::new();
        self.cells[column].readable(row, &mut text);
        match self.cells[column].is_null(row) {
            true => "NULL".to_owned(),
            false => text,
        }
    }

    /// When a row was sampled.
    fn time_ns(&self, row: usize) -> Option<i64> {
        let times = self.rows.column_by_name(TIME)?;
        let times = times.as_primitive_opt::<TimestampNanosecondType>()?;
        times.is_valid(row).then(|| times.value(row))
    }

    fn name(&self, column: usize) -> String {
        clean(self.rows.schema_ref().field(column).name())
    }

    /// `pid=7 comm=sh`.
    fn pairs(&self, columns: &[usize], row: usize) -> String {
        let shown = columns.iter().filter(|c| !self.cells[**c].is_null(row));
        let pairs: Vec<String> = shown
            .map(|&c| format!("{}={}", self.name(c), self.readable(c, row)))
            .collect();
        pairs.join(" ")
    }
}

/// Rows of the picture before and of the one after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Went(usize),
    Came(usize),
    Changed(usize, usize),
}

/// The differences, in the order of the rows; both pictures are in the order of their keys.
fn compare(before: &Picture, after: &Picture) -> Vec<Change> {
    let old = before.identities();
    let new = after.identities();
    let places: HashMap<&str, usize> = new.iter().enumerate().map(|(row, key)| (key.as_str(), row)).collect();
    let known: HashSet<&str> = old.iter().map(String::as_str).collect();
    let mut changes = Vec::new();
    let mut next = 0;
    for (a, key) in old.iter().enumerate() {
        let Some(&b) = places.get(key.as_str()) else {
            changes.push(Change::Went(a));
            continue;
        };
        let came = (next..b).filter(|&row| !known.contains(new[row].as_str()));
        changes.extend(came.map(Change::Came));
        next = next.max(b + 1);
        if after.compared.iter().any(|&c| before.json(c, a) != after.json(c, b)) {
            changes.push(Change::Changed(a, b));
        }
    }
    let came = (next..new.len()).filter(|&row| !known.contains(new[row].as_str()));
    changes.extend(came.map(Change::Came));
    changes
}

/// Whole rows with their types, and a first column `change`.
fn rows(before: &Picture, after: &Picture, changes: &[Change]) -> Result<RecordBatch, Failed> {
    let mut words = Vec::new();
    let mut places = Vec::new();
    for change in changes {
        match *change {
            Change::Went(a) => (words.push("went"), places.push((0, a))),
            Change::Came(b) => (words.push("came"), places.push((1, b))),
            Change::Changed(a, b) => (
                words.extend(["changed_from", "changed_to"]),
                places.extend([(0, a), (1, b)]),
            ),
        };
    }
    let mut fields = vec![Arc::new(Field::new("change", DataType::Utf8, false))];
    fields.extend(after.rows.schema_ref().fields().iter().cloned());
    let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(words))];
    let misfit = |e| Failed::because(format!("the two pictures do not fit together: {e}"));
    for (old, new) in before.rows.columns().iter().zip(after.rows.columns()) {
        columns.push(interleave(&[old.as_ref(), new.as_ref()], &places).map_err(misfit)?);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(misfit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::record_batch;

    fn picture(at: &str, rows: RecordBatch, keys: &[&str]) -> Picture {
        let keys: Vec<String> = keys.iter().map(|k| (*k).to_owned()).collect();
        Picture::new(at.to_owned(), rows, Done::default(), &keys).unwrap()
    }

    fn two() -> (Picture, Picture) {
        let before = record_batch!(
            ("time", Int64, [1, 1, 1]),
            ("pid", Int32, [1, 3, 5]),
            ("comm", Utf8, ["init", "sh", "sleep"]),
            ("rss", Int64, [10, 2048, 30]),
            ("faults", Int64, [1, 100, 0]),
            ("utime", Int64, [0, 500_000_000, 0])
        );
        let after = record_batch!(
            ("time", Int64, [2, 2, 2, 2]),
            ("pid", Int32, [1, 2, 3, 9]),
            ("comm", Utf8, ["init", "cron", "sh", "top"]),
            ("rss", Int64, [10, 15, 3072, 40]),
            ("faults", Int64, [1, 7, 150, 0]),
            ("utime", Int64, [0, 0, 1_500_000_000, 3_000_000_000_i64])
        );
        (
            picture("T1", before.unwrap(), &["pid"]),
            picture("T2", after.unwrap(), &["pid"]),
        )
    }

    #[test]
    fn rows_are_matched_by_key_and_time_is_no_change() {
        let (before, after) = two();
        let changes = compare(&before, &after);
        use Change::*;
        assert_eq!(changes, [Came(1), Changed(1, 2), Went(2), Came(3)]);
        let traits = HashMap::from([
            (
                "rss".to_owned(),
                Trait {
                    unit: "bytes".into(),
                    counter: false,
                },
            ),
            (
                "faults".to_owned(),
                Trait {
                    unit: String::new(),
                    counter: true,
                },
            ),
            (
                "utime".to_owned(),
                Trait {
                    unit: "ns".into(),
                    counter: true,
                },
            ),
        ]);
        let words = |width| Words {
            table: "process",
            before: &before,
            after: &after,
            traits: &traits,
            asked_ns: 5_000_000_000,
            width,
            color: false,
        };
        assert_eq!(
            words(None).lines(&changes),
            "--- process at T1\n+++ process at T2\n\
             started  pid=2 cron   rss=15 B faults=7\n\
             changed  pid=3 sh     rss 2.0 KiB → 3.0 KiB (+1.0 KiB), faults +50 (10/s), utime +1.0s (20.0%)\n\
             ended    pid=5 sleep  rss=30 B\n\
             started  pid=9 top    rss=40 B utime=3.0s\n"
        );
        assert_eq!(
            words(None).summary(&changes),
            "2 started, 1 ended, 1 changed, 1 the same"
        );
        assert!(words(Some(20)).lines(&changes).contains("\nchanged  pid=3 sh  …\n"));
    }

    #[test]
    fn a_counter_that_began_anew_has_grown_by_what_it_says() {
        let before = picture(
            "T1",
            record_batch!(("name", Utf8, ["eth0"]), ("rx_bytes", Int64, [5000])).unwrap(),
            &["name"],
        );
        let after = picture(
            "T2",
            record_batch!(("name", Utf8, ["eth0"]), ("rx_bytes", Int64, [2048])).unwrap(),
            &["name"],
        );
        let traits = HashMap::from([(
            "rx_bytes".to_owned(),
            Trait {
                unit: "bytes".into(),
                counter: true,
            },
        )]);
        let words = Words {
            table: "net_io",
            before: &before,
            after: &after,
            traits: &traits,
            asked_ns: 2_000_000_000,
            width: None,
            color: false,
        };
        let lines = words.lines(&compare(&before, &after));
        assert!(
            lines.ends_with("changed  name=eth0  rx_bytes +2.0 KiB (1.0 KiB/s) since it began anew\n"),
            "{lines}"
        );
    }

    #[test]
    fn machine_forms_keep_whole_rows_and_types() {
        let (before, after) = two();
        let batch = rows(&before, &after, &compare(&before, &after)).unwrap();
        let want = record_batch!(
            ("change", Utf8, ["came", "changed_from", "changed_to", "went", "came"]),
            ("time", Int64, [2, 1, 2, 1, 2]),
            ("pid", Int32, [2, 3, 3, 5, 9]),
            ("comm", Utf8, ["cron", "sh", "sh", "sleep", "top"]),
            ("rss", Int64, [15, 2048, 3072, 30, 40]),
            ("faults", Int64, [7, 100, 150, 0, 0]),
            ("utime", Int64, [0, 500_000_000, 1_500_000_000, 0, 3_000_000_000_i64])
        );
        assert_eq!(batch.columns(), want.unwrap().columns());
    }

    #[test]
    fn a_table_without_keys_is_compared_row_by_row() {
        let before = picture("T1", record_batch!(("load", Float64, [0.5])).unwrap(), &[]);
        let after = picture("T2", record_batch!(("load", Float64, [0.75])).unwrap(), &[]);
        assert_eq!(compare(&before, &after), [Change::Changed(0, 0)]);
        assert_eq!(compare(&before, &before), []);
    }
}
