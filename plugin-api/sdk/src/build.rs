//! Columns on their way out: rows become arrays of the Arrow C Data Interface, without the arrow crates.
//!
//! Source: "The Arrow C data interface" and "Arrow columnar format". Every plugin is a library of its own, so what it
//! links is resident once per plugin; these few builders stand in for arrow's there, and rows of other plugins are the only ones
//! that are read with arrow. **Invariant:** an array owns its buffers until its release callback runs, which the host
//! calls, on whatever thread; a column has a validity buffer only if it has nulls.

use crate::error::{ProbeError, Result};
use std::ffi::c_void;
use std::ptr::null;
use vwatch_abi::arrow_c::ArrowArray;

/// Bits, the lowest of each byte first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    count: usize,
}

impl Bits {
    fn with_capacity(bits: usize) -> Self {
        Bits {
            bytes: Vec::with_capacity(bits.div_ceil(8)),
            count: 0,
        }
    }

    fn set(count: usize, room: usize) -> Self {
        let mut bits = Bits::with_capacity(room.max(count));
        bits.bytes.resize(count.div_ceil(8), 0xff);
        bits.count = count;
        bits
    }

    fn push(&mut self, bit: bool) {
        let at = self.count % 8;
        if at == 0 {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last = *last & !(1 << at) | u8::from(bit) << at;
        }
        self.count += 1;
    }
}

/// Which values are there.
#[derive(Default)]
struct Validity {
    /// From the first null on.
    bits: Option<Bits>,
    count: usize,
    nulls: usize,
}

impl Validity {
    fn push(&mut self, valid: bool, room: usize) {
        if !valid {
            self.nulls += 1;
            self.bits.get_or_insert_with(|| Bits::set(self.count, room));
        }
        if let Some(bits) = &mut self.bits {
            bits.push(valid);
        }
        self.count += 1;
    }
}

/// A column of values of a fixed size.
pub struct NumberBuilder<T> {
    values: Vec<T>,
    validity: Validity,
}

impl<T: Default + Send + 'static> NumberBuilder<T> {
    pub fn with_capacity(rows: usize) -> Self {
        NumberBuilder {
            values: Vec::with_capacity(rows),
            validity: Validity::default(),
        }
    }

    pub fn append_value(&mut self, value: T) {
        self.values.push(value);
        self.validity.push(true, 0);
    }

    pub fn append_null(&mut self) {
        self.values.push(T::default());
        self.validity.push(false, self.values.capacity());
    }

    pub fn finish(self) -> ArrowArray {
        let at = self.values.as_ptr().cast();
        column(self.validity, [at, null()], 2, self.values)
    }
}

/// A column of truth values.
pub struct BoolBuilder {
    values: Bits,
    validity: Validity,
}

impl BoolBuilder {
    pub fn with_capacity(rows: usize) -> Self {
        BoolBuilder {
            values: Bits::with_capacity(rows),
            validity: Validity::default(),
        }
    }

    pub fn append_value(&mut self, value: bool) {
        self.values.push(value);
        self.validity.push(true, 0);
    }

    pub fn append_null(&mut self) {
        self.values.push(false);
        self.validity.push(false, self.values.count);
    }

    pub fn finish(self) -> ArrowArray {
        let at = self.values.bytes.as_ptr().cast();
        column(self.validity, [at, null()], 2, self.values.bytes)
    }
}

/// A column of texts or bytes.
pub struct TextBuilder {
    /// Where each value begins, and where the last one ends.
    offsets: Vec<i32>,
    bytes: Vec<u8>,
    validity: Validity,
    /// More bytes than an offset can say.
    too_long: bool,
}

impl TextBuilder {
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        TextBuilder {
            offsets,
            bytes: Vec::with_capacity(bytes),
            validity: Validity::default(),
            too_long: false,
        }
    }

    pub fn append_value(&mut self, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        match i32::try_from(self.bytes.len() + value.len()) {
            Ok(end) => {
                self.bytes.extend_from_slice(value);
                self.offsets.push(end);
                self.validity.push(true, 0);
            }
            Err(_) => self.too_long = true,
        }
    }

    pub fn append_null(&mut self) {
        self.offsets.push(self.offsets.last().copied().unwrap_or(0));
        self.validity.push(false, self.offsets.capacity());
    }

    pub fn finish(self) -> ArrowArray {
        if self.too_long {
            return ArrowArray::released();
        }
        let buffers = [self.offsets.as_ptr().cast(), self.bytes.as_ptr().cast()];
        column(self.validity, buffers, 3, (self.offsets, self.bytes))
    }
}

