//! A store whose every sample follows from its number, so that any process can tell whether what it reads is what was written.

use super::*;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Rows of one sample.
const ROWS: u64 = 6;

/// The n-th picture: some rows change with each number, one comes and goes.
pub fn picture(n: u64) -> Vec<Row> {
    let row = |pid: u64| {
        let changes = if pid.is_multiple_of(2) { n } else { n / 10 };
        vec![
            Value::Int(pid.into()),
            Value::Int(7),
            Value::Text(format!("comm-{pid}")),
            Value::Int((changes * 1000 + pid).into()),
            Value::Float((n as f64 / 4.0).to_bits()),
            Value::Bool(n.is_multiple_of(3)),
            Value::Bytes(vec![(n % 251) as u8; (n % 5) as usize]),
            Value::Null,
            Value::Int(1000),
        ]
    };
    (0..ROWS)
        .filter(|pid| *pid != 5 || !n.is_multiple_of(7))
        .map(row)
        .collect()
}

pub fn events(n: u64) -> Vec<Row> {
    let event = |i: u64| {
        vec![
            Value::Int(i128::from(time(n)) + i128::from(i)),
            Value::Int((n * 10 + i).into()),
            Value::Text(format!("e{n}")),
        ]
    };
    (0..n % 3).map(event).collect()
}

pub fn time(n: u64) -> i64 {
    START + n as i64 * SECOND
}

pub struct Recorder {
    pub writer: Writer,
    pub process: TableId,
    pub exits: TableId,
    pub instance: InstanceId,
    pub next: u64,
    /// From one number to the next, and as many seconds.
    pub every: u64,
    /// It does a step of maintenance after each commit.
    pub maintains: bool,
}

impl Recorder {
    /// Goes on after the last number that is in the store.
    pub fn open(path: &Path) -> Result<Recorder, StoreError> {
        Recorder::open_with(path, &OpenOptions::default())
    }

    pub fn open_with(path: &Path, options: &OpenOptions) -> Result<Recorder, StoreError> {
        let mut writer = Writer::open(path, options, stamp(START), "boot-1")?;
        let next = match writer.state("numbered", "n")? {
            Some(bytes) => u64::from_le_bytes(bytes.try_into().unwrap()) + 1,
            None => 0,
        };
        Ok(Recorder {
            process: writer.table(&process())?,
            exits: writer.table(&exits())?,
            instance: writer.instance(&instance("numbered"))?,
            writer,
            next,
            every: 1,
            maintains: true,
        })
    }

    /// Commits the next number.
    pub fn record(&mut self) -> Result<u64, StoreError> {
        let n = self.next;
        let full = Body::Full(batch(&process().arrow(), &picture(n)));
        self.writer.push(sample(self.process, self.instance, time(n), full))?;
        let rows = Body::Events(batch(&exits().arrow(), &events(n)));
        self.writer.push(sample(self.exits, self.instance, time(n), rows))?;
        self.writer.put_state("numbered", "n", Some(&n.to_le_bytes()))?;
        self.writer.commit(stamp(time(n)))?;
        self.next += self.every;
        if self.maintains {
            self.writer.maintain(stamp(time(n)))?;
        }
        Ok(n)
    }
}

/// Reads everything and checks it against the numbers. Answers how many samples there are; they have no holes but at
/// `missing`.
pub fn verify(reader: &Reader, missing: &[u64]) -> u64 {
    let catalog = reader.catalog().unwrap();
    let Some(instance) = catalog.instances.iter().find(|i| i.info.name == "numbered") else {
        return 0;
    };
    let id = |name: &str| catalog.tables.iter().find(|t| t.schema.name == name).unwrap().id;
    let got = scan_all(reader, everything(id("process"), vec![instance.id]));
    let mut at = 0;
    let mut n = 0;
    while at < got.len() {
        while missing.contains(&n) {
            n += 1;
        }
        let want: Vec<Row> = picture(n)
            .into_iter()
            .map(|row| {
                let mut full = vec![Value::Int(time(n).into()), Value::Text("numbered".into())];
                full.extend(row);
                full
            })
            .collect();
        let mut sample = got[at..(at + want.len()).min(got.len())].to_vec();
        sample.sort();
        assert_eq!(sample, want, "sample {n}");
        at += want.len();
        n += 1;
    }
    // A later reading may have more; the same reading has the events of its own samples at least.
    let exits = scan_all(reader, everything(id("process_exit"), vec![instance.id]));
    let want: Vec<Row> = (0..n).filter(|n| !missing.contains(n)).flat_map(events).collect();
    assert!(exits.len() >= want.len());
    for (got, want) in exits.iter().zip(&want) {
        assert_eq!((&got[0], &got[2], &got[3]), (&want[0], &want[1], &want[2]));
    }
    if n > 0 {
        let last = reader
            .as_of(id("process"), instance.id, time(n - 1), None)
            .unwrap()
            .unwrap();
        assert_eq!(
            (last.time_ns, last.rows.num_rows()),
            (time(n - 1), picture(n - 1).len())
        );
    }
    n
}

pub const KEEP: i64 = 3 * 3600 * SECOND;
pub const THIN_AFTER: i64 = 600 * SECOND;

/// Of what is older than [`THIN_AFTER`] one sample a minute stays, and nothing past [`KEEP`].
pub fn rules() -> Retention {
    Retention {
        all: Rules {
            keep_ns: Some(KEEP as u64),
            max_bytes: None,
            thin: Some(vec![Thin {
                after_ns: THIN_AFTER as u64,
                every_ns: MINUTE as u64,
            }]),
        },
        ..Retention::default()
    }
}

/// Numbers of all samples, each checked to be the right picture; they rise. For stores that are thinned.
pub fn pictures(reader: &Reader) -> Vec<i64> {
    let catalog = reader.catalog().unwrap();
    let table = catalog.tables.iter().find(|t| t.schema.name == "process").unwrap();
    let got = scan_all(reader, everything(table.id, vec![catalog.instances[0].id]));
    let mut numbers = Vec::new();
    for sample in got.chunk_by(|a, b| a[0] == b[0]) {
        let Value::Int(ns) = sample[0][0] else {
            panic!("no time")
        };
        let n = (i64::try_from(ns).unwrap() - START) / SECOND;
        let mut rows: Vec<_> = sample.iter().map(|r| r[2..].to_vec()).collect();
        rows.sort();
        assert_eq!(rows, picture(n as u64), "{n}");
        numbers.push(n);
    }
    assert!(numbers.is_sorted_by(|a, b| a < b));
    numbers
}

/// This test binary again, to run the one test `child` with the store in its environment.
pub fn child(test: &str, store: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env("VWATCH_STORE_OF_CHILD", store)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// In the child: the store, when this is one.
pub fn store_of_child() -> Option<PathBuf> {
    std::env::var_os("VWATCH_STORE_OF_CHILD").map(PathBuf::from)
}
