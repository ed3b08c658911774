//! One part in the making: record batches in, encoded bytes on to the target as they come about.
//!
//! Memory: one row group of Parquet as encoded so far, bounded by rows and bytes, and the pieces that the upload holds (50 MiB at
//! most). Nothing of a day is kept beside that.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use vwatch_client::output::{self, Format, Sink, Style};

use super::target::Target;
use super::upload::Upload;
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
    to: Upload,
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
        let sent = self.to.put(&bytes).await;
        sent.map_err(|e| target.failed(&self.path, &e))
    }

    /// The part is whole and takes its place, or is given up.
    pub async fn finish(mut self, target: &Target) -> Result<(u64, u64), Failed> {
        let ended = self.complete(target).await;
        if ended.is_err() {
            self.to.abandon().await;
        }
        ended.map(|()| (self.rows, self.bytes))
    }

    async fn complete(&mut self, target: &Target) -> Result<(), Failed> {
        match &mut self.encoder {
            Encoder::Parquet(writer) => drop(writer.finish().map_err(encoding)?),
            Encoder::Other(sink) => drop(sink.finish()?),
        }
        self.send(target).await?;
        let ended = self.to.complete().await;
        ended.map_err(|e| target.failed(&self.path, &e))
    }

    /// Gives the part up; what has been sent of it is not seen.
    pub async fn abandon(mut self) {
        self.to.abandon().await;
    }
}

fn encoding(error: ParquetError) -> Failed {
    Failed::because(format!("cannot write rows as Parquet: {error}"))
}
