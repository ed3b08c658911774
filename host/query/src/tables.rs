//! The names that a query can read: the store's tables, their histories, the rates of their counters, and `vw_tables` and
//! `vw_columns` that describe them all.
//!
//! Providers are made when a name is asked for: a store has some sixty tables and a query reads one or two.

use crate::rate_columns::{self, Layout};
use crate::snapshot::Snapshot;
use crate::table::{StoredTable, View, has_history};
use crate::zone::Zone;
use arrow_array::{ArrayRef, BooleanArray, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::MemTable;
use std::sync::Arc;
use vwatch_model::table::{INSTANCE, TIME};
use vwatch_model::{Access, Column, ColumnType, TableKind};
use vwatch_store::TableEntry;

/// Name of the one catalog and of the one schema in it.
pub const CATALOG: &str = "vwatch";
pub const SCHEMA: &str = "host";

const HISTORY: &str = "_history";
const TABLES: &str = "vw_tables";
const COLUMNS: &str = "vw_columns";

#[derive(Debug, Clone)]
pub struct Tables {
    snapshot: Arc<Snapshot>,
}

impl Tables {
    pub fn new(snapshot: Arc<Snapshot>) -> Tables {
        Tables { snapshot }
    }

    pub fn names(&self) -> Vec<String> {
        let mut names = vec![TABLES.to_owned(), COLUMNS.to_owned()];
        names.extend(described(&self.snapshot).into_iter().map(|d| d.name));
        names.sort();
        names
    }

    /// Names of the columns of every table, for a guess at what a mistyped one meant.
    pub fn column_names(&self) -> Vec<String> {
        let all = described(&self.snapshot);
        let mut names: Vec<String> = all.iter().flat_map(Described::columns).map(|c| c.name).collect();
        names.sort();
        names.dedup();
        names
    }

    pub fn knows(&self, name: &str) -> bool {
        matches!(name, TABLES | COLUMNS) || self.stored(name).is_some()
    }

    /// The stored table that a name means, and how it is read.
    fn stored(&self, name: &str) -> Option<StoredTable> {
        let of = |entry: &TableEntry, view| StoredTable::new(self.snapshot.clone(), Arc::new(entry.clone()), view);
        let now = View::Picture {
            at_ns: self.snapshot.at_ns,
        };
        if let Some(entry) = self.snapshot.table(name) {
            return Some(match entry.schema.kind {
                TableKind::State => of(entry, now),
                TableKind::Event => of(entry, View::History),
            });
        }
        let (name, view) = match name.strip_suffix(HISTORY) {
            Some(name) => (name, View::History),
            None => (name, now),
        };
        if view == View::History
            && let Some(entry) = self.snapshot.table(name)
        {
            return has_history(entry).then(|| of(entry, View::History));
        }
        let entry = self.snapshot.table(rate_columns::table_of(name)?)?;
        Some(of(entry, view).rated(Layout::of(entry)?))
    }

    fn provider(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let described = match name {
            TABLES => tables(&self.snapshot)?,
            COLUMNS => columns(&self.snapshot)?,
            _ => {
                let stored = self.stored(name);
                return Ok(stored.map(|table| Arc::new(table) as Arc<dyn TableProvider>));
            }
        };
        let table = MemTable::try_new(described.schema(), vec![vec![described]])?;
        Ok(Some(Arc::new(table)))
    }
}

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        self.names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        self.provider(name)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.knows(name)
    }
}

impl CatalogProvider for Tables {
    fn schema_names(&self) -> Vec<String> {
        vec![SCHEMA.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        (name == SCHEMA).then(|| Arc::new(self.clone()) as Arc<dyn SchemaProvider>)
    }
}

/// One row of `vw_tables` or the head of the rows of one table in `vw_columns`.
struct Described<'a> {
    name: String,
    kind: &'static str,
    entry: &'a TableEntry,
    rates: Option<Arc<Layout>>,
}

impl Described<'_> {
    fn columns(&self) -> Vec<Column> {
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
fn described(snapshot: &Snapshot) -> Vec<Described<'_>> {
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

fn tables(snapshot: &Snapshot) -> Result<RecordBatch, ArrowError> {
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

fn columns(snapshot: &Snapshot) -> Result<RecordBatch, ArrowError> {
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

fn flags(name: &str, values: impl Iterator<Item = bool>) -> (Field, ArrayRef) {
    let values: BooleanArray = values.map(Some).collect();
    (Field::new(name, DataType::Boolean, false), Arc::new(values))
}

fn times(name: &str, values: impl Iterator<Item = Option<i64>>, zone: &Zone) -> (Field, ArrayRef) {
    let values: TimestampNanosecondArray = values.collect();
    let values = values.with_timezone(zone.name().clone());
    (Field::new(name, zone.timestamp(), true), Arc::new(values))
}
