//! Everything that a store holds, looked at: pages, declarations, head, blocks, durable values.
//!
//! Each part is checked as far as its own bytes go (checksums, a full decode, contradictions), and a flaw never ends the
//! check: it is handed on, and what is beside it is looked at next. Blocks are copied out a few at a time and decoded after
//! their transaction, so that checking a live store does not keep its file growing; only the walk over its branch and leaf
//! pages, about a hundredth of the file, is one transaction. Cost: reading and decoding everything once.

use crate::block::{self, BlockKind, Replay};
use crate::bytes;
use crate::contents::{self, Walk};
use crate::damage::Damage;
use crate::error::{Result, StoreError};
use crate::keys::{self, BlockKey};
use crate::reader::{Reader, block_damage, head_run};
use crate::schema::{self, Projection, Table};
use crate::series::Series;
use crate::types::{InstanceId, InstanceInfo, TableId};
use crate::{assemble, head_read, run, tree};
use lmdb::Database;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Blocks copied out in one transaction: so many, or so many bytes.
const BLOCKS_AT_ONCE: usize = 256;
const BYTES_AT_ONCE: usize = 16 << 20;

/// What a flaw is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    Page,
    Meta,
    Schema,
    Instance,
    Series,
    Head,
    Block,
    /// Values that plugins and the recorder keep.
    Durable,
}

impl Where {
    pub fn word(self) -> &'static str {
        match self {
            Where::Page => "page",
            Where::Meta => "meta",
            Where::Schema => "schema",
            Where::Instance => "instance",
            Where::Series => "series",
            Where::Head => "head",
            Where::Block => "block",
            Where::Durable => "durable",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    pub what: Where,
    pub table: Option<String>,
    pub instance: Option<String>,
    pub from_ns: Option<i64>,
    pub to_ns: Option<i64>,
    pub sequence: Option<u64>,
    pub flaw: String,
}

impl Flaw {
    fn of(what: Where, flaw: impl Into<String>) -> Flaw {
        Flaw {
            what,
            table: None,
            instance: None,
            from_ns: None,
            to_ns: None,
            sequence: None,
            flaw: flaw.into(),
        }
    }

    fn from_damage(what: Where, damage: Damage) -> Flaw {
        Flaw {
            what,
            table: damage.table,
            instance: damage.instance,
            from_ns: damage.from_ns,
            to_ns: damage.to_ns,
            sequence: Some(damage.sequence),
            flaw: damage.flaw,
        }
    }
}

/// What has been looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    pub flaws: u64,
    /// Branch and leaf pages.
    pub pages: u64,
    pub head_records: u64,
    pub blocks: u64,
    pub blocks_total: u64,
    /// Samples of state tables.
    pub samples: u64,
    /// Rows of all pictures, and events.
    pub rows: u64,
    /// Of blocks, head records and values.
    pub bytes: u64,
}

/// What the check hands on.
#[derive(Debug)]
pub enum Step<'a> {
    Flaw(Flaw),
    /// Some blocks more.
    Progress(&'a Verified),
}

/// Looks at everything. `tell` may end the check with `Break`; the answer is what was looked at by then.
///
/// # Errors
/// What keeps the check itself from going on: the file cannot be read. Damage is told of, and no error.
pub fn verify(reader: &Reader, tell: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>) -> Result<Verified> {
    let mut check = Check {
        reader,
        tell,
        done: Verified::default(),
        tables: BTreeMap::new(),
        instances: BTreeMap::new(),
        series: BTreeMap::new(),
    };
    // Broken off: what has been looked at stands.
    let _ = check.all()?;
    Ok(check.done)
}

type Flow = Result<ControlFlow<()>>;

/// Gives up the check when `tell` wants no more.
macro_rules! go_on {
    ($flow:expr) => {
        if $flow?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    };
}

struct Check<'a> {
    reader: &'a Reader,
    tell: &'a mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
    done: Verified,
    tables: BTreeMap<TableId, Arc<Table>>,
    instances: BTreeMap<InstanceId, InstanceInfo>,
    series: BTreeMap<(TableId, InstanceId), Series>,
}

