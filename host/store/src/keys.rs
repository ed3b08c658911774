//! Keys of the databases: big-endian, so that LMDB's byte order is the order of table, instance, shard, time, sequence.

use crate::bytes::Flaw;
use crate::error::{Result, StoreError};
use crate::types::{InstanceId, TableId};

/// Most bytes of a key made of names. LMDB's own limit is 511.
const NAME_KEY_LIMIT: usize = 500;
const OWNER_LIMIT: usize = 200;

pub(crate) const BLOCK_KEY_BYTES: usize = 22;

/// Where a block lies: start is its first sample's time, or its first row's in an event table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BlockKey {
    pub table: TableId,
    pub instance: InstanceId,
    pub shard: u16,
    pub start_ns: i64,
    /// Counts the blocks of this table and instance.
    pub sequence: u32,
}

impl BlockKey {
    pub fn encode(&self) -> [u8; BLOCK_KEY_BYTES] {
        let mut out = [0; BLOCK_KEY_BYTES];
        out[0..4].copy_from_slice(&self.table.0.to_be_bytes());
        out[4..8].copy_from_slice(&self.instance.0.to_be_bytes());
        out[8..10].copy_from_slice(&self.shard.to_be_bytes());
        out[10..18].copy_from_slice(&ordered(self.start_ns));
        out[18..22].copy_from_slice(&self.sequence.to_be_bytes());
        out
    }

    pub fn decode(key: &[u8]) -> std::result::Result<BlockKey, Flaw> {
        let key: &[u8; BLOCK_KEY_BYTES] = key
            .try_into()
            .map_err(|_| format!("a block key of {} bytes", key.len()))?;
        let u32_at = |i: usize| u32::from_be_bytes([key[i], key[i + 1], key[i + 2], key[i + 3]]);
        let mut time = [0; 8];
        time.copy_from_slice(&key[10..18]);
        Ok(BlockKey {
            table: TableId(u32_at(0)),
            instance: InstanceId(u32_at(4)),
            shard: u16::from_be_bytes([key[8], key[9]]),
            start_ns: (u64::from_be_bytes(time) ^ (1 << 63)) as i64,
            sequence: u32_at(18),
        })
    }
}

impl std::fmt::Display for BlockKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "block {} of table {}, instance {}, from {} ns",
            self.sequence, self.table.0, self.instance.0, self.start_ns
        )
    }
}

/// A signed number whose bytes sort as it does.
fn ordered(n: i64) -> [u8; 8] {
    ((n as u64) ^ (1 << 63)).to_be_bytes()
}

pub(crate) fn pair(a: u32, b: u32) -> [u8; 8] {
    let mut out = [0; 8];
    out[..4].copy_from_slice(&a.to_be_bytes());
    out[4..].copy_from_slice(&b.to_be_bytes());
    out
}

pub(crate) fn split_pair(key: &[u8]) -> std::result::Result<(u32, u32), Flaw> {
    let key: [u8; 8] = key.try_into().map_err(|_| format!("a key of {} bytes", key.len()))?;
    Ok((
        u32::from_be_bytes([key[0], key[1], key[2], key[3]]),
        u32::from_be_bytes([key[4], key[5], key[6], key[7]]),
    ))
}

pub(crate) fn single(key: &[u8]) -> std::result::Result<u32, Flaw> {
    let key: [u8; 4] = key.try_into().map_err(|_| format!("a key of {} bytes", key.len()))?;
    Ok(u32::from_be_bytes(key))
}

pub(crate) fn sequence(key: &[u8]) -> std::result::Result<u64, Flaw> {
    let key: [u8; 8] = key.try_into().map_err(|_| format!("a key of {} bytes", key.len()))?;
    Ok(u64::from_be_bytes(key))
}

/// Length of the owner, owner, name: sorts by name within an owner.
pub(crate) fn owned(owner: &str, name: &str) -> Result<Vec<u8>> {
    let length = u8::try_from(owner.len())
        .ok()
        .filter(|l| usize::from(*l) <= OWNER_LIMIT)
        .ok_or_else(|| StoreError::TooLong {
            what: format!("the owner's name {:.40}…", owner.escape_debug()),
            bytes: owner.len(),
            limit: OWNER_LIMIT,
        })?;
    let mut out = Vec::with_capacity(1 + owner.len() + name.len());
    out.push(length);
    out.extend_from_slice(owner.as_bytes());
    out.extend_from_slice(name.as_bytes());
    limit(&out, name)?;
    Ok(out)
}

/// The name in a key made by [`owned`] for `owner`.
pub(crate) fn owned_name<'a>(owner_key: &[u8], key: &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(key.strip_prefix(owner_key)?).ok()
}

pub(crate) fn named(name: &str) -> Result<Vec<u8>> {
    if name.is_empty() {
        return Err(StoreError::Name {
            what: "the name of a record".into(),
            why: "it is empty",
        });
    }
    limit(name.as_bytes(), name)?;
    Ok(name.as_bytes().to_vec())
}

fn limit(key: &[u8], name: &str) -> Result<()> {
    if key.len() > NAME_KEY_LIMIT {
        return Err(StoreError::TooLong {
            what: format!("the key {:.40}…", name.escape_debug().to_string()),
            bytes: key.len(),
            limit: NAME_KEY_LIMIT,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(start_ns: i64, sequence: u32) -> BlockKey {
        BlockKey {
            table: TableId(3),
            instance: InstanceId(256),
            shard: 0,
            start_ns,
            sequence,
        }
    }

    #[test]
    fn keys_sort_as_their_parts() {
        let mut sorted = vec![
            key(i64::MIN, 9),
            key(-1, 2),
            key(0, 1),
            key(0, 256),
            key(1, 0),
            key(i64::MAX, 0),
        ];
        let mut bytes: Vec<_> = sorted.iter().map(BlockKey::encode).collect();
        sorted.sort();
        bytes.sort();
        let back: Vec<_> = bytes.iter().map(|b| BlockKey::decode(b).unwrap()).collect();
        assert_eq!(back, sorted);
    }

    #[test]
    fn owners_do_not_mix() {
        let a = owned("a", "bc").unwrap();
        assert_ne!(a, owned("ab", "c").unwrap());
        assert_eq!(owned_name(&owned("a", "").unwrap(), &a), Some("bc"));
        assert!(owned("a", &"k".repeat(600)).is_err());
        assert!(owned(&"o".repeat(300), "k").is_err());
    }
}
