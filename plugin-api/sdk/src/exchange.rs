//! Rows over the ABI as arrow's arrays: what subscribers and answers to queries are read with. Rows that a plugin makes go
//! another way ([`crate::build`]), so that a plugin that reads none has nothing of arrow in it.
//!
//! Source: "The Arrow C data interface". Both `FFI_ArrowArray` and the ABI's `ArrowArray` are that document's `struct ArrowArray`;
//! a move between them hands over the release callback.

use crate::cell::arrow_type;
use crate::error::{ProbeError, Result};
use arrow_array::{Array, RecordBatch, StructArray};
use arrow_data::ffi::FFI_ArrowArray;
use arrow_schema::{DataType, Field, Fields};
use vwatch_abi::arrow_c::ArrowArray;
use vwatch_abi::describe;

const _: () = assert!(size_of::<ArrowArray>() == size_of::<FFI_ArrowArray>());
const _: () = assert!(align_of::<ArrowArray>() == align_of::<FFI_ArrowArray>());

/// Rows that arrow has made, to be moved over the ABI.
pub fn export(batch: &RecordBatch) -> ArrowArray {
    to_abi(&StructArray::from(batch.clone()))
}

/// An array of arrow's as one of the ABI.
pub(crate) fn to_abi(array: &dyn Array) -> ArrowArray {
    let ffi = std::mem::ManuallyDrop::new(FFI_ArrowArray::new(&array.to_data()));
    // SAFETY: both types are `struct ArrowArray` of the C data interface, of the same size and alignment (asserted above).
    // The source is never dropped, so the release callback has one owner.
    unsafe { std::ptr::read((&raw const *ffi).cast::<ArrowArray>()) }
}

/// The struct array that the other side exported, as a batch of `columns`.
pub fn import(array: ArrowArray, columns: &[describe::Column]) -> Result<RecordBatch> {
    let fields: Fields = columns
        .iter()
        .map(|c| Field::new(&c.name, arrow_type(c.kind), c.nullable))
        .collect();
    if array.is_released() {
        return Ok(RecordBatch::new_empty(arrow_schema::Schema::new(fields).into()));
    }
    if array.n_children != fields.len() as i64 {
        return Err(ProbeError::failed(format!(
            "rows have {} columns, their schema has {}",
            array.n_children,
            fields.len()
        )));
    }
    let array = std::mem::ManuallyDrop::new(array);
    // SAFETY: as in `export`, the other way round.
    let ffi = unsafe { std::ptr::read((&raw const *array).cast::<FFI_ArrowArray>()) };
    // SAFETY: the other side of the ABI exported this array under the interface's contract, and its columns' types are those of the
    // schema that came with it.
    let rows = unsafe { arrow_array::ffi::from_ffi_and_data_type(ffi, DataType::Struct(fields)) }
        .map_err(|e| ProbeError::failed(format!("rows cannot be read: {e}")))?;
    Ok(RecordBatch::from(StructArray::from(rows)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, Int64Array, StringArray};
    use arrow_schema::Schema;
    use std::sync::Arc;
    use vwatch_abi::describe::{Column, ColumnType};

    fn column(name: &str, kind: ColumnType, nullable: bool) -> Column {
        Column {
            name: name.to_owned(),
            kind,
            unit: None,
            doc: String::new(),
            key: false,
            nullable,
            counter: false,
        }
    }

    #[test]
    fn there_and_back() {
        let columns = [
            column("a", ColumnType::I64, true),
            column("b", ColumnType::String, false),
        ];
        let fields: Fields = columns
            .iter()
            .map(|c| Field::new(&c.name, arrow_type(c.kind), c.nullable))
            .collect();
        let a: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let b: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
        let given = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![a, b]).unwrap();
        let array = export(&given);
        assert_eq!(array.length, 2);
        assert_eq!(import(array, &columns).unwrap(), given);
        assert!(import(export(&given), &columns[..1]).is_err());
        assert_eq!(import(ArrowArray::released(), &columns).unwrap().num_rows(), 0);
    }
}
