//! Rows column by column: the one place that knows how rows become bytes. FORMAT.md has them.
//!
//! A payload is a *directory* and a *body*. Its *items* are the shape (which row is whose, [`shape`]) and one item for each
//! column; neighbouring items are compressed together in *groups* of some kilobytes, a long column in one of its own. So
//! reading three columns decompresses three, and small tables do not pay for a frame per column.
//!
//! **Invariant:** nothing here trusts a length: counts are checked against the bytes that are there, or against a limit, before
//! anything is allocated. What decoding allocates is bounded by the bytes that are read, see [`least_bytes`].

pub(crate) mod bounds;
pub(crate) mod lane;
pub(crate) mod numbers;
pub(crate) mod shape;
pub(crate) mod typed;

use crate::bytes::{self, Bytes, Flaw};
use bounds::Summary;
use numbers::{put_varint, size};
use std::cell::RefCell;
use std::ops::Range;

/// Most bytes of an item before compression. A writer splits what is larger.
pub(crate) const RAW_LIMIT: usize = 1 << 29;

/// Numbers, and bytes of plain columns, that any value may decode to, however short it is.
const FREE: u64 = 1 << 20;
/// Beyond that, for so many of them a value has a byte.
const PER_BYTE: u64 = 1 << 10;

/// Least length of a block or of a sample in the head whose rows come to so many numbers, and to so many bytes before
/// compression or as plain columns. Rows regular enough to need less are filled up with zeros, so that no few bytes can make a
/// reader allocate without end.
pub(crate) fn least_bytes(numbers: u64, raw_bytes: u64) -> usize {
    match numbers.max(raw_bytes) {
        most if most <= FREE => 0,
        most => usize::try_from(most.div_ceil(PER_BYTE)).unwrap_or(usize::MAX),
    }
}

/// How a payload is put together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    /// Of zstd.
    pub level: i32,
    /// A group takes no further item that would make it longer.
    pub group_bytes: usize,
}

/// Directory and body of a payload.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    pub directory: Vec<u8>,
    pub body: Vec<u8>,
    /// Bytes of all groups before compression.
    pub raw_bytes: u64,
}

/// Compresses groups; keeps its compressor.
pub(crate) struct Packer {
    compressor: zstd::bulk::Compressor<'static>,
    level: i32,
}

impl Packer {
    pub fn new() -> std::io::Result<Packer> {
        Ok(Packer {
            compressor: zstd::bulk::Compressor::new(1)?,
            level: 1,
        })
    }

    fn compress(&mut self, level: i32, raw: &[u8]) -> std::io::Result<Vec<u8>> {
        if self.level != level {
            self.compressor.set_compression_level(level)?;
            self.level = level;
        }
        self.compressor.compress(raw)
    }
}

/// A payload being put together, item by item.
pub(crate) struct Packing {
    style: Style,
    items: Vec<(usize, Option<Summary>)>,
    /// Per closed group: items, bytes before and after compression, checksum.
    groups: Vec<(usize, usize, usize, u32)>,
    body: Vec<u8>,
    raw: Vec<u8>,
    in_group: usize,
}

impl Packing {
    pub fn new(style: Style) -> Packing {
        Packing {
            style,
            items: Vec::new(),
            groups: Vec::new(),
            body: Vec::new(),
            raw: Vec::new(),
            in_group: 0,
        }
    }

    /// Adds the next item, with what it holds.
    pub fn add(&mut self, packer: &mut Packer, item: &[u8], summary: Option<Summary>) -> Result<(), Flaw> {
        if item.len() > RAW_LIMIT {
            return Err(format!("{} bytes in one column; the limit is {RAW_LIMIT}", item.len()));
        }
        // A long item does not share its group with what came before.
        if self.in_group > 0 && self.raw.len() + item.len() > self.style.group_bytes {
            self.close(packer)?;
        }
        self.raw.extend_from_slice(item);
        self.in_group += 1;
        self.items.push((item.len(), summary));
        Ok(())
    }

