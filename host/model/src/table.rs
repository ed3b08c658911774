//! Tables and columns: what a row means, and how it is laid out in Arrow.

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// The stored time zone of every timestamp.
pub const STORED_ZONE: &str = "UTC";

/// Column that every table has: when the reading of the row began.
pub const TIME: &str = "time";
/// Column that every table has when read: the instance whose probe made the row.
pub const INSTANCE: &str = "instance";
/// With [`Access::Owner`], the column that names the user who may read the row.
pub const OWNER_UID: &str = "owner_uid";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableKind {
    /// A full picture at every sample time, keyed by the key columns.
    State,
    /// Rows that each carry their own time, in a first column `time`.
    Event,
}

/// Who may read a table's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    #[default]
    All,
    /// Root, and the user in the row's `owner_uid`.
    Owner,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    Bool,
    I32,
    I64,
    U32,
    U64,
    F64,
    String,
    Bytes,
    /// Nanoseconds since the epoch, UTC.
    Timestamp,
}

impl ColumnType {
    pub fn arrow(self) -> DataType {
        match self {
            ColumnType::Bool => DataType::Boolean,
            ColumnType::I32 => DataType::Int32,
            ColumnType::I64 => DataType::Int64,
            ColumnType::U32 => DataType::UInt32,
            ColumnType::U64 => DataType::UInt64,
            ColumnType::F64 => DataType::Float64,
            ColumnType::String => DataType::Utf8,
            ColumnType::Bytes => DataType::Binary,
            ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Nanosecond, Some(STORED_ZONE.into())),
        }
    }

    /// The word used in schemas shown to people and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            ColumnType::Bool => "bool",
            ColumnType::I32 => "i32",
            ColumnType::I64 => "i64",
            ColumnType::U32 => "u32",
            ColumnType::U64 => "u64",
            ColumnType::F64 => "f64",
            ColumnType::String => "string",
            ColumnType::Bytes => "bytes",
            ColumnType::Timestamp => "timestamp",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// `ns`, `bytes`, `percent` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    #[serde(default)]
    pub doc: String,
    /// Part of the row's identity within one picture.
    #[serde(default)]
    pub key: bool,
    #[serde(default)]
    pub nullable: bool,
    /// Only grows while the thing it counts lives.
    #[serde(default)]
    pub counter: bool,
}

impl Column {
    pub fn new(name: &str, kind: ColumnType, doc: &str) -> Self {
        Column {
            name: name.to_owned(),
            kind,
            unit: None,
            doc: doc.to_owned(),
            key: false,
            nullable: false,
            counter: false,
        }
    }

    pub fn key(mut self) -> Self {
        self.key = true;
        self
    }

    pub fn nullable(mut self) -> Self {
        self.nullable = true;
        self
    }

    pub fn unit(mut self, unit: &str) -> Self {
        self.unit = Some(unit.to_owned());
        self
    }
}

/// A table as its probe declares it: the columns that cross the ABI and lie in the store. A state table's `time` and every
/// table's `instance` are not among them: the sample carries those.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    pub name: String,
    pub kind: TableKind,
    #[serde(default)]
    pub doc: String,
    #[serde(default)]
    pub access: Access,
    pub columns: Vec<Column>,
}

/// Why a table's declaration is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SchemaError {
    #[error("table name {0:?} is not of the form [a-z][a-z0-9_]* (at most 64 characters)")]
    TableName(String),
    #[error("table {table}: column name {column:?} is not of the form [a-z][a-z0-9_]* (at most 64 characters)")]
    ColumnName { table: String, column: String },
    #[error("table {table}: column {column} is declared twice")]
    Twice { table: String, column: String },
    #[error("table {0} has no columns")]
    Empty(String),
    #[error("table {table}: {column} is the host's own column in a state table")]
    Reserved { table: String, column: String },
    #[error("event table {0}: its first column must be `time`, a timestamp that is never null")]
    EventTime(String),
    #[error("table {0}: rows for their owner only need a column `owner_uid` of type u32")]
    Owner(String),
    #[error("table {table}: key column {column} may not be null")]
    NullableKey { table: String, column: String },
    #[error(
        "table {table}: column {column} is {was} in what is stored and {now} in what the plugin declares; a column never changes its type"
    )]
    TypeChanged {
        table: String,
        column: String,
        was: &'static str,
        now: &'static str,
    },
    #[error(
        "table {table}: its key columns are ({was}) in what is stored and ({now}) in what the plugin declares; a key never changes"
    )]
    KeyChanged { table: String, was: String, now: String },
    #[error("table {0} is a state table in one declaration and an event table in the other")]
    KindChanged(String),
}

