//! What one run, or one emission, hands over: rows, losses, and changes of durable state that are committed with them.

use crate::build;
use crate::error::{ProbeError, Result};
use crate::row::{EventRow, Key, Row, StateRow, TableDescriptor};
use serde::Serialize;
use std::sync::Arc;
use vwatch_abi::abi_stable::std_types::{ROption, RVec};
use vwatch_abi::arrow_c::ArrowArray;
use vwatch_abi::v1;
use vwatch_abi::v1::batch_kind;

/// Longest key of durable state and id of an outbox entry, in bytes.
const KEY_BYTES: usize = 400;

pub(crate) fn check_key(key: &str) -> Result<()> {
    match key.len() {
        1..=KEY_BYTES => Ok(()),
        n => Err(ProbeError::bad_input(format!(
            "a key has 1 to {KEY_BYTES} bytes, not {n}: {key:.40}"
        ))),
    }
}

/// The tables that rows may go to: name and index in the manifest.
#[derive(Debug, Default)]
pub(crate) struct Writable {
    /// `probe cpu_time`, in errors.
    pub whose: String,
    pub tables: Vec<(&'static str, u32)>,
}

/// Rows and changes of one transaction. An error while they are added (a table that is not the probe's, a key that is too
/// long) makes the whole run fail with it; then nothing of it is stored.
pub struct Out {
    writable: Arc<Writable>,
    commit: v1::Commit,
    error: Option<ProbeError>,
}

impl Out {
    pub(crate) fn new(writable: Arc<Writable>) -> Self {
        Out {
            writable,
            commit: v1::Commit {
                batches: RVec::new(),
                losses: RVec::new(),
                state: RVec::new(),
                outbox: RVec::new(),
                outbox_done: RVec::new(),
            },
            error: None,
        }
    }

    /// The full picture of a table: rows not in it are gone. Its time is the tick's.
    pub fn full<R: StateRow>(&mut self, rows: Vec<R>) {
        self.full_at(0, rows);
    }

    /// The full picture of a table as it was at `time_ns`.
    pub fn full_at<R: StateRow>(&mut self, time_ns: i64, rows: Vec<R>) {
        self.batch::<R>(batch_kind::FULL, time_ns, &rows, &[]);
    }

    /// The rows that are new or have changed since the last picture, and the keys of those that are gone. When
    /// [`crate::Tick::full`] is set, the host needs [`Out::full`].
    pub fn delta<R: StateRow>(&mut self, changed: Vec<R>, gone: Vec<R::Key>) {
        self.delta_at(0, changed, gone);
    }

    /// A delta as of `time_ns`.
    pub fn delta_at<R: StateRow>(&mut self, time_ns: i64, changed: Vec<R>, gone: Vec<R::Key>) {
        self.batch::<R>(batch_kind::DELTA, time_ns, &changed, &gone);
    }

    /// Rows that carry their own time.
    pub fn events<R: EventRow>(&mut self, rows: Vec<R>) {
        if !rows.is_empty() {
            self.batch::<R>(batch_kind::EVENTS, 0, &rows, &[]);
        }
    }

    /// Rows of `R` were lost before they could be handed over: `count` of them (0 when unknown), between these moments, ns since the
    /// epoch. Becomes a row of `gap`.
    pub fn lost<R: Row>(&mut self, count: u64, from_ns: i64, until_ns: i64, cause: &str) {
        let Some(table) = self.table(&R::TABLE) else { return };
        self.commit.losses.push(v1::Loss {
            table,
            count,
            from_ns,
            until_ns,
            cause: cause.into(),
        });
    }

    /// Sets a value of the plugin's durable state, committed with the rows. Keys have at most 400 bytes.
    pub fn put_state(&mut self, key: &str, value: impl Into<Vec<u8>>) {
        self.change_state(key, ROption::RSome(RVec::from(value.into())));
    }

    /// The same, written as JSON.
    pub fn put_state_json<T: Serialize>(&mut self, key: &str, value: &T) {
        match serde_json::to_vec(value) {
            Ok(bytes) => self.put_state(key, bytes),
            Err(e) => self.fail(ProbeError::failed(format!("state {key:?} cannot be written: {e}"))),
        }
    }

    pub fn delete_state(&mut self, key: &str) {
        self.change_state(key, ROption::RNone);
    }

    /// Puts something into the outbox, to be delivered at least once: it stays over restarts until
    /// [`Out::outbox_done`]. The same `id` again replaces the entry. Ids have at most 400 bytes.
    pub fn outbox(&mut self, id: &str, body: impl Into<Vec<u8>>) {
        match check_key(id) {
            Ok(()) => self.commit.outbox.push(v1::OutboxEntry {
                id: id.into(),
                body: RVec::from(body.into()),
            }),
            Err(error) => self.fail(error.about("outbox")),
        }
    }

    /// This entry of the outbox was delivered, or given up.
    pub fn outbox_done(&mut self, id: &str) {
        self.commit.outbox_done.push(id.into());
    }

    /// Nothing has been added.
    pub fn is_empty(&self) -> bool {
        let c = &self.commit;
        c.batches.is_empty()
            && c.losses.is_empty()
            && c.state.is_empty()
            && c.outbox.is_empty()
            && c.outbox_done.is_empty()
    }

    fn change_state(&mut self, key: &str, value: ROption<RVec<u8>>) {
        match check_key(key) {
            Ok(()) => self.commit.state.push(v1::StateChange { key: key.into(), value }),
            Err(error) => self.fail(error.about("state")),
        }
    }

    fn batch<R: Row>(&mut self, kind: u8, time_ns: i64, rows: &[R], gone: &[R::Key]) {
        let Some(table) = self.table(&R::TABLE) else { return };
        match batch(table, kind, time_ns, rows, gone) {
            Ok(batch) => self.commit.batches.push(batch),
            Err(error) => self.fail(error.about(R::TABLE.name)),
        }
    }

    fn table(&mut self, table: &TableDescriptor) -> Option<u32> {
        let found = self.writable.tables.iter().find(|(name, _)| *name == table.name);
        let index = found.map(|(_, index)| *index);
        if index.is_none() {
            let message = format!(
                "table {} is not among the tables of {}",
                table.name, self.writable.whose
            );
            self.fail(ProbeError::failed(message));
        }
        index
    }

    /// The first error is the one that is told.
    fn fail(&mut self, error: ProbeError) {
        self.error.get_or_insert(error);
    }

    /// All of it, or the first error.
    pub(crate) fn finish(self) -> Result<v1::Commit> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.commit),
        }
    }
}

fn batch<R: Row>(table: u32, kind: u8, time_ns: i64, rows: &[R], gone: &[R::Key]) -> Result<v1::Batch> {
    let has_keys = R::TABLE.columns.iter().any(|c| c.key);
    if !has_keys && !gone.is_empty() {
        return Err(ProbeError::failed(
            "without key columns no row can be named as gone: hand over a full picture",
        ));
    }
    let gone = if kind != batch_kind::DELTA || !has_keys {
        ArrowArray::released()
    } else {
        build::rows(<R::Key as Key>::columns(gone))?
    };
    Ok(v1::Batch {
        table,
        kind,
        time_ns,
        rows: build::rows(R::columns(rows))?,
        gone,
    })
}
