//! Rows over the ABI: arrow's arrays to those of the ABI, and back.
//!
//! Source: "The Arrow C data interface". Both `FFI_ArrowArray` and the ABI's `ArrowArray` are that document's `struct ArrowArray`;
//! a move between them hands over the release callback.

use crate::cell::arrow_type;
use crate::error::{ProbeError, Result};
use arrow_array::{Array, ArrayRef, RecordBatch, StructArray};
use arrow_data::ffi::FFI_ArrowArray;
use arrow_schema::{DataType, Field, Fields};
use vwatch_abi::arrow_c::ArrowArray;
use vwatch_abi::describe;

const _: () = assert!(size_of::<ArrowArray>() == size_of::<FFI_ArrowArray>());
const _: () = assert!(align_of::<ArrowArray>() == align_of::<FFI_ArrowArray>());

/// One struct array of these columns, to be moved over the ABI.
pub fn export(fields: Fields, columns: Vec<ArrayRef>) -> Result<ArrowArray> {
    let rows = StructArray::try_new(fields, columns, None)
        .map_err(|e| ProbeError::failed(format!("the columns do not make rows: {e}")))?;
    let ffi = std::mem::ManuallyDrop::new(FFI_ArrowArray::new(&rows.into_data()));
    // SAFETY: both types are `struct ArrowArray` of the C data interface, of the same size and alignment (asserted above).
    // The source is never dropped, so the release callback has one owner.
    Ok(unsafe { std::ptr::read((&raw const *ffi).cast::<ArrowArray>()) })
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
    use arrow_array::{Int64Array, StringArray};
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
        let array = export(fields.clone(), vec![a.clone(), b.clone()]).unwrap();
        assert_eq!(array.length, 2);
        let batch = import(array, &columns).unwrap();
        assert_eq!((batch.column(0), batch.column(1)), (&a, &b));
        let short = export(fields.clone(), vec![a.clone(), b.clone()]).unwrap();
        assert!(import(short, &columns[..1]).is_err());
        let uneven: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        assert!(export(fields, vec![a, uneven]).is_err());
        assert_eq!(import(ArrowArray::released(), &columns).unwrap().num_rows(), 0);
    }
}
