//! Runs that are made from other payloads: samples of the head, or blocks. What sealing, merging and thinning write.
//!
//! The rows stay as they are stored until a column is asked for, so making a block needs room for the compact bytes of what it
//! is made from and for one column, not for all rows.
//!
//! **Invariant:** a *piece* has been checked against its checksums when it is made. Columns that are wrong all the same are found
//! when they are decoded, see [`Piece::sound`].

use crate::assemble::Frame;
use crate::block::{BlockKind, SampleTime};
use crate::bytes::Flaw;
use crate::columns::shape::Places;
use crate::columns::typed::{Column, Emitted, Entities, Flat, Gathered};
use crate::columns::{Packer, Parts};
use crate::encode::{self, Columns, Outline};
use crate::head::Entry;
use crate::keys::BlockKey;
use crate::payload::Opened;
use crate::schema::Version;
use arrow_schema::DataType;
use std::rc::Rc;
use std::sync::Arc;

/// Events of one hour go into one block, so that a late row (a gap that is told of after it) does not stretch the block.
const HOUR_NS: i64 = 3_600_000_000_000;

/// A payload, and which of its rows are taken.
pub(crate) struct Piece {
    parts: Parts,
    /// Entities of a block; rows of a sample of the head or of a block of events.
    entities: usize,
    /// Entity of each row that is not an entity's first.
    later: Vec<u32>,
    steps: Vec<Step>,
}

/// Rows that are taken when the first `later_end` later rows have been applied.
pub(crate) struct Step {
    pub later_end: u32,
    pub rows: Rows,
}

pub(crate) enum Rows {
    First(usize),
    Of(Vec<u32>),
}

impl Rows {
    fn count(&self) -> usize {
        match self {
            Rows::First(n) => *n,
            Rows::Of(list) => list.len(),
        }
    }
}

impl Piece {
    /// All columns have been read.
    pub fn new(mut parts: Parts, entities: usize, later: Vec<u32>, steps: Vec<Step>) -> Result<Piece, Flaw> {
        parts.check()?;
        Ok(Piece {
            parts,
            entities,
            later,
            steps,
        })
    }

    /// All or some of the rows of a payload without later rows.
    pub fn of_rows(parts: Parts, count: usize, some: Option<Vec<u32>>) -> Result<Piece, Flaw> {
        let rows = some.map_or(Rows::First(count), Rows::Of);
        let step = Step { later_end: 0, rows };
        Piece::new(parts, count, Vec::new(), vec![step])
    }

    fn rows(&self) -> usize {
        self.steps.iter().map(|s| s.rows.count()).sum()
    }

    fn gather(&self, column: usize, kind: &DataType, all: &mut Gathered) -> Result<(), Flaw> {
        let mut column = Column::decode(kind, self.parts.opened(column + 1)?, self.entities, &self.later)?;
        let mut emitted = Emitted::with_capacity(self.rows());
        for step in &self.steps {
            column.advance(&self.later, step.later_end);
            let entities = match &step.rows {
                Rows::First(n) => Entities::First(*n),
                Rows::Of(list) => Entities::These(list),
            };
            column.emit(entities, &mut emitted);
        }
        all.add(&column, &emitted)
    }

    /// Whether all its columns can be decoded. Costs about as much as encoding, so it is asked when that has failed.
    pub fn sound(&self, version: &Version) -> Result<(), Flaw> {
        (0..version.arrow.fields().len()).try_for_each(|column| {
            let kind = version.arrow.field(column).data_type();
            let decoded = Column::decode(kind, self.parts.opened(column + 1)?, self.entities, &self.later);
            decoded.map(|_| ())
        })
    }
}

/// Where a draft's samples are, and which rows are whose.
enum Kind {
    State(Frame),
    /// Order of the rows by time; None when they lie in it.
    Events {
        order: Option<Vec<u32>>,
        first_ns: i64,
        last_ns: i64,
    },
}

/// A run about to become blocks.
pub(crate) struct Draft {
    version: Arc<Version>,
    kind: Kind,
    pieces: Rc<Vec<Piece>>,
}

impl Draft {
    /// The rows of the pieces, one after the other, are those of the frame.
    pub fn state(version: Arc<Version>, frame: Frame, pieces: Vec<Piece>) -> Draft {
        Draft {
            version,
            kind: Kind::State(frame),
            pieces: Rc::new(pieces),
        }
    }

    /// Events sorted by time; those of one time stay in the order in which they were recorded.
    pub fn events(version: &Arc<Version>, pieces: Vec<Piece>) -> Result<Draft, Flaw> {
        let (draft, times) = Draft::sorted(version, pieces)?;
        let (Some(first), Some(last)) = (times.first(), times.last()) else {
            return Err("no events to put together".into());
        };
        Ok(draft.with_ends(*first, *last))
    }

    /// The same, a draft for each hour in which there were some.
    pub fn events_by_hour(version: &Arc<Version>, pieces: Vec<Piece>) -> Result<Vec<Draft>, Flaw> {
        let (draft, times) = Draft::sorted(version, pieces)?;
        let hour = |ns: i64| ns.div_euclid(HOUR_NS);
        let mut out = Vec::new();
        let mut from = 0;
        while let Some(&first) = times.get(from) {
            let until = from + times[from..].partition_point(|&t| hour(t) == hour(first));
            let last = times[until - 1];
            if until - from == times.len() {
                return Ok(vec![draft.with_ends(first, last)]);
            }
            let own = match &draft.kind {
                Kind::Events { order: Some(order), .. } => order[from..until].to_vec(),
                _ => (from as u32..until as u32).collect(),
            };
            out.push(Draft {
                version: version.clone(),
                pieces: draft.pieces.clone(),
                kind: Kind::Events {
                    order: Some(own),
                    first_ns: first,
                    last_ns: last,
                },
            });
            from = until;
        }
        Ok(out)
    }

