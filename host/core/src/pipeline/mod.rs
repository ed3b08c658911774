//! The way of a sample from a probe to the store: stamped, offered to subscribers, queued for the writer's thread.
//!
//! **Invariants:** who delivers never waits for the disk. A delta is stored only on top of the picture it was made for: once
//! something of a table was dropped, its deltas are dropped too until a full picture comes, and all of it is counted in `gap`.

mod loss;
mod queue;
mod writer;

pub use loss::Losses;
pub use writer::{Published, Recording, StoreView};

use crate::clock;
use crate::rows::{CoreRow, Gap};
use crate::taps::Taps;
use queue::{Delivery, Queue};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use vwatch_loader::{Commit, Rows};
use vwatch_model::table::{TableKind, TableSchema};
use vwatch_model::time::Stamp;
use vwatch_store::{Body, InstanceId, Sample, StoreError, TableId, Writer};

/// The writer's thread; answers how the store was closed.
pub type WriterThread = JoinHandle<Result<(), StoreError>>;

/// A table of a loaded plugin.
#[derive(Debug, Clone)]
pub struct KnownTable {
    pub schema: Arc<TableSchema>,
    pub id: TableId,
}

/// Where a commit comes from.
pub struct Origin<'a> {
    pub plugin: &'a str,
    pub tables: &'a [KnownTable],
    pub instance: &'a Arc<str>,
    pub store_instance: InstanceId,
    /// When the reading began.
    pub stamp: Stamp,
    /// Expected time to the next sample; 0 where nobody knows.
    pub interval_ns: u64,
}

/// What became of a commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delivered {
    pub rows: u64,
    pub bytes: u64,
    /// Something was dropped: the next picture must be a full one.
    pub dropped: bool,
}

/// The writer has ended.
#[derive(Debug, thiserror::Error)]
#[error("the recorder is stopping")]
pub struct Ended;

/// The sending side; shared by all threads.
pub struct Pipeline {
    queue: Arc<Queue>,
    losses: Arc<Losses>,
    taps: Arc<Taps>,
    published: Arc<Published>,
    /// State tables whose stored picture lacks something that was dropped.
    broken: Mutex<HashSet<(TableId, InstanceId)>>,
}

impl Pipeline {
    /// Starts the writer's thread over an open store.
    pub fn start(writer: Writer, taps: Arc<Taps>) -> Result<(Arc<Pipeline>, WriterThread), StoreError> {
        let losses = Arc::new(Losses::default());
        taps.count_losses_in(losses.clone());
        let published = Arc::new(Published::default());
        let recording = Recording::new(writer, losses.clone(), taps.clone(), published.clone())?;
        recording.publish();
        let queue = Arc::new(Queue::default());
        let thread = {
            let queue = queue.clone();
            crate::process::spawn("writer", move || writer::write(recording, &queue)).map_err(|source| {
                StoreError::Io {
                    path: "writer".into(),
                    op: "start the writer's thread",
                    source,
                }
            })?
        };
        let pipeline = Arc::new(Pipeline {
            queue,
            losses,
            taps,
            published,
            broken: Mutex::default(),
        });
        Ok((pipeline, thread))
    }

