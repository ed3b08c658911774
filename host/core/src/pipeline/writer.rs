//! The writer's thread: the only one that touches the store.
//!
//! One commit a second, shortly after the second: as soon as all runs that were due have ended, at the latest 150 ms in; at once
//! when an outbox entry waits. When a commit fails (disk full, I/O), what was queued is lost, and said to be: recording is
//! paused, each second tries again, and the first commit that succeeds records the gap. Rows of the core's tables other than
//! `probe_run`, and durable changes (state, outbox, records), are kept and written then.

use super::loss::Losses;
use super::queue::{Delivery, Item, Queue};
use crate::clock;
use crate::rows::{self, CoreRow, Gap};
use crate::taps::Taps;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use vwatch_loader::Rows;
use vwatch_model::table::TableSchema;
use vwatch_model::time::Stamp;
use vwatch_store::{Body, InstanceId, InstanceInfo, Sample, Stats, StoreError, TableId, Writer};

const SECOND_NS: i64 = 1_000_000_000;
/// Latest moment of a second's commit, after the second.
const COMMIT_AFTER_NS: i64 = 150_000_000;
/// Commits between two releases of memory.
const RELEASE_EVERY: u32 = 10;
/// Rows of the core's and durable changes kept while the store takes nothing.
const MAX_KEPT: usize = 100_000;

/// A change that must not be lost when a commit fails.
#[derive(Clone)]
enum Durable {
    State(String, String, Option<Vec<u8>>),
    Outbox(String, String, Vec<u8>),
    OutboxDone(String, String),
    Record(String, Option<String>),
}

/// Why recording is paused.
#[derive(Debug, Clone)]
struct Pause {
    cause: &'static str,
    message: String,
    /// The last commit that succeeded.
    from_ns: i64,
    /// The last commit that failed.
    until_ns: i64,
    lost_rows: i64,
}

/// What others may know of the writer without asking it.
#[derive(Debug, Default)]
pub struct Published {
    view: Mutex<StoreView>,
    /// Boottime of the writer's last round; tells a watchdog that it lives.
    pub alive_ns: AtomicI64,
}

#[derive(Debug, Clone, Default)]
pub struct StoreView {
    pub stats: Stats,
    pub paused: Option<String>,
}

