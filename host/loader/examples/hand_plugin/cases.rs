//! What the probe `rows` hands over: right rows, and one mistake of every kind.

use arrow_array::{Array, ArrayRef, TimestampNanosecondArray};
use arrow_array::{BinaryArray, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow_data::ffi::FFI_ArrowArray;
use std::sync::Arc;
use vwatch_abi::abi_stable::std_types::{ROption, RString, RVec};
use vwatch_abi::arrow_c::ArrowArray;
use vwatch_abi::v1::{self, batch_kind};

/// The rows that `case` names; the plain picture for any other word.
pub fn case(case: &str, tick: v1::Tick) -> v1::Commit {
    right(case, tick)
        .or_else(|| wrong_place(case))
        .or_else(|| wrong_structure(case))
        .or_else(|| wrong_values(case))
        .unwrap_or_else(|| full(things()))
}

fn full(rows: StructArray) -> v1::Commit {
    commit(vec![batch(0, batch_kind::FULL, export(&rows))])
}

/// Rows as they should be.
fn right(case: &str, tick: v1::Tick) -> Option<v1::Commit> {
    Some(match case {
        "sliced" => full(things().slice(1, 2)),
        "empty" => full(things().slice(0, 0)),
        "delta" => {
            let mut delta = batch(0, batch_kind::DELTA, export(&things()));
            delta.gone = ids(vec![9]);
            delta.time_ns = tick.time_ns + 1;
            commit(vec![delta])
        }
        "delta only" => commit(vec![batch(0, batch_kind::DELTA, export(&things()))]),
        "events" => commit(vec![batch(1, batch_kind::EVENTS, export(&happenings()))]),
        "loss" => {
            let mut lost = commit(Vec::new());
            let cause = "buffer full".into();
            lost.losses = vec![v1::Loss {
                table: 1,
                count: 7,
                from_ns: 9,
                until_ns: 4,
                cause,
            }]
            .into();
            lost
        }
        _ => return None,
    })
}

/// Rows, losses and keys where they do not belong.
fn wrong_place(case: &str) -> Option<v1::Commit> {
    Some(match case {
        "table" => commit(vec![batch(3, batch_kind::FULL, export(&things()))]),
        "loss table" => {
            let mut lost = commit(Vec::new());
            lost.losses = vec![v1::Loss {
                table: 3,
                count: 0,
                from_ns: 0,
                until_ns: 0,
                cause: RString::new(),
            }]
            .into();
            lost
        }
        "kind" => commit(vec![batch(0, 3, export(&things()))]),
        "events of a state" => commit(vec![batch(0, batch_kind::EVENTS, export(&things()))]),
        "picture of events" => commit(vec![batch(1, batch_kind::FULL, export(&happenings()))]),
        "gone with full" => {
            let mut full = batch(0, batch_kind::FULL, export(&things()));
            full.gone = ids(vec![9]);
            commit(vec![full])
        }
        "keyless delta" => commit(vec![batch(2, batch_kind::DELTA, ids(vec![1]))]),
        "released" => commit(vec![batch(0, batch_kind::FULL, ArrowArray::released())]),
        "columns" => commit(vec![batch(0, batch_kind::FULL, ids(vec![1]))]),
        "long key" => {
            let mut change = commit(Vec::new());
            change.state = vec![v1::StateChange {
                key: "k".repeat(401).into(),
                value: ROption::RNone,
            }]
            .into();
            change
        }
        _ => return None,
    })
}

/// C structures that contradict the interface or the table.
fn wrong_structure(case: &str) -> Option<v1::Commit> {
    Some(match case {
        "negative length" => mistaken(|rows| rows.length = -1),
        "huge length" => mistaken(|rows| rows.length = i64::MAX),
        "huge offset" => mistaken(|rows| rows.offset = i64::MAX),
        "long parent" => mistaken(|rows| rows.length = 4),
        "no children" => mistaken(|rows| rows.children = std::ptr::null_mut()),
        "row buffers" => mistaken(|rows| rows.n_buffers = 2),
        "null count" => mistaken(|rows| rows.null_count = 4),
        "child length" => tampered(0, |c| c.length = 2),
        "child negative" => tampered(0, |c| c.length = -3),
        "child buffers" => tampered(0, |c| c.n_buffers = 3),
        "child no buffers" => tampered(0, |c| c.buffers = std::ptr::null_mut()),
        "child no values" => tampered(0, |c| set_buffer(c, 1, std::ptr::null())),
        "child nulls" => tampered(1, |c| c.null_count = 2),
        _ => return None,
    })
}

/// Text columns of three values whose buffers say something impossible.
static BACKWARDS: [i32; 4] = [0, 5, 2, 3];
static NEGATIVE: [i32; 4] = [0, 1, 2, -3];
static UPWARDS: [i32; 4] = [0, 1, 2, 3];
static NO_TEXT: [u8; 3] = [b'a', 0xff, b'b'];

/// Buffers that do not hold what the column's type has.
fn wrong_values(case: &str) -> Option<v1::Commit> {
    let pointer = |values: &'static [i32]| values.as_ptr().cast::<u8>();
    Some(match case {
        "null key" => full(columns(vec![
            ("id", Arc::new(Int32Array::from(vec![Some(1), None]))),
            ("name", Arc::new(StringArray::from(vec!["a", "b"]))),
            ("size_bytes", Arc::new(Int64Array::from(vec![1, 2]))),
            ("flag", Arc::new(BooleanArray::from(vec![true, true]))),
        ])),
        "dictionary" => tampered(0, |c| c.dictionary = c.private_data),
        "no offsets" => tampered(1, |c| set_buffer(c, 1, std::ptr::null())),
        "odd offsets" => tampered(1, |c| set_buffer(c, 1, pointer(&UPWARDS).wrapping_add(1))),
        "backwards" => tampered(1, |c| set_buffer(c, 1, pointer(&BACKWARDS))),
        "negative offset" => tampered(1, |c| set_buffer(c, 1, pointer(&NEGATIVE))),
        "no text" => tampered(1, |c| set_buffer(c, 2, std::ptr::null())),
        "not utf-8" => tampered(1, |c| {
            set_buffer(c, 1, pointer(&UPWARDS));
            set_buffer(c, 2, NO_TEXT.as_ptr());
        }),
        _ => return None,
    })
}

pub fn commit(batches: Vec<v1::Batch>) -> v1::Commit {
    v1::Commit {
        batches: batches.into(),
        losses: RVec::new(),
        state: RVec::new(),
        outbox: RVec::new(),
        outbox_done: RVec::new(),
    }
}

pub fn batch(table: u32, kind: u8, rows: ArrowArray) -> v1::Batch {
    v1::Batch {
        table,
        kind,
        time_ns: 0,
        rows,
        gone: ArrowArray::released(),
    }
}

pub fn export(rows: &StructArray) -> ArrowArray {
    // SAFETY: the same C structure under two names.
    unsafe { std::mem::transmute(FFI_ArrowArray::new(&rows.to_data())) }
}

fn columns(columns: Vec<(&str, ArrayRef)>) -> StructArray {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true)));
    StructArray::from(batch.expect("columns of one length"))
}

