//! `vwatchctl export`: histories of tables as files, partitioned in Hive's way, for other engines to read.
//!
//! `PLACE/TABLE/host=NAME/day=YYYY-MM-DD/part-*.parquet`. A state table's history goes under the table's own name; every
//! instance is in it. Rows come as answers to ordinary questions, a piece of a day at a time, and go out as they come.

mod days;
mod part;
mod target;
mod upload;

use std::collections::BTreeMap;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampNanosecondType, UInt64Type};
use serde_json::{Map, Value, json};
use vwatch_client::Part as Piece;
use vwatch_client::output::Format;
use vwatch_model::query::{Operation, Partial, Request, Summary};
use vwatch_model::table::{Column, ColumnType};
use vwatch_model::time::Moment;

use crate::answer::tell_partial;
use crate::cli::Export;
use crate::context::Context;
use crate::failure::{Failed, Outcome, say};
use crate::listing::{Listing, human_bytes};
use crate::progress::{ProgressLine, grouped};
use crate::tables;
use days::Span;
use part::Part;
use target::Target;

/// Days and timestamps of parts are in this zone.
const ZONE: &str = "UTC";

/// A table that the store has rows of.
#[derive(Debug, Clone)]
struct Held {
    /// The table to ask for its history.
    history: String,
    span: Span,
    rows: u64,
}

struct Contents {
    host: String,
    now_ns: i64,
    tables: BTreeMap<String, Held>,
}

pub async fn run(context: &Context, export: Export) -> Result<Outcome, Failed> {
    let contents = contents(context).await?;
    let wanted = wanted(context, &export, &contents).await?;
    let target = Target::open(&export.place)?;
    let mut run = Run {
        context,
        target: &target,
        format: export.format.into(),
        host: &contents.host,
        talk: ProgressLine::new(),
        rows: 0,
        bytes: 0,
        partial: Vec::new(),
        written: Vec::new(),
    };
    let at = |moment: Option<Moment>| moment.map(|m| m.at(contents.now_ns));
    let result = run.tables(&wanted, at(export.from), at(export.to)).await;
    run.talk.end();
    let files = run.written.len();
    if files > 0 {
        let (columns, rows) = (listed_columns(), std::mem::take(&mut run.written));
        Listing { columns, rows }.print(context)?;
    }
    say(&format!(
        "exported {} rows of {} tables in {files} files, {}, to {}\n",
        grouped(run.rows),
        wanted.len(),
        human_bytes(run.bytes),
        target.shown()
    ));
    result?;
    Ok(tell_partial(&run.partial))
}

/// What the store holds, from its figures.
async fn contents(context: &Context) -> Result<Contents, Failed> {
    let kinds = tables::kinds(context).await?;
    let request = Request {
        operation: Some(Operation::Stats {}),
        ..context.request("")
    };
    let stats = tables::whole(context, &request).await?;
    let Some(Summary::Store { host, .. }) = stats.done.summary else {
        return Err(Failed::because("the answer has no summary"));
    };
    let mut held: BTreeMap<String, Held> = BTreeMap::new();
    for batch in &stats.batches {
        let time = |name: &str| {
            batch
                .column_by_name(name)?
                .as_primitive_opt::<TimestampNanosecondType>()
        };
        let names = batch
            .column_by_name("table_name")
            .and_then(|c| c.as_string_opt::<i32>());
        let rows = batch
            .column_by_name("rows")
            .and_then(|c| c.as_primitive_opt::<UInt64Type>());
        let (Some(names), Some(rows), Some(first), Some(last)) = (names, rows, time("first_time"), time("last_time"))
        else {
            return Err(Failed::because("the store's figures lack a column"));
        };
        for row in (0..batch.num_rows()).filter(|&row| first.is_valid(row) && last.is_valid(row)) {
            let (name, span) = (names.value(row), (first.value(row), last.value(row)));
            let history = match kinds.get(name).map(String::as_str) {
                Some("state") => format!("{name}_history"),
                _ => name.to_owned(),
            };
            let of = held.entry(name.to_owned()).or_insert(Held { history, span, rows: 0 });
            of.span = (of.span.0.min(span.0), of.span.1.max(span.1));
            of.rows += rows.value(row);
        }
    }
    Ok(Contents {
        host,
        now_ns: stats.done.now_ns,
        tables: held,
    })
}

