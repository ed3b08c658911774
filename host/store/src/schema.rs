//! Versions of tables: how stored rows of any version become rows of the table as it is read.

use crate::bytes::{self, Flaw};
use crate::catalog::history_schema;
use crate::error::{Result, StoreError};
use crate::keys;
use crate::types::TableId;
use arrow_array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow_schema::{DataType, SchemaRef};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use vwatch_model::table::{INSTANCE, TIME, TableKind};
use vwatch_model::{ColumnType, TableSchema};

/// One declaration of a table, with its rows' layout.
#[derive(Debug)]
pub(crate) struct Version {
    pub number: u32,
    pub schema: TableSchema,
    pub arrow: SchemaRef,
    pub key_arrow: SchemaRef,
    pub keys: Vec<usize>,
}

impl Version {
    pub fn new(number: u32, schema: TableSchema) -> Version {
        Version {
            number,
            arrow: schema.arrow(),
            key_arrow: schema.key_arrow(),
            keys: schema.key_indices(),
            schema,
        }
    }
}

/// A table as it is read: all its versions.
#[derive(Debug)]
pub(crate) struct Table {
    pub id: TableId,
    pub versions: BTreeMap<u32, Arc<Version>>,
    /// The newest version, then the columns that only older ones have.
    pub schema: TableSchema,
    pub history: SchemaRef,
}

impl Table {
    /// `versions` is not empty.
    pub fn new(id: TableId, versions: BTreeMap<u32, Arc<Version>>) -> Table {
        let mut merged: Option<TableSchema> = None;
        for version in versions.values().rev() {
            let merged = merged.get_or_insert_with(|| version.schema.clone());
            for column in &version.schema.columns {
                if merged.column(&column.name).is_none() {
                    merged.columns.push(column.clone().nullable());
                }
            }
        }
        let schema = merged.expect("a table has a version");
        Table {
            id,
            versions,
            history: history_schema(&schema),
            schema,
        }
    }

    pub fn newest(&self) -> &Arc<Version> {
        let (_, newest) = self.versions.last_key_value().expect("a table has a version");
        newest
    }

    pub fn version(&self, number: u32) -> std::result::Result<&Arc<Version>, Flaw> {
        self.versions.get(&number).ok_or_else(|| {
            format!(
                "it has rows of version {number} of table {}, which is unknown",
                self.schema.name
            )
        })
    }

    pub fn is_state(&self) -> bool {
        self.schema.kind == TableKind::State
    }
}

/// Where a column of the answer comes from.
#[derive(Debug, Clone)]
enum Source {
    Time,
    Instance,
    Column(String),
}

/// The columns that a reader wants of a table.
#[derive(Debug, Clone)]
pub(crate) struct Projection {
    pub schema: SchemaRef,
    sources: Vec<Source>,
}

impl Projection {
    pub fn new(table: &Table, columns: Option<&[String]>) -> Result<Projection> {
        let schema = match columns {
            None => table.history.clone(),
            Some(names) => {
                let index = |name: &String| {
                    table.history.index_of(name).map_err(|_| StoreError::NoColumn {
                        table: table.schema.name.clone(),
                        column: name.clone(),
                    })
                };
                let indices = names.iter().map(index).collect::<Result<Vec<_>>>()?;
                let fields = indices.iter().map(|&i| table.history.field(i).clone());
                Arc::new(arrow_schema::Schema::new(fields.collect::<Vec<_>>()))
            }
        };
        let source = |name: &str| match name {
            TIME => Source::Time,
            INSTANCE => Source::Instance,
            name => Source::Column(name.to_owned()),
        };
        Ok(Projection {
            sources: schema.fields().iter().map(|f| source(f.name())).collect(),
            schema,
        })
    }

