//! Rows that could not be queued, counted until the next commit records them as gaps.

use crate::rows::Gap;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

type Key = (Option<Arc<str>>, Option<String>, &'static str);

#[derive(Debug, Clone, Copy)]
struct Lost {
    from_ns: i64,
    until_ns: i64,
    count: i64,
}

/// Losses since the last commit: one entry per instance, table and reason, however many there are.
#[derive(Debug, Default)]
pub struct Losses {
    by_key: Mutex<BTreeMap<Key, Lost>>,
}

impl Losses {
    pub fn count(&self, instance: Option<&Arc<str>>, table: Option<&str>, why: &'static str, time_ns: i64, rows: i64) {
        let mut losses = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = losses
            .entry((instance.cloned(), table.map(str::to_owned), why))
            .or_insert(Lost {
                from_ns: time_ns,
                until_ns: time_ns,
                count: 0,
            });
        lost.from_ns = lost.from_ns.min(time_ns);
        lost.until_ns = lost.until_ns.max(time_ns);
        lost.count += rows;
    }

    pub fn take(&self) -> Vec<Gap> {
        let mut losses = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *losses)
            .into_iter()
            .map(|((instance, table, why), lost)| Gap {
                from_ns: lost.from_ns,
                until_ns: lost.until_ns,
                instance,
                table,
                cause: Cow::Borrowed("dropped"),
                lost: Some(lost.count),
                message: Some(why.to_owned()),
            })
            .collect()
    }
}