/// What an array of a column owns.
struct Owned<V> {
    pointers: [*const c_void; 3],
    _validity: Option<Vec<u8>>,
    _values: V,
}

/// A column whose buffers after the validity are `buffers`, which `values` owns: moving a `Vec` does not move its elements.
fn column<V: Send + 'static>(validity: Validity, buffers: [*const c_void; 2], n_buffers: i64, values: V) -> ArrowArray {
    let (length, nulls) = (validity.count as i64, validity.nulls as i64);
    let validity = validity.bits.map(|bits| bits.bytes);
    let valid = validity.as_ref().map_or(null(), |bytes| bytes.as_ptr().cast());
    let owned = Box::into_raw(Box::new(Owned {
        pointers: [valid, buffers[0], buffers[1]],
        _validity: validity,
        _values: values,
    }));
    ArrowArray {
        length,
        null_count: nulls,
        n_buffers,
        // SAFETY: just made, and not shared before this function returns.
        buffers: unsafe { &raw mut (*owned).pointers }.cast(),
        release: Some(release::<Owned<V>>),
        private_data: owned.cast(),
        ..ArrowArray::released()
    }
}

/// The release callback of an array whose private data is a boxed `P`.
unsafe extern "C" fn release<P>(array: *mut c_void) {
    // SAFETY: the interface's contract: called with the address of a live array, once.
    let array = unsafe { &mut *array.cast::<ArrowArray>() };
    array.release = None;
    // SAFETY: this callback is set only together with a `P` that was boxed for it, and is gone from the array now.
    drop(unsafe { Box::from_raw(array.private_data.cast::<P>()) });
}

/// What a struct array owns.
struct Rows {
    /// No validity: a row as a whole is never null.
    validity: [*const c_void; 1],
    children: Vec<*mut ArrowArray>,
}

impl Drop for Rows {
    fn drop(&mut self) {
        for &child in &self.children {
            // SAFETY: boxed in `rows`; what the other side has moved out is marked as released there.
            drop(unsafe { Box::from_raw(child) });
        }
    }
}

