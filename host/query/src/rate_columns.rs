//! The columns of a table's rate view: what is not a counter as it is stored, and each counter as what it grows by.
//!
//! A counter of nanoseconds becomes a percentage of the time that has passed (100: one CPU busy, one request always in
//! flight), every other counter a number per second.

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use std::collections::HashMap;
use std::sync::Arc;
use vwatch_model::table::{INSTANCE, TIME};
use vwatch_model::{Column, ColumnType, TableKind, TableSchema};
use vwatch_store::TableEntry;

pub const ELAPSED: &str = "elapsed_ns";

/// Short names of views: of `cpu_time_rate` and so on.
const SHORT: &[(&str, &str)] = &[("cpu_time", "cpu"), ("disk_io", "disk"), ("net_io", "net")];

/// Sums of several counters, for the tables that have them: name, description, the counters that the table has to have, and
/// those that are added where there are any.
const SUMS: &[(&str, &str, &[&str], &[&str])] = &[
    (
        "cpu_percent",
        "CPU time in user and kernel mode, as a share of the time between the two samples; 100: one CPU busy.",
        &["utime_ns", "stime_ns"],
        &[],
    ),
    (
        "busy_percent",
        "Time that was neither idle nor waiting for I/O, as a share of the time between the two samples; 100: one CPU busy.",
        &["user_ns", "nice_ns", "system_ns", "idle_ns"],
        &["irq_ns", "softirq_ns", "steal_ns"],
    ),
];
/// The one of those that is not added: it only tells which table is meant.
const IDLE: &str = "idle_ns";

#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// As it is stored.
    Stored,
    /// Time between the two samples.
    Elapsed,
    /// Growth of these counters together, the first of which decides whether it is known. `scale` over the nanoseconds
    /// between the samples makes it a rate.
    Rate { counters: Vec<String>, scale: f64 },
}

#[derive(Debug, Clone)]
pub struct RateColumn {
    pub column: Column,
    pub from: Origin,
}

/// The columns of a rate view behind `time` and `instance`.
#[derive(Debug)]
pub struct Layout {
    pub columns: Vec<RateColumn>,
    pub schema: SchemaRef,
}

impl Layout {
    /// None for a table that has no rates: an event table, or one without counters.
    pub fn of(entry: &TableEntry) -> Option<Layout> {
        let table = &entry.schema;
        if table.kind != TableKind::State || !table.columns.iter().any(counts) {
            return None;
        }
        let stored = |c: &Column| RateColumn {
            column: c.clone(),
            from: Origin::Stored,
        };
        let mut columns: Vec<RateColumn> = table.columns.iter().filter(|c| !counts(c)).map(stored).collect();
        columns.push(RateColumn {
            column: Column::new(
                ELAPSED,
                ColumnType::I64,
                "Time between this sample and the one before. NULL where the row is not in the one before.",
            )
            .unit("ns")
            .nullable(),
            from: Origin::Elapsed,
        });
        columns.extend(table.columns.iter().filter(|c| counts(c)).map(rate));
        columns.extend(sums(table));
        // A stored column keeps its name; a rate that would have the same is left out.
        let mut names: Vec<String> = vec![TIME.to_owned(), INSTANCE.to_owned()];
        columns.retain(|c| {
            let free = !names.contains(&c.column.name);
            names.push(c.column.name.clone());
            free
        });
        let schema = arrow(entry, &columns);
        Some(Layout { columns, schema })
    }
}

/// Name of the rate view of a table, as it is listed.
pub fn name_of(table: &str) -> String {
    let short = SHORT.iter().find(|(long, _)| *long == table).map(|(_, short)| *short);
    format!("{}_rate", short.unwrap_or(table))
}

/// The table that a rate view's name means: `cpu_rate` as well as `cpu_time_rate`.
pub fn table_of(view: &str) -> Option<&str> {
    let table = view.strip_suffix("_rate")?;
    let long = SHORT.iter().find(|(_, short)| *short == table).map(|(long, _)| *long);
    Some(long.unwrap_or(table))
}

/// Whether a column is a counter that can be subtracted.
pub fn counts(column: &Column) -> bool {
    let whole = matches!(
        column.kind,
        ColumnType::I32 | ColumnType::I64 | ColumnType::U32 | ColumnType::U64
    );
    column.counter && !column.key && whole
}

fn rate(counter: &Column) -> RateColumn {
    let of_time = counter.unit.as_deref() == Some("ns");
    let base = counter.name.strip_suffix("_ns").filter(|_| of_time);
    let (name, unit, scale, words) = match base {
        Some(base) => (
            format!("{base}_percent"),
            "percent",
            100.0,
            "as a share of the time between the two samples",
        ),
        None => (
            format!("{}_per_s", counter.name),
            "per second",
            1e9,
            "per second between the two samples",
        ),
    };
    let doc = counter.doc.lines().collect::<Vec<_>>().join(" ");
    let doc = format!("Growth of `{}` {words}. {doc}", counter.name);
    RateColumn {
        column: Column::new(&name, ColumnType::F64, doc.trim()).unit(unit).nullable(),
        from: Origin::Rate {
            counters: vec![counter.name.clone()],
            scale,
        },
    }
}

fn sums(table: &TableSchema) -> impl Iterator<Item = RateColumn> {
    let has = |name: &&&str| table.columns.iter().any(|c| c.name == **name && counts(c));
    SUMS.iter().filter_map(move |(name, doc, needed, more)| {
        if !needed.iter().all(|n| has(&n)) {
            return None;
        }
        let parts = needed.iter().filter(|n| **n != IDLE).chain(more.iter().filter(has));
        Some(RateColumn {
            column: Column::new(name, ColumnType::F64, doc).unit("percent").nullable(),
            from: Origin::Rate {
                counters: parts.map(|n| (*n).to_owned()).collect(),
                scale: 100.0,
            },
        })
    })
}

fn arrow(entry: &TableEntry, columns: &[RateColumn]) -> SchemaRef {
    let stored = entry.history_schema();
    let mut fields: Vec<Field> = stored.fields().iter().take(2).map(|f| f.as_ref().clone()).collect();
    for column in columns {
        let name = &column.column.name;
        let kept = match column.from {
            Origin::Stored => stored.field_with_name(name).ok().cloned(),
            Origin::Elapsed | Origin::Rate { .. } => None,
        };
        fields.push(kept.unwrap_or_else(|| computed(&column.column)));
    }
    Arc::new(Schema::new(fields))
}

fn computed(column: &Column) -> Field {
    let kind = match column.kind {
        ColumnType::I64 => DataType::Int64,
        _ => DataType::Float64,
    };
    let unit = column.unit.clone().unwrap_or_default();
    let metadata = HashMap::from([("unit".to_owned(), unit), ("doc".to_owned(), column.doc.clone())]);
    Field::new(&column.name, kind, true).with_metadata(metadata)
}
