//! Decoder of an answer: an Arrow IPC stream, message by message, as the bytes arrive.
//!
//! Framing (Arrow columnar format, "Encapsulated message format"): `FF FF FF FF`, the metadata's length as a little-endian
//! i32, the metadata (a flatbuffer `Message`, padded), the body of `Message.bodyLength` bytes. A length of zero ends
//! the stream. Record batches of no rows whose message carries a key of `vwatch_model::query` are talk, not data.
//!
//! **Invariant:** whatever the bytes are, the result is a message or a [`StreamError`]. Lengths are bounded before anything
//! is allocated for them, and memory grows with what arrived, not with what was promised; [`crate::guard`] checks what
//! the Arrow decoder would panic on.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::MessageHeader;
use arrow_schema::SchemaRef;
use tokio::io::{AsyncRead, AsyncReadExt};
use vwatch_model::query::{DONE, Done, ERROR, Failure, PROGRESS, Progress};

use crate::guard;

/// Largest metadata of one message.
const MAX_METADATA: usize = 16 << 20;
/// Largest body of one message.
const MAX_BODY: u64 = 1 << 30;
/// Most that is set aside before the bytes are there.
const FIRST_ALLOCATION: usize = 1 << 20;
const CONTINUATION: [u8; 4] = [0xff; 4];

#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The bytes end in the middle of something.
    #[error("it ends in the middle of {0}")]
    Truncated(&'static str),
    #[error("it is not an Arrow stream ({0})")]
    NotArrow(String),
    #[error("a message of {bytes} bytes of {what}, more than the {limit} that are taken")]
    Oversized { what: &'static str, bytes: u64, limit: u64 },
    #[error("column {column}: {what}")]
    Column { column: String, what: String },
    #[error("a batch whose parts do not fit together: {0}")]
    Batch(String),
    #[error("{key} is not the document it should be: {source}")]
    Talk {
        key: &'static str,
        source: serde_json::Error,
    },
}

/// What the engine says about its work.
#[derive(Debug, Clone, PartialEq)]
pub enum Talk {
    Progress(Progress),
    Done(Done),
    Failure(Failure),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    Schema(SchemaRef),
    Rows(RecordBatch),
    Talk(Talk),
    /// The stream's end, marked or not. Whether the answer was whole is for the caller to say.
    End,
}

/// Reads messages from `R`. Not cancel safe: after a dropped `next` the place in the stream is lost.
#[derive(Debug)]
pub struct MessageReader<R> {
    input: R,
    schema: Option<SchemaRef>,
}

impl<R: AsyncRead + Unpin> MessageReader<R> {
    pub fn new(input: R) -> Self {
        MessageReader { input, schema: None }
    }

    pub async fn next(&mut self) -> Result<Message, StreamError> {
        let Some(metadata) = self.metadata().await? else {
            return Ok(Message::End);
        };
        let message = arrow_ipc::root_as_message(&metadata).map_err(|e| StreamError::NotArrow(e.to_string()))?;
        let body = self.body(message.bodyLength()).await?;
        match message.header_type() {
            MessageHeader::Schema => {
                if self.schema.is_some() {
                    return Err(StreamError::NotArrow("a second schema".to_owned()));
                }
                let schema = Arc::new(guard::schema(&message)?);
                self.schema = Some(schema.clone());
                Ok(Message::Schema(schema))
            }
            MessageHeader::RecordBatch => {
                if let Some(talk) = talk(&message)? {
                    return Ok(Message::Talk(talk));
                }
                let schema = self.schema.clone();
                let schema = schema.ok_or_else(|| StreamError::NotArrow("rows before their schema".to_owned()))?;
                rows(&message, &body, schema).map(Message::Rows)
            }
            other => Err(StreamError::NotArrow(format!("a message of kind {other:?}"))),
        }
    }

    /// The metadata of the next message; none at the end of the stream.
    async fn metadata(&mut self) -> Result<Option<Vec<u8>>, StreamError> {
        let Some(mark) = self.word().await? else {
            return Ok(None);
        };
        if mark != CONTINUATION {
            return Err(StreamError::NotArrow(format!("a message begins with {mark:02x?}")));
        }
        let length = self.word().await?.ok_or(StreamError::Truncated("a message's length"))?;
        let length = u64::from(u32::from_le_bytes(length));
        if length == 0 {
            return Ok(None);
        }
        if length > MAX_METADATA as u64 {
            return Err(StreamError::Oversized {
                what: "metadata",
                bytes: length,
                limit: MAX_METADATA as u64,
            });
        }
        self.exactly(length, "a message's metadata").await.map(Some)
    }

    async fn body(&mut self, length: i64) -> Result<Buffer, StreamError> {
        let length = u64::try_from(length).map_err(|_| StreamError::NotArrow(format!("a body of {length} bytes")))?;
        if length > MAX_BODY {
            return Err(StreamError::Oversized {
                what: "rows",
                bytes: length,
                limit: MAX_BODY,
            });
        }
        Ok(Buffer::from_vec(self.exactly(length, "a message's rows").await?))
    }

    async fn exactly(&mut self, length: u64, what: &'static str) -> Result<Vec<u8>, StreamError> {
        let mut bytes = Vec::with_capacity(FIRST_ALLOCATION.min(length as usize));
        (&mut self.input).take(length).read_to_end(&mut bytes).await?;
        if (bytes.len() as u64) < length {
            return Err(StreamError::Truncated(what));
        }
        Ok(bytes)
    }

    /// Four bytes, or none where the stream ends cleanly.
    async fn word(&mut self) -> Result<Option<[u8; 4]>, StreamError> {
        let mut word = [0; 4];
        let mut filled = 0;
        while filled < word.len() {
            match self.input.read(&mut word[filled..]).await? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(StreamError::Truncated("a message's head")),
                n => filled += n,
            }
        }
        Ok(Some(word))
    }
}

fn talk(message: &arrow_ipc::Message<'_>) -> Result<Option<Talk>, StreamError> {
    let rows = message.header_as_record_batch().map_or(0, |b| b.length());
    let Some(metadata) = message.custom_metadata().filter(|_| rows == 0) else {
        return Ok(None);
    };
    for pair in metadata {
        let (Some(key), Some(value)) = (pair.key(), pair.value()) else {
            continue;
        };
        let bad = |key: &'static str| move |source| StreamError::Talk { key, source };
        return match key {
            PROGRESS => serde_json::from_str(value)
                .map(Talk::Progress)
                .map(Some)
                .map_err(bad(PROGRESS)),
            DONE => serde_json::from_str(value).map(Talk::Done).map(Some).map_err(bad(DONE)),
            ERROR => serde_json::from_str(value)
                .map(Talk::Failure)
                .map(Some)
                .map_err(bad(ERROR)),
            _ => continue,
        };
    }
    Ok(None)
}

fn rows(message: &arrow_ipc::Message<'_>, body: &Buffer, schema: SchemaRef) -> Result<RecordBatch, StreamError> {
    let batch = message
        .header_as_record_batch()
        .ok_or_else(|| StreamError::NotArrow("a batch without its head".to_owned()))?;
    guard::batch(&batch, &schema, body.len())?;
    let dictionaries = HashMap::new();
    arrow_ipc::reader::read_record_batch(body, batch, schema, &dictionaries, None, &message.version())
        .map_err(|e| StreamError::Batch(e.to_string()))
}