pub fn things() -> StructArray {
    columns(vec![
        ("id", Arc::new(Int32Array::from(vec![1, 2, 3]))),
        ("name", Arc::new(StringArray::from(vec!["one", "", "drei€"]))),
        ("size_bytes", Arc::new(Int64Array::from(vec![Some(10), None, Some(-1)]))),
        ("flag", Arc::new(BooleanArray::from(vec![true, false, true]))),
    ])
}

pub fn happenings() -> StructArray {
    columns(vec![
        (
            "time",
            Arc::new(TimestampNanosecondArray::from(vec![5, 6]).with_timezone("UTC")),
        ),
        ("blob", Arc::new(BinaryArray::from(vec![Some(&b"\0\xff"[..]), None]))),
    ])
}

fn ids(ids: Vec<i32>) -> ArrowArray {
    export(&columns(vec![("id", Arc::new(Int32Array::from(ids)))]))
}

/// Things with something wrong in the C structure of column `child`.
fn tampered(child: usize, tamper: impl FnOnce(&mut ArrowArray)) -> v1::Commit {
    let rows = export(&things());
    // SAFETY: arrow has made this structure, with four children; nobody else sees it yet.
    tamper(unsafe { &mut **rows.children.cast::<*mut ArrowArray>().add(child) });
    commit(vec![batch(0, batch_kind::FULL, rows)])
}

/// Things with something wrong in the C structure of the rows.
fn mistaken(mistake: impl FnOnce(&mut ArrowArray)) -> v1::Commit {
    let mut rows = export(&things());
    mistake(&mut rows);
    commit(vec![batch(0, batch_kind::FULL, rows)])
}

fn set_buffer(array: &mut ArrowArray, i: usize, to: *const u8) {
    // SAFETY: the callers name a buffer that the array's type has.
    unsafe { *array.buffers.cast::<*const u8>().add(i) = to };
}
