//! Captures: the recorded history of one state table as a file that needs no store to be read.
//!
//! A capture is an Arrow IPC stream inside a zstd frame. Its columns are those of the table's history: `time`, which tells
//! one sample from the next, `instance`, and the declared columns. The metadata entry `vwatch.table` of its schema is the
//! table's declaration as JSON. `zstd -dc FILE` gives what any Arrow reader can read.

use crate::Failed;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, TimestampNanosecondType};
use arrow_array::{Array, BooleanArray, RecordBatch, new_null_array};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_row::{RowConverter, SortField};
use arrow_schema::Schema;
use arrow_select::concat::concat_batches;
use arrow_select::filter::filter_record_batch;
use arrow_select::take::take_record_batch;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read};
use std::path::Path;
use std::sync::Arc;
use vwatch_model::TableSchema;
use vwatch_store::{Body, ReadMode, Reader, ScanRequest};

const TABLE: &str = "vwatch.table";
/// 128 MiB: some hundred samples of a large host, so that what stays the same is found again.
const WINDOW_LOG: u32 = 27;
const LEVEL: i32 = 12;
const KTHREADD: i32 = 2;

/// Writes the history of `process` in a store to a capture; of the processes of one process group and of kernel threads
/// alone, and without what names the machine, when a group is named. Returns samples and rows.
pub fn write(store: &Path, out: &Path, group: Option<i32>) -> Result<(u64, u64), Failed> {
    let live = vwatch_store::writer_pid(store)?.is_some();
    let reader = Reader::open(store, if live { ReadMode::Live } else { ReadMode::Copy })?;
    let catalog = reader.catalog()?;
    let table = catalog.tables.iter().find(|t| t.schema.name == "process");
    let table = table.ok_or("the store has no table process")?;
    let instance = catalog
        .instances
        .iter()
        .find(|i| i.info.default && i.tables.contains(&table.id));
    let scan = reader.scan(ScanRequest {
        table: table.id,
        instances: vec![instance.ok_or("the store has no default instance of process")?.id],
        from_ns: i64::MIN,
        to_ns: i64::MAX,
        columns: None,
        conditions: Vec::new(),
    })?;
    let metadata = HashMap::from([(TABLE.to_owned(), serde_json::to_string(&table.schema)?)]);
    let schema = Arc::new(Schema::new_with_metadata(scan.schema().fields().clone(), metadata));
    let mut packed = zstd::Encoder::new(BufWriter::new(File::create(out)?), LEVEL)?;
    packed.window_log(WINDOW_LOG)?;
    packed.long_distance_matching(true)?;
    let mut stream = StreamWriter::try_new(packed, &schema)?;
    let (mut samples, mut rows, mut last) = (0, 0, None);
    for batch in scan {
        let batch = RecordBatch::try_new(schema.clone(), batch?.columns().to_vec())?;
        let batch = match group {
            None => batch,
            Some(group) => without_place(&filter_record_batch(&batch, &of_group(&batch, group)?)?)?,
        };
        for &time in times(&batch)? {
            samples += u64::from(last.replace(time) != Some(time));
        }
        rows += batch.num_rows() as u64;
        stream.write(&batch)?;
    }
    stream.finish()?;
    stream.into_inner()?.finish()?.into_inner()?.sync_all()?;
    Ok((samples, rows))
}

/// Rows of processes of a process group, and of kernel threads.
fn of_group(batch: &RecordBatch, group: i32) -> Result<BooleanArray, Failed> {
    let ids = |name: &str| {
        let column = batch.column_by_name(name).ok_or_else(|| format!("no column {name}"))?;
        let ids = column.as_primitive_opt::<Int32Type>();
        Ok::<_, Failed>(ids.ok_or_else(|| format!("{name} is no i32"))?)
    };
    let (pid, ppid, pgrp) = (ids("pid")?, ids("ppid")?, ids("pgrp")?);
    let wanted = |row: usize| {
        let is = |column: &arrow_array::Int32Array, id: i32| column.is_valid(row) && column.value(row) == id;
        is(pgrp, group) || is(pid, KTHREADD) || is(ppid, KTHREADD)
    };
    Ok((0..batch.num_rows()).map(|row| Some(wanted(row))).collect())
}

/// The rows with `cgroup` NULL: the paths of control groups are a machine's own.
fn without_place(batch: &RecordBatch) -> Result<RecordBatch, Failed> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let columns = columns.map(|(field, column)| match field.name() == "cgroup" {
        true => new_null_array(field.data_type(), batch.num_rows()),
        false => column.clone(),
    });
    Ok(RecordBatch::try_new(schema.clone(), columns.collect())?)
}

fn times(batch: &RecordBatch) -> Result<&[i64], Failed> {
    let times = batch.column(0).as_primitive_opt::<TimestampNanosecondType>();
    Ok(times.ok_or("the first column of a capture is its time")?.values())
}

/// A sample: when it was taken, and the picture in the table's layout.
pub struct Sample {
    pub time_ns: i64,
    pub rows: RecordBatch,
}

