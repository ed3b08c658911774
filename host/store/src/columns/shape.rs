//! Which row belongs to which sample and which entity: the first item of every payload of state rows.
//!
//! In a block rows are sorted by sample, then by entity, and entities are numbered in the order of their first rows. So a
//! sample's rows are some entities that were there before, in rising order, and then the next new ones, of which only the count
//! is stored.

use super::lane::Plan;
use super::numbers::{self, bits_at, put_bits, put_varint};
use crate::bytes::{Bytes, Flaw};
use crate::head::{Entry, Kind};
use crate::payload::Changes;
use std::ops::Range;

/// Most rows of one payload: what is allocated for numbers that have no bytes of their own.
pub(crate) const ROWS_LIMIT: usize = 1 << 24;

/// The shape of a block.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    pub entities: usize,
    /// After each sample: entities that have had their first row.
    pub born: Vec<u32>,
    /// After each sample: rows that are not first ones.
    pub later_ends: Vec<u32>,
    /// Entity of each of those.
    pub later: Vec<u32>,
    /// After each sample: entities that have gone.
    pub gone_ends: Vec<u32>,
    pub gone: Vec<u32>,
}

/// Rows of a block in the order in which they are encoded.
#[derive(Debug)]
pub(crate) struct Ordered {
    /// Their places among the rows of the run.
    pub order: Vec<u32>,
    pub plan: Plan,
    shape: Shape,
}

/// Which sample and which slot each row of a run belongs to, and what has gone when; in any order.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Places<'a> {
    pub at: &'a [u32],
    pub slot: &'a [u32],
    pub gone_at: &'a [u32],
    pub gone_slot: &'a [u32],
}

impl Ordered {
    /// The rows of the slots in `own`, of samples below `samples`. Slots become entities in the order of their first rows.
    pub fn new(places: Places<'_>, own: Range<u32>, samples: usize) -> Result<Ordered, Flaw> {
        let Places { at, slot, .. } = places;
        let mut order: Vec<u32> = (0..at.len() as u32)
            .filter(|&i| own.contains(&slot[i as usize]))
            .collect();
        let rows = order.len();
        if rows > ROWS_LIMIT {
            return Err(format!("{rows} rows; the limit is {ROWS_LIMIT}"));
        }
        order.sort_by_key(|&i| (at[i as usize], slot[i as usize]));
        let mut entity_of = vec![u32::MAX; own.len()];
        let mut plan = Plan {
            entities: 0,
            entity: Vec::with_capacity(rows),
            first: Vec::with_capacity(rows),
        };
        let mut shape = Shape::default();
        let mut next = order.iter().peekable();
        for sample in 0..samples as u32 {
            let begin = shape.later.len();
            while let Some(&&row) = next.peek()
                && at[row as usize] == sample
            {
                let entity = &mut entity_of[(slot[row as usize] - own.start) as usize];
                let first = *entity == u32::MAX;
                if first {
                    *entity = plan.entities as u32;
                    plan.entities += 1;
                } else {
                    shape.later.push(*entity);
                }
                plan.entity.push(*entity);
                plan.first.push(first);
                next.next();
            }
            shape.later_ends.push(shape.later.len() as u32);
            shape.born.push(plan.entities as u32);
            if !shape.later[begin..].is_sorted_by(|a, b| a < b) {
                return Err("an entity with two rows in one sample".into());
            }
        }
        if next.next().is_some() {
            return Err("rows of a sample that is not there".into());
        }
        shape.entities = plan.entities;
        shape.goners(places, own, samples, &entity_of)?;
        Ok(Ordered { order, plan, shape })
    }

    /// Those of the slots in `own` that have gone, in number.
    pub fn gone(&self) -> usize {
        self.shape.gone.len()
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        self.shape.encode(out);
    }

    /// Rows of the pictures at all samples.
    pub fn picture_rows(&self) -> u64 {
        let shape = &self.shape;
        let mut alive = vec![false; shape.entities];
        let (mut count, mut rows) = (0, 0);
        for sample in 0..shape.born.len() {
            for &e in &shape.gone[shape.gone_of(sample)] {
                count -= u64::from(std::mem::replace(&mut alive[e as usize], false));
            }
            for &e in &shape.later[shape.later_of(sample)] {
                count += u64::from(!std::mem::replace(&mut alive[e as usize], true));
            }
            for e in shape.born_of(sample) {
                alive[e] = true;
                count += 1;
            }
            rows += count;
        }
        rows
    }
}

impl Shape {
    fn goners(&mut self, places: Places<'_>, own: Range<u32>, samples: usize, entity_of: &[u32]) -> Result<(), Flaw> {
        let mut gone: Vec<(u32, u32)> = Vec::new();
        for (&at, &slot) in places.gone_at.iter().zip(places.gone_slot) {
            if slot < own.start || slot >= own.end {
                continue;
            }
            let entity = entity_of[(slot - own.start) as usize];
            if entity == u32::MAX {
                return Err("an entity is gone that never was".into());
            }
            gone.push((at, entity));
        }
        gone.sort_unstable();
        for sample in 0..samples as u32 {
            let until = gone.partition_point(|&(at, _)| at <= sample);
            self.gone_ends.push(until as u32);
        }
        self.gone = gone.into_iter().map(|(_, e)| e).collect();
        Ok(())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for ends in [&self.born, &self.later_ends, &self.gone_ends] {
            numbers::encode(&counts(ends), out);
        }
        numbers::encode(&gaps(&self.later, &self.later_ends), out);
        numbers::encode(&gaps(&self.gone, &self.gone_ends), out);
    }

