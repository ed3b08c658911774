//! What a request has read so far, and what was missing: filled by the scans, read by the answer.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use vwatch_model::query::{Partial, Progress};

#[derive(Debug)]
pub struct Meter {
    rows: AtomicU64,
    blocks_done: AtomicU64,
    blocks_total: AtomicU64,
    /// i64::MIN: nothing yet.
    reached_ns: AtomicI64,
    partial: Mutex<Vec<Partial>>,
}

impl Default for Meter {
    fn default() -> Meter {
        Meter {
            rows: AtomicU64::new(0),
            blocks_done: AtomicU64::new(0),
            blocks_total: AtomicU64::new(0),
            reached_ns: AtomicI64::new(i64::MIN),
            partial: Mutex::default(),
        }
    }
}

impl Meter {
    pub fn expect_blocks(&self, count: u64) {
        self.blocks_total.fetch_add(count, Relaxed);
    }

    pub fn rows_read(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Relaxed);
    }

    pub fn blocks_read(&self, count: u64) {
        self.blocks_done.fetch_add(count, Relaxed);
    }

    /// Time of the newest row that a scan has come to.
    pub fn reached(&self, ns: i64) {
        self.reached_ns.store(ns, Relaxed);
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
            reached_ns: Some(self.reached_ns.load(Relaxed)).filter(|ns| *ns != i64::MIN),
            ..Progress::default()
        }
    }

    pub fn partial(&self) -> Vec<Partial> {
        self.partial.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
