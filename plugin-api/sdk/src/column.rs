//! One column of a record batch, read as the type that a row's field has.

use crate::cell::{Cell, arrow_type};
use crate::error::{ProbeError, Result};
use arrow_array::{Array, RecordBatch, new_null_array};

/// A column whose type and nulls have been checked against `T`.
pub struct Column<T: Cell> {
    array: T::Array,
}

impl<T: Cell> Column<T> {
    /// The column `name`. A nullable one that the batch lacks (an older writer) reads as nulls.
    pub fn of(batch: &RecordBatch, name: &str) -> Result<Self> {
        let array = match batch.column_by_name(name) {
            Some(array) => array.clone(),
            None if T::NULLABLE => new_null_array(&arrow_type(T::KIND), batch.num_rows()),
            None => return Err(ProbeError::not_found(format!("column {name} is not among the rows"))),
        };
        let Some(typed) = array.as_any().downcast_ref::<T::Array>() else {
            return Err(ProbeError::failed(format!(
                "column {name} is of type {}, not {}",
                array.data_type(),
                arrow_type(T::KIND)
            )));
        };
        if !T::NULLABLE && typed.null_count() > 0 {
            return Err(ProbeError::failed(format!(
                "column {name} has nulls: read it as an Option"
            )));
        }
        Ok(Column { array: typed.clone() })
    }

    /// Value in row `at`, which must be less than [`Column::len`].
    pub fn get(&self, at: usize) -> T {
        T::get(&self.array, at)
    }

    pub fn len(&self) -> usize {
        self.array.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn values(self) -> impl Iterator<Item = T> {
        (0..self.len()).map(move |at| self.get(at))
    }
}
