//! Maintenance: what the writer does to blocks between two commits, in small steps.
//!
//! Each [`Writer::maintain`] does at most one kind of work in one transaction: deleting what the rules no longer keep, else
//! putting neighbouring blocks together, else thinning. A transaction is bounded by the values that it decodes, so the longest
//! step is that of one group of blocks, whatever the size of the store. What it remembers is in memory only: after a restart it
//! looks again at the last hours, and at headers for what is thinned.

use crate::contents;
use crate::draft::Draft;
use crate::env::Dbs;
use crate::error::Result;
use crate::merge;
use crate::retention::{Maintained, SeriesKey, Thin, Work};
use crate::rewrite::{self, Batch, Part, Stored};
use crate::schema::Table;
use crate::thin;
use crate::window::{self, Limits};
use crate::writer::{MINUTE_NS, Writer};
use lmdb::Transaction;
use std::collections::BTreeMap;
use vwatch_model::time::Stamp;

const HOUR_NS: i64 = 60 * MINUTE_NS;

/// Blocks that begin in a window of this length are put together once it is over, while they are small.
struct Span {
    ns: i64,
    /// Bytes of the parts: of state tables and of events.
    bytes: [u64; 2],
    /// How far back a writer that has just opened the store looks.
    back_ns: i64,
}

const SPANS: [Span; 3] = [
    Span {
        ns: 5 * MINUTE_NS,
        bytes: [8 << 20, 256 << 10],
        back_ns: 2 * HOUR_NS,
    },
    Span {
        ns: HOUR_NS,
        bytes: [64 << 10, 256 << 10],
        back_ns: 6 * HOUR_NS,
    },
    Span {
        ns: 24 * HOUR_NS,
        bytes: [64 << 10, 64 << 10],
        back_ns: 48 * HOUR_NS,
    },
];
/// Samples and rows of a state block that others were put into: what AS OF decodes.
const SAMPLES: usize = 600;
const ROWS: u64 = 20_000;
const EVENT_ROWS: u64 = 100_000;
/// After a window's end, its last minute is sealed.
const GRACE_NS: i64 = 5_000_000_000;
/// A window of thinning has so many samples.
const THINNED_SAMPLES: i64 = 360;
/// Values that one step decodes, unless one group alone has more.
const VALUES: u64 = 400_000;
/// Headers that one step reads.
const HEADERS: usize = 256;
/// A clock that jumped is not believed for so long, and the jump it takes.
const JUMP_NS: i64 = MINUTE_NS;
const STEADY_NS: i64 = 10 * MINUTE_NS;

/// What the writer remembers between two steps.
#[derive(Debug, Default)]
pub(crate) struct Maintenance {
    /// Wall clock minus boottime clock, and since when on the latter.
    clock: Option<(i64, i64)>,
    /// The last commit found no space.
    pub starved: bool,
    steps: u64,
}

/// Blocks that become one.
struct Job {
    series: SeriesKey,
    parts: Vec<Part>,
    stored: Vec<Stored>,
    every_ns: Option<u64>,
}

/// What one step takes on, and which windows are done with it.
#[derive(Default)]
struct Plan {
    jobs: Vec<Job>,
    done: Vec<(SeriesKey, Done)>,
    values: u64,
    headers: usize,
}

/// A cursor to move on.
enum Done {
    Merge { span: usize, from_ns: i64 },
    Thin { every_ns: u64, from_ns: i64 },
    ThinWait { until_ns: i64 },
}

impl Plan {
    fn full(&self) -> bool {
        self.values >= VALUES || self.headers >= HEADERS
    }
}