/// One struct array of these columns, to be moved over the ABI.
pub fn rows(columns: Vec<ArrowArray>) -> Result<ArrowArray> {
    let length = columns.first().map_or(0, |column| column.length);
    for (i, column) in columns.iter().enumerate() {
        if column.is_released() {
            return Err(ProbeError::failed(format!("column {i} has more than 2 GiB of text")));
        }
        if column.length != length {
            return Err(ProbeError::failed(format!(
                "the columns do not make rows: {length} values in the first, {} in column {i}",
                column.length
            )));
        }
    }
    let n_children = columns.len() as i64;
    let children = columns.into_iter().map(|c| Box::into_raw(Box::new(c))).collect();
    let owned = Box::into_raw(Box::new(Rows {
        validity: [null()],
        children,
    }));
    // SAFETY: just made, and not shared before this function returns.
    let (buffers, children) = unsafe { (&raw mut (*owned).validity, (*owned).children.as_mut_ptr()) };
    Ok(ArrowArray {
        length,
        n_buffers: 1,
        n_children,
        buffers: buffers.cast(),
        children: children.cast(),
        release: Some(release::<Rows>),
        private_data: owned.cast(),
        ..ArrowArray::released()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::import;
    use arrow_array::{Array, BinaryArray, BooleanArray, Int64Array, RecordBatch, StringArray};
    use std::sync::Arc;
    use vwatch_abi::describe::{Column, ColumnType};

    fn declared(kind: ColumnType) -> Column {
        Column {
            name: "a".to_owned(),
            kind,
            unit: None,
            doc: String::new(),
            key: false,
            nullable: true,
            counter: false,
        }
    }

    /// As arrow reads it.
    fn read(kind: ColumnType, array: ArrowArray) -> Arc<dyn Array> {
        let batch: RecordBatch = import(rows(vec![array]).unwrap(), &[declared(kind)]).unwrap();
        batch.column(0).to_data().validate_full().unwrap();
        batch.column(0).clone()
    }

    /// Nulls at many places around the borders of bytes.
    fn patterns() -> impl Iterator<Item = Vec<bool>> {
        (0..40usize).flat_map(|n| (1..12usize).map(move |every| (0..n).map(|i| i % every != every - 1).collect()))
    }

    #[test]
    fn arrow_reads_what_was_appended() {
        for valid in patterns() {
            let of = |i: usize| valid[i].then_some(i as i64 * 7 - 3);
            let given: Vec<Option<i64>> = (0..valid.len()).map(of).collect();
            let mut numbers = NumberBuilder::with_capacity(3);
            let mut truths = BoolBuilder::with_capacity(0);
            let mut texts = TextBuilder::with_capacity(1, 1);
            for value in &given {
                match value {
                    Some(n) => {
                        numbers.append_value(*n);
                        truths.append_value(n % 2 == 0);
                        texts.append_value("é".repeat(*n as usize % 5));
                    }
                    None => {
                        numbers.append_null();
                        truths.append_null();
                        texts.append_null();
                    }
                }
            }
            assert_eq!(
                &*read(ColumnType::I64, numbers.finish()),
                &Int64Array::from(given.clone()) as &dyn Array
            );
            let want: Vec<_> = given.iter().map(|v| v.map(|n| n % 2 == 0)).collect();
            assert_eq!(
                &*read(ColumnType::Bool, truths.finish()),
                &BooleanArray::from(want) as &dyn Array
            );
            let want: Vec<_> = given.iter().map(|v| v.map(|n| "é".repeat(n as usize % 5))).collect();
            assert_eq!(
                &*read(ColumnType::String, texts.finish()),
                &StringArray::from(want) as &dyn Array
            );
        }
    }

    #[test]
    fn bytes_and_nothing() {
        let mut bytes = TextBuilder::with_capacity(0, 0);
        bytes.append_value([0xff, 0x00]);
        bytes.append_value([]);
        let want = BinaryArray::from(vec![&[0xffu8, 0x00][..], &[]]);
        assert_eq!(&*read(ColumnType::Bytes, bytes.finish()), &want as &dyn Array);
        assert_eq!(
            read(ColumnType::F64, NumberBuilder::<f64>::with_capacity(0).finish()).len(),
            0
        );
        assert_eq!(
            read(ColumnType::String, TextBuilder::with_capacity(0, 0).finish()).len(),
            0
        );
    }

    #[test]
    fn columns_of_different_lengths_make_no_rows() {
        let mut one = NumberBuilder::with_capacity(1);
        one.append_value(1i64);
        let none = NumberBuilder::<i64>::with_capacity(0);
        assert!(rows(vec![one.finish(), none.finish()]).is_err());
        assert_eq!(rows(Vec::new()).unwrap().length, 0);
        assert!(rows(vec![ArrowArray::released()]).is_err());
    }

    #[test]
    fn a_column_is_released_once_whoever_holds_it() {
        let kept = Arc::new(());
        let array = |kept: &Arc<()>| column(Validity::default(), [null(), null()], 2, kept.clone());
        drop(array(&kept));
        assert_eq!(Arc::strong_count(&kept), 1);
        let whole = rows(vec![array(&kept), array(&kept)]).unwrap();
        assert_eq!(Arc::strong_count(&kept), 3);
        // A consumer may move a child out, and leaves it marked as released.
        // SAFETY: the array has two children, and is alive.
        let moved = unsafe {
            let child = *whole.children.cast::<*mut ArrowArray>();
            std::ptr::replace(child, ArrowArray::released())
        };
        drop(whole);
        assert_eq!(Arc::strong_count(&kept), 2);
        drop(moved);
        assert_eq!(Arc::strong_count(&kept), 1);
    }
}
