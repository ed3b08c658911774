//! What one run handed over, decoded as the host decodes it.

use crate::text::{assert_golden, gone_text, repeated_key, table_text};
use arrow_array::RecordBatch;
use vwatch_abi::describe::{Column, Table};
use vwatch_abi::v1::{self, batch_kind};
use vwatch_sdk::__private::import;
use vwatch_sdk::{ProbeError, Result, Row, RowsKind};

/// Rows, losses and changes of one transaction.
#[derive(Debug)]
pub struct Sampled {
    pub tables: Vec<SampledTable>,
    /// Table, count, cause.
    pub losses: Vec<(String, u64, String)>,
    /// Changes of durable state; None deletes.
    pub state: Vec<(String, Option<Vec<u8>>)>,
    pub outbox: Vec<(String, Vec<u8>)>,
    pub outbox_done: Vec<String>,
}

/// Rows of one table.
#[derive(Debug, Clone)]
pub struct SampledTable {
    pub table: Table,
    pub kind: RowsKind,
    pub time_ns: i64,
    pub rows: RecordBatch,
    /// Key columns of gone rows.
    pub gone: RecordBatch,
}

impl Sampled {
    pub(crate) fn read(commit: v1::Commit, tables: &[Table], time_ns: i64) -> Result<Self> {
        let name = |index: u32| match tables.get(index as usize) {
            Some(table) => Ok(table),
            None => Err(ProbeError::failed(format!(
                "rows of table number {index}, which the manifest lacks"
            ))),
        };
        let mut sampled = Sampled {
            tables: Vec::new(),
            losses: Vec::new(),
            state: Vec::new(),
            outbox: Vec::new(),
            outbox_done: commit.outbox_done.into_iter().map(String::from).collect(),
        };
        for batch in commit.batches {
            let table = name(batch.table)?;
            sampled.tables.push(SampledTable::read(batch, table, time_ns)?);
        }
        for loss in commit.losses {
            let table = name(loss.table)?.name.clone();
            sampled.losses.push((table, loss.count, loss.cause.into()));
        }
        for change in commit.state {
            let value = change.value.into_option().map(|v| v.into_vec());
            sampled.state.push((change.key.into(), value));
        }
        for entry in commit.outbox {
            sampled.outbox.push((entry.id.into(), entry.body.into_vec()));
        }
        Ok(sampled)
    }

    /// The first batch of `table`; panics when there is none.
    pub fn table(&self, table: &str) -> &SampledTable {
        let found = self.tables.iter().find(|t| t.table.name == table);
        found.unwrap_or_else(|| panic!("no rows of {table} were handed over"))
    }

    /// Whether there are rows, or a picture without rows, of `table`.
    pub fn has(&self, table: &str) -> bool {
        self.tables.iter().any(|t| t.table.name == table)
    }

    pub fn batch(&self, table: &str) -> &RecordBatch {
        &self.table(table).rows
    }

    /// The rows as their type.
    pub fn rows<R: Row>(&self) -> Vec<R> {
        R::read(self.batch(R::TABLE.name)).unwrap_or_else(|e| panic!("{}: {e}", R::TABLE.name))
    }

    /// The rows as aligned text under their columns' names, a picture's in the order of its keys. With a delta, lines `gone …`.
    pub fn text(&self, table: &str) -> String {
        self.table(table).text()
    }

    /// Compares [`Sampled::text`] with a file, whose path is relative to the package. `UPDATE_GOLDEN=1` writes it.
    pub fn golden(&self, table: &str, file: &str) {
        assert_golden(file, &self.text(table));
    }
}

impl SampledTable {
    fn read(batch: v1::Batch, table: &Table, tick_ns: i64) -> Result<Self> {
        let keys: Vec<Column> = table.columns.iter().filter(|c| c.key).cloned().collect();
        let rows = import(batch.rows, &table.columns).map_err(|e| e.about(&table.name))?;
        if let Some(missing) = null_where_none_may_be(table, &rows) {
            return Err(ProbeError::failed(format!(
                "{}: column {missing} has nulls",
                table.name
            )));
        }
        if let Some(key) = repeated_key(&table.columns, &rows) {
            return Err(ProbeError::failed(format!(
                "{}: two rows have the key {key}",
                table.name
            )));
        }
        Ok(SampledTable {
            table: table.clone(),
            kind: match batch.kind {
                batch_kind::FULL => RowsKind::Full,
                batch_kind::DELTA => RowsKind::Delta,
                batch_kind::EVENTS => RowsKind::Events,
                other => return Err(ProbeError::failed(format!("rows of unknown kind {other}"))),
            },
            time_ns: if batch.time_ns == 0 { tick_ns } else { batch.time_ns },
            rows,
            gone: import(batch.gone, &keys)?,
        })
    }

    pub fn text(&self) -> String {
        table_text(&self.table.columns, &self.rows) + &gone_text(&self.table.columns, &self.gone)
    }
}

fn null_where_none_may_be<'a>(table: &'a Table, rows: &RecordBatch) -> Option<&'a str> {
    let columns = table.columns.iter().zip(rows.columns());
    let mut bad = columns.filter(|(column, array)| !column.nullable && array.null_count() > 0);
    bad.next().map(|(column, _)| column.name.as_str())
}
