//! Records of the head: everything that one commit brought, a directory in front, so that a reader of one table touches and
//! decodes that table's payloads only. FORMAT.md has it byte by byte.

use crate::bytes::{self, Bytes, Flaw};
use crate::payload::HeadPayload;
use crate::types::{InstanceId, TableId};
use vwatch_model::time::Stamp;

const FORMAT: u8 = 2;
const HEADER_BYTES: usize = 32;
const ENTRY_BYTES: usize = 72;
const FLAG_FRESH: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The full picture; `fresh` when it owes nothing to the samples before, so that a block begins with it. In one that
    /// is not fresh, `at` is 1 for the rows that changed and 0 for the others.
    Keyframe {
        fresh: bool,
    },
    /// What changed since the sample before.
    Delta,
    Events,
}

/// What the directory says of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub table: TableId,
    pub instance: InstanceId,
    pub version: u32,
    pub kind: Kind,
    /// When the sample was taken; of events, the earliest row's time.
    pub time_ns: i64,
    /// The same; of events, the latest row's time.
    pub last_ns: i64,
    pub boot_ns: i64,
    pub interval_ns: u64,
    pub rows: u32,
    pub gone: u32,
    /// Filled in by [`Builder`].
    pub place: Place,
}

/// Where a payload lies in its record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    offset: u32,
    stored_bytes: u32,
    raw_bytes: u32,
    crc: u32,
}

impl Entry {
    fn write(&self, out: &mut Vec<u8>) {
        let (kind, flags) = match self.kind {
            Kind::Keyframe { fresh } => (1, u8::from(fresh) * FLAG_FRESH),
            Kind::Delta => (2, 0),
            Kind::Events => (3, 0),
        };
        for n in [self.table.0, self.instance.0, self.version] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.extend_from_slice(&[kind, flags, 0, 0]);
        for n in [self.time_ns, self.last_ns, self.boot_ns] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.extend_from_slice(&self.interval_ns.to_le_bytes());
        let numbers = [
            self.rows,
            self.gone,
            self.place.offset,
            self.place.stored_bytes,
            self.place.raw_bytes,
            self.place.crc,
        ];
        for n in numbers {
            out.extend_from_slice(&n.to_le_bytes());
        }
    }

    fn read(bytes: &mut Bytes<'_>) -> Result<Entry, Flaw> {
        let (table, instance, version) = (bytes.u32()?, bytes.u32()?, bytes.u32()?);
        let (kind, flags) = (bytes.u8()?, bytes.u8()?);
        bytes.take(2)?;
        let (time_ns, last_ns, boot_ns, interval_ns) = (bytes.i64()?, bytes.i64()?, bytes.i64()?, bytes.u64()?);
        let (rows, gone) = (bytes.u32()?, bytes.u32()?);
        let (offset, stored_bytes, raw_bytes, crc) = (bytes.u32()?, bytes.u32()?, bytes.u32()?, bytes.u32()?);
        Ok(Entry {
            table: TableId(table),
            instance: InstanceId(instance),
            version,
            kind: match kind {
                1 => Kind::Keyframe {
                    fresh: flags & FLAG_FRESH != 0,
                },
                2 => Kind::Delta,
                3 => Kind::Events,
                n => return Err(format!("a sample of kind {n}")),
            },
            time_ns,
            last_ns,
            boot_ns,
            interval_ns,
            rows,
            gone,
            place: Place {
                offset,
                stored_bytes,
                raw_bytes,
                crc,
            },
        })
    }

    pub fn raw_bytes(&self) -> u32 {
        self.place.raw_bytes
    }

    pub fn stored_bytes(&self) -> u32 {
        self.place.stored_bytes
    }

    /// Its payload in the record that it came from.
    pub fn payload<'a>(&self, record: &'a [u8]) -> Result<&'a [u8], Flaw> {
        let mut bytes = Bytes::new(record);
        bytes.take(self.place.offset as usize)?;
        let stored = bytes.take(self.place.stored_bytes as usize)?;
        if bytes::crc(&[stored]) != self.place.crc {
            return Err(format!(
                "the checksum of a payload of table {} does not match",
                self.table.0
            ));
        }
        Ok(stored)
    }
}

/// A record being put together.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    entries: Vec<Entry>,
    payloads: Vec<Vec<u8>>,
    payload_bytes: usize,
}