impl Published {
    pub fn view(&self) -> StoreView {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The store and what waits for its next commit.
pub struct Recording {
    writer: Writer,
    core_tables: Vec<(TableId, Arc<TableSchema>)>,
    core_instance: InstanceId,
    core_name: Arc<str>,
    /// Rows of the core's tables that are not committed yet.
    rows: Vec<CoreRow>,
    durable: Vec<Durable>,
    pause: Option<Pause>,
    last_commit_ns: i64,
    queued_rows: i64,
    commits_since_release: u32,
    losses: Arc<Losses>,
    taps: Arc<Taps>,
    published: Arc<Published>,
}

impl Recording {
    pub fn new(
        mut writer: Writer,
        losses: Arc<Losses>,
        taps: Arc<Taps>,
        published: Arc<Published>,
    ) -> Result<Recording, StoreError> {
        let mut core_tables = Vec::new();
        for schema in rows::tables() {
            core_tables.push((writer.table(&schema)?, Arc::new(schema)));
        }
        let name = vwatch_model::core_tables::INSTANCE_NAME;
        let core_instance = writer.instance(&InstanceInfo {
            name: name.to_owned(),
            probe: name.to_owned(),
            default: true,
        })?;
        Ok(Recording {
            writer,
            core_tables,
            core_instance,
            core_name: name.into(),
            rows: Vec::new(),
            durable: Vec::new(),
            pause: None,
            last_commit_ns: clock::now().wall_ns,
            queued_rows: 0,
            commits_since_release: 0,
            losses,
            taps,
            published,
        })
    }

    /// For registrations and reading; changes that must survive a failed commit go through the methods below.
    pub fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }

    pub fn put_record(&mut self, name: &str, json: Option<&str>) -> Result<(), StoreError> {
        self.change(Durable::Record(name.to_owned(), json.map(str::to_owned)))
    }

    pub fn row(&mut self, row: CoreRow) {
        if self.rows.len() < MAX_KEPT {
            self.rows.push(row);
        }
    }

    fn change(&mut self, change: Durable) -> Result<(), StoreError> {
        self.put(&change)?;
        if self.durable.len() < MAX_KEPT {
            self.durable.push(change);
        }
        Ok(())
    }

    fn put(&mut self, change: &Durable) -> Result<(), StoreError> {
        match change {
            Durable::State(owner, key, value) => self.writer.put_state(owner, key, value.as_deref()),
            Durable::Outbox(owner, id, body) => self.writer.put_outbox(owner, id, body),
            Durable::OutboxDone(owner, id) => self.writer.outbox_done(owner, id),
            Durable::Record(name, json) => self.writer.put_record(name, json.as_deref()),
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        for sample in delivery.samples {
            let (table, from_ns) = (sample.table, sample.time_ns);
            let rows = sample_rows(&sample);
            match self.writer.push(sample) {
                Ok(()) => self.queued_rows += rows,
                Err(e) => self.refused(&delivery.owner, table, from_ns, rows, &e),
            }
        }
        for row in delivery.rows {
            self.row(row);
        }
        let owner = &delivery.owner;
        let changes = (delivery.state.into_iter())
            .map(|(key, value)| Durable::State(owner.clone(), key, value))
            .chain((delivery.outbox.into_iter()).map(|e| Durable::Outbox(owner.clone(), e.id, e.body)))
            .chain((delivery.outbox_done.into_iter()).map(|id| Durable::OutboxDone(owner.clone(), id)));
        for change in changes {
            if let Err(e) = self.change(change) {
                tracing::warn!("plugin {owner}: a change of its state is refused: {e}");
            }
        }
    }

    /// The store does not take a sample (it does not fit its table): said in the log and as a gap.
    fn refused(&mut self, owner: &str, table: TableId, from_ns: i64, rows: i64, error: &StoreError) {
        tracing::warn!("plugin {owner}: rows refused by the store: {error}");
        self.row(CoreRow::Gap(Gap {
            from_ns,
            until_ns: from_ns,
            cause: "dropped".into(),
            lost: Some(rows),
            message: Some(format!("plugin {owner}, table {}: {error}", table.0)),
            ..Gap::default()
        }));
    }

    /// Commits what is queued. On failure recording is paused until a later commit succeeds.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        let now = clock::now();
        for gap in self.losses.take() {
            self.row(CoreRow::Gap(gap));
        }
        let batches = rows::batches(&self.rows);
        let mut result = Ok(());
        for (i, batch) in &batches {
            let (table, _) = &self.core_tables[*i];
            let pushed = self.writer.push(Sample {
                table: *table,
                instance: self.core_instance,
                time_ns: now.wall_ns,
                boot_ns: now.boot_ns,
                interval_ns: 0,
                body: Body::Events(batch.clone()),
            });
            if let Err(e) = pushed {
                result = Err(e);
            }
        }
        let result = result.and_then(|()| self.writer.commit(now));
        match &result {
            Ok(_) => self.committed(now, batches),
            Err(e) => self.failed(now, e),
        }
        self.publish();
        self.commits_since_release += 1;
        if result.as_ref().is_ok_and(|committed| committed.blocks > 0) || self.commits_since_release >= RELEASE_EVERY {
            self.release_memory();
        }
        result.map(|_| ())
    }

    /// A full picture, and a sealing all the more, needs some MB for a moment; what it leaves behind is not to stay resident.
    fn release_memory(&mut self) {
        self.commits_since_release = 0;
        if let Err(e) = self.writer.forget_pages() {
            tracing::debug!("{e}");
        }
        crate::process::trim();
    }

    fn committed(&mut self, now: Stamp, batches: Vec<(usize, arrow_array::RecordBatch)>) {
        for (i, batch) in batches {
            let (_, schema) = &self.core_tables[i];
            self.taps
                .offer(schema, &self.core_name, now.wall_ns, &Rows::Events(batch));
        }
        self.rows.clear();
        self.durable.clear();
        self.queued_rows = 0;
        self.last_commit_ns = now.wall_ns;
        if let Some(pause) = self.pause.take() {
            tracing::info!("recording goes on; it was paused: {}", pause.message);
            self.row(CoreRow::Gap(Gap {
                from_ns: pause.from_ns,
                until_ns: pause.until_ns,
                cause: pause.cause.into(),
                lost: Some(pause.lost_rows),
                message: Some(format!("recording was paused: {}", pause.message)),
                ..Gap::default()
            }));
        }
    }

    /// One small step of what keeps the store small, while nothing waits for the writer.
    fn maintain(&mut self) {
        if let Err(e) = self.writer.maintain(clock::now())
            && self.pause.is_none()
        {
            tracing::warn!("the store's maintenance failed and will be tried again: {e}");
        }
    }

    fn failed(&mut self, now: Stamp, error: &StoreError) {
        let (cause, message) = match error {
            StoreError::Full { .. } => ("disk_full", error.to_string()),
            _ => ("store_error", error.to_string()),
        };
        let from_ns = self.last_commit_ns;
        let pause = self.pause.get_or_insert_with(|| {
            tracing::error!("recording is paused, each second tries again: {message}");
            Pause {
                cause,
                message,
                from_ns,
                until_ns: from_ns,
                lost_rows: 0,
            }
        });
        pause.until_ns = now.wall_ns;
        pause.lost_rows += std::mem::take(&mut self.queued_rows);
        self.rows.retain(|row| !matches!(row, CoreRow::Run(_)));
        // The store forgot what was queued.
        for change in std::mem::take(&mut self.durable) {
            if let Err(e) = self.change(change) {
                tracing::warn!("a durable change cannot be queued again: {e}");
            }
        }
    }

    pub fn publish(&self) {
        let view = StoreView {
            stats: self.writer.stats(),
            paused: self.pause.as_ref().map(|p| p.message.clone()),
        };
        *self.published.view.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }
}

fn sample_rows(sample: &Sample) -> i64 {
    let rows = match &sample.body {
        Body::Full(rows) | Body::Events(rows) => rows.num_rows(),
        Body::Delta { changed, gone } => changed.num_rows() + gone.num_rows(),
    };
    rows as i64
}

/// The thread's loop. Ends when the queue is closed; then everything is committed and the store is closed cleanly.
pub fn write(mut recording: Recording, queue: &Queue) -> Result<(), StoreError> {
    let mut committed_second = clock::now().wall_ns.div_euclid(SECOND_NS);
    loop {
        let now = clock::now();
        recording.published.alive_ns.store(now.boot_ns, Ordering::Relaxed);
        let due_ns = (committed_second + 1) * SECOND_NS + COMMIT_AFTER_NS - now.wall_ns;
        // After a step of the wall clock the due time may be far away.
        let wait = Duration::from_nanos(due_ns.clamp(0, SECOND_NS + COMMIT_AFTER_NS) as u64);
        let taken = queue.take(Instant::now() + wait);
        let mut urgent = false;
        for item in taken.items {
            match item {
                Item::Delivery(delivery) => {
                    urgent |= !delivery.outbox.is_empty();
                    recording.deliver(*delivery);
                }
                Item::Row(row) => recording.row(row),
                Item::Question(question) => question(&mut recording),
            }
        }
        if taken.closed {
            return close(recording);
        }
        let wall_ns = clock::now().wall_ns;
        let second = wall_ns.div_euclid(SECOND_NS);
        let stepped_back = second < committed_second;
        let due = wall_ns >= (committed_second + 1) * SECOND_NS + COMMIT_AFTER_NS || stepped_back;
        if urgent || due || (taken.settled && second > committed_second) {
            // A failure is kept in `recording`, and shown.
            let _ = recording.commit();
            recording.maintain();
            committed_second = second;
        }
    }
}

fn close(mut recording: Recording) -> Result<(), StoreError> {
    // A commit that fails is shown and counted; the store is closed all the same.
    if recording.commit().is_ok() && !recording.rows.is_empty() {
        let _ = recording.commit();
    }
    recording.writer.close(clock::now())
}
