//! JSON: one array of objects, or one object per line.

use std::collections::HashSet;
use std::io::Write;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::cell::json_string;
use super::{Cells, OutputError, Sink};

pub struct Json<W> {
    out: W,
    /// One array, rather than lines.
    array: bool,
    /// Keys with their quotes and colon.
    keys: Vec<String>,
    begun: bool,
    text: String,
}

impl<W: Write + Send> Json<W> {
    pub fn array(out: W) -> Self {
        Json {
            out,
            array: true,
            keys: Vec::new(),
            begun: false,
            text: String::new(),
        }
    }

    pub fn lines(out: W) -> Self {
        Json {
            array: false,
            ..Json::array(out)
        }
    }
}

impl<W: Write + Send> Sink for Json<W> {
    fn schema(&mut self, schema: &SchemaRef) -> Result<(), OutputError> {
        self.keys = unique_names(schema);
        for key in &mut self.keys {
            let mut quoted = String::new();
            json_string(key, &mut quoted);
            quoted.push(':');
            *key = quoted;
        }
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<(), OutputError> {
        let columns = columns(batch)?;
        self.text.clear();
        for row in 0..batch.num_rows() {
            if self.array {
                self.text.push_str(if self.begun { ",\n" } else { "[\n" });
            }
            self.begun = true;
            self.text.push('{');
            for (n, (key, cells)) in self.keys.iter().zip(&columns).enumerate() {
                self.text.push_str(if n > 0 { "," } else { "" });
                self.text.push_str(key);
                cells.json(row, &mut self.text);
            }
            self.text.push('}');
            if !self.array {
                self.text.push('\n');
            }
        }
        self.out.write_all(self.text.as_bytes())?;
        Ok(self.out.flush()?)
    }

    fn finish(&mut self) -> Result<Vec<String>, OutputError> {
        if self.array {
            let end: &[u8] = if self.begun { b"\n]\n" } else { b"[]\n" };
            self.out.write_all(end)?;
        }
        self.out.flush()?;
        Ok(Vec::new())
    }
}

pub(super) fn columns(batch: &RecordBatch) -> Result<Vec<Cells>, OutputError> {
    let schema = batch.schema();
    let cells = batch.columns().iter().zip(schema.fields());
    cells
        .map(|(array, field)| {
            Cells::new(array).map_err(|source| OutputError::Column {
                column: field.name().clone(),
                source,
            })
        })
        .collect()
}

/// Names of the columns; one that stands twice (`SELECT a.pid, b.pid …`) gets a number, so that no value is lost.
fn unique_names(schema: &SchemaRef) -> Vec<String> {
    let mut taken: HashSet<String> = HashSet::new();
    let mut names = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let mut name = field.name().clone();
        let mut n = 1;
        while !taken.insert(name.clone()) {
            n += 1;
            name = format!("{}_{n}", field.name());
        }
        names.push(name);
    }
    names
}
