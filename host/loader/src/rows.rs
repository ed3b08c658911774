//! Rows over the Arrow C Data Interface: arrays of a plugin become record batches of the declared schema, and back.
//!
//! A plugin's arrays are outside input. Everything that the interface says of a structure (lengths, offsets, counts of
//! buffers and children, pointers that may be null) is checked before arrow reads it, and what the buffers say (offsets,
//! UTF-8, counts of nulls) after; only the sizes of a plugin's allocations have to be believed. The buffers are not
//! copied: a batch keeps the plugin's memory until it is dropped. Cost: 64 us for 1,000 rows of three columns, one of them
//! text, there and back, in a debug build (`cost_of_import` measures it).

use crate::fault::Fault;
use arrow_array::{Array, RecordBatch, StructArray, make_array};
use arrow_data::ArrayData;
use arrow_data::ffi::FFI_ArrowArray;
use arrow_schema::{DataType, Schema, SchemaRef};
use std::panic::{AssertUnwindSafe, catch_unwind};
use vwatch_abi::arrow_c::ArrowArray;
use vwatch_model::TableSchema;

/// Rows of one batch: i32 offsets and every later consumer cope with these.
const MAX_ROWS: i64 = 1 << 24;

// The two declarations of `struct ArrowArray` have to agree for the transmutes below.
const _: () = assert!(
    size_of::<ArrowArray>() == size_of::<FFI_ArrowArray>() && align_of::<ArrowArray>() == align_of::<FFI_ArrowArray>()
);

/// A table of a plugin with the Arrow schemas of its rows, made once.
pub(crate) struct TableLayout {
    pub schema: TableSchema,
    pub arrow: SchemaRef,
    pub keys: SchemaRef,
}

impl TableLayout {
    pub(crate) fn new(schema: TableSchema) -> Self {
        TableLayout {
            arrow: schema.arrow(),
            keys: schema.key_arrow(),
            schema,
        }
    }
}

/// Takes a struct array of a plugin. `what` names the rows in a fault: `table load`.
pub(crate) fn import(array: ArrowArray, schema: &SchemaRef, what: &str) -> Result<RecordBatch, Fault> {
    let wrong = |why: String| Fault::bad_input(format!("{what}: {why}"));
    check_structure(&array, schema).map_err(wrong)?;
    if array.length == 0 {
        return Ok(RecordBatch::new_empty(schema.clone()));
    }
    // The structure is checked; arrow still asserts things of its own, and none of them may end the host.
    catch_unwind(AssertUnwindSafe(|| import_checked(array, schema)))
        .unwrap_or_else(|_| Err("its arrays contradict the Arrow C data interface".to_owned()))
        .map_err(wrong)
}

