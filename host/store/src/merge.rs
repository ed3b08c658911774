//! Neighbouring blocks of one table and instance as one, and thinning: the full picture that each block begins with is most of
//! a block of a minute, and all but the first repeat what the block before them ends with.
//!
//! State: an entity that is in two blocks keeps its slot, and a later block's first picture leaves only the rows that differ
//! from the last ones of the block before; a key that ended and came back has a new slot. Of samples that are thinned away,
//! the next one that is kept has the rows. Events: sorted by time, those of one time in the order in which they were recorded.
//!
//! Works column by column on the stored bytes: once to compare the pictures that meet, once to encode. Cost: decoding each
//! column of each block twice; memory: the blocks without their compression, and one column.

use crate::assemble::Frame;
use crate::block::{self, SampleTime};
use crate::bytes::Flaw;
use crate::columns::Parts;
use crate::columns::shape::Shape;
use crate::columns::typed::{Column, Value};
use crate::draft::{Draft, Piece, Rows, Step};
use crate::keys::BlockKey;
use crate::payload;
use crate::schema::Version;
use crate::thin;
use std::collections::HashMap;
use std::sync::Arc;

const NONE: u32 = u32::MAX;

/// Blocks of one run as stored.
pub(crate) type Blocks = Vec<(BlockKey, Vec<u8>)>;

/// Events of one version as one run.
pub(crate) fn events(version: &Arc<Version>, runs: Vec<Blocks>) -> Result<Draft, Flaw> {
    let piece = |(key, value): &(BlockKey, Vec<u8>)| {
        let header = block::header(key, value)?;
        let parts = parts(&header, value, version)?;
        Piece::of_rows(parts, header.rows as usize, None)
    };
    let pieces = runs
        .iter()
        .flatten()
        .map(|b| piece(b).map_err(|e| format!("{}: {e}", b.0)));
    Draft::events(version, pieces.collect::<Result<_, Flaw>>()?)
}

/// State of one version as one run, each part later than the one before; of its samples those that thinning leaves. None
/// when that is none.
pub(crate) fn state(version: &Arc<Version>, runs: Vec<Blocks>, every_ns: Option<u64>) -> Result<Option<Draft>, Flaw> {
    let mut before = None;
    let mut opened = Vec::with_capacity(runs.len());
    for blocks in runs {
        let run = Run::open(version, blocks, every_ns, &mut before)?;
        if !run.kept.is_empty() {
            opened.push(run);
        }
    }
    if opened.is_empty() {
        return Ok(None);
    }
    let mut joined = Joined::new(version, opened)?;
    joined.compare()?;
    joined.draft(every_ns).map(Some)
}

/// All columns of a block.
fn parts(header: &block::Header, value: &[u8], version: &Version) -> Result<Parts, Flaw> {
    let wanted = payload::wanted(&version.arrow, None);
    header.parts(value, header.directory(value, version)?, &wanted)
}

/// A block of a run, by entity.
struct Shard {
    parts: Parts,
    shape: Shape,
    /// Of each sample that is kept: entities that have a new row since the one before, rising.
    rows: Vec<Vec<u32>>,
    /// Those of the picture at the sample kept before that are in this one no more.
    gone: Vec<Vec<u32>>,
    /// Whether they are in the picture at the last sample kept.
    at_end: Vec<bool>,
    /// Slots in the whole, [`NONE`] before the first row there.
    slots: Vec<u32>,
}

struct Run {
    samples: Vec<SampleTime>,
    /// Places of the samples that stay.
    kept: Vec<usize>,
    shards: Vec<Shard>,
}

impl Run {
    /// `before` is the thinning's step of the last sample before, and after, the run.
    fn open(version: &Version, blocks: Blocks, every_ns: Option<u64>, before: &mut Option<i64>) -> Result<Run, Flaw> {
        let mut run = Run {
            samples: Vec::new(),
            kept: Vec::new(),
            shards: Vec::new(),
        };
        for (key, value) in blocks {
            let named = |e: Flaw| format!("{key}: {e}");
            let header = block::header(&key, &value).map_err(named)?;
            if run.shards.is_empty() {
                run.samples.clone_from(&header.samples);
                run.kept = match every_ns {
                    Some(every) => thin::kept(&run.samples, every, *before),
                    None => (0..run.samples.len()).collect(),
                };
            } else if run.samples != header.samples {
                return Err(named("its shards have different samples".into()));
            }
            let shard = Shard::open(&header, &value, version, &run.kept);
            run.shards.push(shard.map_err(named)?);
        }
        if let (Some(every), Some(last)) = (every_ns, run.samples.last()) {
            *before = Some(thin::step(last.time_ns, every));
        }
        Ok(run)
    }

    /// A column of each block, at a sample.
    fn columns(&self, version: &Version, column: usize, sample: usize) -> Result<Vec<Column>, Flaw> {
        let at = |shard: &Shard| {
            let mut decoded = shard.column(version, column)?;
            decoded.advance(&shard.shape.later, shard.shape.later_ends[sample]);
            Ok(decoded)
        };
        self.shards.iter().map(at).collect()
    }
}

