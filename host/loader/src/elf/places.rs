//! Where a library writes while it is mapped: into itself, and nowhere else.
//!
//! The C library maps each loadable segment at its address and puts a word at the address of each relocation, and asks of neither
//! whether it lies in what it set aside for the library. In an empty process such a write often hits nothing; in one with
//! other libraries it hits one of them. Source: elf(5), and the relative relocations of the generic ABI (`DT_RELR`).

use super::damaged;
use crate::refusal::Fail;
use object::Endianness;
use object::elf::{self, FileHeader64, ProgramHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use std::ops::Range;

const WORD: u64 = 8;
const RELA_BYTES: usize = 24;

/// That segments follow one another, and that every relocation lies in a writable one.
pub(super) fn check(bytes: &[u8], header: &FileHeader64<Endianness>, endian: Endianness) -> Result<(), Fail> {
    let list = || damaged("the list of its segments");
    let headers = header.program_headers(endian, bytes).map_err(|_| list())?;
    let loads: Vec<&ProgramHeader64<Endianness>> =
        headers.iter().filter(|s| s.p_type(endian) == elf::PT_LOAD).collect();
    let mut end = 0;
    for load in &loads {
        let begin = load.p_vaddr(endian);
        if begin < end {
            return Err(damaged("the addresses of its segments"));
        }
        end = begin
            .checked_add(load.p_memsz(endian))
            .ok_or_else(|| damaged("the size of a segment"))?;
    }
    let library = Library { bytes, endian, loads };
    for segment in headers {
        // The C library changes the protection of what is to be read-only after relocation, and copies the initial thread
        // storage, by these addresses.
        let kind = segment.p_type(endian);
        if matches!(kind, elf::PT_GNU_RELRO | elf::PT_TLS | elf::PT_DYNAMIC) && !library.holds(segment) {
            return Err(damaged("a segment that lies outside of it"));
        }
        let entries = segment
            .dynamic(endian, bytes)
            .map_err(|_| damaged("its dynamic section"))?;
        let value = |tag: i64| {
            let entries = entries.iter().flat_map(|e| e.iter());
            let mut of = entries.filter(|e| e.d_tag(endian) == tag).map(|e| e.d_val(endian));
            of.next_back()
        };
        for (table, size) in [(elf::DT_RELA, elf::DT_RELASZ), (elf::DT_JMPREL, elf::DT_PLTRELSZ)] {
            if let (Some(at), Some(size)) = (value(table), value(size)) {
                library.relocations(at, size)?;
            }
        }
        if let (Some(at), Some(size)) = (value(elf::DT_RELR), value(elf::DT_RELRSZ)) {
            library.relative(at, size)?;
        }
    }
    Ok(())
}

struct Library<'a> {
    bytes: &'a [u8],
    endian: Endianness,
    loads: Vec<&'a ProgramHeader64<Endianness>>,
}

impl Library<'_> {
    /// The bytes in the file of a table that is to be mapped at an address.
    fn table(&self, at: u64, size: u64) -> Option<&[u8]> {
        let endian = self.endian;
        let within = |load: &&&ProgramHeader64<Endianness>| {
            let from = at.checked_sub(load.p_vaddr(endian));
            from.and_then(|f| f.checked_add(size))
                .is_some_and(|end| end <= load.p_filesz(endian))
        };
        let load = self.loads.iter().find(within)?;
        let begin = usize::try_from(load.p_offset(endian) + (at - load.p_vaddr(endian))).ok()?;
        self.bytes.get(begin..begin.checked_add(usize::try_from(size).ok()?)?)
    }

    /// Whether a segment lies in a loadable one, up to the end of its last page; thread storage with what the file has of it.
    fn holds(&self, segment: &ProgramHeader64<Endianness>) -> bool {
        const PAGE: u64 = 4096;
        let endian = self.endian;
        let bytes = match segment.p_type(endian) {
            elf::PT_TLS => segment.p_filesz(endian),
            _ => segment.p_memsz(endian),
        };
        let begin = segment.p_vaddr(endian);
        let Some(end) = begin.checked_add(bytes) else {
            return false;
        };
        self.loads.iter().any(|load| {
            let last = load.p_vaddr(endian).saturating_add(load.p_memsz(endian));
            begin >= load.p_vaddr(endian) && end <= last.div_ceil(PAGE).saturating_mul(PAGE)
        })
    }

    /// Whether a word at this address lies in what is mapped for writing.
    fn writable(&self, at: u64) -> bool {
        let endian = self.endian;
        self.loads.iter().any(|load| {
            let Range { start, end } = load.p_vaddr(endian)..load.p_vaddr(endian).saturating_add(load.p_memsz(endian));
            load.p_flags(endian) & elf::PF_W != 0 && at >= start && at.checked_add(WORD).is_some_and(|e| e <= end)
        })
    }

    fn word(&self, bytes: &[u8]) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[..8]);
        match self.endian {
            Endianness::Little => u64::from_le_bytes(word),
            Endianness::Big => u64::from_be_bytes(word),
        }
    }

    fn relocations(&self, at: u64, size: u64) -> Result<(), Fail> {
        let table = self.table(at, size).ok_or_else(|| damaged("a table of relocations"))?;
        let inside = table
            .chunks_exact(RELA_BYTES)
            .all(|entry| self.writable(self.word(entry)));
        match inside {
            true => Ok(()),
            false => Err(damaged("a relocation that lies outside of it")),
        }
    }

    /// An even word is an address; an odd one has a bit for each of the 63 words after the last.
    fn relative(&self, at: u64, size: u64) -> Result<(), Fail> {
        let table = self.table(at, size).ok_or_else(|| damaged("a table of relocations"))?;
        let outside = || damaged("a relocation that lies outside of it");
        let mut next = 0u64;
        for word in table.chunks_exact(8).map(|w| self.word(w)) {
            if word & 1 == 0 {
                if !self.writable(word) {
                    return Err(outside());
                }
                next = word + WORD;
                continue;
            }
            let bits = (1..64u64).filter(|bit| word >> bit & 1 != 0);
            for bit in bits {
                let at = next.checked_add((bit - 1) * WORD).ok_or_else(outside)?;
                if !self.writable(at) {
                    return Err(outside());
                }
            }
            next = next.checked_add(63 * WORD).ok_or_else(outside)?;
        }
        Ok(())
    }
}
