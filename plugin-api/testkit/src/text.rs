//! Rows as text that people and golden files read: aligned, in a stable order.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::path::Path;
use vwatch_abi::describe::{Column, ColumnType};

/// Numbers to the right, texts to the left; NULL as `-`; texts with white space or nothing in them in quotes; bytes in hex.
/// Rows of a table with keys are sorted by them, others stay in their order.
pub fn table_text(columns: &[Column], rows: &RecordBatch) -> String {
    let mut lines = vec![columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>()];
    for row in order(columns, rows) {
        let cells = columns.iter().zip(rows.columns());
        lines.push(cells.map(|(column, array)| cell(column.kind, array, row)).collect());
    }
    let width = |i: usize| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().enumerate().map(|(i, cell)| {
            let width = widths[i];
            if is_number(columns[i].kind) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// One line `gone KEY…` for each.
pub(crate) fn gone_text(columns: &[Column], gone: &RecordBatch) -> String {
    let keys: Vec<Column> = columns.iter().filter(|c| c.key).cloned().collect();
    let mut text = String::new();
    for row in order(&keys, gone) {
        let cells = keys.iter().zip(gone.columns());
        let line: Vec<String> = cells.map(|(column, array)| cell(column.kind, array, row)).collect();
        text.push_str(&format!("gone {}\n", line.join(" ")));
    }
    text
}

/// A key that two rows have: a picture in which a row's identity is lost.
pub(crate) fn repeated_key(columns: &[Column], rows: &RecordBatch) -> Option<String> {
    let keys: Vec<_> = columns.iter().zip(rows.columns()).filter(|(c, _)| c.key).collect();
    if keys.is_empty() {
        return None;
    }
    let mut seen = HashSet::new();
    let key = |row: usize| {
        keys.iter()
            .map(|(c, array)| cell(c.kind, array, row))
            .collect::<Vec<_>>()
            .join(" ")
    };
    (0..rows.num_rows()).map(key).find(|key| !seen.insert(key.clone()))
}

/// Compares with a file, whose path is relative to the package under test (where cargo runs its tests). With
/// `UPDATE_GOLDEN=1`, writes it.
pub fn assert_golden(file: &str, got: &str) {
    let path = Path::new(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|v| v == "1") {
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.and_then(|()| std::fs::write(path, got))
            .unwrap_or_else(|e| panic!("{file}: {e}"));
        return;
    }
    let want = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{file}: {e}; write it with UPDATE_GOLDEN=1"));
    if want != got {
        panic!(
            "{file} differs; if the new text is right, write it with UPDATE_GOLDEN=1\n{}",
            difference(&want, got)
        );
    }
}

/// Lines of either text that the other lacks at that place.
fn difference(want: &str, got: &str) -> String {
    let (want, got): (Vec<_>, Vec<_>) = (want.lines().collect(), got.lines().collect());
    let mut text = String::new();
    for i in 0..want.len().max(got.len()) {
        let (w, g) = (want.get(i), got.get(i));
        if w != g {
            for (sign, line) in [('-', w), ('+', g)] {
                if let Some(line) = line {
                    text.push_str(&format!("{:4} {sign} {line}\n", i + 1));
                }
            }
        }
    }
    text
}

fn is_number(kind: ColumnType) -> bool {
    !matches!(kind, ColumnType::Bool | ColumnType::String | ColumnType::Bytes)
}

fn order(columns: &[Column], rows: &RecordBatch) -> Vec<usize> {
    let keys: Vec<(ColumnType, &ArrayRef)> = (columns.iter().zip(rows.columns()))
        .filter(|(column, _)| column.key)
        .map(|(column, array)| (column.kind, array))
        .collect();
    let mut order: Vec<usize> = (0..rows.num_rows()).collect();
    order.sort_by(|&a, &b| {
        let by_key = keys.iter().map(|(kind, array)| compare(*kind, array, a, b));
        by_key.fold(Ordering::Equal, Ordering::then)
    });
    order
}

fn compare(kind: ColumnType, array: &ArrayRef, a: usize, b: usize) -> Ordering {
    match whole(kind, array, a).zip(whole(kind, array, b)) {
        Some((a, b)) => a.cmp(&b),
        None => cell(kind, array, a).cmp(&cell(kind, array, b)),
    }
}

/// The value of a column of whole numbers.
fn whole(kind: ColumnType, array: &ArrayRef, row: usize) -> Option<i128> {
    Some(match kind {
        ColumnType::I32 => array.as_primitive::<Int32Type>().value(row).into(),
        ColumnType::I64 => array.as_primitive::<Int64Type>().value(row).into(),
        ColumnType::U32 => array.as_primitive::<UInt32Type>().value(row).into(),
        ColumnType::U64 => array.as_primitive::<UInt64Type>().value(row).into(),
        ColumnType::Timestamp => array.as_primitive::<TimestampNanosecondType>().value(row).into(),
        _ => return None,
    })
}

fn cell(kind: ColumnType, array: &ArrayRef, row: usize) -> String {
    if array.is_null(row) {
        return "-".to_owned();
    }
    match kind {
        ColumnType::Bool => array.as_boolean().value(row).to_string(),
        ColumnType::F64 => array.as_primitive::<Float64Type>().value(row).to_string(),
        ColumnType::String => word(array.as_string::<i32>().value(row)),
        ColumnType::Bytes => {
            let bytes = array.as_binary::<i32>().value(row);
            bytes
                .iter()
                .fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
        }
        _ => whole(kind, array, row).map_or_else(String::new, |n| n.to_string()),
    }
}

/// Quoted where the bare text would be mistaken for something else.
fn word(text: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '\\';
    if !text.is_empty() && text != "-" && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("{text:?}")
    }
}
