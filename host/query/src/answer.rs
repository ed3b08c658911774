//! The answer on the wire: an Arrow IPC stream with the documents of [`vwatch_model::query`] inside.
//!
//! A plain Arrow reader reads it as it is: documents travel as record batches of no rows, with the document as JSON in the
//! `custom_metadata` of the message (Arrow columnar format, "Encapsulated message format", Message.fbs). The writer of the
//! arrow crate has no way to set that, so a document's message is built here around an ordinary empty batch: the batch is
//! encoded, its header copied into a new flatbuffer, the metadata added, the body kept.
//!
//! Dictionary columns are written as their values: a batch of no rows would otherwise have to redefine their dictionaries.

use crate::error::SqlError;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_ipc::writer::{
    DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteOptions, StreamWriter, write_message,
};
use arrow_ipc::{
    KeyValue, KeyValueArgs, Message, MessageArgs, MessageHeader, RecordBatch as BatchHeader, RecordBatchArgs,
    root_as_message,
};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use flatbuffers::FlatBufferBuilder;
use serde::Serialize;
use std::io::{BufWriter, Write};
use std::sync::Arc;
use vwatch_model::query::{DONE, Done, ERROR, Failure, PROGRESS, Progress};

/// Writes one answer. Nothing is held back: each batch and each document is flushed.
pub struct AnswerWriter<W: Write> {
    stream: StreamWriter<BufWriter<W>>,
    schema: SchemaRef,
}

impl<W: Write> AnswerWriter<W> {
    /// Begins the answer by writing the schema.
    pub fn begin(out: W, schema: &Schema) -> Result<Self, SqlError> {
        let schema = plain_schema(schema);
        let mut stream = StreamWriter::try_new(BufWriter::new(out), &schema).map_err(sent)?;
        stream.flush().map_err(sent)?;
        Ok(AnswerWriter { stream, schema })
    }

    pub fn batch(&mut self, batch: &RecordBatch) -> Result<(), SqlError> {
        let columns = batch
            .columns()
            .iter()
            .zip(self.schema.fields())
            .map(|(column, field)| match column.data_type() == field.data_type() {
                true => Ok(column.clone()),
                false => arrow_cast::cast(column, field.data_type()),
            })
            .collect::<Result<Vec<ArrayRef>, _>>()
            .map_err(SqlError::Encode)?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch =
            RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(SqlError::Encode)?;
        self.stream.write(&batch).map_err(sent)?;
        self.stream.flush().map_err(sent)
    }

    pub fn progress(&mut self, progress: &Progress) -> Result<(), SqlError> {
        self.document(PROGRESS, progress)
    }

    /// Ends the answer: it is whole, or partial for the reasons in `done`.
    pub fn done(mut self, done: &Done) -> Result<(), SqlError> {
        self.document(DONE, done)?;
        self.stream.finish().map_err(sent)
    }

    /// Ends the answer: the query failed.
    pub fn failure(mut self, failure: &Failure) -> Result<(), SqlError> {
        self.document(ERROR, failure)?;
        self.stream.finish().map_err(sent)
    }

    fn document(&mut self, key: &str, document: &impl Serialize) -> Result<(), SqlError> {
        let json =
            serde_json::to_string(document).map_err(|e| SqlError::Encode(ArrowError::JsonError(e.to_string())))?;
        let options = IpcWriteOptions::default();
        let message = empty_batch_with(&self.schema, key, &json, &options).map_err(SqlError::Encode)?;
        write_message(self.stream.get_mut(), message, &options).map_err(sent)?;
        self.stream.flush().map_err(sent)
    }
}

/// The whole answer of a query that failed before its columns were known.
pub fn refuse<W: Write>(out: W, failure: &Failure) -> Result<(), SqlError> {
    AnswerWriter::begin(out, &Schema::empty())?.failure(failure)
}

fn sent(error: ArrowError) -> SqlError {
    match error {
        ArrowError::IoError(_, source) => SqlError::Send(source),
        other => SqlError::Encode(other),
    }
}

fn plain_schema(schema: &Schema) -> SchemaRef {
    let plain = |field: &Arc<Field>| match field.data_type() {
        DataType::Dictionary(_, value) => {
            Arc::new(Field::new(field.name(), value.as_ref().clone(), field.is_nullable()))
        }
        _ => field.clone(),
    };
    Arc::new(Schema::new(schema.fields().iter().map(plain).collect::<Vec<_>>()))
}

