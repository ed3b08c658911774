//! One part in the making: record batches in, encoded bytes on to the target as they come about.
//!
//! Memory: one row group of Parquet as encoded so far, bounded by rows and bytes, and what the target collects before it sends
//! it on (10 MiB). Nothing of a day is kept beside that.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use tokio::io::AsyncWriteExt;
use vwatch_client::output::{self, Format, Sink, Style};

use super::target::Target;
use crate::failure::Failed;

const ROW_GROUP_ROWS: usize = 1 << 20;
const ROW_GROUP_BYTES: usize = 128 << 20;

/// Encoded bytes on their way.
#[derive(Debug, Clone, Default)]
struct Pending(Arc<Mutex<Vec<u8>>>);

impl Pending {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Encoder {
    Parquet(Box<ArrowWriter<Pending>>),
    Other(Box<dyn Sink>),
}

/// Name ending of a form's files.
pub fn ending(format: Format) -> &'static str {
    match format {
        Format::Parquet => "parquet",
        Format::Csv => "csv",
        Format::Jsonl | Format::Json => "jsonl",
        // The stream form of Arrow IPC.
        Format::Arrow => "arrows",
        Format::Table => "txt",
    }
}

pub struct Part {
    pub path: Path,
    pub rows: u64,
    pub bytes: u64,
    schema: SchemaRef,
    encoder: Encoder,
    pending: Pending,
    to: BufWriter,
}

impl Part {
    pub fn begin(target: &Target, path: Path, format: Format, schema: &SchemaRef) -> Result<Part, Failed> {
        let pending = Pending::default();
        let encoder = match format {
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
                    .build();
                let writer = ArrowWriter::try_new(pending.clone(), schema.clone(), Some(properties));
                Encoder::Parquet(Box::new(writer.map_err(encoding)?))
            }
            other => {
                let mut sink = output::sink(other, Style::default(), Box::new(pending.clone()));
                sink.schema(schema)?;
                Encoder::Other(sink)
            }
        };
        Ok(Part {
            to: target.part(&path),
            path,
            rows: 0,
            bytes: 0,
            schema: schema.clone(),
            encoder,
            pending,
        })
    }

    pub async fn write(&mut self, target: &Target, batch: &RecordBatch) -> Result<(), Failed> {
        if batch.schema() != self.schema {
            return Err(Failed::because(format!(
                "the columns of {} have changed while it was read; export again",
                self.path
            )));
        }
        match &mut self.encoder {
            Encoder::Parquet(writer) => {
                writer.write(batch).map_err(encoding)?;
                if writer.in_progress_size() >= ROW_GROUP_BYTES {
                    writer.flush().map_err(encoding)?;
                }
            }
            Encoder::Other(sink) => sink.rows(batch)?,
        }
        self.rows += batch.num_rows() as u64;
        self.send(target).await
    }

    async fn send(&mut self, target: &Target) -> Result<(), Failed> {
        let bytes = self.pending.take();
        if bytes.is_empty() {
            return Ok(());
        }
        self.bytes += bytes.len() as u64;
        let sent = self.to.put(bytes.into()).await;
        sent.map_err(|e| target.failed(&self.path, &e))
    }

    /// The part is whole and takes its place.
    pub async fn finish(mut self, target: &Target) -> Result<(u64, u64), Failed> {
        match &mut self.encoder {
            Encoder::Parquet(writer) => drop(writer.finish().map_err(encoding)?),
            Encoder::Other(sink) => drop(sink.finish()?),
        }
        self.send(target).await?;
        let ended = self.to.shutdown().await;
        ended.map_err(|e| target.failed(&self.path, &e))?;
        Ok((self.rows, self.bytes))
    }

    /// Gives the part up; what has been sent of it is not seen.
    pub async fn abandon(mut self) {
        // The reason for it is told; that the rest of an upload could not be cleared is not worth another word.
        let _ = self.to.abort().await;
    }
}

fn encoding(error: ParquetError) -> Failed {
    Failed::because(format!("cannot write rows as Parquet: {error}"))
}
