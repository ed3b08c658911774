//! `vwatchctl diff`: what started, ended and changed in a state table between two times.
//!
//! Two questions, compared here by the table's key columns. `time` differs always and says nothing, so it is left out. Cost:
//! both pictures in memory. [`words`] says the differences to people.

mod words;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
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
use crate::listing::print_text;
use crate::tables::Column;
use crate::{show, tables};

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
    let columns = tables::columns(context, &diff.table).await?;
    let sql = select(&diff, &columns);
    let before = picture(context, &sql, &columns, diff.from).await?;
    let after = picture(context, &sql, &columns, diff.to).await?;
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
    if context.is_for_people() {
        let words = words::Words::new(&before, &after);
        print_text(&words.text(&diff.table, &changes, context.style().width, context.color))?;
        say(&format!("{}\n", words::summary(&changes)));
    } else {
        let batch = rows(&before, &after, &changes)?;
        let mut sink = context.sink()?;
        sink.schema(&batch.schema())?;
        sink.rows(&batch)?;
        sink.finish()?;
    }
    Ok(outcome)
}

fn select(diff: &Diff, columns: &[Column]) -> String {
    let keys: Vec<String> = columns.iter().filter(|c| c.key).map(|c| c.name.clone()).collect();
    let columns = match diff.columns.is_empty() {
        true => "*".to_owned(),
        false => {
            // The time too: a counter's rate is by the moments at which the rows were read.
            let mut columns = vec![TIME.to_owned()];
            columns.extend(keys.iter().cloned());
            for column in &diff.columns {
                if !columns.contains(column) {
                    columns.push(column.clone());
                }
            }
            show::quoted(&columns)
        }
    };
    let conditions = show::conditions(diff.instance.as_deref(), diff.filter.as_deref());
    let order = match keys.is_empty() {
        true => String::new(),
        false => format!(" ORDER BY {}", show::quoted(&keys)),
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
    /// What each column of `rows` means.
    columns: Vec<Column>,
}

async fn picture(context: &Context, sql: &str, columns: &[Column], at: Moment) -> Result<Picture, Failed> {
    let request = Request {
        at: Some(at),
        ..context.request(sql)
    };
    let whole = tables::whole(context, &request).await?;
    let at = format_ns(at.at(whole.done.now_ns), started().time_zone());
    let rows = concat_batches(&whole.schema, &whole.batches);
    let rows = rows.map_err(|e| Failed::because(format!("the answer does not fit together: {e}")))?;
    Picture::new(at, rows, whole.done, columns)
}

impl Picture {
    fn new(at: String, rows: RecordBatch, done: Done, known: &[Column]) -> Result<Picture, Failed> {
        let schema = rows.schema();
        let cells = rows.columns().iter().zip(schema.fields()).map(|(array, field)| {
            Cells::new(array).map_err(|source| OutputError::Column {
                column: field.name().clone(),
                source,
            })
        });
        let column = |name: &String| {
            let unknown = || Column {
                name: name.clone(),
                ..Column::default()
            };
            known.iter().find(|c| c.name == *name).cloned().unwrap_or_else(unknown)
        };
        let columns: Vec<Column> = schema.fields().iter().map(|f| column(f.name())).collect();
        let is_key = |c: &usize| columns[*c].key;
        let (keys, others): (Vec<usize>, Vec<usize>) = (0..rows.num_columns()).partition(is_key);
        let constant = |c: &usize| [TIME, INSTANCE].contains(&schema.field(*c).name().as_str());
        Ok(Picture {
            at,
            cells: cells.collect::<Result<_, _>>()?,
            compared: others.into_iter().filter(|c| !constant(c)).collect(),
            keys,
            columns,
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
}

/// Rows of the picture before and of the one after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Started(usize),
    Ended(usize),
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
            changes.push(Change::Ended(a));
            continue;
        };
        let started = (next..b).filter(|&row| !known.contains(new[row].as_str()));
        changes.extend(started.map(Change::Started));
        next = next.max(b + 1);
        if after.compared.iter().any(|&c| before.json(c, a) != after.json(c, b)) {
            changes.push(Change::Changed(a, b));
        }
    }
    let started = (next..new.len()).filter(|&row| !known.contains(new[row].as_str()));
    changes.extend(started.map(Change::Started));
    changes
}

/// Whole rows with their types, and a first column `change`.
fn rows(before: &Picture, after: &Picture, changes: &[Change]) -> Result<RecordBatch, Failed> {
    let mut words = Vec::new();
    let mut places = Vec::new();
    for change in changes {
        match *change {
            Change::Ended(a) => (words.push("ended"), places.push((0, a))),
            Change::Started(b) => (words.push("started"), places.push((1, b))),
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

    /// With the marks that columns of these names have in `process`.
    pub(super) fn picture(at: &str, rows: RecordBatch, keys: &[&str]) -> Picture {
        let column = |field: &Arc<Field>| Column {
            name: field.name().clone(),
            unit: match field.name().rsplit_once('_') {
                Some((_, unit @ ("ns" | "bytes"))) => unit.to_owned(),
                _ => String::new(),
            },
            key: keys.contains(&field.name().as_str()),
            counter: ["utime_ns", "minflt"].contains(&field.name().as_str()),
        };
        let columns: Vec<Column> = rows.schema_ref().fields().iter().map(column).collect();
        Picture::new(at.to_owned(), rows, Done::default(), &columns).unwrap()
    }

    pub(super) fn two() -> (Picture, Picture) {
        let before = record_batch!(
            ("time", Int64, [1, 1, 1]),
            ("pid", Int32, [1, 3, 5]),
            ("comm", Utf8, ["init", "sh", "sleep"]),
            ("rss", Int64, [10, 20, 30])
        );
        let after = record_batch!(
            ("time", Int64, [2, 2, 2, 2]),
            ("pid", Int32, [1, 2, 3, 9]),
            ("comm", Utf8, ["init", "cron", "sh", "top"]),
            ("rss", Int64, [10, 15, 25, 40])
        );
        (
            picture("T1", before.unwrap(), &["pid"]),
            picture("T2", after.unwrap(), &["pid"]),
        )
    }

    #[test]
    fn rows_are_matched_by_key_and_time_is_no_change() {
        let (before, after) = two();
        use Change::*;
        let want = [Started(1), Changed(1, 2), Ended(2), Started(3)];
        assert_eq!(compare(&before, &after), want);
    }

    #[test]
    fn machine_forms_keep_whole_rows_and_types() {
        let (before, after) = two();
        let batch = rows(&before, &after, &compare(&before, &after)).unwrap();
        let want = record_batch!(
            (
                "change",
                Utf8,
                ["started", "changed_from", "changed_to", "ended", "started"]
            ),
            ("time", Int64, [2, 1, 2, 1, 2]),
            ("pid", Int32, [2, 3, 3, 5, 9]),
            ("comm", Utf8, ["cron", "sh", "sh", "sleep", "top"]),
            ("rss", Int64, [15, 20, 25, 30, 40])
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