impl Writer {
    /// Does one small step of what keeps the store small: to be called after a commit.
    ///
    /// # Errors
    /// The transaction's; the store is as it was then, and the next call tries again.
    pub fn maintain(&mut self, now: Stamp) -> Result<Maintained> {
        self.usable()?;
        let aged = self.maintenance.steady(now);
        let starved = std::mem::take(&mut self.maintenance.starved);
        let result = self.step(now.wall_ns, aged, starved);
        match &result {
            Ok(done) => self.stats.count(done),
            // No variant of ours leaves LMDB's own state in doubt; any of LMDB's may.
            Err(_) => self.reopen = true,
        }
        result
    }

    fn step(&mut self, now_ns: i64, aged: bool, starved: bool) -> Result<Maintained> {
        let expired = self.expire(now_ns, aged, starved)?;
        if expired.work.is_some() {
            return Ok(expired);
        }
        self.maintenance.steps += 1;
        let merge_first = !self.maintenance.steps.is_multiple_of(4);
        let order = if merge_first {
            [Work::Merge, Work::Thin]
        } else {
            [Work::Thin, Work::Merge]
        };
        for work in order {
            let plan = match work {
                Work::Thin if aged => self.plan_thin(now_ns)?,
                Work::Merge => self.plan_merge(now_ns)?,
                Work::Thin | Work::Expire => Plan::default(),
            };
            let done = self.carry_out(work, plan)?;
            if done.work.is_some() {
                return Ok(done);
            }
        }
        Ok(Maintained::default())
    }

    fn carry_out(&mut self, work: Work, plan: Plan) -> Result<Maintained> {
        let mut batch = Batch::default();
        for job in plan.jobs {
            let Some(table) = self.tables.get(&job.series.0).cloned() else {
                continue;
            };
            let made = draft(&table, job.stored, job.every_ns);
            if let Err(e) = made.and_then(|draft| self.replace(&mut batch, &job.parts, draft.as_ref())) {
                tracing::error!(table = %table.schema.name, "blocks are left as they are: {e}");
            }
        }
        let done = self.apply(work, batch)?;
        for (series, cursor) in plan.done {
            let Some(stream) = self.streams.get_mut(&series) else {
                continue;
            };
            match cursor {
                Done::Merge { span, from_ns } => stream.upkeep.merge_from[span] = Some(from_ns),
                Done::Thin { every_ns, from_ns } => {
                    stream.upkeep.thin_from.insert(every_ns, from_ns);
                }
                Done::ThinWait { until_ns } => stream.upkeep.thin_wait_ns = until_ns,
            }
        }
        Ok(done)
    }

    fn plan_merge(&mut self, now_ns: i64) -> Result<Plan> {
        let mut due = Vec::new();
        for (key, stream) in &mut self.streams {
            for (i, span) in SPANS.iter().enumerate() {
                let newest = now_ns - now_ns.rem_euclid(span.ns);
                let from = stream.upkeep.merge_from[i].get_or_insert(newest - span.back_ns);
                // A clock that was stepped back.
                *from = (*from).min(newest);
                if now_ns >= from.saturating_add(span.ns + GRACE_NS) {
                    due.push((i, *key, *from));
                }
            }
        }
        if due.is_empty() {
            return Ok(Plan::default());
        }
        due.sort_unstable();
        self.env.read(|txn, dbs| {
            let head = self.head_firsts(txn, dbs)?;
            let mut plan = Plan::default();
            for (i, key, from) in due {
                if plan.full() {
                    break;
                }
                let until = from + SPANS[i].ns;
                // A window within another that is due too comes first, and alone.
                let taken = plan.jobs.iter().any(|job| job.series == key);
                if taken || head.get(&key).is_some_and(|&first| first < until) {
                    continue;
                }
                self.merge_window(txn, dbs, &mut plan, (i, key, from), now_ns)?;
            }
            Ok(plan)
        })
    }