/// A capture being read: an iterator of its samples.
pub struct Capture {
    pub schema: TableSchema,
    batches: StreamReader<Box<dyn Read>>,
    /// Read, and not given out yet: pieces of samples in order.
    pieces: VecDeque<(i64, RecordBatch)>,
}

impl Capture {
    pub fn open(path: &Path) -> Result<Capture, Failed> {
        let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut plain = zstd::Decoder::new(file)?;
        plain.window_log_max(WINDOW_LOG)?;
        let plain: Box<dyn Read> = Box::new(BufReader::with_capacity(1 << 20, plain));
        let batches = StreamReader::try_new(plain, None)?;
        let schema = batches.schema();
        let declared = schema.metadata().get(TABLE);
        let declared = declared.ok_or_else(|| format!("{}: no declaration of its table", path.display()))?;
        Ok(Capture {
            schema: serde_json::from_str(declared)?,
            batches,
            pieces: VecDeque::new(),
        })
    }

    fn sample(&mut self) -> Result<Option<Sample>, Failed> {
        while self.pieces.front().map(|p| p.0) == self.pieces.back().map(|p| p.0) {
            let Some(batch) = self.batches.next() else { break };
            self.cut(&batch?)?;
        }
        let Some(time_ns) = self.pieces.front().map(|p| p.0) else {
            return Ok(None);
        };
        let mut parts = Vec::new();
        while self.pieces.front().is_some_and(|p| p.0 == time_ns) {
            parts.extend(self.pieces.pop_front().map(|p| p.1));
        }
        let rows = concat_batches(&self.schema.arrow(), &parts)?;
        Ok(Some(Sample { time_ns, rows }))
    }

    fn cut(&mut self, batch: &RecordBatch) -> Result<(), Failed> {
        let declared = self.schema.arrow();
        let columns = declared.fields().iter().map(|field| {
            let column = batch.column_by_name(field.name());
            column.cloned().ok_or_else(|| format!("no column {}", field.name()))
        });
        let rows = RecordBatch::try_new(declared.clone(), columns.collect::<Result<_, _>>()?)?;
        let mut from = 0;
        for run in times(batch)?.chunk_by(|a, b| a == b) {
            self.pieces.push_back((run[0], rows.slice(from, run.len())));
            from += run.len();
        }
        Ok(())
    }
}

impl Iterator for Capture {
    type Item = Result<Sample, Failed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.sample().transpose()
    }
}

/// Makes of each picture what a probe hands over: first the whole, then what changed.
pub struct Differ {
    keys: RowConverter,
    values: RowConverter,
    key_columns: Vec<usize>,
    last: Option<Seen>,
}

struct Seen {
    rows: RecordBatch,
    by_key: HashMap<Vec<u8>, (usize, Vec<u8>)>,
}

impl Differ {
    pub fn new(schema: &TableSchema) -> Result<Differ, Failed> {
        let fields = |schema: arrow_schema::SchemaRef| {
            let fields = schema.fields().iter().map(|f| SortField::new(f.data_type().clone()));
            RowConverter::new(fields.collect())
        };
        Ok(Differ {
            keys: fields(schema.key_arrow())?,
            values: fields(schema.arrow())?,
            key_columns: schema.key_indices(),
            last: None,
        })
    }

    pub fn body(&mut self, rows: RecordBatch) -> Result<Body, Failed> {
        let keys = self.keys.convert_columns(rows.project(&self.key_columns)?.columns())?;
        let values = self.values.convert_columns(rows.columns())?;
        let both = keys.iter().zip(values.iter()).enumerate();
        let by_key = both.map(|(n, (k, v))| (k.as_ref().to_vec(), (n, v.as_ref().to_vec())));
        let now = Seen {
            by_key: by_key.collect(),
            rows: rows.clone(),
        };
        let Some(last) = self.last.replace(now) else {
            return Ok(Body::Full(rows));
        };
        let Some(now) = &self.last else {
            return Ok(Body::Full(rows));
        };
        let differs = |(key, (_, value)): &(&Vec<u8>, &(usize, Vec<u8>))| {
            last.by_key.get(*key).is_none_or(|(_, before)| before != value)
        };
        let changed = now.by_key.iter().filter(differs).map(|(_, (n, _))| *n);
        let gone = last.by_key.iter().filter(|(key, _)| !now.by_key.contains_key(*key));
        let gone = pick(&last.rows, gone.map(|(_, (n, _))| *n).collect())?;
        Ok(Body::Delta {
            changed: pick(&now.rows, changed.collect())?,
            gone: gone.project(&self.key_columns)?,
        })
    }
}

fn pick(rows: &RecordBatch, mut wanted: Vec<usize>) -> Result<RecordBatch, Failed> {
    wanted.sort_unstable();
    let wanted: arrow_array::UInt32Array = wanted.into_iter().map(|n| n as u32).collect();
    Ok(take_record_batch(rows, &wanted)?)
}
