//! What a store keeps, and for how long: the rules that the writer's maintenance follows.

use crate::types::TableId;
use std::collections::BTreeMap;

/// How long samples are kept, how many bytes they may take, and how they are thinned out with age.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Older samples are deleted.
    pub keep_ns: Option<u64>,
    /// Of all tables: what the store's file may take; the oldest blocks go first. Of one table: what its blocks may take.
    pub max_bytes: Option<u64>,
    /// None of one table: as for all.
    pub thin: Option<Vec<Thin>>,
}

/// Of samples older than `after_ns`, the first in each step of `every_ns` is kept. Events are not thinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Thin {
    pub after_ns: u64,
    pub every_ns: u64,
}

/// The rules of a store. The default keeps everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    pub all: Rules,
    /// By table's name; what a table's rules leave open is as for all.
    pub tables: BTreeMap<String, Rules>,
}

impl Retention {
    pub(crate) fn keep_ns(&self, table: &str) -> Option<u64> {
        let of_table = self.tables.get(table).and_then(|r| r.keep_ns);
        of_table.or(self.all.keep_ns)
    }

    /// Steps of thinning of a table, those for younger samples first.
    pub(crate) fn thin(&self, table: &str) -> Vec<Thin> {
        let of_table = self.tables.get(table).and_then(|r| r.thin.as_ref());
        let mut thin = of_table.or(self.all.thin.as_ref()).cloned().unwrap_or_default();
        thin.retain(|t| t.every_ns > 0);
        thin.sort_unstable();
        thin
    }

    pub(crate) fn table_bytes(&self, table: &str) -> Option<u64> {
        self.tables.get(table).and_then(|r| r.max_bytes)
    }
}

/// What one [`crate::Writer::maintain`] did: at most one kind of work, in one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Maintained {
    pub work: Option<Work>,
    /// Blocks that were replaced or deleted.
    pub blocks: u64,
    /// Blocks that took their places.
    pub written: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Neighbouring blocks became one.
    Merge,
    /// Old samples were left out.
    Thin,
    /// The oldest blocks were deleted.
    Expire,
}

impl Work {
    /// Fail points before and after the transaction.
    pub(crate) fn points(self) -> [&'static str; 2] {
        match self {
            Work::Merge => ["merge-before-commit", "merge-after-commit"],
            Work::Thin => ["thin-before-commit", "thin-after-commit"],
            Work::Expire => ["expire-before-commit", "expire-after-commit"],
        }
    }
}

/// What the writer remembers of one series between two looks at it. Lost with the process: then it looks again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Upkeep {
    /// Per size of window, the beginning of the first one that is not merged yet.
    pub merge_from: [Option<i64>; 3],
    /// Nothing is old enough to be deleted before this.
    pub expire_wait_ns: i64,
    /// Per step of thinning (its `every_ns`), the start of the first block that is not thinned.
    pub thin_from: BTreeMap<u64, i64>,
    pub thin_wait_ns: i64,
}

/// A table of an instance, the unit of all maintenance.
pub(crate) type SeriesKey = (TableId, crate::types::InstanceId);
