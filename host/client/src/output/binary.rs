//! Arrow IPC stream and Parquet file.

use std::io::Write;

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::{OutputError, Sink};

/// Rows that Parquet holds in memory before it writes them.
const ROW_GROUP: usize = 128 * 1024;

type Out = Box<dyn Write + Send>;

/// A writer that needs the schema before it can be.
enum Stage<T> {
    Waiting(Out),
    Open(T),
    Over,
}

impl<T> Stage<T> {
    fn take_out(&mut self) -> Option<Out> {
        match std::mem::replace(self, Stage::Over) {
            Stage::Waiting(out) => Some(out),
            other => {
                *self = other;
                None
            }
        }
    }
}

pub struct Arrow {
    stage: Stage<StreamWriter<Out>>,
}

impl Arrow {
    pub fn new(out: Out) -> Self {
        Arrow {
            stage: Stage::Waiting(out),
        }
    }
}

impl Sink for Arrow {
    fn schema(&mut self, schema: &SchemaRef) -> Result<(), OutputError> {
        if let Some(out) = self.stage.take_out() {
            self.stage = Stage::Open(StreamWriter::try_new(out, schema).map_err(arrow_error)?);
        }
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<(), OutputError> {
        let Stage::Open(writer) = &mut self.stage else {
            return Ok(());
        };
        writer.write(batch).and_then(|()| writer.flush()).map_err(arrow_error)
    }

    fn finish(&mut self) -> Result<Vec<String>, OutputError> {
        if let Stage::Open(mut writer) = std::mem::replace(&mut self.stage, Stage::Over) {
            writer.finish().and_then(|()| writer.flush()).map_err(arrow_error)?;
        }
        Ok(Vec::new())
    }
}

fn arrow_error(error: ArrowError) -> OutputError {
    match error {
        ArrowError::IoError(_, source) => OutputError::Io(source),
        other => OutputError::Encode {
            format: "Arrow",
            what: other.to_string(),
        },
    }
}

pub struct Parquet {
    stage: Stage<ArrowWriter<Out>>,
}

impl Parquet {
    pub fn new(out: Out) -> Self {
        Parquet {
            stage: Stage::Waiting(out),
        }
    }
}

impl Sink for Parquet {
    fn schema(&mut self, schema: &SchemaRef) -> Result<(), OutputError> {
        if let Some(out) = self.stage.take_out() {
            let properties = WriterProperties::builder()
                .set_compression(Compression::ZSTD(ZstdLevel::default()))
                .set_max_row_group_row_count(Some(ROW_GROUP))
                .build();
            let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties)).map_err(parquet_error)?;
            self.stage = Stage::Open(writer);
        }
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<(), OutputError> {
        match &mut self.stage {
            Stage::Open(writer) => writer.write(batch).map_err(parquet_error),
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<Vec<String>, OutputError> {
        if let Stage::Open(mut writer) = std::mem::replace(&mut self.stage, Stage::Over) {
            // Not `into_inner`, which would lose the kind of an I/O error.
            writer.finish().map_err(parquet_error)?;
        }
        Ok(Vec::new())
    }
}

fn parquet_error(error: ParquetError) -> OutputError {
    let what = error.to_string();
    if let ParquetError::External(source) = error
        && let Ok(io) = source.downcast::<std::io::Error>()
    {
        return OutputError::Io(*io);
    }
    OutputError::Encode {
        format: "Parquet",
        what,
    }
}