impl Shard {
    fn open(header: &block::Header, value: &[u8], version: &Version, kept: &[usize]) -> Result<Shard, Flaw> {
        let mut parts = parts(header, value, version)?;
        let shape = header.shape(&mut parts)?;
        parts.check()?;
        let mut shard = Shard {
            rows: Vec::with_capacity(kept.len()),
            gone: Vec::with_capacity(kept.len()),
            at_end: vec![false; shape.entities],
            slots: vec![NONE; shape.entities],
            parts,
            shape,
        };
        shard.walk(kept);
        Ok(shard)
    }

    /// Finds what changes from one kept sample to the next.
    fn walk(&mut self, kept: &[usize]) {
        let shape = &self.shape;
        let mut alive = vec![false; shape.entities];
        let mut touched = vec![false; shape.entities];
        let mut next = 0;
        for &sample in kept {
            let mut list = Vec::new();
            let mut touch = |e: u32, lives: bool| {
                alive[e as usize] = lives;
                if !std::mem::replace(&mut touched[e as usize], true) {
                    list.push(e);
                }
            };
            for s in next..=sample {
                shape.gone[shape.gone_of(s)].iter().for_each(|&e| touch(e, false));
                shape.later[shape.later_of(s)].iter().for_each(|&e| touch(e, true));
                shape.born_of(s).for_each(|e| touch(e as u32, true));
            }
            next = sample + 1;
            list.sort_unstable();
            let (mut rows, mut gone) = (Vec::with_capacity(list.len()), Vec::new());
            for e in list {
                touched[e as usize] = false;
                let shown = &mut self.at_end[e as usize];
                match (alive[e as usize], *shown) {
                    (true, _) => rows.push(e),
                    (false, true) => gone.push(e),
                    (false, false) => {}
                }
                *shown = alive[e as usize];
            }
            self.rows.push(rows);
            self.gone.push(gone);
        }
    }

    fn column(&self, version: &Version, column: usize) -> Result<Column, Flaw> {
        let field = version.arrow.field(column);
        let raw = self.parts.opened(column + 1)?;
        Column::decode(field.data_type(), raw, self.shape.entities, &self.shape.later)
            .map_err(|e| format!("column {}: {e}", field.name()))
    }

    /// The key of each entity; a table without key columns has one entity.
    fn keys(&self, version: &Version) -> Result<Vec<Box<[u8]>>, Flaw> {
        let columns = version.keys.iter().map(|&i| self.column(version, i));
        let columns = columns.collect::<Result<Vec<_>, Flaw>>()?;
        if !columns.iter().all(Column::is_constant) {
            return Err("an entity whose key changes".into());
        }
        let key = |e: usize| {
            let mut key = Vec::new();
            for column in &columns {
                match column.value(e) {
                    None => key.push(0),
                    Some(Value::Number(n)) => {
                        key.push(1);
                        key.extend_from_slice(&n.to_le_bytes());
                    }
                    Some(Value::Float(f)) => {
                        key.push(2);
                        key.extend_from_slice(&f.to_bits().to_le_bytes());
                    }
                    Some(Value::Text(text)) => {
                        key.push(3);
                        key.extend_from_slice(&(text.len() as u64).to_le_bytes());
                        key.extend_from_slice(text);
                    }
                }
            }
            key.into_boxed_slice()
        };
        Ok((0..self.shape.entities).map(key).collect())
    }
}

/// An entity in a block of a run.
#[derive(Clone, Copy)]
struct Entity {
    shard: u32,
    entity: u32,
}

/// An entity at the end of a run and, by its key, at the beginning of the next.
struct Pair {
    old: Entity,
    new: Entity,
    differs: bool,
}

/// Runs whose entities have been found in one another.
struct Joined<'a> {
    version: &'a Arc<Version>,
    runs: Vec<Run>,
    /// Of each run with the one before; none of the first.
    pairs: Vec<Vec<Pair>>,
    /// Slots that have no entity in the run that follows: the run where they end.
    ended: Vec<(usize, u32)>,
    slots: u32,
}

