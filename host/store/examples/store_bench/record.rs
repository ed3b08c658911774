//! Recording: what the writer costs, sample by sample, and what the file comes to.

use crate::Failed;
use crate::cost::{self, Cost};
use std::path::Path;
use vwatch_model::TableSchema;
use vwatch_model::time::Stamp;
use vwatch_store::{Body, InstanceId, InstanceInfo, OpenOptions, Sample, TableId, Writer};

const SECOND_NS: u64 = 1_000_000_000;
/// The daemon commits a few milliseconds after it has read.
const COMMIT_AFTER_NS: i64 = 5_000_000;
const UP_NS: i64 = 3_600_000_000_000;

/// A store being recorded, and what it has cost so far.
pub struct Recording {
    pub writer: Writer,
    pub table: TableId,
    pub instance: InstanceId,
    first_ns: Option<i64>,
    last_ns: i64,
    pub rows: u64,
    /// Times of the samples, and the rows of each picture.
    pub samples: Vec<(i64, usize)>,
    pub cost: Cost,
    /// The part of it that merged blocks, and its dearest step.
    pub upkeep: Cost,
    pub longest_step: Cost,
    pub head_bytes: u64,
    /// The dearest commit by wall time, and by CPU time.
    pub longest: Cost,
    /// CPU time of each commit.
    commits: Vec<f64>,
}

impl Recording {
    pub fn begin(path: &Path, schema: &TableSchema, start_ns: i64) -> Result<Recording, Failed> {
        let now = Stamp {
            wall_ns: start_ns,
            boot_ns: UP_NS,
        };
        let mut writer = Writer::open(path, &OpenOptions::default(), now, "bench")?;
        let table = writer.table(schema)?;
        let probe = format!("{0}.{0}", schema.name);
        let instance = writer.instance(&InstanceInfo {
            name: probe.clone(),
            probe,
            default: true,
        })?;
        Ok(Recording {
            writer,
            table,
            instance,
            first_ns: None,
            last_ns: start_ns,
            rows: 0,
            samples: Vec::new(),
            cost: Cost::default(),
            upkeep: Cost::default(),
            longest_step: Cost::default(),
            head_bytes: 0,
            longest: Cost::default(),
            commits: Vec::new(),
        })
    }

    fn stamp(&self, wall_ns: i64) -> Stamp {
        Stamp {
            wall_ns,
            boot_ns: UP_NS + wall_ns - self.first_ns.unwrap_or(wall_ns),
        }
    }

    /// One sample, its commit, and a step of maintenance, as the daemon does them. `rows` is how many the picture has then.
    pub fn sample(&mut self, time_ns: i64, rows: usize, body: Body) -> Result<(), Failed> {
        self.first_ns.get_or_insert(time_ns);
        self.last_ns = time_ns;
        let sample = Sample {
            table: self.table,
            instance: self.instance,
            time_ns,
            boot_ns: self.stamp(time_ns).boot_ns,
            interval_ns: SECOND_NS,
            body,
        };
        let commit = self.stamp(time_ns + COMMIT_AFTER_NS);
        let (committed, cost) = cost::of(|| {
            self.writer.push(sample)?;
            self.writer.commit(commit)
        });
        self.head_bytes += committed?.head_bytes;
        self.rows += rows as u64;
        self.samples.push((time_ns, rows));
        self.cost.add(cost);
        let (maintained, upkeep) = cost::of(|| self.writer.maintain(commit));
        maintained?;
        self.cost.add(upkeep);
        self.upkeep.add(upkeep);
        self.longest_step.cpu_ns = self.longest_step.cpu_ns.max(upkeep.cpu_ns);
        self.longest_step.wall_ns = self.longest_step.wall_ns.max(upkeep.wall_ns);
        self.commits.push(cost.cpu_ns);
        self.longest.cpu_ns = self.longest.cpu_ns.max(cost.cpu_ns);
        self.longest.wall_ns = self.longest.wall_ns.max(cost.wall_ns);
        Ok(())
    }

    /// CPU time of the commit in the middle.
    pub fn usual_cpu_ns(&self) -> f64 {
        let mut sorted = self.commits.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    }

    /// When the minute that is not sealed yet began.
    pub fn head_from_ns(&self) -> i64 {
        const MINUTE_NS: i64 = 60 * SECOND_NS as i64;
        self.last_ns.div_euclid(MINUTE_NS) * MINUTE_NS
    }

    /// Ends the recording as the daemon's stop does.
    pub fn close(self) -> Result<(), Failed> {
        let end = self.stamp(self.last_ns + SECOND_NS as i64);
        Ok(self.writer.close(end)?)
    }
}
