//! What the store costs: bytes and time a row, and the picture at a time, beside a plain row-wise log of the same rows.
//!
//! `store_bench [PROCESSES] [MINUTES]`: a table of processes, one sample a second, a fifteenth of the rows changing each
//! second and some processes ending and starting, as measured on a busy host. Times are CPU time of this process
//! (`CLOCK_PROCESS_CPUTIME_ID`); the file lies in the temporary directory. One line per figure: name, value, unit.

use arrow_array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use vwatch_model::time::Stamp;
use vwatch_model::{Access, Column, ColumnType, TableKind, TableSchema};
use vwatch_store::*;

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_699_999_980 * SECOND;
const COUNTERS: usize = 32;
const ROUNDS: usize = 200;

type Failed = Box<dyn Error>;

struct Process {
    pid: i32,
    comm: String,
    counters: [i64; COUNTERS],
    load: f64,
}

/// A host whose processes do something now and then. Pseudo-random, the same each time.
struct Host {
    seed: u64,
    next_pid: i32,
    processes: Vec<Process>,
}

impl Host {
    fn new(count: usize) -> Host {
        let mut host = Host {
            seed: 42,
            next_pid: 1,
            processes: Vec::new(),
        };
        while host.processes.len() < count {
            host.start();
        }
        host
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    fn start(&mut self) {
        let pid = self.next_pid;
        self.next_pid += 1;
        let mut counters = [0; COUNTERS];
        for counter in &mut counters {
            *counter = self.random(1 << 24) as i64;
        }
        self.processes.push(Process {
            pid,
            comm: format!("worker-{}", pid % 40),
            counters,
            load: 0.0,
        });
    }

    fn second(&mut self) {
        for i in 0..self.processes.len() {
            if self.random(15) == 0 {
                for n in 0..8 {
                    let grown = self.random(5_000) as i64;
                    self.processes[i].counters[n] += grown;
                }
                self.processes[i].load = self.random(1000) as f64 / 1000.0;
            }
        }
        let ended = self.random(self.processes.len() as u64) as usize;
        self.processes.remove(ended);
        self.start();
    }

    fn batch(&self, schema: &TableSchema) -> Result<RecordBatch, Failed> {
        let all = &self.processes;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(all.iter().map(|p| p.pid).collect::<Int32Array>()),
            Arc::new(StringArray::from_iter_values(all.iter().map(|p| &p.comm))),
            Arc::new(all.iter().map(|p| p.load).collect::<Float64Array>()),
        ];
        for n in 0..COUNTERS {
            columns.push(Arc::new(all.iter().map(|p| p.counters[n]).collect::<Int64Array>()));
        }
        Ok(RecordBatch::try_new(schema.arrow(), columns)?)
    }
}

fn schema() -> TableSchema {
    let mut columns = vec![
        Column::new("pid", ColumnType::I32, "Process.").key(),
        Column::new("comm", ColumnType::String, "Name."),
        Column::new("load", ColumnType::F64, "Load."),
    ];
    columns.extend((0..COUNTERS).map(|n| Column::new(&format!("counter_{n}"), ColumnType::I64, "A counter.")));
    TableSchema {
        name: "process".into(),
        kind: TableKind::State,
        doc: "Processes.".into(),
        access: Access::All,
        columns,
    }
}

/// The baseline: changed rows one after the other, a minute's worth compressed by zstd level 1, its first sample whole.
#[derive(Default)]
struct RowLog {
    last: HashMap<i32, Vec<u8>>,
    minute: Vec<u8>,
    minutes: Vec<Vec<u8>>,
}

impl RowLog {
    fn sample(&mut self, second: usize, host: &Host) -> Result<(), Failed> {
        if second.is_multiple_of(60) {
            self.seal()?;
            self.last.clear();
        }
        let mut alive = HashMap::with_capacity(host.processes.len());
        for process in &host.processes {
            let mut row = process.pid.to_le_bytes().to_vec();
            row.push(process.comm.len() as u8);
            row.extend_from_slice(process.comm.as_bytes());
            row.extend_from_slice(&process.load.to_le_bytes());
            row.extend(process.counters.iter().flat_map(|c| c.to_le_bytes()));
            if self.last.get(&process.pid) != Some(&row) {
                self.put(second, 1, &row);
            }
            alive.insert(process.pid, row);
        }
        let gone: Vec<i32> = self
            .last
            .keys()
            .filter(|pid| !alive.contains_key(*pid))
            .copied()
            .collect();
        for pid in gone {
            self.put(second, 0, &pid.to_le_bytes());
        }
        self.last = alive;
        Ok(())
    }

