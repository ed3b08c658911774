//! What a store holds: its tables, instances and times.

use crate::types::{InstanceId, InstanceInfo, TableId};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;
use vwatch_model::TableSchema;
use vwatch_model::table::{INSTANCE, TIME};
use vwatch_model::time::Stamp;

#[derive(Debug, Clone)]
pub struct Catalog {
    pub tables: Vec<TableEntry>,
    pub instances: Vec<InstanceEntry>,
    /// Earliest sample time of all.
    pub first_ns: Option<i64>,
    pub last_commit: Option<Stamp>,
    /// The last writer closed the store; false while one runs.
    pub clean_close: bool,
    pub boot_id: String,
    pub host: String,
}

#[derive(Debug, Clone)]
pub struct TableEntry {
    pub id: TableId,
    /// The newest version, then the columns that only older versions have, marked nullable.
    pub schema: TableSchema,
    pub first_ns: Option<i64>,
    pub last_ns: Option<i64>,
}

#[derive(Debug, Clone)]
pub struct InstanceEntry {
    pub id: InstanceId,
    pub info: InstanceInfo,
    /// Tables that it has ever filled.
    pub tables: Vec<TableId>,
}

impl TableEntry {
    /// `time`, `instance`, then the other declared columns in order; all but those two and the key may be null, since a
    /// row from another version of the table may lack them.
    pub fn history_schema(&self) -> SchemaRef {
        history_schema(&self.schema)
    }
}

pub(crate) fn history_schema(schema: &TableSchema) -> SchemaRef {
    let declared = schema.arrow();
    let time = match declared.field_with_name(TIME) {
        Ok(field) => field.clone(),
        Err(_) => Field::new(TIME, vwatch_model::ColumnType::Timestamp.arrow(), false),
    };
    let mut fields = vec![time, Field::new(INSTANCE, DataType::Utf8, false)];
    for (column, field) in schema.columns.iter().zip(declared.fields()) {
        if column.name != TIME {
            fields.push(field.as_ref().clone().with_nullable(!column.key));
        }
    }
    Arc::new(Schema::new(fields))
}
