//! Reading what was recorded: pictures at a time and scans, each checked against what was put in.

use crate::cost;
use crate::figure::Figures;
use crate::record::Recording;
use crate::{Failed, below};
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use std::collections::BTreeSet;
use vwatch_store::{Condition, Reader, Scalar, ScanRequest, Test};

const ROUNDS: usize = 60;
const SOME: [&str; 3] = ["pid", "rss_bytes", "utime_ns"];
const AS_OF_MS: f64 = 2.0;
/// Cost of a filter that selects a hundredth, in percent of the whole scan's.
const HUNDREDTH: f64 = 5.0;

pub struct Reading<'a> {
    pub recording: &'a Recording,
    pub reader: Reader,
    pub log: Option<(&'a below::Log, below::Fields)>,
    /// Goals are of a store as large as the goals are about.
    pub goals: bool,
}

fn some() -> Vec<String> {
    SOME.map(str::to_owned).to_vec()
}

impl Reading<'_> {
    pub fn figures(&self, figures: &mut Figures) -> Result<(), Failed> {
        let samples = &self.recording.samples;
        let head_from = self.recording.head_from_ns();
        let sealed = samples.partition_point(|s| s.0 < head_from);
        let row_wise = self.log_as_of_ms()?;
        let tenth = (sealed / 10).max(1);
        let places = [
            ("start", 0..tenth),
            ("middle", sealed / 2..sealed / 2 + tenth),
            ("end", sealed.saturating_sub(tenth)..sealed),
            ("head", sealed..samples.len()),
        ];
        for (columns, words) in [(None, "all columns"), (Some(some()), "3 columns")] {
            for (place, range) in &places {
                let range = range.start.min(samples.len())..range.end.min(samples.len());
                if range.is_empty() {
                    continue;
                }
                let ms = self.as_of_ms(&samples[range], columns.as_deref())?;
                let figure = figures.lower(&format!("AS OF, {words}, {place}"), ms, "ms CPU");
                figure.goal_if(self.goals && columns.is_none(), AS_OF_MS, None);
                row_wise.map(|ms| figure.baseline(ms));
            }
        }
        self.scans(figures)
    }

    /// CPU time of a picture at a random time, in ms.
    fn as_of_ms(&self, samples: &[(i64, usize)], columns: Option<&[String]>) -> Result<f64, Failed> {
        let (table, instance) = (self.recording.table, self.recording.instance);
        let (result, cost) = cost::of(|| {
            for round in 0..ROUNDS {
                let (time_ns, rows) = samples[round * 37 % samples.len()];
                let picture = self
                    .reader
                    .as_of(table, instance, time_ns, columns)?
                    .ok_or("no picture")?;
                let found = picture.rows.num_rows();
                if (picture.time_ns, found) != (time_ns, rows) {
                    return Err(format!("{found} rows at {time_ns}, where {rows} were recorded").into());
                }
            }
            Ok::<_, Failed>(())
        });
        result?;
        Ok(cost.cpu_ns / ROUNDS as f64 / 1e6)
    }

    fn log_as_of_ms(&self) -> Result<Option<f64>, Failed> {
        let Some((log, fields)) = &self.log else {
            return Ok(None);
        };
        let rounds = 16;
        let (result, cost) = cost::of(|| {
            for round in 0..rounds {
                log.frame(round * 37 % log.frames(), fields)?;
            }
            Ok::<_, Failed>(())
        });
        result?;
        Ok(Some(cost.cpu_ns / rounds as f64 / 1e6))
    }

    fn log_scan_ns(&self) -> Result<Option<f64>, Failed> {
        let Some((log, fields)) = &self.log else {
            return Ok(None);
        };
        let chunks = log.chunks().min(4);
        let (rows, cost) = cost::of(|| (0..chunks).map(|n| log.chunk(n, fields)).sum::<Result<usize, Failed>>());
        Ok(Some(cost.cpu_ns / rows? as f64))
    }

    fn scans(&self, figures: &mut Figures) -> Result<(), Failed> {
        let row_wise = self.log_scan_ns()?;
        let all = self.request(None);
        let three = self.request(Some(some()));
        for (words, request) in [("all columns", &all), ("3 columns", &three)] {
            let (rows, ns) = self.scan(request)?;
            if rows != self.recording.rows {
                return Err(format!("{rows} rows read, {} recorded", self.recording.rows).into());
            }
            let figure = figures.higher(&format!("scan, {words}"), rows as f64 / ns * 1e3, "M rows/s CPU");
            row_wise.map(|ns| figure.baseline(1e3 / ns));
        }
        let filters = [("pid", self.of_pids(&three)?), ("time", self.of_times(&three))];
        let (_, whole) = self.scan(&three)?;
        for (words, (request, selected)) in filters {
            let (rows, ns) = self.scan(&request)?;
            if rows < selected {
                return Err(format!("{rows} rows read by {words}, {selected} recorded").into());
            }
            let share = 100.0 * selected as f64 / self.recording.rows as f64;
            let name = format!("scan of {share:.1} % by {words}");
            let figure = figures.lower(&name, 100.0 * ns / whole, "% of the whole scan's CPU");
            figure.goal_if(self.goals, HUNDREDTH, None);
        }
        Ok(())
    }

    fn request(&self, columns: Option<Vec<String>>) -> ScanRequest {
        ScanRequest {
            table: self.recording.table,
            instances: vec![self.recording.instance],
            from_ns: i64::MIN,
            to_ns: i64::MAX,
            columns,
            conditions: Vec::new(),
        }
    }

    /// Rows that came, and CPU time of the cheaper of two rounds in ns.
    fn scan(&self, request: &ScanRequest) -> Result<(u64, f64), Failed> {
        let mut best = (0, f64::INFINITY);
        for _ in 0..2 {
            let (rows, cost) = cost::of(|| {
                let count = |n: u64, batch: Result<RecordBatch, _>| Ok::<_, Failed>(n + batch?.num_rows() as u64);
                self.reader.scan(request.clone())?.try_fold(0, count)
            });
            best = (rows?, best.1.min(cost.cpu_ns));
        }
        Ok(best)
    }

    /// One process in a hundred of those that live in the middle, spread over all of them; and how many rows they have.
    fn of_pids(&self, of: &ScanRequest) -> Result<(ScanRequest, u64), Failed> {
        let samples = &self.recording.samples;
        let (table, instance) = (self.recording.table, self.recording.instance);
        let middle = self.reader.as_of(table, instance, samples[samples.len() / 2].0, None)?;
        let rows = middle.ok_or("no picture")?.rows;
        let pids = pids(&rows)?;
        let chosen: BTreeSet<i32> = pids.iter().skip(pids.len() / 200).step_by(100).copied().collect();
        let mut selected = 0;
        for batch in self.reader.scan(of.clone())? {
            let batch = batch?;
            selected += self::pids(&batch)?.iter().filter(|pid| chosen.contains(pid)).count() as u64;
        }
        let mut request = of.clone();
        request.conditions.push(Condition {
            column: "pid".to_owned(),
            test: Test::In(chosen.into_iter().map(|pid| Scalar::I64(i64::from(pid))).collect()),
        });
        Ok((request, selected))
    }

    /// A hundredth of the time, in the middle, and how many rows it has.
    fn of_times(&self, of: &ScanRequest) -> (ScanRequest, u64) {
        let samples = &self.recording.samples;
        let from = samples.len() / 2;
        let wanted = &samples[from..from + samples.len().div_ceil(100)];
        let request = ScanRequest {
            from_ns: wanted[0].0,
            to_ns: wanted[wanted.len() - 1].0,
            ..of.clone()
        };
        (request, wanted.iter().map(|s| s.1 as u64).sum())
    }
}

fn pids(rows: &RecordBatch) -> Result<&[i32], Failed> {
    let column = rows
        .column_by_name("pid")
        .and_then(|c| c.as_primitive_opt::<Int32Type>());
    Ok(column.ok_or("no column pid")?.values())
}