/// The message of a batch of no rows, with one pair of custom metadata.
fn empty_batch_with(
    schema: &SchemaRef,
    key: &str,
    value: &str,
    options: &IpcWriteOptions,
) -> Result<EncodedData, ArrowError> {
    let empty = RecordBatch::new_empty(schema.clone());
    let mut dictionaries = DictionaryTracker::new(false);
    let (_, plain) = IpcDataGenerator::default().encode(&empty, &mut dictionaries, options, &mut Default::default())?;
    let malformed = || ArrowError::IpcError("the message of an empty batch is malformed".to_owned());
    let message = root_as_message(&plain.ipc_message).map_err(|_| malformed())?;
    let batch = message.header_as_record_batch().ok_or_else(malformed)?;

    let mut builder = FlatBufferBuilder::new();
    let nodes: Option<Vec<_>> = batch.nodes().map(|nodes| nodes.iter().copied().collect());
    let nodes = nodes.map(|nodes| builder.create_vector(&nodes));
    let buffers: Option<Vec<_>> = batch.buffers().map(|buffers| buffers.iter().copied().collect());
    let buffers = buffers.map(|buffers| builder.create_vector(&buffers));
    let counts: Option<Vec<i64>> = batch.variadicBufferCounts().map(|counts| counts.iter().collect());
    let counts = counts.map(|counts| builder.create_vector(&counts));
    let header = BatchHeader::create(
        &mut builder,
        &RecordBatchArgs {
            length: batch.length(),
            nodes,
            buffers,
            compression: None,
            variadicBufferCounts: counts,
        },
    );
    let key = builder.create_string(key);
    let value = builder.create_string(value);
    let pair = KeyValue::create(
        &mut builder,
        &KeyValueArgs {
            key: Some(key),
            value: Some(value),
        },
    );
    let metadata = builder.create_vector(&[pair]);
    let root = Message::create(
        &mut builder,
        &MessageArgs {
            version: message.version(),
            header_type: MessageHeader::RecordBatch,
            header: Some(header.as_union_value()),
            bodyLength: message.bodyLength(),
            custom_metadata: Some(metadata),
        },
    );
    builder.finish(root, None);
    Ok(EncodedData {
        ipc_message: builder.finished_data().to_vec(),
        arrow_data: plain.arrow_data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::types::Int32Type;
    use arrow_array::{DictionaryArray, Int64Array, StringArray, TimestampNanosecondArray};
    use arrow_ipc::reader::StreamReader;

    fn sample() -> RecordBatch {
        let times = TimestampNanosecondArray::from(vec![1, 2, 3]).with_timezone("Europe/Berlin");
        let words: DictionaryArray<Int32Type> = vec!["a", "b", "a"].into_iter().collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("time", Arc::new(times)),
            ("comm", Arc::new(StringArray::from(vec![Some("sh"), None, Some("vi")]))),
            ("word", Arc::new(words)),
            ("n", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    /// (key, JSON) of each message that has metadata, read from the bytes by the format's own rules.
    pub fn documents(mut bytes: &[u8]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        loop {
            assert_eq!(bytes[..4], [0xff; 4], "continuation marker");
            let length = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
            if length == 0 {
                assert_eq!(bytes.len(), 8, "nothing after the end of the stream");
                return found;
            }
            let message = root_as_message(&bytes[8..8 + length]).unwrap();
            for pair in message.custom_metadata().iter().flat_map(|m| m.iter()) {
                found.push((pair.key().unwrap().to_owned(), pair.value().unwrap().to_owned()));
            }
            bytes = &bytes[8 + length + message.bodyLength() as usize..];
        }
    }

    #[test]
    fn a_plain_reader_reads_rows_and_ours_the_documents() {
        let mut out = Vec::new();
        let mut writer = AnswerWriter::begin(&mut out, &sample().schema()).unwrap();
        writer.progress(&Progress::default()).unwrap();
        writer.batch(&sample()).unwrap();
        writer
            .progress(&Progress {
                rows_scanned: 3,
                ..Progress::default()
            })
            .unwrap();
        writer.batch(&sample().slice(1, 2)).unwrap();
        let done = Done {
            rows: 5,
            now_ns: 7,
            ..Done::default()
        };
        writer.done(&done).unwrap();

        let rows: usize = StreamReader::try_new(out.as_slice(), None)
            .unwrap()
            .map(|batch| batch.unwrap().num_rows())
            .sum();
        assert_eq!(rows, 5);
        let documents = documents(&out);
        assert_eq!(
            documents.iter().map(|d| d.0.as_str()).collect::<Vec<_>>(),
            [PROGRESS, PROGRESS, DONE]
        );
        assert_eq!(serde_json::from_str::<Done>(&documents[2].1).unwrap(), done);
    }

    #[test]
    fn a_refusal_is_a_stream_of_no_columns() {
        let mut out = Vec::new();
        let failure = Failure {
            kind: "syntax".into(),
            message: "x".into(),
            line: Some(1),
            ..Failure::default()
        };
        refuse(&mut out, &failure).unwrap();
        let mut reader = StreamReader::try_new(out.as_slice(), None).unwrap();
        assert_eq!(reader.schema().fields().len(), 0);
        assert!(reader.all(|batch| batch.unwrap().num_rows() == 0));
        let documents = documents(&out);
        assert_eq!(documents.len(), 1);
        assert_eq!(serde_json::from_str::<Failure>(&documents[0].1).unwrap(), failure);
    }
}
