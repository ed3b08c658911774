//! Checksums made right, so that what is behind them is reached.

use super::{EVENTS, RECORD, STATE, key};
use crate::block::BlockKind;
use crate::bytes::{self, Bytes};
use crate::columns::numbers::size;
use crate::keys::BlockKey;

/// The key that a block says it has, and its checksums mended. None of what is too short to have any.
pub(super) fn block(value: &mut [u8]) -> Option<(BlockKey, BlockKind)> {
    let front: [u8; 72] = value.get(..72)?.try_into().ok()?;
    let u32_at = |at: usize| Bytes::new(&front[at..]).u32().ok();
    let kind = match front[1] {
        1 => BlockKind::State,
        _ => BlockKind::Events,
    };
    let table = match kind {
        BlockKind::State => STATE,
        BlockKind::Events => EVENTS,
    };
    let key = key(table, Bytes::new(&front[8..]).i64().ok()?);
    // The version is the only one that there is.
    value[4..8].copy_from_slice(&super::VERSION.to_le_bytes());
    let directory_at = 72usize.checked_add(u32_at(40)? as usize)?;
    let body_at = directory_at.checked_add(u32_at(44)? as usize)?;
    if body_at > value.len() {
        return Some((key, kind));
    }
    let (before, body) = value.split_at_mut(body_at);
    let _ = groups(&mut before[directory_at..], body);
    let sum = bytes::crc(&[&key.encode(), &before[..64], &before[72..]]);
    value[64..68].copy_from_slice(&sum.to_le_bytes());
    Some((key, kind))
}

/// Mends the checksums of a payload's groups.
fn groups(directory: &mut [u8], body: &[u8]) -> Option<()> {
    let whole = directory.to_vec();
    let mut bytes = Bytes::new(&whole);
    let mut start = 0usize;
    for _ in 0..size(&mut bytes).ok()?.min(100) {
        size(&mut bytes).ok()?;
        size(&mut bytes).ok()?;
        let end = start.checked_add(size(&mut bytes).ok()?)?;
        let at = whole.len() - bytes.rest().len();
        let sum = bytes::crc(&[body.get(start..end)?]);
        directory.get_mut(at..at + 4)?.copy_from_slice(&sum.to_le_bytes());
        bytes.u32().ok()?;
        start = end;
    }
    Some(())
}

/// A head record with its checksums mended, as far as it is one.
pub(super) fn head(record: &mut [u8]) -> Option<()> {
    const HEADER: usize = 32;
    const ENTRY: usize = 72;
    let count = Bytes::new(record.get(4..)?).u32().ok()? as usize;
    let end = HEADER.checked_add(count.checked_mul(ENTRY)?)?;
    if end > record.len() {
        return None;
    }
    for entry in (0..count).map(|i| HEADER + i * ENTRY) {
        record[entry + 8..entry + 12].copy_from_slice(&super::VERSION.to_le_bytes());
        let place = |at| Bytes::new(&record[entry + at..]).u32().map(|n| n as usize).ok();
        let (from, length) = (place(56)?, place(60)?);
        let Some(stored) = from.checked_add(length).and_then(|to| record.get(from..to)) else {
            continue;
        };
        let mut stored = stored.to_vec();
        let directory = Bytes::new(&stored).u32().unwrap_or(0) as usize;
        if let Some((directory, body)) = stored.get_mut(4..).and_then(|s| s.split_at_mut_checked(directory)) {
            let _ = groups(directory, body);
        }
        let sum = bytes::crc(&[&stored]);
        record[from..from + length].copy_from_slice(&stored);
        record[entry + 68..entry + 72].copy_from_slice(&sum.to_le_bytes());
    }
    let sum = bytes::crc(&[&RECORD, &record[..24], &record[HEADER..end]]);
    record[24..28].copy_from_slice(&sum.to_le_bytes());
    Some(())
}