impl TableSchema {
    /// Checks the rules that every declaration keeps.
    pub fn check(&self) -> Result<(), SchemaError> {
        if !crate::name::is_identifier(&self.name) {
            return Err(SchemaError::TableName(self.name.clone()));
        }
        if self.columns.is_empty() {
            return Err(SchemaError::Empty(self.name.clone()));
        }
        for (i, c) in self.columns.iter().enumerate() {
            let at = || (self.name.clone(), c.name.clone());
            if !crate::name::is_identifier(&c.name) {
                let (table, column) = at();
                return Err(SchemaError::ColumnName { table, column });
            }
            if self.columns[..i].iter().any(|d| d.name == c.name) {
                let (table, column) = at();
                return Err(SchemaError::Twice { table, column });
            }
            let event_time = self.kind == TableKind::Event && i == 0;
            if (c.name == TIME && !event_time) || c.name == INSTANCE {
                let (table, column) = at();
                return Err(SchemaError::Reserved { table, column });
            }
            if c.key && c.nullable {
                let (table, column) = at();
                return Err(SchemaError::NullableKey { table, column });
            }
        }
        if self.kind == TableKind::Event {
            let first = &self.columns[0];
            if first.name != TIME || first.kind != ColumnType::Timestamp || first.nullable {
                return Err(SchemaError::EventTime(self.name.clone()));
            }
        }
        let owned = |c: &Column| c.name == OWNER_UID && c.kind == ColumnType::U32;
        if self.access == Access::Owner && !self.columns.iter().any(owned) {
            return Err(SchemaError::Owner(self.name.clone()));
        }
        Ok(())
    }

    /// Whether rows written under `self` and under `newer` can be read as one table: kinds and keys are the same, and no
    /// column that both have changes its type. Columns may come and go; where a row lacks one it reads as NULL.
    pub fn evolves_to(&self, newer: &TableSchema) -> Result<(), SchemaError> {
        let table = || self.name.clone();
        if self.kind != newer.kind {
            return Err(SchemaError::KindChanged(table()));
        }
        let keys = |t: &TableSchema| t.key_columns().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
        if keys(self) != keys(newer) {
            return Err(SchemaError::KeyChanged {
                table: table(),
                was: keys(self),
                now: keys(newer),
            });
        }
        for c in &newer.columns {
            if let Some(old) = self.column(&c.name)
                && old.kind != c.kind
            {
                return Err(SchemaError::TypeChanged {
                    table: table(),
                    column: c.name.clone(),
                    was: old.kind.word(),
                    now: c.kind.word(),
                });
            }
        }
        Ok(())
    }

    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|c| c.key)
    }

    /// Indices of the key columns.
    pub fn key_indices(&self) -> Vec<usize> {
        (0..self.columns.len()).filter(|&i| self.columns[i].key).collect()
    }

    /// Arrow schema of the declared columns. Units and docs go into the fields' metadata as `unit` and `doc`.
    pub fn arrow(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }

    /// Arrow schema of the key columns alone, in their order.
    pub fn key_arrow(&self) -> SchemaRef {
        Arc::new(Schema::new(self.key_columns().map(field).collect::<Vec<_>>()))
    }
}

fn field(c: &Column) -> Field {
    let mut metadata = HashMap::new();
    if let Some(unit) = &c.unit {
        metadata.insert("unit".to_owned(), unit.clone());
    }
    if !c.doc.is_empty() {
        metadata.insert("doc".to_owned(), c.doc.clone());
    }
    Field::new(&c.name, c.kind.arrow(), c.nullable).with_metadata(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(kind: TableKind, columns: Vec<Column>) -> TableSchema {
        TableSchema {
            name: "t".into(),
            kind,
            doc: String::new(),
            access: Access::All,
            columns,
        }
    }

    #[test]
    fn rules_of_a_declaration() {
        use ColumnType::*;
        let ok = table(
            TableKind::State,
            vec![Column::new("pid", I32, "").key(), Column::new("comm", String, "")],
        );
        assert_eq!(ok.check(), Ok(()));
        let twice = table(
            TableKind::State,
            vec![Column::new("a", I32, ""), Column::new("a", I32, "")],
        );
        assert!(matches!(twice.check(), Err(SchemaError::Twice { .. })));
        let reserved = table(TableKind::State, vec![Column::new("time", Timestamp, "")]);
        assert!(matches!(reserved.check(), Err(SchemaError::Reserved { .. })));
        let event = table(TableKind::Event, vec![Column::new("pid", I32, "")]);
        assert!(matches!(event.check(), Err(SchemaError::EventTime(_))));
        let name = table(TableKind::State, vec![Column::new("a b", I32, "")]);
        assert!(matches!(name.check(), Err(SchemaError::ColumnName { .. })));
    }

    #[test]
    fn a_column_may_come_but_never_change() {
        use ColumnType::*;
        let one = table(TableKind::State, vec![Column::new("pid", I32, "").key()]);
        let two = table(
            TableKind::State,
            vec![Column::new("pid", I32, "").key(), Column::new("x", F64, "")],
        );
        let three = table(
            TableKind::State,
            vec![Column::new("pid", I32, "").key(), Column::new("x", I64, "")],
        );
        assert_eq!(one.evolves_to(&two), Ok(()));
        assert_eq!(two.evolves_to(&one), Ok(()));
        assert!(matches!(two.evolves_to(&three), Err(SchemaError::TypeChanged { .. })));
        let rekeyed = table(
            TableKind::State,
            vec![Column::new("pid", I32, ""), Column::new("x", F64, "").key()],
        );
        assert!(matches!(two.evolves_to(&rekeyed), Err(SchemaError::KeyChanged { .. })));
    }
}