impl Joined<'_> {
    fn new(version: &Arc<Version>, mut runs: Vec<Run>) -> Result<Joined<'_>, Flaw> {
        let mut pairs = Vec::with_capacity(runs.len());
        let mut ended = Vec::new();
        let mut slots = 0;
        // What is in the picture at the end of the run before: by key, with its slot.
        let mut live: HashMap<Box<[u8]>, (Entity, u32)> = HashMap::new();
        let last = runs.len() - 1;
        for (r, run) in runs.iter_mut().enumerate() {
            let mut of_run = Vec::new();
            let mut next = HashMap::new();
            for (shard, s) in (0u32..).zip(&mut run.shards) {
                let mut keys = match last {
                    0 => Vec::new(),
                    _ => s.keys(version)?,
                };
                for &entity in s.rows.first().map_or(&[][..], Vec::as_slice) {
                    let found = keys.get(entity as usize).and_then(|key| live.remove(key));
                    let Some((old, slot)) = found else { continue };
                    s.slots[entity as usize] = slot;
                    of_run.push(Pair {
                        old,
                        new: Entity { shard, entity },
                        differs: false,
                    });
                }
                for &entity in s.rows.iter().flatten() {
                    if s.slots[entity as usize] == NONE {
                        s.slots[entity as usize] = slots;
                        slots += 1;
                    }
                }
                for (entity, key) in (0u32..).zip(&mut keys) {
                    if s.at_end[entity as usize] {
                        let slot = s.slots[entity as usize];
                        next.insert(std::mem::take(key), (Entity { shard, entity }, slot));
                    }
                }
            }
            ended.extend(live.into_values().map(|(_, slot)| (r, slot)));
            live = next;
            pairs.push(of_run);
        }
        ended.sort_unstable();
        Ok(Joined {
            version,
            runs,
            pairs,
            ended,
            slots,
        })
    }

    /// Finds the pairs that differ in some column.
    fn compare(&mut self) -> Result<(), Flaw> {
        if self.runs.len() < 2 {
            return Ok(());
        }
        for column in 0..self.version.arrow.fields().len() {
            if self.version.keys.contains(&column) {
                continue;
            }
            let mut before: Vec<Column> = Vec::new();
            for (run, pairs) in self.runs.iter().zip(&mut self.pairs) {
                let (Some(&first), Some(&last)) = (run.kept.first(), run.kept.last()) else {
                    continue;
                };
                let mut now = run.columns(self.version, column, first)?;
                for pair in pairs.iter_mut().filter(|p| !p.differs) {
                    let old = before[pair.old.shard as usize].value(pair.old.entity as usize);
                    let new = now[pair.new.shard as usize].value(pair.new.entity as usize);
                    pair.differs = !same(old, new);
                }
                for (decoded, shard) in now.iter_mut().zip(&run.shards) {
                    decoded.advance(&shard.shape.later, shard.shape.later_ends[last]);
                }
                before = now;
            }
        }
        Ok(())
    }

    fn draft(self, every_ns: Option<u64>) -> Result<Draft, Flaw> {
        let mut frame = Frame {
            version: self.version.number,
            ..Frame::default()
        };
        let mut pieces = Vec::new();
        let mut ended = self.ended.iter().peekable();
        for (r, (run, pairs)) in self.runs.into_iter().zip(self.pairs).enumerate() {
            let offset = frame.samples.len() as u32;
            frame
                .samples
                .extend(run.kept.iter().map(|&i| thinned(run.samples[i], every_ns)));
            while let Some((_, slot)) = ended.next_if(|(run, _)| *run == r) {
                frame.gone_at.push(offset);
                frame.gone_slot.push(*slot);
            }
            let mut same: Vec<Vec<bool>> = run.shards.iter().map(|s| vec![false; s.slots.len()]).collect();
            for Pair { new, .. } in pairs.iter().filter(|p| !p.differs) {
                same[new.shard as usize][new.entity as usize] = true;
            }
            for (mut shard, same) in run.shards.into_iter().zip(same) {
                if let Some(first) = shard.rows.first_mut() {
                    first.retain(|&e| !same[e as usize]);
                }
                let mut steps = Vec::with_capacity(run.kept.len());
                let changes = shard.rows.into_iter().zip(&shard.gone);
                for ((at, &sample), (rows, gone)) in (offset..).zip(&run.kept).zip(changes) {
                    let slot = |e: &u32| shard.slots[*e as usize];
                    frame.gone_slot.extend(gone.iter().map(slot));
                    frame.gone_at.resize(frame.gone_slot.len(), at);
                    frame.slot.extend(rows.iter().map(slot));
                    frame.at.resize(frame.slot.len(), at);
                    steps.push(Step {
                        later_end: shard.shape.later_ends[sample],
                        rows: Rows::Of(rows),
                    });
                }
                let Shard { parts, shape, .. } = shard;
                pieces.push(Piece::new(parts, shape.entities, shape.later, steps)?);
            }
        }
        debug_assert!(frame.slots() <= self.slots);
        Ok(Draft::state(self.version.clone(), frame, pieces))
    }
}

/// Floats by their bits: a NaN that stays is no change, and -0.0 after 0.0 is one.
fn same(old: Option<Value<'_>>, new: Option<Value<'_>>) -> bool {
    match (old, new) {
        (Some(Value::Float(old)), Some(Value::Float(new))) => old.to_bits() == new.to_bits(),
        (old, new) => old == new,
    }
}

/// A sample that is kept lasts until the next one.
fn thinned(mut sample: SampleTime, every_ns: Option<u64>) -> SampleTime {
    if let Some(every_ns) = every_ns.filter(|_| sample.interval_ns > 0) {
        sample.interval_ns = sample.interval_ns.max(every_ns);
    }
    sample
}