    /// Offers a commit to subscribers and queues it. `rows` go into the same transaction.
    pub fn deliver(&self, origin: &Origin<'_>, commit: Commit, rows: Vec<CoreRow>) -> Delivered {
        let mut delivered = Delivered {
            rows: commit.rows() as u64,
            bytes: commit.bytes() as u64,
            dropped: false,
        };
        let mut delivery = Box::new(Delivery {
            owner: origin.plugin.to_owned(),
            rows,
            state: commit.state,
            outbox: commit.outbox,
            outbox_done: commit.outbox_done,
            bytes: commit_bytes(delivered.bytes),
            ..Delivery::default()
        });
        for loss in commit.losses {
            let table = origin.tables.get(loss.table).map(|t| t.schema.name.clone());
            delivery.rows.push(CoreRow::Gap(Gap {
                from_ns: loss.from_ns,
                until_ns: loss.until_ns.max(loss.from_ns),
                instance: Some(origin.instance.clone()),
                table,
                cause: if loss.cause.is_empty() {
                    "dropped".into()
                } else {
                    loss.cause.into()
                },
                lost: (loss.count > 0).then(|| i64::try_from(loss.count).unwrap_or(i64::MAX)),
                message: None,
            }));
        }
        for batch in commit.batches {
            // The loader keeps table indices within the manifest.
            let Some(table) = origin.tables.get(batch.table) else {
                continue;
            };
            let time_ns = batch.time_ns.unwrap_or(origin.stamp.wall_ns);
            self.taps.offer(&table.schema, origin.instance, time_ns, &batch.body);
            if let Some(sample) = self.sample(origin, table, time_ns, batch.body) {
                delivery.samples.push(sample);
            } else {
                delivered.dropped = true;
            }
        }
        if let Err(delivery) = self.queue.deliver(delivery) {
            delivered.dropped = true;
            self.dropped(origin, *delivery);
        }
        delivered
    }

    /// The sample to store, unless it is a delta on a picture that the store does not have.
    fn sample(&self, origin: &Origin<'_>, table: &KnownTable, time_ns: i64, body: Rows) -> Option<Sample> {
        let key = (table.id, origin.store_instance);
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        let body = match body {
            Rows::Full(rows) => {
                broken.remove(&key);
                Body::Full(rows)
            }
            Rows::Delta { changed, .. } if broken.contains(&key) => {
                let why = "a change of a picture that had been dropped";
                let name = Some(table.schema.name.as_str());
                self.losses
                    .count(Some(origin.instance), name, why, time_ns, changed.num_rows() as i64);
                return None;
            }
            Rows::Delta { changed, gone } => Body::Delta { changed, gone },
            Rows::Events(rows) => Body::Events(rows),
        };
        Some(Sample {
            table: table.id,
            instance: origin.store_instance,
            time_ns,
            boot_ns: origin.stamp.boot_ns + (time_ns - origin.stamp.wall_ns),
            interval_ns: if table.schema.kind == TableKind::State {
                origin.interval_ns
            } else {
                0
            },
            body,
        })
    }

    /// Counts a delivery for which the queue had no room.
    fn dropped(&self, origin: &Origin<'_>, delivery: Delivery) {
        let why = "the writer's queue was full";
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        for sample in &delivery.samples {
            let name = origin
                .tables
                .iter()
                .find(|t| t.id == sample.table)
                .map(|t| t.schema.name.as_str());
            let rows = match &sample.body {
                Body::Full(rows) | Body::Events(rows) => rows.num_rows(),
                Body::Delta { changed, .. } => changed.num_rows(),
            };
            if !matches!(sample.body, Body::Events(_)) {
                broken.insert((sample.table, sample.instance));
            }
            self.losses
                .count(Some(origin.instance), name, why, sample.time_ns, rows as i64);
        }
        for row in delivery.rows {
            self.queue.row(row);
        }
    }

    pub fn row(&self, row: CoreRow) {
        self.queue.row(row);
    }

    /// All runs that were due have ended.
    pub fn settled(&self) {
        self.queue.settled();
    }

    /// Runs `question` on the writer's thread and waits for its answer.
    pub fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Recording) -> T + Send + 'static,
    ) -> Result<T, Ended> {
        let (answer, wait) = mpsc::sync_channel(1);
        let taken = self.queue.ask(Box::new(move |recording| {
            // Whoever asked may have been written off.
            let _ = answer.send(question(recording));
        }));
        if !taken {
            return Err(Ended);
        }
        wait.recv().map_err(|_| Ended)
    }

    pub fn store(&self) -> StoreView {
        self.published.view()
    }

    /// How long ago the writer's thread began its last round.
    pub fn writer_silent_ns(&self) -> i64 {
        clock::now().boot_ns - self.published.alive_ns.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The writer ends after what is queued.
    pub fn close(&self) {
        self.queue.close();
    }
}

/// An empty commit takes room too.
fn commit_bytes(arrow: u64) -> usize {
    usize::try_from(arrow).unwrap_or(usize::MAX).saturating_add(256)
}
