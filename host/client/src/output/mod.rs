//! Output formats: record batches in, bytes out.
//!
//! Every format but the table writes each batch as it comes; the table keeps a window of rows to fit its columns to
//! (see [`table`]). What a value looks like is decided once, in [`cell`]: timestamps are RFC 3339 with their offset and all
//! their digits (in tables: to the millisecond, in the answer's zone, without the offset), 64-bit integers are exact,
//! bytes are lower-case hex, a float that is no number is null in JSON.

mod binary;
mod cell;
mod csv;
mod json;
mod table;

use std::io::{self, Write};

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, SchemaRef};

pub use cell::{Cells, escape_controls};
pub use table::{Style, pad, shorten};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Table,
    Json,
    Jsonl,
    Csv,
    Arrow,
    Parquet,
}

impl Format {
    /// Bytes that a terminal should not get.
    pub fn is_binary(self) -> bool {
        matches!(self, Format::Arrow | Format::Parquet)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error("cannot write the answer: {0}")]
    Io(#[from] io::Error),
    #[error("cannot write the answer as {format}: {what}")]
    Encode { format: &'static str, what: String },
    #[error("column {column}: {source}")]
    Column { column: String, source: ArrowError },
}

impl OutputError {
    /// Whoever read the output has gone: no reason for a word.
    pub fn is_closed(&self) -> bool {
        matches!(self, OutputError::Io(e) if e.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Takes an answer: its schema once, then its batches, then `finish`. Without `finish` the output is recognisably not whole
/// where the format allows it (an open JSON array, a Parquet file without its footer).
pub trait Sink: Send {
    fn schema(&mut self, schema: &SchemaRef) -> Result<(), OutputError>;
    fn rows(&mut self, batch: &RecordBatch) -> Result<(), OutputError>;
    /// Notes for the person who reads, if any: columns that did not fit.
    fn finish(&mut self) -> Result<Vec<String>, OutputError>;
}

/// A sink of `format` that writes to `out`. `style` concerns tables.
pub fn sink(format: Format, style: Style, out: Box<dyn Write + Send>) -> Box<dyn Sink> {
    match format {
        Format::Table => Box::new(table::Table::new(out, style)),
        Format::Json => Box::new(json::Json::array(out)),
        Format::Jsonl => Box::new(json::Json::lines(out)),
        Format::Csv => Box::new(csv::Csv::new(out)),
        Format::Arrow => Box::new(binary::Arrow::new(out)),
        Format::Parquet => Box::new(binary::Parquet::new(out)),
    }
}