impl Check<'_> {
    fn all(&mut self) -> Flow {
        go_on!(self.pages());
        go_on!(self.declarations());
        go_on!(self.head());
        go_on!(self.blocks());
        go_on!(self.counts());
        self.durable()
    }

    fn flaw(&mut self, flaw: Flaw) -> Flow {
        self.done.flaws += 1;
        Ok((self.tell)(Step::Flaw(flaw)))
    }

    fn flaws(&mut self, flaws: impl IntoIterator<Item = Flaw>) -> Flow {
        for flaw in flaws {
            go_on!(self.flaw(flaw));
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Meta, branch and leaf pages. The transaction keeps a live store's pages from being used again meanwhile.
    fn pages(&mut self) -> Flow {
        let path = self.reader.path();
        let (flaws, pages) = match self.reader.env().read(|_, _| tree::flaws(path, self.reader.file())) {
            Ok(walked) => walked,
            Err(StoreError::Damaged { what, .. }) => (vec![what], 0),
            Err(e) => return Err(e),
        };
        self.done.pages = pages;
        self.flaws(flaws.into_iter().map(|f| Flaw::of(Where::Page, f)))
    }

    /// Every entry of a small database, copied out. A cursor that damaged pages stop or turn back is a flaw.
    fn entries(&mut self, name: &str, db: Database) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let path = self.reader.path();
        let mut all: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let walked = self.reader.env().read(|txn, _| {
            Walk::new(path, txn, db)?.each(|key, value| {
                if all.last().is_some_and(|(before, _)| before.as_slice() >= key) {
                    return Err(StoreError::damaged(path, "its keys are not in order"));
                }
                all.push((key.to_vec(), value.to_vec()));
                Ok(())
            })
        });
        self.done.bytes += all.iter().map(|(k, v)| (k.len() + v.len()) as u64).sum::<u64>();
        if let Err(e) = walked {
            let flaw = Flaw::of(Where::Page, format!("its {name} tree: {}", what(e)?));
            let _ = self.flaw(flaw)?;
        }
        Ok(all)
    }

    fn declarations(&mut self) -> Flow {
        let path = self.reader.path();
        let meta = self.reader.env().read(|txn, dbs| {
            run::check_format(path, txn, dbs)?;
            run::run(path, txn, dbs).map(drop)
        });
        if let Err(e) = meta {
            go_on!(self.flaw(Flaw::of(Where::Meta, what(e)?)));
        }
        let dbs = self.reader.env().read(|_, dbs| Ok(*dbs))?;
        let mut versions = Vec::new();
        for (key, value) in self.entries("schema", dbs.schema)? {
            match schema::decode(&key, &value) {
                Ok(version) => versions.push(version),
                Err(e) => go_on!(self.flaw(Flaw::of(Where::Schema, e))),
            }
        }
        match schema::tables(path, versions) {
            Ok(tables) => self.tables = tables,
            Err(e) => go_on!(self.flaw(Flaw::of(Where::Schema, what(e)?))),
        }
        for (key, value) in self.entries("instance", dbs.instance)? {
            match contents::decode_instance(path, &key, &value) {
                Ok((id, info)) => {
                    self.instances.insert(id, info);
                }
                Err(e) => go_on!(self.flaw(Flaw::of(Where::Instance, what(e)?))),
            }
        }
        for (key, value) in self.entries("series", dbs.series)? {
            let decoded = keys::split_pair(&key).and_then(|pair| Ok((pair, Series::decode(&key, &value)?)));
            match decoded {
                Ok(((table, instance), series)) => {
                    let id = (TableId(table), InstanceId(instance));
                    self.series.insert(id, series);
                    go_on!(self.declared(Where::Series, id));
                }
                Err(e) => go_on!(self.flaw(Flaw::of(Where::Series, e))),
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn declared(&mut self, what: Where, (table, instance): (TableId, InstanceId)) -> Flow {
        if self.tables.contains_key(&table) && self.instances.contains_key(&instance) {
            return Ok(ControlFlow::Continue(()));
        }
        let flaw = format!("table {} of instance {} is not declared", table.0, instance.0);
        self.flaw(self.named(Flaw::of(what, flaw), (table, instance)))
    }

    fn named(&self, flaw: Flaw, (table, instance): (TableId, InstanceId)) -> Flaw {
        Flaw {
            table: self.tables.get(&table).map(|t| t.schema.name.clone()),
            instance: self.instances.get(&instance).map(|i| i.name.clone()),
            ..flaw
        }
    }

    /// The head's records one by one, then the runs that they make up.
    fn head(&mut self) -> Flow {
        let path = self.reader.path();
        let mut flaws = Vec::new();
        let mut found = BTreeSet::new();
        let (mut records, mut size) = (0, 0);
        let walked = self.reader.env().read(|txn, dbs| {
            contents::each_head_record_or_flaw(path, txn, dbs, |sequence, directory, record| {
                records += 1;
                size += record.len() as u64;
                let directory = match directory {
                    Ok(directory) => directory,
                    Err(e) => {
                        let damage = head_read::record_damage(sequence, None, e);
                        flaws.push((None, Flaw::from_damage(Where::Head, damage)));
                        return Ok(());
                    }
                };
                for entry in &directory.entries {
                    let series = (entry.table, entry.instance);
                    found.insert(series);
                    let decoded = entry.payload(record).and_then(|stored| {
                        let table = self.tables.get(&entry.table).ok_or("its table is not declared")?;
                        assemble::decode(entry, stored, table.version(entry.version)?, None)
                    });
                    if let Err(e) = decoded {
                        let damage = head_read::entry_damage(sequence, entry, e);
                        flaws.push((Some(series), Flaw::from_damage(Where::Head, damage)));
                    }
                }
                Ok(())
            })
        });
        if let Err(e) = walked {
            flaws.push((None, Flaw::of(Where::Head, what(e)?)));
        }
        self.done.head_records = records;
        self.done.bytes += size;
        let broken: BTreeSet<_> = flaws.iter().filter_map(|(series, _)| *series).collect();
        let whole = flaws.is_empty();
        for (series, flaw) in flaws {
            let flaw = series.map_or(flaw.clone(), |s| self.named(flaw, s));
            go_on!(self.flaw(flaw));
        }
        for series in found {
            go_on!(self.declared(Where::Head, series));
            // What follows from a flaw that has been told is none of its own.
            if whole || !broken.contains(&series) {
                go_on!(self.head_runs(series));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn head_runs(&mut self, series: (TableId, InstanceId)) -> Flow {
        let Some(table) = self.tables.get(&series.0).cloned() else {
            return Ok(ControlFlow::Continue(()));
        };
        let mut damaged = BTreeMap::new();
        let env = self.reader.env();
        let runs = env.read(|txn, dbs| head_read::runs(self.reader.path(), txn, dbs, series, &mut damaged));
        let runs = match runs {
            Ok(runs) => runs,
            Err(e) => return self.flaw(self.named(Flaw::of(Where::Head, what(e)?), series)),
        };
        let told = damaged
            .into_values()
            .filter(|d| d.from_ns.is_some() && d.from_ns == d.to_ns);
        let told: Vec<Flaw> = told
            .map(|d| self.named(Flaw::from_damage(Where::Head, d), series))
            .collect();
        go_on!(self.flaws(told));
        let projection = Projection::new(&table, None)?;
        for samples in runs {
            if !table.is_state() {
                self.done.rows += samples.iter().map(|(_, e, _)| u64::from(e.rows)).sum::<u64>();
                continue;
            }
            let made = head_run(&table, &projection, samples.iter().map(|(_, e, p)| (e, p.as_slice())));
            match made {
                Ok(content) => self.count_state(&content, true),
                Err(flaw) => {
                    let damage = Damage {
                        flaw,
                        ..head_read::run_damage(&samples)
                    };
                    let flaw = self.named(Flaw::from_damage(Where::Head, damage), series);
                    go_on!(self.flaw(flaw));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Shards of one run have the same samples.
    fn count_state(&mut self, content: &block::Content, first_shard: bool) {
        let mut replay = Replay::new(content);
        for sample in 0..content.samples.len() {
            replay.advance(content, sample);
            self.done.rows += replay.rows().count() as u64;
        }
        self.done.samples += if first_shard { content.samples.len() as u64 } else { 0 };
    }

    /// Every block, some at a time.
    fn blocks(&mut self) -> Flow {
        self.done.blocks_total = self.series.values().map(|s| s.blocks).sum();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let batch = match self.next_blocks(after.as_deref()) {
                Ok(batch) => batch,
                Err(e) => return self.flaw(Flaw::of(Where::Page, format!("its block tree: {}", what(e)?))),
            };
            let Some((last, _)) = batch.last() else {
                return Ok(ControlFlow::Continue(()));
            };
            if after.as_ref().is_some_and(|a| a >= last) {
                let flaw = "its block tree: its keys are not in order";
                return self.flaw(Flaw::of(Where::Page, flaw));
            }
            after = Some(last.clone());
            for (key, value) in batch {
                self.done.blocks += 1;
                self.done.bytes += (key.len() + value.len()) as u64;
                go_on!(self.block(&key, &value));
            }
            self.done.blocks_total = self.done.blocks_total.max(self.done.blocks);
            go_on!(Ok::<_, StoreError>((self.tell)(Step::Progress(&self.done))));
        }
    }

    fn next_blocks(&self, after: Option<&[u8]>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.reader.env().read(|txn, dbs| {
            let walk = Walk::new(self.reader.path(), txn, dbs.block)?;
            let mut entry = match after {
                None => walk.first()?,
                Some(after) => walk.at_or_after(after)?,
            };
            if entry.is_some_and(|(key, _)| Some(key) == after) {
                entry = walk.next()?;
            }
            let (mut batch, mut size) = (Vec::new(), 0);
            while let Some((key, value)) = entry {
                size += value.len();
                batch.push((key.to_vec(), value.to_vec()));
                if batch.len() >= BLOCKS_AT_ONCE || size >= BYTES_AT_ONCE {
                    break;
                }
                entry = walk.next()?;
            }
            Ok(batch)
        })
    }

    fn block(&mut self, key: &[u8], value: &[u8]) -> Flow {
        let key = match BlockKey::decode(key) {
            Ok(key) => key,
            Err(e) => return self.flaw(Flaw::of(Where::Block, e)),
        };
        let series = (key.table, key.instance);
        let header = match block::header(&key, value) {
            Ok(header) => header,
            Err(flaw) => return self.block_flaw(&key, None, flaw),
        };
        let last_ns = header.last_ns;
        let Some(table) = self.tables.get(&key.table).cloned() else {
            // Where the series has been told of, its blocks are not told one by one.
            return match self.series.contains_key(&series) {
                true => Ok(ControlFlow::Continue(())),
                false => self.block_flaw(&key, Some(last_ns), "its table is not declared".into()),
            };
        };
        let version = table.version(header.version);
        let content = version.and_then(|version| block::content(&key, value, version, None));
        let content = match content {
            Ok(content) => content,
            Err(flaw) => return self.block_flaw(&key, Some(last_ns), flaw),
        };
        match content.kind {
            BlockKind::State => self.count_state(&content, key.shard == 0),
            BlockKind::Events => self.done.rows += content.changes.rows.num_rows() as u64,
        }
        if (content.kind == BlockKind::State) != table.is_state() {
            return self.block_flaw(&key, Some(last_ns), "its kind is not its table's".into());
        }
        match self.series.get(&series) {
            Some(s) if s.first_ns > key.start_ns || s.last_ns < last_ns => {
                self.block_flaw(&key, Some(last_ns), "it lies outside its table's span".into())
            }
            Some(_) => Ok(ControlFlow::Continue(())),
            None => self.block_flaw(&key, Some(last_ns), "its table and instance have no span".into()),
        }
    }

    fn block_flaw(&mut self, key: &BlockKey, last_ns: Option<i64>, flaw: bytes::Flaw) -> Flow {
        let flaw = Flaw::from_damage(Where::Block, block_damage(key, last_ns, flaw));
        self.flaw(self.named(flaw, (key.table, key.instance)))
    }

    /// What is said of each table and instance against its blocks, each in one transaction.
    fn counts(&mut self) -> Flow {
        for series in self.series.keys().copied().collect::<Vec<_>>() {
            let path = self.reader.path();
            let counted = self.reader.env().read(|txn, dbs| {
                let Some(said) = contents::series(path, txn, dbs, series)? else {
                    return Ok(None);
                };
                let walk = Walk::new(path, txn, dbs.block)?;
                let first = keys::pair(series.0.0, series.1.0);
                let (mut blocks, mut entry) = (0, walk.at_or_after(&first)?);
                while let Some((key, _)) = entry.filter(|(key, _)| key.starts_with(&first)) {
                    // All shards of a run count as one.
                    blocks += u64::from(BlockKey::decode(key).is_ok_and(|key| key.shard == 0));
                    entry = walk.next()?;
                }
                Ok(Some((said.blocks, blocks)))
            });
            let flaw = match counted {
                Ok(Some((said, counted))) if said != counted => {
                    format!("it has {counted} blocks where {said} are due")
                }
                Ok(_) => continue,
                Err(e) => what(e)?,
            };
            go_on!(self.flaw(self.named(Flaw::of(Where::Series, flaw), series)));
        }
        Ok(ControlFlow::Continue(()))
    }

    fn durable(&mut self) -> Flow {
        let dbs = self.reader.env().read(|_, dbs| Ok(*dbs))?;
        for (name, db) in [("state", dbs.state), ("outbox", dbs.outbox), ("record", dbs.record)] {
            for (key, value) in self.entries(name, db)? {
                if let Err(e) = bytes::check(&key, &value) {
                    let flaw = format!("{name} {}: {e}", String::from_utf8_lossy(&key).escape_debug());
                    go_on!(self.flaw(Flaw::of(Where::Durable, flaw)));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// What is damaged, without the file's name; any other error is one of the check itself.
fn what(error: StoreError) -> Result<String> {
    match error {
        StoreError::Damaged { what, .. } | StoreError::NotAStore { what, .. } => Ok(what),
        StoreError::DamagedPart { damage, .. } => Ok(damage.flaw),
        StoreError::Lmdb { op, source, .. } => Ok(format!("LMDB could not {op}: {source}")),
        other => Err(other),
    }
}
