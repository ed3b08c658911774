//! Some thousand rounds of what the fuzz targets do without end: sound bytes, changed here and there.

use super::{EVENTS, block, block_seeds, columns, columns_seeds, head, head_seeds, key, seeds};
use crate::block::Content;
use crate::columns::Packer;
use crate::payload::Changes;
use vwatch_model::TableKind;

struct Dice(u64);

impl Dice {
    /// Below `n`.
    fn roll(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n.max(1)
    }
}

fn changed(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..1 + dice.roll(4) {
        let at = dice.roll(bytes.len());
        match dice.roll(6) {
            0 => bytes[at] ^= 1 << dice.roll(8),
            1 => bytes[at] = dice.roll(256) as u8,
            2 => bytes[at] = [0, 0xff, 0x7f, 0x80][dice.roll(4)],
            3 => bytes.truncate(at.max(1)),
            4 => bytes.insert(at, dice.roll(256) as u8),
            _ => {
                let end = (at + 1 + dice.roll(8)).min(bytes.len());
                bytes[at..end].fill(0xff);
            }
        }
    }
    bytes
}

/// Every seed is sound; of the changed ones some still are, and none panics.
fn check(seeds: Vec<Vec<u8>>, rounds: usize, decode: fn(&[u8]) -> Result<usize, String>) {
    for (i, seed) in seeds.iter().enumerate() {
        assert!(decode(seed).is_ok_and(|n| n > 0), "seed {i}: {:?}", decode(seed));
    }
    let mut dice = Dice(42);
    let (mut sound, mut refused) = (0, 0);
    for round in 0..rounds {
        match decode(&changed(&seeds[round % seeds.len()], &mut dice)) {
            Ok(_) => sound += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(
        sound > rounds / 50 && refused > rounds / 50,
        "{sound} sound, {refused} refused"
    );
}

#[test]
fn changed_blocks_are_rows_or_an_error() {
    check(block_seeds().unwrap(), 6000, block);
}

#[test]
fn changed_head_records_are_rows_or_an_error() {
    check(head_seeds().unwrap(), 4000, head);
}

#[test]
fn changed_columns_are_values_or_an_error() {
    let all = columns_seeds().unwrap();
    // Shapes and directories have other forms than these, and are reached by changing them.
    check(
        all.into_iter().filter(|s| s[0] < 20 || s[0] == 24).collect(),
        20_000,
        columns,
    );
    let mut dice = Dice(7);
    for seed in columns_seeds().unwrap().into_iter().filter(|s| s[0] >= 20) {
        for _ in 0..2000 {
            let _ = columns(&changed(&seed, &mut dice));
        }
    }
}

#[test]
fn many_regular_rows_take_some_bytes_and_fewer_are_refused() {
    let rows = seeds::rows(TableKind::Event, 0, 300_000, false).unwrap();
    let items = 1 + rows.num_columns();
    let content = Content::events(Changes::events(rows));
    let blocks = seeds::blocks_of(&content, key(EVENTS, 0), &mut Packer::new().unwrap()).unwrap();
    let value = &blocks[0].1;
    assert_eq!(block(value), Ok(300_000));
    // More bytes of plain columns than numbers: 1/1024 of those, filled up with zeros.
    assert!(
        value.len() > 300_000 * items / 1024 && value.ends_with(&[0; 1000]),
        "{}",
        value.len()
    );
    let refused = block(&value[..value.len() - 1]).unwrap_err();
    assert!(refused.contains("than its bytes can hold"), "{refused}");
}
