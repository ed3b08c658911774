//! CSV (RFC 4180 but for line ends, which are those of the system): a header, then rows. NULL is an empty field, an empty
//! string is `""`.

use std::io::Write;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::json::columns;
use super::{OutputError, Sink};

pub struct Csv<W> {
    out: W,
    text: String,
}

impl<W: Write + Send> Csv<W> {
    pub fn new(out: W) -> Self {
        Csv {
            out,
            text: String::new(),
        }
    }
}

impl<W: Write + Send> Sink for Csv<W> {
    fn schema(&mut self, schema: &SchemaRef) -> Result<(), OutputError> {
        let mut line = String::new();
        for (n, field) in schema.fields().iter().enumerate() {
            line.push_str(if n > 0 { "," } else { "" });
            quote(field.name(), &mut line);
        }
        line.push('\n');
        Ok(self.out.write_all(line.as_bytes())?)
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<(), OutputError> {
        let columns = columns(batch)?;
        let mut cell = String::new();
        self.text.clear();
        for row in 0..batch.num_rows() {
            for (n, cells) in columns.iter().enumerate() {
                self.text.push_str(if n > 0 { "," } else { "" });
                if !cells.is_null(row) {
                    cell.clear();
                    cells.text(row, &mut cell);
                    quote(&cell, &mut self.text);
                }
            }
            self.text.push('\n');
        }
        self.out.write_all(self.text.as_bytes())?;
        Ok(self.out.flush()?)
    }

    fn finish(&mut self) -> Result<Vec<String>, OutputError> {
        self.out.flush()?;
        Ok(Vec::new())
    }
}

fn quote(text: &str, out: &mut String) {
    if !text.is_empty() && !text.contains(['"', ',', '\n', '\r']) {
        out.push_str(text);
        return;
    }
    out.push('"');
    out.push_str(&text.replace('"', "\"\""));
    out.push('"');
}