    /// Columns of `version` to decode, in rising order. An event's time is always among them.
    pub fn stored(&self, version: &Version) -> Vec<usize> {
        let mut wanted: Vec<usize> = self
            .sources
            .iter()
            .filter_map(|s| match s {
                Source::Column(name) => version.arrow.index_of(name).ok(),
                Source::Time | Source::Instance => None,
            })
            .collect();
        if version.schema.kind == TableKind::Event {
            wanted.push(0);
        }
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// The answer's batch from decoded rows, each with its time.
    pub fn apply(&self, rows: &RecordBatch, times: ArrayRef, instance: &str) -> std::result::Result<RecordBatch, Flaw> {
        let count = times.len();
        let mut columns = Vec::with_capacity(self.sources.len());
        for (source, field) in self.sources.iter().zip(self.schema.fields()) {
            columns.push(match source {
                Source::Time => times.clone(),
                Source::Instance => repeat(instance, count),
                Source::Column(name) => match rows.column_by_name(name) {
                    Some(column) => column.clone(),
                    None => new_null_array(field.data_type(), count),
                },
            });
        }
        self.batch(columns, count)
    }

    /// Rows whose columns are a time and then the answer's, without that time and with the instance's name filled in.
    pub fn named(&self, rows: &RecordBatch, instance: &str) -> std::result::Result<RecordBatch, Flaw> {
        let count = rows.num_rows();
        let columns = self.sources.iter().zip(rows.columns().iter().skip(1));
        let columns = columns.map(|(source, column)| match source {
            Source::Instance => repeat(instance, count),
            Source::Time | Source::Column(_) => column.clone(),
        });
        self.batch(columns.collect(), count)
    }

    fn batch(&self, columns: Vec<ArrayRef>, count: usize) -> std::result::Result<RecordBatch, Flaw> {
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(|e| e.to_string())
    }
}

fn repeat(text: &str, count: usize) -> ArrayRef {
    Arc::new(arrow_array::StringArray::from_iter_values(std::iter::repeat_n(
        text, count,
    )))
}

/// Times as the column of a table.
pub(crate) fn time_array(times: Vec<i64>) -> ArrayRef {
    let array = arrow_array::TimestampNanosecondArray::from(times);
    let DataType::Timestamp(_, zone) = ColumnType::Timestamp.arrow() else {
        unreachable!("a timestamp column is a timestamp");
    };
    Arc::new(array.with_timezone_opt(zone))
}

/// The entry of the schema database for a version.
pub(crate) fn encode(id: TableId, version: &Version) -> std::result::Result<([u8; 8], Vec<u8>), Flaw> {
    let key = keys::pair(id.0, version.number);
    let json = serde_json::to_vec(&version.schema).map_err(|e| e.to_string())?;
    Ok((key, bytes::checked(&key, &json)))
}

/// Undoes [`encode`], and checks that the declaration keeps the rules, since decoding relies on them.
pub(crate) fn decode(key: &[u8], value: &[u8]) -> std::result::Result<(TableId, Version), Flaw> {
    let (table, number) = keys::split_pair(key)?;
    let at = |e: String| format!("version {number} of table {table}: {e}");
    let json = bytes::check(key, value).map_err(at)?;
    let schema: TableSchema = serde_json::from_slice(json).map_err(|e| at(e.to_string()))?;
    schema.check().map_err(|e| at(e.to_string()))?;
    Ok((TableId(table), Version::new(number, schema)))
}

/// Puts versions together into tables, checking that each table's versions can be read as one.
pub(crate) fn tables(path: &Path, versions: Vec<(TableId, Version)>) -> Result<BTreeMap<TableId, Arc<Table>>> {
    let mut by_table: BTreeMap<TableId, BTreeMap<u32, Arc<Version>>> = BTreeMap::new();
    for (id, version) in versions {
        let of_table = by_table.entry(id).or_default();
        for other in of_table.values() {
            if let Err(e) = other.schema.evolves_to(&version.schema) {
                return Err(StoreError::damaged(path, e.to_string()));
            }
            if other.schema.name != version.schema.name {
                return Err(StoreError::damaged(path, format!("table {} has two names", id.0)));
            }
        }
        of_table.insert(version.number, Arc::new(version));
    }
    Ok(by_table
        .into_iter()
        .map(|(id, versions)| (id, Arc::new(Table::new(id, versions))))
        .collect())
}
