//! A state block read column by column: its picture, moved forward sample by sample.
//!
//! Each column is a vector of the entities' values as they stand; a sample applies what changed, and a picture is a copy of
//! those vectors. So a scan costs about a nanosecond a value, and a block whose entities cannot fulfil a scan's conditions
//! costs its header. Cost of a picture at a time: decoding the wanted columns.

use crate::block::Header;
use crate::bytes::Flaw;
use crate::columns::bounds::fulfilling;
use crate::columns::shape::Shape;
use crate::columns::typed::{Column, Emitted, Entities};
use crate::columns::{Directory, Parts};
use crate::payload;
use crate::schema::Version;
use crate::types::Test;
use arrow_array::RecordBatch;
use std::sync::Arc;

/// A condition on a column of the block's version.
pub(crate) type OnColumn = (usize, Test);

/// Whether some row of a block may fulfil the conditions, by what its directory says.
pub(crate) fn admits(directory: &Directory, conditions: &[OnColumn]) -> bool {
    let admits = |(column, test): &OnColumn| directory.summary(column + 1).is_none_or(|s| s.admits(test));
    conditions.iter().all(admits)
}

/// Rows of chosen entities that may bring them back: those of entities that go at some time, with the samples that they are of.
fn come_back(shape: &Shape, chosen: Option<&Chosen>) -> Vec<(u32, u32)> {
    if shape.gone.is_empty() {
        return Vec::new();
    }
    let mut goes = vec![false; shape.entities];
    for &e in &shape.gone {
        goes[e as usize] = true;
    }
    let row = |row: u32| {
        let e = shape.later[row as usize];
        let sample = || shape.later_ends.partition_point(|&end| end <= row) as u32;
        goes[e as usize].then(|| (sample(), e))
    };
    match chosen {
        Some(chosen) => chosen.later.iter().copied().filter_map(row).collect(),
        None => (0..shape.later.len() as u32).filter_map(row).collect(),
    }
}

#[derive(Debug)]
struct Chosen {
    flags: Vec<bool>,
    list: Vec<u32>,
    /// Their rows among the later ones.
    later: Vec<u32>,
}