fn import_checked(array: ArrowArray, schema: &SchemaRef) -> Result<RecordBatch, String> {
    // SAFETY: both types are `struct ArrowArray` of the C Data Interface, repr(C), field by field; ownership moves.
    let array = unsafe { std::mem::transmute::<ArrowArray, FFI_ArrowArray>(array) };
    let data_type = DataType::Struct(schema.fields().clone());
    // SAFETY: check_structure has found the counts, lengths and pointers that the interface demands of this type. That
    // the buffers are as long as they have to be is the plugin's word, which nobody can check.
    let data = unsafe { arrow_array::ffi::from_ffi_and_data_type(array, data_type) }.map_err(|e| e.to_string())?;
    if data.nulls().is_some_and(|n| n.null_count() > 0) {
        return Err("a row as a whole is null".to_owned());
    }
    let (start, rows) = (data.offset(), data.len());
    let columns = schema.fields().iter().zip(data.child_data()).map(|(field, child)| {
        let at = |why: String| format!("column {}: {why}", field.name());
        validate(child).map_err(at)?;
        let column = make_array(child.slice(start, rows));
        if !field.is_nullable() && column.null_count() > 0 {
            return Err(at(format!("{} nulls where none may be", column.null_count())));
        }
        Ok(column)
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(schema.clone(), columns).map_err(|e| e.to_string())
}

/// Offsets in order and in bounds, text UTF-8, nulls as many as counted.
fn validate(data: &ArrayData) -> Result<(), String> {
    data.validate_full()
        .map_err(|e| crate::refusal::one_line(&e.to_string(), 200))
}

fn check_structure(array: &ArrowArray, schema: &Schema) -> Result<(), String> {
    if array.is_released() {
        return Err("no rows are given".to_owned());
    }
    check_range(array)?;
    let declared = schema.fields().len();
    if array.n_children != declared as i64 {
        return Err(format!(
            "{} columns are given, {declared} are declared",
            array.n_children
        ));
    }
    if array.n_buffers != 1 || array.buffers.is_null() || !array.dictionary.is_null() {
        return Err("the rows are not a struct array".to_owned());
    }
    if array.children.is_null() {
        return Err("there is no list of columns".to_owned());
    }
    let children = array.children.cast::<*const ArrowArray>();
    for (i, field) in schema.fields().iter().enumerate() {
        // SAFETY: the interface has `n_children` pointers at `children`, which is not null.
        let child = unsafe { children.add(i).read_unaligned() };
        if child.is_null() || !child.is_aligned() {
            return Err(format!("column {}: there is no array", field.name()));
        }
        // SAFETY: not null and aligned; a child lives as long as its parent, which is not released.
        let child = unsafe { &*child };
        check_column(child, field.data_type(), array.offset + array.length)
            .map_err(|why| format!("column {}: {why}", field.name()))?;
    }
    Ok(())
}

/// Length, offset and count of nulls. Afterwards `offset + length` cannot overflow.
fn check_range(array: &ArrowArray) -> Result<(), String> {
    let ArrowArray {
        length,
        offset,
        null_count,
        ..
    } = *array;
    if !(0..=MAX_ROWS).contains(&length) || !(0..=MAX_ROWS).contains(&offset) {
        return Err(format!(
            "{length} rows at offset {offset}; at most {MAX_ROWS} are taken at once"
        ));
    }
    if !(-1..=length).contains(&null_count) {
        return Err(format!("{null_count} nulls in {length} rows"));
    }
    Ok(())
}

fn check_column(array: &ArrowArray, data_type: &DataType, rows: i64) -> Result<(), String> {
    check_range(array)?;
    if array.is_released() {
        return Err("its array is released already".to_owned());
    }
    if array.length < rows {
        return Err(format!("{} values for {rows} rows", array.length));
    }
    let text = matches!(data_type, DataType::Utf8 | DataType::Binary);
    let buffers = if text { 3 } else { 2 };
    if array.n_buffers != buffers || array.buffers.is_null() || array.n_children != 0 || !array.dictionary.is_null() {
        return Err(format!("its array is not of type {data_type}"));
    }
    let buffer = |i: usize| {
        // SAFETY: the interface has `n_buffers` pointers at `buffers`, which is not null; i is below that number.
        unsafe { array.buffers.cast::<*const u8>().add(i).read_unaligned() }
    };
    if buffer(0).is_null() && array.null_count > 0 {
        return Err(format!("{} nulls, and no validity buffer", array.null_count));
    }
    let values = (array.offset + array.length) as usize;
    if values == 0 {
        return Ok(());
    }
    if buffer(1).is_null() {
        return Err("its values are missing".to_owned());
    }
    if text {
        let offsets = buffer(1).cast::<i32>();
        if !offsets.is_aligned() {
            return Err("its offsets are not aligned to 4 bytes".to_owned());
        }
        // SAFETY: not null and aligned; a variable-size array has one offset more than values.
        let end = unsafe { *offsets.add(values) };
        if end < 0 {
            return Err(format!("its last offset is {end}"));
        }
        if end > 0 && buffer(2).is_null() {
            return Err("its text is missing".to_owned());
        }
    }
    Ok(())
}

/// Hands rows to a plugin, which owns them then; the buffers are shared, not copied.
pub(crate) fn export(batch: &RecordBatch) -> ArrowArray {
    let array = FFI_ArrowArray::new(&StructArray::from(batch.clone()).into_data());
    // SAFETY: both types are `struct ArrowArray` of the C Data Interface, repr(C), field by field; ownership moves.
    unsafe { std::mem::transmute::<FFI_ArrowArray, ArrowArray>(array) }
}

#[cfg(test)]
mod tests;
