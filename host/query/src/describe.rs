//! The tables that describe: `vw_tables` and `vw_columns` say what there is, `store_table` what it takes.

use crate::rate_columns::{self, Layout};
use crate::snapshot::Snapshot;
use crate::table::has_history;
use crate::zone::Zone;
use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use std::sync::Arc;
use vwatch_model::table::{INSTANCE, TIME};
use vwatch_model::{Access, Column, ColumnType};
use vwatch_store::{TableEntry, TableStorage};

pub const HISTORY: &str = "_history";

/// One row of `vw_tables` or the head of the rows of one table in `vw_columns`.
pub struct Described<'a> {
    pub name: String,
    kind: &'static str,
    entry: &'a TableEntry,
    rates: Option<Arc<Layout>>,
}

impl Described<'_> {
    pub fn columns(&self) -> Vec<Column> {
        match &self.rates {
            None => shown_columns(self.entry),
            Some(layout) => {
                let front = shown_columns(self.entry).into_iter().take(2);
                let own = layout.columns.iter().map(|c| c.column.clone());
                front.chain(own.map(|c| Column { nullable: !c.key, ..c })).collect()
            }
        }
    }

    fn doc(&self) -> String {
        match self.rates {
            None => self.entry.schema.doc.clone(),
            Some(_) => format!(
                "Rates of the counters of {}. {}",
                self.entry.schema.name, self.entry.schema.doc
            ),
        }
    }
}

/// Every stored table, and of a state table its history and the rates of its counters.
pub fn described(snapshot: &Snapshot) -> Vec<Described<'_>> {
    let mut all = Vec::new();
    for entry in &snapshot.catalog.tables {
        let mut add = |name: String, kind, rates: &Option<Arc<Layout>>| {
            all.push(Described {
                name,
                kind,
                entry,
                rates: rates.clone(),
            });
        };
        let name = entry.schema.name.clone();
        let history = |name: &str| format!("{name}{HISTORY}");
        if !has_history(entry) {
            add(name, "event", &None);
            continue;
        }
        add(history(&name), "history", &None);
        add(name, "state", &None);
        let view = rate_columns::name_of(&entry.schema.name);
        let rates = Layout::of(entry).map(Arc::new);
        if rates.is_some() && snapshot.table(&view).is_none() {
            add(history(&view), "rate_history", &rates);
            add(view, "rate", &rates);
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// The columns of a table as a query sees them.
fn shown_columns(entry: &TableEntry) -> Vec<Column> {
    let schema = &entry.schema;
    let time = match schema.column(TIME) {
        Some(time) => time.clone(),
        None => Column::new(TIME, ColumnType::Timestamp, "When the reading of the row began."),
    };
    let instance = Column::new(INSTANCE, ColumnType::String, "Instance whose probe made the row.");
    let declared = schema.columns.iter().filter(|c| c.name != TIME).map(|c| Column {
        nullable: !c.key,
        ..c.clone()
    });
    [time, instance].into_iter().chain(declared).collect()
}

fn access(access: Access) -> &'static str {
    match access {
        Access::All => "all",
        Access::Owner => "owner",
    }
}

pub fn tables(snapshot: &Snapshot) -> Result<RecordBatch, ArrowError> {
    let all = described(snapshot);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let instances = |d: &Described<'_>| {
        let instances = snapshot.instances(d.entry.id);
        instances.iter().map(|i| &*i.info.name).collect::<Vec<_>>().join(", ")
    };
    rows(vec![
        text("name", all.iter().map(|d| Some(d.name.clone()))),
        text("kind", all.iter().map(|d| Some(d.kind.to_owned()))),
        text(
            "access",
            all.iter().map(|d| Some(access(d.entry.schema.access).to_owned())),
        ),
        times("first_time", all.iter().map(|d| d.entry.first_ns), &snapshot.zone),
        times("last_time", all.iter().map(|d| d.entry.last_ns), &snapshot.zone),
        counts("columns", all.iter().map(|d| count(d.columns().len()))),
        text("instances", all.iter().map(|d| Some(instances(d)))),
        text("doc", all.iter().map(|d| Some(d.doc()))),
    ])
}

