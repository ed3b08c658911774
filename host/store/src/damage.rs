//! Damage as readers meet it: a part of the store that cannot be read, while everything beside it can.
//!
//! A block or a head record whose bytes are not what was written costs its own samples and no others: scans go on after it,
//! and whoever asked is told which table, which instance and which time it was.

use crate::error::StoreError;
use std::fmt;
use std::path::Path;

/// What is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Block,
    /// A record of the head, or one table's part of it.
    Head,
}

/// One part that cannot be read, and what is known of what it held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub part: Part,
    /// None where the part does not say any more: a head record holds samples of all tables.
    pub table: Option<String>,
    pub instance: Option<String>,
    /// Earliest and latest time that it may hold; None is open.
    pub from_ns: Option<i64>,
    pub to_ns: Option<i64>,
    /// Number of the block in its table and instance, or of the record in the head.
    pub sequence: u64,
    pub flaw: String,
}

impl Damage {
    /// Whether it may hold something of a span, both ends included.
    pub fn meets(&self, from_ns: i64, to_ns: i64) -> bool {
        self.from_ns.is_none_or(|from| from <= to_ns) && self.to_ns.is_none_or(|to| to >= from_ns)
    }

    pub(crate) fn error(self, path: &Path) -> StoreError {
        StoreError::DamagedPart {
            path: path.into(),
            damage: Box::new(self),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Part::Block => write!(f, "block {}", self.sequence)?,
            Part::Head => write!(f, "head record {}", self.sequence)?,
        }
        if let Some(table) = &self.table {
            write!(f, " of table {table}")?;
        }
        if let Some(instance) = &self.instance {
            write!(f, ", instance {instance}")?;
        }
        if let Some(from) = self.from_ns {
            write!(f, ", from {from} ns")?;
        }
        write!(f, ": {}", self.flaw)
    }
}
