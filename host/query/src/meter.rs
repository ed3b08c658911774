//! What a request has read so far, and what was missing: filled by the scans, read by the answer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use vwatch_model::query::{Partial, Progress};

#[derive(Debug, Default)]
pub struct Meter {
    rows: AtomicU64,
    blocks_done: AtomicU64,
    blocks_total: AtomicU64,
    partial: Mutex<Vec<Partial>>,
}

impl Meter {
    pub fn expect_blocks(&self, count: u64) {
        self.blocks_total.fetch_add(count, Relaxed);
    }

    pub fn block_read(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Relaxed);
        self.blocks_done.fetch_add(1, Relaxed);
    }

    /// Notes a reason once, however often the scan runs into it.
    pub fn missing(&self, table: &str, reason: String) {
        let partial = Partial {
            table: Some(table.to_owned()),
            reason,
        };
        let mut all = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains(&partial) {
            all.push(partial);
        }
    }

    pub fn progress(&self) -> Progress {
        let done = self.blocks_done.load(Relaxed);
        Progress {
            rows_scanned: self.rows.load(Relaxed),
            blocks_done: done,
            blocks_total: self.blocks_total.load(Relaxed).max(done),
        }
    }

    pub fn partial(&self) -> Vec<Partial> {
        self.partial.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