    fn put(&mut self, second: usize, kind: u8, row: &[u8]) {
        self.minute.extend_from_slice(&[(second % 60) as u8, kind]);
        self.minute.extend_from_slice(&(row.len() as u16).to_le_bytes());
        self.minute.extend_from_slice(row);
    }

    fn seal(&mut self) -> Result<(), Failed> {
        if !self.minute.is_empty() {
            self.minutes.push(zstd::bulk::compress(&self.minute, 1)?);
            self.minute.clear();
        }
        Ok(())
    }

    /// Rows of the picture in one second.
    fn as_of(&self, second: usize) -> Result<usize, Failed> {
        let raw = zstd::bulk::decompress(&self.minutes[second / 60], 1 << 28)?;
        let mut picture: HashMap<i32, (String, f64, Vec<i64>)> = HashMap::new();
        let mut rest = &raw[..];
        while rest.len() >= 4 && usize::from(rest[0]) <= second % 60 {
            let (kind, length) = (rest[1], usize::from(u16::from_le_bytes([rest[2], rest[3]])));
            let row = &rest[4..4 + length];
            let pid = i32::from_le_bytes(row[..4].try_into()?);
            if kind == 0 {
                picture.remove(&pid);
            } else {
                let name_end = 5 + usize::from(row[4]);
                let comm = String::from_utf8_lossy(&row[5..name_end]).into_owned();
                let load = f64::from_le_bytes(row[name_end..name_end + 8].try_into()?);
                let counter = |c: &[u8]| i64::from_le_bytes([c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]]);
                let counters = row[name_end + 8..].chunks_exact(8).map(counter).collect();
                picture.insert(pid, (comm, load, counters));
            }
            rest = &rest[4 + length..];
        }
        Ok(picture.len())
    }
}

fn cpu_us() -> Result<f64, Failed> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 * 1e6 + time.tv_nsec() as f64 / 1e3)
}

fn stamp(second: usize) -> Stamp {
    Stamp {
        wall_ns: START + second as i64 * SECOND,
        boot_ns: second as i64 * SECOND,
    }
}

fn line(name: &str, value: f64, unit: &str) {
    println!("{name:<34}{value:>12.3} {unit}");
}

fn main() -> Result<(), Failed> {
    let argument = |n: usize, default: usize| std::env::args().nth(n).map_or(Ok(default), |a| a.parse());
    let (processes, minutes) = (argument(1, 1000)?, argument(2, 5)?.max(1));
    let directory = std::env::temp_dir().join(format!("store_bench-{}", std::process::id()));
    std::fs::create_dir(&directory)?;
    let result = bench(&directory.join("store.db"), processes, minutes);
    std::fs::remove_dir_all(&directory)?;
    result
}