pub fn columns(snapshot: &Snapshot) -> Result<RecordBatch, ArrowError> {
    let mut all: Vec<(String, u32, Column)> = Vec::new();
    for table in described(snapshot) {
        for (position, column) in (1..).zip(table.columns()) {
            all.push((table.name.clone(), position, column));
        }
    }
    rows(vec![
        text("table_name", all.iter().map(|(table, ..)| Some(table.clone()))),
        counts("position", all.iter().map(|(_, position, _)| *position)),
        text("name", all.iter().map(|(.., c)| Some(c.name.clone()))),
        text("type", all.iter().map(|(.., c)| Some(c.kind.word().to_owned()))),
        text("unit", all.iter().map(|(.., c)| c.unit.clone())),
        flags("key", all.iter().map(|(.., c)| c.key)),
        flags("nullable", all.iter().map(|(.., c)| c.nullable)),
        flags("counter", all.iter().map(|(.., c)| c.counter)),
        text("doc", all.iter().map(|(.., c)| Some(c.doc.clone()))),
    ])
}

/// What each table takes for each instance.
pub fn storage(all: &[TableStorage], zone: &Zone) -> Result<RecordBatch, ArrowError> {
    let taken = |s: &TableStorage| s.bytes + s.head_bytes;
    let ratio = |over: u64, under: u64| (under > 0).then(|| over as f64 / under as f64);
    rows(vec![
        text("table_name", all.iter().map(|s| Some(s.table.clone()))),
        text("probe_instance", all.iter().map(|s| Some(s.instance.clone()))),
        times("first_time", all.iter().map(|s| s.first_ns), zone),
        times("last_time", all.iter().map(|s| s.last_ns), zone),
        numbers("blocks", all.iter().map(|s| s.blocks)),
        numbers("samples", all.iter().map(|s| s.samples)),
        numbers("rows", all.iter().map(|s| s.rows)),
        numbers("bytes", all.iter().map(|s| s.bytes)),
        numbers("head_bytes", all.iter().map(|s| s.head_bytes)),
        ratios("bytes_per_row", all.iter().map(|s| ratio(taken(s), s.rows))),
        ratios("compression", all.iter().map(|s| ratio(s.raw_bytes, taken(s)))),
    ])
}

fn rows(columns: Vec<(Field, ArrayRef)>) -> Result<RecordBatch, ArrowError> {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
}

fn text(name: &str, values: impl Iterator<Item = Option<String>>) -> (Field, ArrayRef) {
    let values: StringArray = values.collect();
    (Field::new(name, DataType::Utf8, true), Arc::new(values))
}

fn counts(name: &str, values: impl Iterator<Item = u32>) -> (Field, ArrayRef) {
    let values = UInt32Array::from_iter_values(values);
    (Field::new(name, DataType::UInt32, false), Arc::new(values))
}

fn numbers(name: &str, values: impl Iterator<Item = u64>) -> (Field, ArrayRef) {
    let values = UInt64Array::from_iter_values(values);
    (Field::new(name, DataType::UInt64, false), Arc::new(values))
}

fn ratios(name: &str, values: impl Iterator<Item = Option<f64>>) -> (Field, ArrayRef) {
    let values: Float64Array = values.collect();
    (Field::new(name, DataType::Float64, true), Arc::new(values))
}

fn flags(name: &str, values: impl Iterator<Item = bool>) -> (Field, ArrayRef) {
    let values: BooleanArray = values.map(Some).collect();
    (Field::new(name, DataType::Boolean, false), Arc::new(values))
}

fn times(name: &str, values: impl Iterator<Item = Option<i64>>, zone: &Zone) -> (Field, ArrayRef) {
    let values: TimestampNanosecondArray = values.collect();
    let values = values.with_timezone(zone.name().clone());
    (Field::new(name, zone.timestamp(), true), Arc::new(values))
}
