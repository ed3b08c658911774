//! The end of an answer of `vwatch-query`: a plugin gets a fault where the query failed, not a stream of no rows.
//!
//! Encapsulated messages of the Arrow IPC stream format: continuation marker, length of the metadata, metadata (a flatbuffer), body.
//! Only metadata is looked at; a stream that is cut short has no failure to tell.

use arrow_ipc::root_as_message;
use vwatch_loader::{Fault, FaultKind};
use vwatch_model::query::{ERROR, Failure};

const CONTINUATION: [u8; 4] = [0xff; 4];

/// Why the query failed, if it did.
pub fn failure(stream: &[u8]) -> Option<Failure> {
    let mut rest = stream;
    loop {
        let (marker, after) = rest.split_at_checked(4)?;
        if marker != CONTINUATION {
            return None;
        }
        let (length, after) = after.split_at_checked(4)?;
        let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
        if length == 0 {
            return None;
        }
        let (metadata, after) = after.split_at_checked(length)?;
        let message = root_as_message(metadata).ok()?;
        for entry in message.custom_metadata().into_iter().flatten() {
            if entry.key() == Some(ERROR) {
                return serde_json::from_str(entry.value()?).ok();
            }
        }
        rest = after.get(usize::try_from(message.bodyLength()).ok()?..)?;
    }
}

/// The failure as a plugin sees it.
pub fn fault(failure: Failure) -> Fault {
    let kind = match failure.kind.as_str() {
        "syntax" | "unknown_table" | "unknown_column" | "request" => FaultKind::BadInput,
        "unsupported" => FaultKind::Unsupported,
        _ => FaultKind::Failed,
    };
    let place = match (failure.line, failure.column) {
        (Some(line), Some(column)) => format!("line {line}, column {column}: "),
        _ => String::new(),
    };
    let hint = failure.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
    Fault::new(kind, format!("{place}{}{hint}", failure.message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int32Array, RecordBatch};
    use arrow_ipc::writer::StreamWriter;
    use std::sync::Arc;

    #[test]
    fn a_stream_without_a_failure_has_none() {
        let column: arrow_array::ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
        let batch = RecordBatch::try_from_iter([("x", column)]).unwrap();
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        let stream = writer.into_inner().unwrap();
        assert_eq!(failure(&stream), None);
        for cut in 0..stream.len() {
            assert_eq!(failure(&stream[..cut]), None);
        }
        assert_eq!(failure(b"no stream at all"), None);
    }

    #[test]
    fn faults_say_where() {
        let failure = Failure {
            kind: "syntax".into(),
            message: "what is selekt".into(),
            hint: Some("SELECT".into()),
            line: Some(1),
            column: Some(3),
        };
        let fault = fault(failure);
        assert_eq!(fault.kind, FaultKind::BadInput);
        assert_eq!(fault.message, "line 1, column 3: what is selekt (SELECT)");
    }
}