    fn merge_window(
        &self,
        txn: &impl Transaction,
        dbs: &Dbs,
        plan: &mut Plan,
        (i, key, from): (usize, SeriesKey, i64),
        now_ns: i64,
    ) -> Result<()> {
        let span = &SPANS[i];
        let (Some(stream), Some(table)) = (self.streams.get(&key), self.tables.get(&key.0)) else {
            return Ok(());
        };
        let limits = match table.is_state() {
            true => Limits {
                samples: SAMPLES,
                rows: ROWS,
                bytes: span.bytes[0],
            },
            false => Limits {
                samples: 0,
                rows: EVENT_ROWS,
                bytes: span.bytes[1],
            },
        };
        let window = window::window(self, txn, dbs, key, &stream.series, (from, from + span.ns))?;
        plan.headers += window.parts.len() + 1;
        let next = match (window.parts.is_empty(), window.next_ns) {
            (true, next) => next.unwrap_or(now_ns).clamp(from + span.ns, now_ns),
            (false, _) => from + span.ns,
        };
        let groups = window.groups(&limits, None).into_iter().filter(|g| g.len() > 1);
        if self.take_on(txn, dbs, plan, key, groups, None)? {
            let from_ns = next - next.rem_euclid(span.ns);
            plan.done.push((key, Done::Merge { span: i, from_ns }));
        }
        Ok(())
    }

    fn plan_thin(&mut self, now_ns: i64) -> Result<Plan> {
        let mut due = Vec::new();
        for (key, stream) in &self.streams {
            let Some(table) = self.tables.get(&key.0).filter(|t| t.is_state()) else {
                continue;
            };
            if stream.upkeep.thin_wait_ns > now_ns || stream.series.bounds().is_none() {
                continue;
            }
            let thin = self.retention.thin(&table.schema.name);
            due.push((*key, thin));
        }
        if due.is_empty() {
            return Ok(Plan::default());
        }
        due.sort_unstable();
        self.env.read(|txn, dbs| {
            let mut plan = Plan::default();
            for (key, thin) in due {
                if plan.full() {
                    break;
                }
                self.thin_series(txn, dbs, &mut plan, key, &thin, now_ns)?;
            }
            Ok(plan)
        })
    }

    /// Takes on the next window of a series that is old enough; the oldest samples first.
    fn thin_series(
        &self,
        txn: &impl Transaction,
        dbs: &Dbs,
        plan: &mut Plan,
        key: SeriesKey,
        thin: &[Thin],
        now_ns: i64,
    ) -> Result<()> {
        let Some(stream) = self.streams.get(&key) else {
            return Ok(());
        };
        let Some((first_ns, _)) = stream.series.bounds() else {
            return Ok(());
        };
        let mut wait_ns = i64::MAX;
        let mut older = i64::MIN;
        for step in thin.iter().rev() {
            let every = i64::try_from(step.every_ns).unwrap_or(i64::MAX);
            let span = every.saturating_mul(THINNED_SAMPLES).clamp(HOUR_NS, 24 * HOUR_NS);
            let cutoff = now_ns.saturating_sub_unsigned(step.after_ns);
            let from = stream.upkeep.thin_from.get(&step.every_ns).copied().unwrap_or(i64::MIN);
            // What the steps for older samples have to do is not done twice.
            let from = from.max(first_ns).max(older);
            let from = from - from.rem_euclid(span);
            older = cutoff - cutoff.rem_euclid(span);
            if from.saturating_add(span) > cutoff {
                wait_ns = wait_ns.min(from.saturating_add(span).saturating_add_unsigned(step.after_ns));
                continue;
            }
            let every_ns = step.every_ns;
            let window = window::window(self, txn, dbs, key, &stream.series, (from, from + span))?;
            plan.headers += window.parts.len() + 1;
            // A block may go on for longer than the window that it begins in.
            let last_ns = window.parts.iter().map(|part| part.figures.last_ns).max();
            if let Some(last_ns) = last_ns.filter(|last| *last >= cutoff) {
                wait_ns = wait_ns.min(last_ns.saturating_add_unsigned(step.after_ns).saturating_add(1));
                continue;
            }
            let next = match (window.parts.is_empty(), window.next_ns) {
                (true, next) => next.unwrap_or(cutoff).clamp(from + span, cutoff.max(from + span)),
                (false, _) => from + span,
            };
            let limits = Limits {
                samples: SAMPLES,
                rows: ROWS,
                bytes: u64::MAX,
            };
            let dense = |part: &Part| {
                let samples = part.header.as_ref().map_or(&[][..], |h| &h.samples);
                thin::kept(samples, every_ns, None).len() < samples.len()
            };
            let groups = window.groups(&limits, Some(every_ns)).into_iter();
            let groups = groups.filter(|group| group.iter().any(dense));
            if self.take_on(txn, dbs, plan, key, groups, Some(every_ns))? {
                let from_ns = next - next.rem_euclid(span);
                plan.done.push((key, Done::Thin { every_ns, from_ns }));
            }
            return Ok(());
        }
        plan.done.push((key, Done::ThinWait { until_ns: wait_ns }));
        Ok(())
    }