fn bench(path: &std::path::Path, processes: usize, minutes: usize) -> Result<(), Failed> {
    let seconds = minutes * 60;
    let mut log = RowLog::default();
    let mut writer = Writer::open(path, &OpenOptions::default(), stamp(0), "bench")?;
    let series = record(path, &mut writer, &mut log, processes, seconds)?;
    let reader = Reader::open(path, ReadMode::Live)?;
    // The last minute stays in the head.
    let in_head = seconds - 60;
    let as_of = |from: usize, span: usize, columns: Option<&[String]>| {
        timed(|round| {
            let at = stamp(from + round * 37 % span).wall_ns;
            let picture = reader.as_of(series.0, series.1, at, columns)?.ok_or("no picture")?;
            assert_eq!(picture.rows.num_rows(), processes);
            Ok(())
        })
    };
    if in_head > 0 {
        line("AS OF in a block", as_of(0, in_head, None)?, "ms CPU");
        let some = ["pid".to_owned(), "comm".to_owned(), "counter_3".to_owned()];
        line("AS OF in a block, 3 columns", as_of(0, in_head, Some(&some))?, "ms CPU");
    }
    line("AS OF in the head", as_of(in_head, 60, None)?, "ms CPU");
    let row_wise = timed(|round| {
        assert_eq!(log.as_of(round * 37 % seconds)?, processes);
        Ok(())
    })?;
    line("AS OF in the row-wise log", row_wise, "ms CPU");
    let before = cpu_us()?;
    let request = ScanRequest {
        table: series.0,
        instances: vec![series.1],
        from_ns: i64::MIN,
        to_ns: i64::MAX,
        columns: None,
        conditions: Vec::new(),
    };
    let count = |n: usize, batch: Result<RecordBatch, StoreError>| Ok::<_, Failed>(n + batch?.num_rows());
    let scanned = reader.scan(request)?.try_fold(0, count)?;
    assert_eq!(scanned, processes * seconds);
    line(
        "scan of all columns",
        (cpu_us()? - before) / scanned as f64,
        "us/row CPU",
    );
    writer.close(stamp(seconds))?;
    Ok(())
}

/// Records the host into the store and into the log, and prints what each cost.
fn record(
    path: &std::path::Path,
    writer: &mut Writer,
    log: &mut RowLog,
    processes: usize,
    seconds: usize,
) -> Result<(TableId, InstanceId), Failed> {
    let schema = schema();
    let mut host = Host::new(processes);
    let table = writer.table(&schema)?;
    let instance = writer.instance(&InstanceInfo {
        name: "process.process".into(),
        probe: "process.process".into(),
        default: true,
    })?;
    let (mut store_us, mut log_us, mut head_bytes) = (0.0, 0.0, 0);
    let (mut upkeep_us, mut longest_us): (f64, f64) = (0.0, 0.0);
    for second in 0..seconds {
        host.second();
        let batch = host.batch(&schema)?;
        let before = cpu_us()?;
        writer.push(Sample {
            table,
            instance,
            time_ns: stamp(second).wall_ns,
            boot_ns: stamp(second).boot_ns,
            interval_ns: SECOND as u64,
            body: Body::Full(batch),
        })?;
        head_bytes += writer.commit(stamp(second))?.head_bytes;
        let committed = cpu_us()?;
        writer.maintain(stamp(second))?;
        let between = cpu_us()?;
        upkeep_us += between - committed;
        longest_us = longest_us.max(between - committed);
        log.sample(second, &host)?;
        (store_us, log_us) = (store_us + between - before, log_us + cpu_us()? - between);
    }
    log.seal()?;
    let rows = (processes * seconds) as f64;
    let sealed = (processes * (seconds - 60)).max(1) as f64;
    line("blocks", writer.stats().block_bytes as f64 / sealed, "bytes/row");
    line("head", head_bytes as f64 / rows, "bytes/row");
    let log_bytes: usize = log.minutes.iter().map(Vec::len).sum();
    line("row-wise log", log_bytes as f64 / rows, "bytes/row");
    let storage = Reader::open(path, ReadMode::Live)?.storage()?;
    let kept: u64 = storage.iter().map(|t| t.bytes).sum();
    line("blocks, put together", kept as f64 / sealed, "bytes/row");
    line("maintenance", upkeep_us / seconds as f64 / 1e3, "ms/s CPU");
    line("longest step of it", longest_us / 1e3, "ms CPU");
    line("encode, commit, seal, maintain", store_us / rows, "us/row CPU");
    line(
        "encode, commit, seal, maintain",
        store_us / seconds as f64 / 1e3,
        "ms/sample CPU",
    );
    line("row-wise log, without a disk", log_us / rows, "us/row CPU");
    Ok((table, instance))
}

/// CPU time of one round, in ms.
fn timed(mut round: impl FnMut(usize) -> Result<(), Failed>) -> Result<f64, Failed> {
    let before = cpu_us()?;
    for n in 0..ROUNDS {
        round(n)?;
    }
    Ok((cpu_us()? - before) / ROUNDS as f64 / 1e3)
}
