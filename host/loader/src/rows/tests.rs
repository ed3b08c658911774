use super::*;
use arrow_array::{BooleanArray, Int64Array, StringArray};
use arrow_schema::Field;
use std::sync::Arc;

fn schema(fields: Vec<Field>) -> SchemaRef {
    Arc::new(Schema::new(fields))
}

fn sample(rows: usize) -> RecordBatch {
    let fields = schema(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("s", DataType::Utf8, false),
        Field::new("b", DataType::Boolean, true),
    ]);
    let numbers = Int64Array::from_iter((0..rows as i64).map(|i| (i % 3 != 0).then_some(i)));
    let texts = StringArray::from_iter_values((0..rows).map(|i| format!("text number {i} äöü")));
    let flags = BooleanArray::from_iter((0..rows).map(|i| (i % 5 != 0).then_some(i % 2 == 0)));
    RecordBatch::try_new(fields, vec![Arc::new(numbers), Arc::new(texts), Arc::new(flags)]).unwrap()
}

#[test]
fn what_is_exported_comes_back() {
    for batch in [
        sample(0),
        sample(1),
        sample(100),
        sample(100).slice(13, 71),
        sample(9).slice(9, 0),
    ] {
        let back = import(export(&batch), &batch.schema(), "t").unwrap();
        assert_eq!(back, batch);
    }
}

#[test]
fn buffers_are_freed_with_the_last_batch() {
    let batch = sample(10);
    let back = import(export(&batch), &batch.schema(), "t").unwrap();
    let numbers = batch.column(0).to_data().buffers()[0].clone();
    assert!(numbers.strong_count() > 2, "shared, not copied");
    drop((back, batch));
    assert_eq!(numbers.strong_count(), 1);
}

#[test]
fn a_type_with_the_same_shape_is_believed_and_another_is_not() {
    let batch = sample(4);
    let other = schema(vec![
        Field::new("n", DataType::Utf8, true),
        Field::new("s", DataType::Utf8, false),
        Field::new("b", DataType::Boolean, true),
    ]);
    let fault = import(export(&batch), &other, "table t").unwrap_err();
    assert_eq!(fault.message, "table t: column n: its array is not of type Utf8");
}

/// A refused array is given back to its producer.
#[test]
fn what_is_refused_is_released() {
    let batch = sample(10);
    let numbers = batch.column(0).to_data().buffers()[0].clone();
    let short = schema(vec![Field::new("n", DataType::Int64, true)]);
    let array = export(&batch);
    drop(batch);
    import(array, &short, "t").unwrap_err();
    assert_eq!(numbers.strong_count(), 1);
}