    /// Reads the blocks of groups while the step has room for them; false when some are left for another.
    fn take_on(
        &self,
        txn: &impl Transaction,
        dbs: &Dbs,
        plan: &mut Plan,
        series: SeriesKey,
        groups: impl Iterator<Item = Vec<Part>>,
        every_ns: Option<u64>,
    ) -> Result<bool> {
        let columns = self.tables.get(&series.0).map_or(1, |t| t.schema.columns.len()) as u64;
        for parts in groups {
            if plan.values >= VALUES {
                return Ok(false);
            }
            let mut stored = Vec::with_capacity(parts.len());
            for part in &parts {
                stored.extend(rewrite::read(self, txn, dbs, part)?);
            }
            if stored.len() < parts.len() {
                continue;
            }
            plan.values += parts.iter().map(|p| p.rows).sum::<u64>() * columns;
            plan.jobs.push(Job {
                series,
                parts,
                stored,
                every_ns,
            });
        }
        Ok(true)
    }

    /// The earliest time of each series in the head.
    fn head_firsts(&self, txn: &impl Transaction, dbs: &Dbs) -> Result<BTreeMap<SeriesKey, i64>> {
        let mut firsts = BTreeMap::new();
        contents::each_head_record_or_flaw(&self.path, txn, dbs, |_, directory, _| {
            for entry in directory.iter().flat_map(|d| &d.entries) {
                let first = firsts.entry((entry.table, entry.instance)).or_insert(entry.time_ns);
                *first = entry.time_ns.min(*first);
            }
            Ok(())
        })?;
        Ok(firsts)
    }
}

/// What takes the place of some blocks; None when no sample of theirs is kept.
fn draft(
    table: &Table,
    stored: Vec<Stored>,
    every_ns: Option<u64>,
) -> std::result::Result<Option<Draft>, crate::bytes::Flaw> {
    let version = match stored.first() {
        Some(first) => table.version(first.version)?,
        None => return Ok(None),
    };
    let runs = stored.into_iter().map(|s| s.blocks).collect();
    match table.is_state() {
        true => merge::state(version, runs, every_ns),
        false => merge::events(version, runs).map(Some),
    }
}

impl Maintenance {
    /// Whether the wall clock has not jumped for a while: what is old is not told by a clock that was set wrong.
    fn steady(&mut self, now: Stamp) -> bool {
        let offset = now.wall_ns.saturating_sub(now.boot_ns);
        match self.clock {
            None => {
                self.clock = Some((offset, now.boot_ns.saturating_sub(STEADY_NS)));
                true
            }
            Some((before, since)) if (offset.saturating_sub(before)).abs() <= JUMP_NS => {
                // Slewing adds up.
                self.clock = Some((offset, since));
                now.boot_ns.saturating_sub(since) >= STEADY_NS
            }
            Some(_) => {
                self.clock = Some((offset, now.boot_ns));
                false
            }
        }
    }
}
