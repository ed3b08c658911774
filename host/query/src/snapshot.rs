//! What one request sees: the store, its catalog as it was when the request began, and the request's own times and user.

use crate::error::SqlError;
use crate::meter::Meter;
use crate::zone::Zone;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use vwatch_model::TableKind;
use vwatch_store::{Catalog, Damage, InstanceEntry, InstanceId, Part, Picture, Reader, TableEntry, TableId};

/// Whose rows a request may read in tables that answer the owner of a row only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// Every row: root, or whoever can read the store's file anyway.
    All,
    /// The rows of this user.
    User(u32),
}

#[derive(Debug)]
pub struct Snapshot {
    pub reader: Reader,
    pub catalog: Catalog,
    pub zone: Zone,
    /// What `now` is: real now beside a running recorder, else the last commit.
    pub now_ns: i64,
    pub live: bool,
    /// Where state tables without a version clause are read.
    pub at_ns: i64,
    /// Bounds of histories and event tables, inclusive.
    pub from_ns: i64,
    pub to_ns: i64,
    pub asker: Asker,
    pub meter: Meter,
    /// The sample that answered each AS OF, so that a table read twice in one query shows one picture although the
    /// recorder goes on committing.
    chosen: Mutex<HashMap<(TableId, InstanceId, i64), i64>>,
}

impl Snapshot {
    pub fn new(reader: Reader, catalog: Catalog, zone: Zone, now_ns: i64, live: bool, asker: Asker) -> Snapshot {
        Snapshot {
            reader,
            catalog,
            zone,
            now_ns,
            live,
            at_ns: now_ns,
            from_ns: i64::MIN,
            to_ns: i64::MAX,
            asker,
            meter: Meter::default(),
            chosen: Mutex::default(),
        }
    }

    pub fn table(&self, name: &str) -> Option<&TableEntry> {
        self.catalog.tables.iter().find(|t| t.schema.name == name)
    }

    /// Instances that have ever filled the table, in the order of their names.
    pub fn instances(&self, table: TableId) -> Vec<&InstanceEntry> {
        let mut all: Vec<&InstanceEntry> = self
            .catalog
            .instances
            .iter()
            .filter(|i| i.tables.contains(&table))
            .collect();
        all.sort_by(|a, b| a.info.name.cmp(&b.info.name));
        all
    }

    /// What an unfiltered read of the table reads: its default instance; without one, all of an event table, the only one
    /// of a state table. None: a state table with several, none of them the default.
    pub fn default_instances(&self, table: &TableEntry) -> Option<Vec<&InstanceEntry>> {
        let all = self.instances(table.id);
        let default: Vec<&InstanceEntry> = all.iter().copied().filter(|i| i.info.default).collect();
        match (default.len(), table.schema.kind) {
            (0, TableKind::State) => (all.len() <= 1).then_some(all),
            (0, TableKind::Event) => Some(all),
            _ => Some(default),
        }
    }

    /// What is lost to a damaged part of the store, as a sentence with local times.
    pub fn damage_in_words(&self, damage: &Damage) -> String {
        let words = |ns: i64| self.zone.words(ns, self.now_ns);
        let table = damage.table.as_deref().unwrap_or("the store");
        let span = match (damage.from_ns, damage.to_ns) {
            (Some(from), Some(to)) if from == to => format!(" at {}", words(from)),
            (Some(from), Some(to)) => format!(" from {} to {}", words(from), words(to)),
            (Some(from), None) => format!(" from {} on", words(from)),
            (None, Some(to)) => format!(" up to {}", words(to)),
            (None, None) => String::new(),
        };
        let part = match damage.part {
            Part::Block => format!("block {}", damage.sequence),
            Part::Head => format!("head record {}", damage.sequence),
        };
        let instance = damage.instance.as_ref().map(|i| format!(" of instance {i}"));
        let instance = instance.unwrap_or_default();
        format!("no data of {table}{span}: {part}{instance} is damaged: {}", damage.flaw)
    }

    /// Damaged pages may hide rows of any table, so an answer from such a file is never called whole.
    pub fn tell_doubts(&self) {
        let doubts = self.reader.doubts();
        if let Some(first) = doubts.first() {
            let more = match doubts.len() {
                1 => String::new(),
                n => format!(" (and {} more)", n - 1),
            };
            let reason = format!("the store's pages are damaged, rows may be missing: {first}{more}");
            self.meter.missing("store", reason);
        }
    }

    pub fn picture(
        &self,
        table: TableId,
        instance: InstanceId,
        at_ns: i64,
        columns: &[String],
    ) -> Result<Option<Picture>, SqlError> {
        let key = (table, instance, at_ns);
        let chosen = self
            .chosen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .copied();
        let picture = self
            .reader
            .as_of(table, instance, chosen.unwrap_or(at_ns), Some(columns))?;
        if let Some(picture) = &picture {
            let mut all = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(key, picture.time_ns);
            self.meter.expect_blocks(1);
        }
        Ok(picture)
    }
}
