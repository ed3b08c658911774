//! What a command answers: rows, and notes to the person.

use crate::build;
use crate::cell::{Cell, column_type};
use crate::error::{ProbeError, Result};
use crate::exchange::to_abi;
use crate::row::Row;
use arrow_array::{Array, RecordBatch};
use arrow_select::concat::concat;
use vwatch_abi::abi_stable::std_types::{RString, RVec};
use vwatch_abi::arrow_c::ArrowArray;
use vwatch_abi::describe::{Column, ColumnType};
use vwatch_abi::v1;

/// The answer to a command.
///
/// ```
/// # use vwatch_sdk::prelude::*;
/// let answer = Answer::new()
///     .column("rule", "Name of the rule.", vec!["full".to_owned(), "slow".to_owned()])
///     .column("fired", "Times it fired.", vec![3i64, 0])
///     .note("2 rules");
/// ```
#[derive(Default)]
pub struct Answer {
    columns: Vec<Column>,
    arrays: Vec<ArrowArray>,
    notes: Vec<String>,
}

impl Answer {
    /// Nothing to show.
    pub fn new() -> Self {
        Answer::default()
    }

    /// Rows of a type that has a table's form; the table need not be among the plugin's.
    pub fn rows<R: Row>(rows: &[R]) -> Self {
        Answer {
            columns: R::TABLE.describe().columns,
            arrays: R::columns(rows),
            notes: Vec::new(),
        }
    }

    /// Rows as they are, such as the answer to a query. An error names a column of a type that does not cross.
    pub fn batches(batches: &[RecordBatch]) -> Result<Self> {
        let Some(first) = batches.first() else {
            return Ok(Answer::new());
        };
        let mut answer = Answer::new();
        for (i, field) in first.schema().fields().iter().enumerate() {
            let kind = column_type(field.data_type()).ok_or_else(|| {
                let message = format!(
                    "column {} is of type {}, which does not cross",
                    field.name(),
                    field.data_type()
                );
                ProbeError::unsupported(message)
            })?;
            let parts: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(i).as_ref()).collect();
            let whole = concat(&parts).map_err(|e| ProbeError::failed(format!("column {}: {e}", field.name())))?;
            answer.arrays.push(to_abi(&whole));
            answer.columns.push(column(field.name(), "", kind, field.is_nullable()));
        }
        Ok(answer)
    }

    /// One more column. All columns must be of the same length.
    pub fn column<T: Cell>(mut self, name: &str, doc: &str, values: Vec<T>) -> Self {
        let mut builder = T::builder(values.len());
        for value in &values {
            value.append(&mut builder);
        }
        self.arrays.push(T::finish(builder));
        self.columns.push(column(name, doc, T::KIND, T::NULLABLE));
        self
    }

    /// Something to tell the person: a warning, a hint.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    pub(crate) fn finish(self, streaming: bool) -> Result<v1::CommandAnswer> {
        let columns = serde_json::to_vec(&self.columns)
            .map_err(|e| ProbeError::failed(format!("the answer's columns cannot be written: {e}")))?;
        Ok(v1::CommandAnswer {
            columns: RVec::from(columns),
            rows: if self.columns.is_empty() {
                ArrowArray::released()
            } else {
                build::rows(self.arrays)?
            },
            notes: self.notes.into_iter().map(RString::from).collect(),
            streaming,
        })
    }
}

fn column(name: &str, doc: &str, kind: ColumnType, nullable: bool) -> Column {
    Column {
        name: name.to_owned(),
        kind,
        unit: None,
        doc: doc.to_owned(),
        key: false,
        nullable,
        counter: false,
    }
}