    pub fn decode(raw: &[u8], samples: usize, rows: usize, gone: usize) -> Result<Shape, Flaw> {
        let mut bytes = Bytes::new(raw);
        let born = ends(&numbers::decode(&mut bytes, samples)?)?;
        let later_ends = ends(&numbers::decode(&mut bytes, samples)?)?;
        let gone_ends = ends(&numbers::decode(&mut bytes, samples)?)?;
        let last = |ends: &[u32]| ends.last().map_or(0, |&n| n as usize);
        let (entities, later) = (last(&born), last(&later_ends));
        if entities + later != rows || last(&gone_ends) != gone || rows > ROWS_LIMIT || gone > ROWS_LIMIT {
            return Err(format!("{} rows where {rows} are due", entities + later));
        }
        let later = from_gaps(numbers::decode_narrow(&mut bytes, later)?, &later_ends, &born)?;
        let gone = from_gaps(numbers::decode_narrow(&mut bytes, gone)?, &gone_ends, &born)?;
        if !bytes.rest().is_empty() {
            return Err("bytes after the shape".into());
        }
        Ok(Shape {
            entities,
            born,
            later_ends,
            later,
            gone_ends,
            gone,
        })
    }

    /// Rows that came until and with a sample that are not first ones, and those of the samples before it.
    pub fn later_of(&self, sample: usize) -> std::ops::Range<usize> {
        range(&self.later_ends, sample)
    }

    pub fn gone_of(&self, sample: usize) -> std::ops::Range<usize> {
        range(&self.gone_ends, sample)
    }

    pub fn born_of(&self, sample: usize) -> std::ops::Range<usize> {
        range(&self.born, sample)
    }
}

fn range(ends: &[u32], sample: usize) -> std::ops::Range<usize> {
    let begin = sample.checked_sub(1).map_or(0, |s| ends[s] as usize);
    begin..ends[sample] as usize
}

fn counts(ends: &[u32]) -> Vec<i64> {
    let mut before = 0;
    let count = |&end: &u32| i64::from(end) - i64::from(std::mem::replace(&mut before, end));
    ends.iter().map(count).collect()
}

fn ends(counts: &[i64]) -> Result<Vec<u32>, Flaw> {
    let mut end = 0u32;
    let mut add = |&count: &i64| {
        end = u32::try_from(count)
            .ok()
            .and_then(|c| end.checked_add(c))
            .ok_or("a count out of range")?;
        Ok(end)
    };
    counts.iter().map(&mut add).collect()
}

/// Rising numbers of each sample as the distance to the one before.
fn gaps(entities: &[u32], ends: &[u32]) -> Vec<i64> {
    let mut out = Vec::with_capacity(entities.len());
    for sample in 0..ends.len() {
        let mut next = 0;
        for &e in &entities[range(ends, sample)] {
            out.push(i64::from(e) - next);
            next = i64::from(e) + 1;
        }
    }
    out
}

/// Undoes [`gaps`]; each number is below the count of entities after its sample.
fn from_gaps(mut gaps: Vec<u32>, ends: &[u32], born: &[u32]) -> Result<Vec<u32>, Flaw> {
    for sample in 0..ends.len() {
        let mut next = 0u64;
        for gap in &mut gaps[range(ends, sample)] {
            let e = next + u64::from(*gap);
            if e >= u64::from(born[sample]) {
                return Err("an entity that is not there".into());
            }
            *gap = e as u32;
            next = e + 1;
        }
    }
    Ok(gaps)
}

/// The shape of one sample in the head: slots that other records know too, flags, the gone.
pub(crate) fn encode_head(changes: &Changes, out: &mut Vec<u8>) {
    put_varint(out, changes.slot.len() as u64);
    numbers::encode(&wide(&changes.slot), out);
    let changed: Vec<bool> = changes.at.iter().map(|&a| a != 0).collect();
    out.push(u8::from(changed.contains(&true)));
    if changed.contains(&true) {
        put_bits(out, &changed);
    }
    numbers::encode(&wide(&changes.gone_slot), out);
}

fn wide(numbers: &[u32]) -> Vec<i64> {
    numbers.iter().map(|&n| i64::from(n)).collect()
}

/// The shape of one sample in the head; no slots at all for events.
#[derive(Debug)]
pub(crate) struct HeadShape {
    pub slot: Vec<u32>,
    pub at: Vec<u32>,
    pub gone_slot: Vec<u32>,
}

impl HeadShape {
    /// Which rows the sample changed; None for all.
    pub fn changed(&self, entry: &Entry) -> Option<Vec<u32>> {
        match entry.kind {
            Kind::Keyframe { .. } => {
                let changed = (0u32..).zip(&self.at).filter(|(_, at)| **at != 0);
                Some(changed.map(|(row, _)| row).collect())
            }
            Kind::Delta | Kind::Events => None,
        }
    }
}

/// Undoes [`encode_head`] for `rows` rows and `gone` gone ones.
pub(crate) fn decode_head(raw: &[u8], rows: usize, gone: usize) -> Result<HeadShape, Flaw> {
    let mut bytes = Bytes::new(raw);
    if rows > ROWS_LIMIT || gone > ROWS_LIMIT {
        return Err(format!("{rows} rows and {gone} gone; the limit is {ROWS_LIMIT}"));
    }
    let slots = numbers::size(&mut bytes)?;
    if slots != rows && slots != 0 {
        return Err(format!("slots of {slots} rows where {rows} are due"));
    }
    let slot = numbers::decode_narrow(&mut bytes, slots)?;
    let at = match bytes.u8()? {
        0 => vec![0; slots],
        _ => bits_at(&mut bytes, slots)?.into_iter().map(u32::from).collect(),
    };
    let gone_slot = numbers::decode_narrow(&mut bytes, gone)?;
    if !bytes.rest().is_empty() {
        return Err("bytes after the shape".into());
    }
    Ok(HeadShape { slot, at, gone_slot })
}