impl Builder {
    pub fn push(&mut self, mut entry: Entry, payload: HeadPayload) {
        entry.place.raw_bytes = payload.raw_bytes;
        entry.place.stored_bytes = payload.stored.len() as u32;
        entry.place.crc = bytes::crc(&[&payload.stored]);
        self.payload_bytes += payload.stored.len();
        self.entries.push(entry);
        self.payloads.push(payload.stored);
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    pub fn finish(mut self, key: &[u8; 8], commit: Stamp) -> Vec<u8> {
        let mut offset = HEADER_BYTES + self.entries.len() * ENTRY_BYTES;
        let mut out = Vec::with_capacity(offset + self.payload_bytes);
        out.extend_from_slice(&[FORMAT, 0, 0, 0]);
        out.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        out.extend_from_slice(&commit.wall_ns.to_le_bytes());
        out.extend_from_slice(&commit.boot_ns.to_le_bytes());
        let mut directory = Vec::with_capacity(self.entries.len() * ENTRY_BYTES);
        for entry in &mut self.entries {
            entry.place.offset = offset as u32;
            offset += entry.place.stored_bytes as usize;
            entry.write(&mut directory);
        }
        let sum = bytes::crc(&[key, &out, &directory]);
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&directory);
        for payload in &self.payloads {
            out.extend_from_slice(payload);
        }
        out
    }
}

/// A record's directory.
#[derive(Debug)]
pub(crate) struct Directory {
    pub commit: Stamp,
    pub entries: Vec<Entry>,
}

pub(crate) fn directory(key: &[u8], record: &[u8]) -> Result<Directory, Flaw> {
    let mut bytes = Bytes::new(record);
    let header = bytes.take(HEADER_BYTES)?;
    let mut fields = Bytes::new(header);
    let format = fields.u32()?;
    if format != u32::from(FORMAT) {
        return Err(format!("its format is {format}"));
    }
    let count = fields.u32()? as usize;
    let commit = Stamp {
        wall_ns: fields.i64()?,
        boot_ns: fields.i64()?,
    };
    let sum = fields.u32()?;
    let directory = bytes.take(count.checked_mul(ENTRY_BYTES).ok_or("count overflows")?)?;
    if bytes::crc(&[key, &header[..24], directory]) != sum {
        return Err("its directory's checksum does not match".into());
    }
    let mut fields = Bytes::new(directory);
    let entries = (0..count).map(|_| Entry::read(&mut fields)).collect::<Result<_, _>>()?;
    Ok(Directory { commit, entries })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Vec<u8> {
        let mut builder = Builder::default();
        for n in 0..3u32 {
            let kind = [Kind::Keyframe { fresh: true }, Kind::Delta, Kind::Events][n as usize];
            let entry = Entry {
                table: TableId(n),
                instance: InstanceId(7),
                version: 1,
                kind,
                time_ns: i64::from(n),
                last_ns: i64::from(n),
                boot_ns: 5,
                interval_ns: 1_000,
                rows: n,
                gone: 0,
                place: Place::default(),
            };
            builder.push(
                entry,
                HeadPayload {
                    stored: vec![n as u8; n as usize * 10],
                    raw_bytes: 99,
                },
            );
        }
        let stamp = Stamp {
            wall_ns: -3,
            boot_ns: 4,
        };
        builder.finish(&9u64.to_be_bytes(), stamp)
    }

    #[test]
    fn comes_back() {
        let record = record();
        let read = directory(&9u64.to_be_bytes(), &record).unwrap();
        assert_eq!(read.commit.wall_ns, -3);
        assert_eq!(read.entries.len(), 3);
        assert_eq!(read.entries[2].payload(&record).unwrap(), [2; 20]);
        assert_eq!(read.entries[0].kind, Kind::Keyframe { fresh: true });
    }

    #[test]
    fn a_changed_byte_is_found() {
        let record = record();
        for i in 0..record.len() {
            let mut bad = record.clone();
            bad[i] ^= 0x10;
            let found = match directory(&9u64.to_be_bytes(), &bad) {
                Err(_) => true,
                Ok(read) => read.entries.iter().any(|e| e.payload(&bad).is_err()),
            };
            // Four bytes of padding say nothing.
            assert!(found || (28..32).contains(&i), "byte {i}");
        }
        for cut in 0..record.len() {
            let bad = &record[..cut];
            let read = directory(&9u64.to_be_bytes(), bad);
            assert!(read.is_err() || read.unwrap().entries.iter().any(|e| e.payload(bad).is_err()));
        }
        assert!(directory(&8u64.to_be_bytes(), &record).is_err());
    }
}
