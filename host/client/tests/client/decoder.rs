//! The decoder of answers against whole, cut, altered and hostile streams.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, RecordBatch, StructArray};
use arrow_schema::{DataType, Field};
use vwatch_client::{Message, MessageReader, StreamError, Talk};
use vwatch_model::query::{DONE, ERROR, PROGRESS};

use crate::{batches, stream};

const DONE_JSON: &str = r#"{"rows":6,"now_ns":5}"#;

/// Reads to the end or the first error. Every stream ends: reading takes bytes each time.
fn read(bytes: &[u8]) -> Result<Vec<Message>, StreamError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut reader = MessageReader::new(bytes);
        let mut messages = Vec::new();
        loop {
            match reader.next().await? {
                Message::End => return Ok(messages),
                message => messages.push(message),
            }
        }
    })
}

fn error(bytes: &[u8]) -> String {
    read(bytes).expect_err("it was read").to_string()
}

fn nested() -> RecordBatch {
    let inner: ArrayRef = Arc::new(Int32Array::from(vec![Some(7), None, Some(9)]));
    let fields = StructArray::from(vec![(Arc::new(Field::new("x", DataType::Int32, true)), inner)]);
    batches::batch(vec![("s", Arc::new(fields))])
}

#[test]
fn rows_and_talk_come_in_their_order() {
    let batch = batches::processes();
    let mut bytes = stream::rows(std::slice::from_ref(&batch));
    bytes.extend(stream::message(
        PROGRESS,
        r#"{"rows_scanned":7,"blocks_done":1,"blocks_total":2}"#,
    ));
    // A message that somebody else's metadata is on is rows, of which there are none here.
    bytes.extend(stream::message(DONE, DONE_JSON));
    bytes.extend(stream::END);
    let messages = read(&bytes).unwrap();
    let [
        Message::Schema(schema),
        Message::Rows(rows),
        Message::Talk(one),
        Message::Talk(two),
    ] = &messages[..]
    else {
        panic!("{messages:?}");
    };
    assert_eq!((schema, rows), (&batch.schema(), &batch));
    assert!(matches!(one, Talk::Progress(p) if p.rows_scanned == 7 && p.blocks_total == 2));
    assert!(matches!(two, Talk::Done(d) if d.rows == 6 && d.partial.is_empty()));
}

#[test]
fn every_type_arrives_as_it_was_sent() {
    for batch in [batches::oddities(), batches::processes(), nested()] {
        let messages = read(&stream::answer(&[batch.clone(), batch.slice(1, 2)], &[])).unwrap();
        assert_eq!(messages.len(), 3);
        // As text: NaN is not equal to itself.
        let shown = |message: &Message| format!("{message:?}");
        assert_eq!(shown(&messages[1]), shown(&Message::Rows(batch.clone())));
        assert_eq!(shown(&messages[2]), shown(&Message::Rows(batch.slice(1, 2))));
    }
}

#[test]
fn talk_needs_no_schema_before_it() {
    let failure = r#"{"kind":"syntax","message":"no","line":1,"column":3}"#;
    let messages = read(&stream::message(ERROR, failure)).unwrap();
    assert!(
        matches!(&messages[..], [Message::Talk(Talk::Failure(f))] if f.column == Some(3)),
        "{messages:?}"
    );
}

#[test]
fn a_stream_cut_anywhere_is_an_end_or_an_error() {
    let whole = stream::answer(&[batches::processes()], &[(DONE, DONE_JSON)]);
    let messages = read(&whole).unwrap().len();
    for cut in 0..whole.len() {
        match read(&whole[..cut]) {
            // Between two messages; only a cut after DONE may look whole.
            Ok(read) => assert!(
                read.len() < messages || cut >= whole.len() - stream::END.len(),
                "cut at {cut}"
            ),
            Err(StreamError::Truncated(_)) => {}
            Err(e) => panic!("cut at {cut}: {e}"),
        }
    }
}

#[test]
fn an_altered_stream_never_panics() {
    for batch in [batches::oddities(), batches::processes(), nested()] {
        let whole = stream::answer(&[batch], &[(DONE, DONE_JSON)]);
        let mut bytes = whole.clone();
        for at in 0..whole.len() {
            for altered in [whole[at] ^ 1, whole[at] ^ 0x80, 0xff, 0, whole[at].wrapping_add(1)] {
                bytes[at] = altered;
                let _ = read(&bytes);
            }
            bytes[at] = whole[at];
        }
        // Several bytes at once (an LCG: the same bytes in every run).
        let mut seed = 1u64;
        let mut random = |below: usize| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        };
        for _ in 0..5000 {
            let mut bytes = whole.clone();
            for _ in 0..=random(8) {
                let at = random(bytes.len());
                bytes[at] = random(256) as u8;
            }
            let _ = read(&bytes);
        }
    }
}

#[test]
fn what_is_no_stream_is_said_to_be_none() {
    assert!(error(b"HTTP/1.1 200 OK\r\n").contains("not an Arrow stream"));
    assert!(error(&stream::framed(b"not a flatbuffer at all")).contains("not an Arrow stream"));
    let mut second = stream::rows(&[batches::processes()]);
    second.extend(second.clone());
    assert!(error(&second).contains("a second schema"));
    let rows = stream::rows(&[batches::processes()]);
    let schema = u32::from_le_bytes(rows[4..8].try_into().unwrap()) as usize + 8;
    assert!(error(&rows[schema..]).contains("rows before their schema"));
    assert!(error(&stream::message(DONE, "{")).contains("vwatch.done"));
    assert!(read(b"").unwrap().is_empty());
}

#[test]
fn promised_lengths_are_bounded() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert!(error(&huge).contains("more than the 16777216 that are taken"));
    // A body length of 2^62 in a message that is otherwise in order.
    let rows = stream::rows(&[batches::processes()]);
    let length = {
        let schema = u32::from_le_bytes(rows[4..8].try_into().unwrap()) as usize + 8;
        arrow_ipc::root_as_message(&rows[schema + 8..]).unwrap().bodyLength()
    };
    let old = length.to_le_bytes();
    let at = rows.windows(8).rposition(|w| w == old).unwrap();
    let mut bytes = rows.clone();
    bytes[at..at + 8].copy_from_slice(&(1i64 << 62).to_le_bytes());
    assert!(
        error(&bytes).contains("more than the 1073741824 that are taken"),
        "{}",
        error(&bytes)
    );
    bytes[at..at + 8].copy_from_slice(&(-1i64).to_le_bytes());
    assert!(error(&bytes).contains("a body of -1 bytes"), "{}", error(&bytes));
}
