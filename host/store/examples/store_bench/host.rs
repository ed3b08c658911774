//! A made-up host, for as many processes and as long as wanted. Pseudo-random, the same each time.
//!
//! Its rows are those of a real one: each process is like one of a captured sample in all that does not move. What moves, and
//! how often, follows a measured host (1,000 idle and 50 busy processes, 50 short-lived children a second): one row in
//! fifteen differs from the second before, in about ten columns; three processes come and go each second.

use crate::Failed;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow_schema::SchemaRef;
use arrow_select::take::take;
use std::sync::Arc;
use vwatch_model::TableSchema;
use vwatch_store::Body;

/// Columns that move, and how far in one second of a process that runs.
const MOVING: [(&str, i64); 9] = [
    ("utime_ns", 3),
    ("stime_ns", 2),
    ("minflt", 60),
    ("rss_bytes", 24),
    ("voluntary_ctxt_switches", 20),
    ("nonvoluntary_ctxt_switches", 6),
    ("rchar", 9_000),
    ("wchar", 5_000),
    ("syscw", 12),
];
const TICK_NS: i64 = 10_000_000;
const PAGE_BYTES: i64 = 4096;
const COMING: usize = 3;
/// One process in twenty runs nearly each second; another one in fifty of the others, by chance.
const BUSY_IN: usize = 20;
const WAKES_IN: u64 = 50;

struct Process {
    pid: i32,
    start_ticks: i64,
    /// Row of the captured sample that it is like.
    like: u32,
    processor: i32,
    moving: [i64; MOVING.len()],
}

pub struct Host {
    schema: TableSchema,
    layout: SchemaRef,
    keys: SchemaRef,
    like: RecordBatch,
    seed: u64,
    second: i64,
    next_pid: i32,
    processes: Vec<Process>,
    /// Places of those that come and go, at the end of `processes`.
    lasting: usize,
    begun: bool,
}

impl Host {
    /// `like` is a sample of a table of processes.
    pub fn new(schema: &TableSchema, like: RecordBatch, count: usize) -> Host {
        let mut host = Host {
            schema: schema.clone(),
            layout: schema.arrow(),
            keys: schema.key_arrow(),
            like,
            seed: 42,
            second: 0,
            next_pid: 300,
            processes: Vec::new(),
            lasting: count.saturating_sub(COMING),
            begun: false,
        };
        for _ in 0..count {
            host.start();
        }
        host
    }

    fn random(&mut self, below: u64) -> u64 {
        let next = self.seed.wrapping_mul(6_364_136_223_846_793_005);
        self.seed = next.wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    fn start(&mut self) {
        let like = self.random(self.like.num_rows() as u64) as u32;
        let moving = std::array::from_fn(|n| {
            let column = self.like.column_by_name(MOVING[n].0);
            let column = column.and_then(|c| c.as_primitive_opt::<Int64Type>());
            column.map_or(0, |c| c.value(like as usize))
        });
        self.processes.push(Process {
            pid: self.next_pid,
            start_ticks: 100_000 + self.second * 100,
            like,
            processor: 0,
            moving,
        });
        self.next_pid += 1;
    }

    /// Lets a second go by, and says what the process probe would hand over.
    pub fn second(&mut self) -> Result<Body, Failed> {
        if !std::mem::replace(&mut self.begun, true) {
            return Ok(Body::Full(self.rows(&(0..self.processes.len()).collect::<Vec<_>>())?));
        }
        self.second += 1;
        let coming: Vec<usize> = (self.lasting..self.processes.len()).collect();
        let gone = self.columns(&self.keys, &coming)?;
        self.processes.truncate(self.lasting);
        let mut changed = Vec::new();
        for n in 0..self.lasting {
            if n.is_multiple_of(BUSY_IN) && self.random(10) > 0 || self.random(WAKES_IN) == 0 {
                self.run(n);
                changed.push(n);
            }
        }
        for n in coming {
            self.start();
            changed.push(n);
        }
        Ok(Body::Delta {
            changed: self.rows(&changed)?,
            gone,
        })
    }

    fn run(&mut self, n: usize) {
        for (m, (name, step)) in MOVING.into_iter().enumerate() {
            let by = self.random(step as u64 + 1) as i64;
            let value = &mut self.processes[n].moving[m];
            match name {
                "utime_ns" | "stime_ns" => *value += by * TICK_NS,
                "rss_bytes" => *value = (*value + (by - step / 2) * PAGE_BYTES).max(0),
                _ => *value += by,
            }
        }
        self.processes[n].processor = self.random(2) as i32;
    }

    fn rows(&self, wanted: &[usize]) -> Result<RecordBatch, Failed> {
        self.columns(&self.layout, wanted)
    }

    fn columns(&self, layout: &SchemaRef, wanted: &[usize]) -> Result<RecordBatch, Failed> {
        let like: UInt32Array = wanted.iter().map(|n| self.processes[*n].like).collect();
        let columns = layout
            .fields()
            .iter()
            .map(|field| self.column(field.name(), wanted, &like));
        Ok(RecordBatch::try_new(
            layout.clone(),
            columns.collect::<Result<_, _>>()?,
        )?)
    }

    fn column(&self, name: &str, wanted: &[usize], like: &UInt32Array) -> Result<ArrayRef, Failed> {
        let all = wanted.iter().map(|n| &self.processes[*n]);
        if let Some(moving) = MOVING.iter().position(|(moving, _)| *moving == name) {
            return Ok(Arc::new(all.map(|p| p.moving[moving]).collect::<Int64Array>()));
        }
        let at = self.schema.columns.iter().position(|c| c.name == name);
        let captured = self.like.column(at.ok_or("a column that the table has not")?);
        Ok(match name {
            "pid" => Arc::new(all.map(|p| p.pid).collect::<Int32Array>()),
            "processor" => Arc::new(all.map(|p| p.processor).collect::<Int32Array>()),
            "start_ticks" => Arc::new(all.map(|p| p.start_ticks).collect::<Int64Array>()),
            "cmdline" => {
                let captured = captured.as_string::<i32>();
                let line = |p: &Process| {
                    let like = p.like as usize;
                    let given = captured.is_valid(like).then(|| captured.value(like));
                    given.map(|given| format!("{given} --id {}", p.pid))
                };
                Arc::new(all.map(line).collect::<StringArray>())
            }
            _ => take(captured, like, None)?,
        })
    }

    /// Rows of the picture as it stands.
    pub fn count(&self) -> usize {
        self.processes.len()
    }
}