    /// Events, and their times in order.
    fn sorted(version: &Arc<Version>, pieces: Vec<Piece>) -> Result<(Draft, Vec<i64>), Flaw> {
        let mut draft = Draft {
            version: version.clone(),
            kind: Kind::Events {
                order: None,
                first_ns: 0,
                last_ns: 0,
            },
            pieces: Rc::new(pieces),
        };
        let Flat { mut values, valid, .. } = draft.flat(0)?;
        if !matches!(draft.kind(0), DataType::Timestamp(..)) || valid.is_some_and(|v| v.contains(&false)) {
            return Err("rows without times".into());
        }
        if !values.is_sorted() {
            let mut by_time: Vec<u32> = (0..values.len() as u32).collect();
            by_time.sort_by_key(|&i| values[i as usize]);
            values = by_time.iter().map(|&i| values[i as usize]).collect();
            if let Kind::Events { order, .. } = &mut draft.kind {
                *order = Some(by_time);
            }
        }
        Ok((draft, values))
    }

    fn with_ends(mut self, first: i64, last: i64) -> Draft {
        if let Kind::Events { first_ns, last_ns, .. } = &mut self.kind {
            (*first_ns, *last_ns) = (first, last);
        }
        self
    }

    pub fn first_ns(&self) -> i64 {
        match &self.kind {
            Kind::State(frame) => frame.samples.first().map_or(0, |s| s.time_ns),
            Kind::Events { first_ns, .. } => *first_ns,
        }
    }

    /// Its blocks: keys and values. `key` is that of its first shard.
    pub fn encode(&self, key: BlockKey, packer: &mut Packer) -> Result<Vec<(BlockKey, Vec<u8>)>, Flaw> {
        let none: &[SampleTime] = &[];
        let (kind, samples, last_ns) = match &self.kind {
            Kind::State(frame) => {
                let last = frame.samples.last().map_or(0, |s| s.time_ns);
                (BlockKind::State, frame.samples.as_slice(), last)
            }
            Kind::Events { last_ns, .. } => (BlockKind::Events, none, *last_ns),
        };
        let (places, slots) = match &self.kind {
            Kind::State(frame) => (frame.places(), frame.slots()),
            Kind::Events { .. } => (Places::default(), 0),
        };
        let outline = Outline {
            kind,
            version: self.version.number,
            first_ns: self.first_ns(),
            last_ns,
            samples,
            places,
            slots,
        };
        encode::blocks(outline, self, key, packer)
    }
}

impl Columns for Draft {
    fn rows(&self) -> usize {
        match &self.kind {
            Kind::Events { order: Some(order), .. } => order.len(),
            _ => self.pieces.iter().map(Piece::rows).sum(),
        }
    }

    fn count(&self) -> usize {
        self.version.arrow.fields().len()
    }

    fn kind(&self, column: usize) -> &DataType {
        self.version.arrow.field(column).data_type()
    }

    fn flat(&self, column: usize) -> Result<Flat, Flaw> {
        let field = self.version.arrow.field(column);
        let mut all = Gathered::default();
        for piece in self.pieces.iter() {
            piece
                .gather(column, field.data_type(), &mut all)
                .map_err(|e| format!("column {}: {e}", field.name()))?;
        }
        match &self.kind {
            Kind::Events { order: Some(order), .. } => all.finish().in_order(order),
            _ => Ok(all.finish()),
        }
    }
}

/// A state run of the head being put together: its frame and its pieces.
pub(crate) struct Sealing {
    version: Arc<Version>,
    frame: Frame,
    pieces: Vec<Piece>,
    /// Columns are tried as the samples come.
    checked: bool,
}

impl Sealing {
    /// Begins with a keyframe.
    pub fn begin(version: &Arc<Version>, entry: &Entry, opened: Opened, checked: bool) -> Result<Sealing, Flaw> {
        let mut sealing = Sealing {
            version: version.clone(),
            frame: Frame::begin(entry, opened.shape.slot),
            pieces: Vec::new(),
            checked,
        };
        sealing.add(Piece::of_rows(opened.parts, entry.rows as usize, None)?)?;
        Ok(sealing)
    }

    /// Adds the next sample. After an error it is not in it.
    pub fn push(&mut self, entry: &Entry, opened: Opened) -> Result<(), Flaw> {
        let rows = opened.shape.changed(entry);
        self.add(Piece::of_rows(opened.parts, entry.rows as usize, rows)?)?;
        let pushed = self.frame.push(entry, opened.shape);
        if pushed.is_err() {
            self.pieces.pop();
        }
        pushed.map(|_| ())
    }

    fn add(&mut self, piece: Piece) -> Result<(), Flaw> {
        if self.checked {
            piece.sound(&self.version)?;
        }
        self.pieces.push(piece);
        Ok(())
    }

    pub fn finish(mut self) -> Draft {
        self.frame.close_up();
        Draft::state(self.version, self.frame, self.pieces)
    }
}