/// The tables asked for, that have rows.
async fn wanted(context: &Context, export: &Export, contents: &Contents) -> Result<Vec<(String, Held)>, Failed> {
    if export.tables.iter().any(|t| t == "all") {
        let all = contents.tables.iter();
        return Ok(all.map(|(name, held)| (name.clone(), held.clone())).collect());
    }
    let mut wanted = Vec::new();
    for name in &export.tables {
        match contents.tables.get(name) {
            Some(held) => wanted.push((name.clone(), held.clone())),
            None if tables::Description::of(context, name).await?.is_some() => {
                say(&format!("note: {name} has no rows of its own\n"));
            }
            None => return Err(tables::unknown(context, name).await),
        }
    }
    Ok(wanted)
}

struct Run<'a> {
    context: &'a Context,
    target: &'a Target,
    format: Format,
    host: &'a str,
    talk: ProgressLine,
    rows: u64,
    bytes: u64,
    partial: Vec<Partial>,
    written: Vec<Map<String, Value>>,
}

impl Run<'_> {
    async fn tables(
        &mut self,
        wanted: &[(String, Held)],
        from_ns: Option<i64>,
        to_ns: Option<i64>,
    ) -> Result<(), Failed> {
        for (table, held) in wanted {
            for piece in days::pieces(held.span, from_ns, to_ns) {
                self.talk.about(format!("{table}, {}", piece.day));
                self.piece(table, held, &piece).await?;
            }
        }
        Ok(())
    }

    /// One part, if there are rows for it.
    async fn piece(&mut self, table: &str, held: &Held, piece: &days::Piece) -> Result<(), Failed> {
        let mut part = None;
        for span in days::questions(piece.span, held.span, held.rows) {
            if let Err(e) = self.question(table, held, piece, span, &mut part).await {
                if let Some(part) = part {
                    part.abandon().await;
                }
                return Err(e);
            }
        }
        let Some(part) = part else { return Ok(()) };
        let path = part.path.to_string();
        let (rows, bytes) = part.finish(self.target).await?;
        self.bytes += bytes;
        let row = json!({"table_name": table, "day": piece.day, "rows": rows, "bytes": bytes, "path": path});
        if let Value::Object(row) = row {
            self.written.push(row);
        }
        Ok(())
    }

    async fn question(
        &mut self,
        table: &str,
        held: &Held,
        piece: &days::Piece,
        (from_ns, to_ns): Span,
        part: &mut Option<Part>,
    ) -> Result<(), Failed> {
        let request = Request {
            // A condition on it opens all instances.
            sql: format!("SELECT * FROM {} WHERE instance <> ''", held.history),
            from: Some(Moment::Ns(from_ns)),
            to: Some(Moment::Ns(to_ns)),
            zone: Some(ZONE.to_owned()),
            progress: self.talk.is_wanted(),
            ..Request::default()
        };
        let about = |e| Failed::about(e, &request.sql);
        let mut answer = self.context.queries()?.ask(&request).await.map_err(about)?;
        loop {
            match answer.next().await.map_err(about)? {
                Some(Piece::Schema(_)) => {}
                Some(Piece::Rows(batch)) => {
                    let open = match part {
                        Some(open) => open,
                        None => part.insert(self.begin(table, piece, &batch.schema())?),
                    };
                    open.write(self.target, &batch).await?;
                    self.rows += batch.num_rows() as u64;
                    let (rows, bytes) = (grouped(self.rows), human_bytes(self.bytes + open.bytes));
                    self.talk.put(format!("{rows} rows, {bytes}"));
                }
                Some(Piece::Progress(_)) => {}
                Some(Piece::Done(done)) => {
                    let new = done.partial.into_iter().filter(|p| !self.partial.contains(p));
                    let new: Vec<Partial> = new.collect();
                    self.partial.extend(new);
                    return Ok(());
                }
                None => return Err(Failed::because("the answer has no end")),
            }
        }
    }

    fn begin(&self, table: &str, piece: &days::Piece, schema: &arrow_schema::SchemaRef) -> Result<Part, Failed> {
        let host = format!("host={}", self.host);
        let day = format!("day={}", piece.day);
        let file = format!("{}.{}", piece.name, part::ending(self.format));
        let path = self.target.path(&[table, &host, &day, &file]);
        Part::begin(self.target, path, self.format, schema)
    }
}

fn listed_columns() -> Vec<Column> {
    vec![
        Column::new("table_name", ColumnType::String, ""),
        Column::new("day", ColumnType::String, ""),
        Column::new("rows", ColumnType::U64, ""),
        Column::new("bytes", ColumnType::U64, ""),
        Column::new("path", ColumnType::String, ""),
    ]
}