impl Chosen {
    fn new(flags: Vec<bool>, shape: &Shape) -> Chosen {
        let list = (0u32..).zip(&flags).filter(|(_, f)| **f).map(|(e, _)| e);
        let later = (0u32..).zip(&shape.later).filter(|(_, e)| flags[**e as usize]);
        Chosen {
            list: list.collect(),
            later: later.map(|(row, _)| row).collect(),
            flags,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Moving {
    version: Arc<Version>,
    wanted: Vec<usize>,
    shape: Shape,
    /// Bytes of the block's rows as plain columns.
    raw_bytes: u64,
    columns: Vec<Column>,
    /// Entities that rows are wanted of, rising; None for all.
    chosen: Option<Chosen>,
    alive: Vec<bool>,
    /// Samples in which chosen entities have a row after they had gone, and those.
    back: Vec<(u32, u32)>,
    next_back: usize,
    /// Those that are alive and chosen.
    list: Vec<u32>,
    /// The list is the first so many entities, each.
    dense: bool,
    next: usize,
}

impl Moving {
    /// The wanted columns of a block. None when no entity in it fulfils the conditions; those on columns whose values change
    /// are left to the caller.
    pub fn open(
        header: Header,
        mut parts: Parts,
        version: &Arc<Version>,
        wanted: Vec<usize>,
        conditions: &[OnColumn],
    ) -> Result<Option<Moving>, Flaw> {
        let shape = header.shape(&mut parts)?;
        let mut decode = |i: usize, chosen: Option<&[u32]>| {
            let field = version.arrow.field(i);
            let what = |e: Flaw| format!("column {}: {e}", field.name());
            let raw = parts.item(i + 1)?;
            Column::decode_some(field.data_type(), raw, shape.entities, &shape.later, chosen).map_err(what)
        };
        let mut decoded: Vec<Option<Column>> = wanted.iter().map(|_| None).collect();
        let mut chosen: Option<Vec<bool>> = None;
        for (column, test) in conditions {
            let Some(place) = wanted.iter().position(|w| w == column) else {
                continue;
            };
            if decoded[place].is_none() {
                decoded[place] = Some(decode(*column, None)?);
            }
            let Some(values) = decoded[place].as_ref().filter(|c| c.is_constant()) else {
                continue;
            };
            let kind = version.arrow.field(*column).data_type();
            let flags = fulfilling(kind, (0..shape.entities).map(|e| values.value(e)), test);
            chosen = Some(match chosen {
                None => flags,
                Some(before) => before.into_iter().zip(flags).map(|(a, b)| a && b).collect(),
            });
        }
        if chosen.as_ref().is_some_and(|c| !c.contains(&true)) {
            return Ok(None);
        }
        let chosen = chosen.map(|flags| Chosen::new(flags, &shape));
        let columns = decoded.into_iter().zip(&wanted).map(|(done, &i)| match done {
            Some(column) => Ok(column),
            None => decode(i, chosen.as_ref().map(|c| c.later.as_slice())),
        });
        Ok(Some(Moving {
            columns: columns.collect::<Result<_, _>>()?,
            alive: vec![false; shape.entities],
            back: come_back(&shape, chosen.as_ref()),
            next_back: 0,
            list: Vec::new(),
            dense: true,
            next: 0,
            version: version.clone(),
            wanted,
            shape,
            raw_bytes: header.raw_bytes,
            chosen,
        }))
    }

    /// Moves on to a sample. Only forward.
    pub fn advance(&mut self, sample: usize) {
        if self.next > sample {
            return;
        }
        let chosen = self.chosen.as_ref().map(|c| c.flags.as_slice());
        let is_chosen = |e: usize| chosen.is_none_or(|c| c[e]);
        let mut changed = false;
        for s in self.next..=sample {
            for &e in &self.shape.gone[self.shape.gone_of(s)] {
                changed |= std::mem::replace(&mut self.alive[e as usize], false) && is_chosen(e as usize);
            }
            while let Some(&(_, e)) = self.back.get(self.next_back).filter(|(at, _)| *at as usize == s) {
                changed |= !std::mem::replace(&mut self.alive[e as usize], true);
                self.next_back += 1;
            }
            for e in self.shape.born_of(s) {
                changed |= is_chosen(e);
                self.alive[e] = true;
            }
        }
        self.next = sample + 1;
        for column in &mut self.columns {
            column.advance(&self.shape.later, self.shape.later_ends[sample]);
        }
        if changed {
            let alive = |e: &u32| self.alive[*e as usize];
            self.list = match &self.chosen {
                Some(chosen) => chosen.list.iter().copied().filter(alive).collect(),
                None => (0..self.alive.len() as u32).filter(alive).collect(),
            };
            self.dense = self.list.last().is_none_or(|&e| e as usize + 1 == self.list.len());
        }
    }

    /// Rows of the picture as it stands.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// Most rows that so many samples have.
    pub fn most(&self, samples: usize) -> usize {
        let entities = self.chosen.as_ref().map_or(self.alive.len(), |c| c.list.len());
        entities.saturating_mul(samples)
    }

    /// An empty batch's worth of columns.
    pub fn begin(&self, rows: usize) -> Vec<Emitted> {
        self.columns.iter().map(|_| Emitted::with_capacity(rows)).collect()
    }

    /// Appends the picture as it stands.
    pub fn emit(&self, out: &mut [Emitted]) {
        let entities = match self.dense {
            true => Entities::First(self.list.len()),
            false => Entities::These(&self.list),
        };
        for (column, out) in self.columns.iter().zip(out) {
            column.emit(entities, out);
        }
    }

    /// The emitted rows in the wanted columns of the version.
    pub fn batch(&self, emitted: Vec<Emitted>, rows: usize) -> Result<RecordBatch, Flaw> {
        // Rows of one picture are different rows of the block.
        let columns = self.columns.iter().zip(emitted).map(|(column, e)| {
            let text_bytes = self.raw_bytes.saturating_mul(e.times);
            column.array(e, text_bytes)
        });
        payload::batch(
            &self.version.arrow,
            &self.wanted,
            columns.collect::<Result<_, _>>()?,
            rows,
        )
    }
}