    fn close(&mut self, packer: &mut Packer) -> Result<(), Flaw> {
        let packed = packer
            .compress(self.style.level, &self.raw)
            .map_err(|e| e.to_string())?;
        let stored = match packed.len() < self.raw.len() {
            true => &packed,
            false => &self.raw,
        };
        let sum = bytes::crc(&[stored]);
        self.groups.push((self.in_group, self.raw.len(), stored.len(), sum));
        self.body.extend_from_slice(stored);
        self.raw.clear();
        self.in_group = 0;
        Ok(())
    }

    pub fn finish(mut self, packer: &mut Packer) -> Result<Packed, Flaw> {
        if self.in_group > 0 {
            self.close(packer)?;
        }
        Ok(Packed {
            directory: directory(&self),
            raw_bytes: self.groups.iter().map(|(_, raw, ..)| *raw as u64).sum(),
            body: self.body,
        })
    }
}

fn directory(open: &Packing) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 * open.groups.len() + 12 * open.items.len());
    put_varint(&mut out, open.groups.len() as u64);
    for (items, raw, stored, sum) in &open.groups {
        for n in [items, raw, stored] {
            put_varint(&mut out, *n as u64);
        }
        out.extend_from_slice(&sum.to_le_bytes());
    }
    for (length, summary) in &open.items {
        put_varint(&mut out, *length as u64);
        match summary {
            None => out.push(0),
            Some(summary) => {
                out.push(1);
                summary.put(&mut out);
            }
        }
    }
    out
}

#[derive(Debug, Clone)]
struct Group {
    raw_bytes: usize,
    crc: u32,
    /// Its place in the body.
    start: usize,
    end: usize,
}

/// Small: a sealing holds the directories of all samples of a minute.
#[derive(Debug, Clone, Copy)]
struct Item {
    group: u32,
    /// Its place in the group.
    start: u32,
    end: u32,
}

/// Where a payload's items lie, and what they hold.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    groups: Vec<Group>,
    items: Vec<Item>,
    /// What each item holds; empty when none says it.
    summaries: Vec<Option<Summary>>,
    pub body_bytes: usize,
}

impl Directory {
    /// A directory of exactly `items` items.
    pub fn parse(raw: &[u8], items: usize) -> Result<Directory, Flaw> {
        let mut bytes = Bytes::new(raw);
        let count = size(&mut bytes)?;
        if count > items {
            return Err(format!("{count} groups of {items} items"));
        }
        let mut groups = Vec::with_capacity(count);
        let mut of = Vec::with_capacity(items);
        let mut end = 0usize;
        for group in 0..count {
            let (held, raw_bytes, stored) = (size(&mut bytes)?, size(&mut bytes)?, size(&mut bytes)?);
            if held > items - of.len() || raw_bytes > RAW_LIMIT + (1 << 20) {
                return Err(format!("a group of {held} items and {raw_bytes} bytes"));
            }
            let start = end;
            end = end.checked_add(stored).ok_or("lengths overflow")?;
            of.resize(of.len() + held, group as u32);
            groups.push(Group {
                raw_bytes,
                crc: bytes.u32()?,
                start,
                end,
            });
        }
        if of.len() != items {
            return Err(format!("{} items where {items} are due", of.len()));
        }
        let (items, summaries) = Directory::items(&mut bytes, &of, &groups)?;
        if !bytes.rest().is_empty() {
            return Err("bytes after the directory".into());
        }
        Ok(Directory {
            groups,
            items,
            summaries,
            body_bytes: end,
        })
    }

    fn items(bytes: &mut Bytes<'_>, of: &[u32], groups: &[Group]) -> Result<(Vec<Item>, Vec<Option<Summary>>), Flaw> {
        let mut items: Vec<Item> = Vec::with_capacity(of.len());
        let mut summaries = Vec::new();
        for &group in of {
            let start = items.last().filter(|i| i.group == group).map_or(0, |i| i.end);
            let end = (start as usize).checked_add(size(bytes)?).ok_or("lengths overflow")?;
            if end > groups[group as usize].raw_bytes {
                return Err("an item that is longer than its group".into());
            }
            if bytes.u8()? != 0 {
                summaries.resize(items.len(), None);
                summaries.push(Some(Summary::read(bytes)?));
            }
            let end = u32::try_from(end).map_err(|_| "an item out of range")?;
            items.push(Item { group, start, end });
        }
        Ok((items, summaries))
    }

