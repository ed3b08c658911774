//! A plugin that is damaged in any place: cut short, or with bits that flipped on the way.

use crate::support::{Recorder, dir, hand_plugin, load, loader, write};
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Random numbers, the same in each run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as usize % end
    }
}

/// Ends of all headers, segments and sections.
fn boundaries(bytes: &[u8]) -> BTreeSet<usize> {
    let header = FileHeader64::<object::Endianness>::parse(bytes).unwrap();
    let endian = header.endian().unwrap();
    let mut ends = BTreeSet::from([0, 4, 16, size_of::<FileHeader64<object::Endianness>>()]);
    for (i, segment) in header.program_headers(endian, bytes).unwrap().iter().enumerate() {
        ends.insert(header.e_phoff.get(endian) as usize + i * header.e_phentsize(endian) as usize);
        ends.insert(segment.p_offset(endian) as usize);
        ends.insert((segment.p_offset(endian) + segment.p_filesz(endian)) as usize);
    }
    for (i, section) in header.sections(endian, bytes).unwrap().iter().enumerate() {
        ends.insert(header.e_shoff.get(endian) as usize + i * header.e_shentsize(endian) as usize);
        if let Some((at, size)) = section.file_range(endian) {
            ends.extend([at as usize, (at + size) as usize]);
        }
    }
    ends
}

#[test]
fn cut_short_anywhere_it_is_refused() {
    let good = hand_plugin();
    let mut ends = boundaries(&good);
    let near: Vec<usize> = ends.iter().flat_map(|&e| [e.saturating_sub(1), e + 1]).collect();
    ends.extend(near);
    let mut dice = Dice(20_240_501);
    ends.extend((0..200).map(|_| dice.below(good.len())));
    ends.insert(good.len() - 1);
    let dir = dir();
    let tried = ends.range(..good.len()).count();
    for &end in ends.range(..good.len()) {
        let file = write(dir.path(), "cut.so", &good[..end]);
        let refused = load(&file)
            .map(drop)
            .expect_err(&format!("cut at {end} of {}", good.len()));
        assert!(
            !refused.reason.is_empty() && !refused.hint.is_empty(),
            "{end}: {refused}"
        );
        std::fs::remove_file(file).unwrap();
    }
    assert!(tried > 250, "{tried}");
}

/// Whatever the bits make of it: the host lives, and either loads the plugin or says why not.
#[test]
fn flipped_bits_never_reach_the_host() {
    let good = hand_plugin();
    let dir = dir();
    let mut loader = loader();
    loader.checker.time_limit = Duration::from_secs(3);
    let mut dice = Dice(42);
    let header = FileHeader64::<object::Endianness>::parse(&good[..]).unwrap();
    let endian = header.endian().unwrap();
    let segments = header.program_headers(endian, &good[..]).unwrap().iter();
    let executable = segments.filter(|s| s.p_flags(endian) & object::elf::PF_X != 0);
    let place = |at: u64, size: u64| at as usize..(at + size) as usize;
    let code: Vec<std::ops::Range<usize>> = executable
        .map(|s| place(s.p_offset(endian), s.p_filesz(endian)))
        .collect();
    let (mut loaded, mut refused) = (0, 0);
    // Debug information is most of the file and hurts nobody: most flips go where the loader of the C library reads.
    let headers = 8192.min(good.len());
    let dynamic = good.len() / 4;
    for round in 0..150 {
        let mut bytes = good.clone();
        let range = [headers, dynamic, good.len()][round % 3];
        for _ in 0..1 + round % 4 {
            let at = dice.below(range);
            let bit = dice.below(8);
            // Other instructions are another program: what it does is not for a gate to foresee.
            if !code.iter().any(|c| c.contains(&at)) {
                bytes[at] ^= 1 << bit;
            }
        }
        let file = write(dir.path(), &format!("flip{round}.so"), &bytes);
        match loader.load(&file, Arc::new(Recorder::default())) {
            Ok(_) => loaded += 1,
            Err(refusal) => {
                refused += 1;
                assert!(!refusal.reason.is_empty() && !refusal.hint.is_empty(), "{refusal}");
            }
        }
        std::fs::remove_file(file).unwrap();
    }
    println!("{loaded} loaded, {refused} refused");
    assert!(
        refused > 20 && loaded > 20,
        "the flips hit nothing: {loaded} loaded, {refused} refused"
    );
}
