//! Rows of other probes, as a subscriber sees them.

use crate::cell::Cell;
use crate::column::Column;
use crate::context::Context;
use crate::error::{ProbeError, Result};
use crate::exchange::import;
use crate::row::{Row, Tables};
use arrow_array::RecordBatch;
use vwatch_abi::describe::Table;
use vwatch_abi::v1::{self, batch_kind};

/// Gets every batch of the tables it names, from whatever plugin and instance.
///
/// Calls of one subscriber never overlap. It must return soon: it shares the host's pipeline. After a panic it is opened anew
/// for the next rows.
pub trait Subscriber: Sized + Send + 'static {
    /// Tables that it emits rows to through its context; `()` for none.
    type Tables: Tables;
    const NAME: &'static str;
    /// The tables whose rows it wants.
    const SUBSCRIBES: &'static [&'static str];

    fn open(context: &Context) -> Result<Self>;
    fn receive(&mut self, rows: &ReceivedRows) -> Result<()>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsKind {
    /// The full picture: rows not in it are gone.
    Full,
    /// Changed and new rows, and the keys of gone ones.
    Delta,
    Events,
}

/// Rows of one table from one run of one instance.
#[derive(Debug)]
pub struct ReceivedRows {
    /// Name of the instance that made them.
    pub instance: String,
    /// Time of the sample, ns since the epoch.
    pub time_ns: i64,
    pub kind: RowsKind,
    /// The table as its plugin declares it.
    pub table: Table,
    pub rows: RecordBatch,
    /// Key columns of rows that are gone; empty but with a delta.
    pub gone: RecordBatch,
}

impl ReceivedRows {
    pub(crate) fn read(received: v1::Received<'_>) -> Result<Self> {
        let table: Table = serde_json::from_slice(received.schema.as_slice())
            .map_err(|e| ProbeError::failed(format!("the schema of {} cannot be read: {e}", received.table)))?;
        let keys: Vec<_> = table.columns.iter().filter(|c| c.key).cloned().collect();
        Ok(ReceivedRows {
            instance: received.instance.into(),
            time_ns: received.time_ns,
            kind: match received.kind {
                batch_kind::FULL => RowsKind::Full,
                batch_kind::DELTA => RowsKind::Delta,
                batch_kind::EVENTS => RowsKind::Events,
                other => return Err(ProbeError::failed(format!("rows of unknown kind {other}"))),
            },
            rows: import(received.rows, &table.columns)?,
            gone: import(received.gone, &keys)?,
            table,
        })
    }

    /// The rows as their type, where the subscriber shares it with the probe. Columns go by name.
    pub fn typed<R: Row>(&self) -> Result<Vec<R>> {
        R::read(&self.rows)
    }

    /// One column: `rows.column::<i32>("pid")?.values()`.
    pub fn column<T: Cell>(&self, name: &str) -> Result<Column<T>> {
        Column::of(&self.rows, name)
    }
}