    /// An item's group, and its place in it.
    fn place(&self, item: usize) -> Result<(usize, Range<usize>), Flaw> {
        let Item { group, start, end } = *self.items.get(item).ok_or("an item that is not there")?;
        Ok((group as usize, start as usize..end as usize))
    }

    /// Bytes of all groups before compression.
    pub fn raw_bytes(&self) -> u64 {
        self.groups.iter().map(|g| g.raw_bytes as u64).sum()
    }

    pub fn summary(&self, item: usize) -> Option<&Summary> {
        self.summaries.get(item)?.as_ref()
    }
}

/// The groups of some items, as stored, to be decompressed when an item is asked for.
#[derive(Debug)]
pub(crate) struct Parts {
    directory: Directory,
    groups: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Left,
    Stored(Vec<u8>),
    Raw(Vec<u8>),
}

impl Parts {
    /// Copies the groups of the items wanted out of a payload's body, which zeros may follow.
    pub fn copy(directory: Directory, body: &[u8], wanted: impl Iterator<Item = usize>) -> Result<Parts, Flaw> {
        let body = body.get(..directory.body_bytes).ok_or("its columns are cut off")?;
        let mut groups: Vec<Part> = directory.groups.iter().map(|_| Part::Left).collect();
        for item in wanted {
            let group = directory.items.get(item).ok_or("an item that is not there")?.group as usize;
            let Group { start, end, .. } = directory.groups[group];
            if matches!(groups[group], Part::Left) {
                groups[group] = Part::Stored(body[start..end].to_vec());
            }
        }
        Ok(Parts { directory, groups })
    }

    /// An item's bytes. It was among the wanted.
    pub fn item(&mut self, item: usize) -> Result<&[u8], Flaw> {
        let (group, place) = self.directory.place(item)?;
        let part = &mut self.groups[group];
        if let Part::Stored(stored) = part {
            *part = Part::Raw(open_group(stored, &self.directory.groups[group])?);
        }
        match part {
            Part::Raw(raw) => raw.get(place).ok_or_else(|| "an item outside its group".into()),
            _ => Err("an item that was not read".into()),
        }
    }

    /// An item's bytes, after [`Parts::check`].
    pub fn opened(&self, item: usize) -> Result<&[u8], Flaw> {
        let (group, place) = self.directory.place(item)?;
        match &self.groups[group] {
            Part::Raw(raw) => raw.get(place).ok_or_else(|| "an item outside its group".into()),
            _ => Err("an item that was not read".into()),
        }
    }

    /// Whether every group that was read is what was written.
    pub fn check(&mut self) -> Result<(), Flaw> {
        for item in 0..self.directory.items.len() {
            if !matches!(self.groups[self.directory.items[item].group as usize], Part::Left) {
                self.item(item)?;
            }
        }
        Ok(())
    }
}

fn open_group(stored: &[u8], group: &Group) -> Result<Vec<u8>, Flaw> {
    thread_local! {
        static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
    }
    if bytes::crc(&[stored]) != group.crc {
        return Err("the checksum of its rows does not match".into());
    }
    if stored.len() == group.raw_bytes {
        return Ok(stored.to_vec());
    }
    // A frame says its own size: no allocation for a length that the frame does not have.
    let framed = zstd::zstd_safe::get_frame_content_size(stored).map_err(|e| e.to_string())?;
    if framed != Some(group.raw_bytes as u64) {
        return Err(format!("a frame of {framed:?} bytes where {} are due", group.raw_bytes));
    }
    let raw = DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(decompressor) => decompressor,
            None => kept.insert(zstd::bulk::Decompressor::new()?),
        };
        decompressor.decompress(stored, group.raw_bytes)
    });
    let raw = raw.map_err(|e| e.to_string())?;
    match raw.len() == group.raw_bytes {
        true => Ok(raw),
        false => Err(format!("{} bytes where {} are due", raw.len(), group.raw_bytes)),
    }
}
