//! A producer of answers, written from the Arrow format's own description rather than with the code under test.

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_ipc::{
    KeyValue, KeyValueArgs, Message, MessageArgs, MessageHeader, MetadataVersion, RecordBatchArgs,
    finish_message_buffer,
};
use flatbuffers::FlatBufferBuilder;

/// An answer: schema, batches, then messages of talk, then the end mark.
pub fn answer(batches: &[RecordBatch], talk: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = rows(batches);
    for (key, json) in talk {
        bytes.extend(message(key, json));
    }
    bytes.extend(END);
    bytes
}

pub const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// Schema and batches without an end.
pub fn rows(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.flush().unwrap();
    writer.get_ref().clone()
}

/// A record batch of no rows whose message carries `key`.
pub fn message(key: &str, json: &str) -> Vec<u8> {
    let mut fbb = FlatBufferBuilder::new();
    let key = fbb.create_string(key);
    let value = fbb.create_string(json);
    let pair = KeyValue::create(
        &mut fbb,
        &KeyValueArgs {
            key: Some(key),
            value: Some(value),
        },
    );
    let metadata = fbb.create_vector(&[pair]);
    let nodes = fbb.create_vector::<arrow_ipc::FieldNode>(&[]);
    let buffers = fbb.create_vector::<arrow_ipc::Buffer>(&[]);
    let batch = arrow_ipc::RecordBatch::create(
        &mut fbb,
        &RecordBatchArgs {
            length: 0,
            nodes: Some(nodes),
            buffers: Some(buffers),
            compression: None,
            variadicBufferCounts: None,
        },
    );
    let message = Message::create(
        &mut fbb,
        &MessageArgs {
            version: MetadataVersion::V5,
            header_type: MessageHeader::RecordBatch,
            header: Some(batch.as_union_value()),
            bodyLength: 0,
            custom_metadata: Some(metadata),
        },
    );
    finish_message_buffer(&mut fbb, message);
    framed(fbb.finished_data())
}

/// Metadata with its mark and its length, padded to eight bytes.
pub fn framed(metadata: &[u8]) -> Vec<u8> {
    let padded = metadata.len().next_multiple_of(8);
    let mut bytes = vec![0xff; 4];
    bytes.extend(i32::try_from(padded).unwrap().to_le_bytes());
    bytes.extend(metadata);
    bytes.resize(8 + padded, 0);
    bytes
}
