//! A burst of events, as a tracer of system calls makes it: a million rows a second, twelve columns.

use crate::Failed;
use crate::cost::{self, Cost};
use crate::figure::Figures;
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use std::path::Path;
use std::sync::Arc;
use vwatch_model::table::STORED_ZONE;
use vwatch_model::time::Stamp;
use vwatch_model::{Access, Column, ColumnType, TableKind, TableSchema};
use vwatch_store::{Body, InstanceInfo, OpenOptions, Sample, Writer};

const SECOND_NS: i64 = 1_000_000_000;
const START_NS: i64 = 1_700_000_040 * SECOND_NS;
const SECONDS: i64 = 3;
const A_SECOND: usize = 1_000_000;
/// Rows that a tracer hands over at a time.
const BATCH: usize = 50_000;
const CALLS: [&str; 12] = [
    "read",
    "write",
    "futex",
    "epoll_wait",
    "openat",
    "close",
    "mmap",
    "recvfrom",
    "sendto",
    "fstat",
    "ioctl",
    "newfstatat",
];

fn schema() -> TableSchema {
    let of = |name: &str, kind| Column::new(name, kind, "As of a system call.");
    let words = ["comm", "name"].map(|name| of(name, ColumnType::String));
    let numbers = ["arg0", "arg1", "arg2", "arg3", "result", "duration_ns"].map(|name| of(name, ColumnType::I64));
    let mut columns = vec![
        of("time", ColumnType::Timestamp),
        of("pid", ColumnType::I32),
        of("tid", ColumnType::I32),
    ];
    columns.extend(words);
    columns.extend(numbers);
    columns.push(of("error", ColumnType::String).nullable());
    TableSchema {
        name: "syscall".into(),
        kind: TableKind::Event,
        doc: "System calls.".into(),
        access: Access::All,
        columns,
    }
}

/// A number that tells nothing of its neighbours' (the finaliser of splitmix64).
fn mixed(n: usize) -> u64 {
    let mut z = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The calls of a dozen threads from row `from` on.
fn batch(schema: &TableSchema, from: usize) -> Result<RecordBatch, Failed> {
    let rows = from..from + BATCH;
    let call = |n: usize| (mixed(n) % 17).min(mixed(n) % 12) as usize % CALLS.len();
    let thread = |n: usize| (mixed(n / 40) % 12) as i32;
    let failed = |n: usize| mixed(n) % 50 == 7;
    let number = |f: &dyn Fn(usize) -> i64| Arc::new(rows.clone().map(f).collect::<Int64Array>()) as ArrayRef;
    let error = |n: usize| failed(n).then_some("EAGAIN");
    let start = START_NS + (from / A_SECOND) as i64 * SECOND_NS;
    let time = |n: usize| start + (n % A_SECOND) as i64 * 1000 + (mixed(n) % 900) as i64;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampNanosecondArray::from_iter_values(rows.clone().map(time)).with_timezone(STORED_ZONE)),
        Arc::new(rows.clone().map(|n| 4000 + thread(n) / 4).collect::<Int32Array>()),
        Arc::new(rows.clone().map(|n| 4100 + thread(n)).collect::<Int32Array>()),
        Arc::new(StringArray::from_iter_values(
            rows.clone()
                .map(|n| ["nginx", "postgres", "java"][thread(n) as usize / 4]),
        )),
        Arc::new(StringArray::from_iter_values(rows.clone().map(|n| CALLS[call(n)]))),
        number(&|n| (mixed(n / 7) % 64) as i64),
        number(&|n| 0x7f00_0000_0000 + (mixed(n / 11) % 4096) as i64 * 64),
        number(&|n| 1 << (mixed(n) % 14)),
        number(&|_| 0),
        number(&|n| if failed(n) { -11 } else { (mixed(n) % 4096) as i64 }),
        number(&|n| 300 + (mixed(n) % 5000) as i64),
        Arc::new(rows.clone().map(error).collect::<StringArray>()),
    ];
    Ok(RecordBatch::try_new(schema.arrow(), columns)?)
}

/// Records the burst into a store of its own, up to the sealing of its minute.
pub fn figures(path: &Path) -> Result<Figures, Failed> {
    let schema = schema();
    let stamp = |ns: i64| Stamp {
        wall_ns: ns,
        boot_ns: ns - START_NS + SECOND_NS,
    };
    let mut writer = Writer::open(path, &OpenOptions::default(), stamp(START_NS), "bench")?;
    let table = writer.table(&schema)?;
    let instance = writer.instance(&InstanceInfo {
        name: "trace".into(),
        probe: "ptrace-tracer.syscall".into(),
        default: true,
    })?;
    let mut spent = Cost::default();
    let mut longest: f64 = 0.0;
    for second in 0..SECONDS {
        let mut of_second = Cost::default();
        for part in 0..A_SECOND / BATCH {
            let rows = batch(&schema, second as usize * A_SECOND + part * BATCH)?;
            let time_ns = START_NS + second * SECOND_NS;
            let (pushed, cost) = cost::of(|| {
                writer.push(Sample {
                    table,
                    instance,
                    time_ns,
                    boot_ns: stamp(time_ns).boot_ns,
                    interval_ns: 0,
                    body: Body::Events(rows),
                })
            });
            pushed?;
            of_second.add(cost);
        }
        let (committed, cost) = cost::of(|| writer.commit(stamp(START_NS + (second + 1) * SECOND_NS)));
        committed?;
        of_second.add(cost);
        longest = longest.max(of_second.wall_ns);
        spent.add(of_second);
    }
    let (sealed, sealing) = cost::of(|| writer.commit(stamp(START_NS + 61 * SECOND_NS)));
    sealed?;
    let rows = SECONDS as f64 * A_SECOND as f64;
    let block_bytes = writer.stats().block_bytes as f64;
    writer.close(stamp(START_NS + 62 * SECOND_NS))?;
    let mut figures = Figures::new(
        format!("event bursts: {SECONDS} s of 1,000,000 rows a second, 12 columns"),
        "",
    );
    figures.lower("push and commit", spent.cpu_ns / rows, "ns CPU a row");
    figures.lower("seal", sealing.cpu_ns / rows, "ns CPU a row");
    figures.lower("sealing of all, wall", sealing.wall_ns / 1e6, "ms");
    figures
        .lower("slowest second, wall", longest / 1e6, "ms")
        .goal(1000.0, None);
    figures.lower("blocks", block_bytes / rows, "bytes a row");
    Ok(figures)
}
