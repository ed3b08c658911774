//! The second gate: a whole 64-bit shared library of this machine with the mark of this ABI version.
//!
//! Source: elf(5). The loader of the C library maps what the program headers say without asking whether the file is that
//! long, and touching a page beyond the end is a SIGBUS: hence the checks of every extent. Nothing of the file is run.

mod places;

use crate::refusal::Fail;
use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use std::ops::Range;
use vwatch_abi::v1;

/// `e_machine` of this build, and its name.
const MACHINE: (u16, &str) = if cfg!(target_arch = "x86_64") {
    (elf::EM_X86_64, "x86_64")
} else if cfg!(target_arch = "aarch64") {
    (elf::EM_AARCH64, "aarch64")
} else if cfg!(target_arch = "riscv64") {
    (elf::EM_RISCV, "riscv64")
} else if cfg!(target_arch = "powerpc64") {
    (elf::EM_PPC64, "powerpc64")
} else if cfg!(target_arch = "s390x") {
    (elf::EM_S390, "s390x")
} else if cfg!(target_arch = "loongarch64") {
    (elf::EM_LOONGARCH, "loongarch64")
} else {
    panic!("vwatchd does not know the ELF machine number of this architecture")
};

const COPY_AGAIN: &str = "copy the plugin again, completely";
const BUILD_AGAIN: &str = "build the plugin for this machine";

pub(crate) fn check(bytes: &[u8]) -> Result<(), Fail> {
    let header = header(bytes)?;
    let endian = header.endian().map_err(|_| damaged("its byte order"))?;
    if header.e_type(endian) != elf::ET_DYN {
        return Err(Fail::new("it is not a shared library", "build the plugin as a cdylib"));
    }
    segments(bytes, header, endian)?;
    places::check(bytes, header, endian)?;
    let versions = marks(bytes, header, endian)?;
    if versions.contains(&v1::VERSION) {
        return Ok(());
    }
    match versions.first() {
        Some(other) => Err(Fail::new(
            format!(
                "it is built for plugin ABI v{other}; this daemon speaks v{}",
                v1::VERSION
            ),
            if *other > v1::VERSION {
                "update vwatchd, or build the plugin with an older vwatch-sdk"
            } else {
                "build the plugin with the vwatch-sdk of this vwatchd"
            },
        )),
        None => Err(Fail::new(
            "it is a library, but not a vwatchd plugin",
            "remove it from the plugins directory; a plugin is built with vwatch-sdk and its plugin! line",
        )),
    }
}

fn damaged(what: &str) -> Fail {
    Fail::new(format!("it is damaged or cut short: {what} cannot be read"), COPY_AGAIN)
}

fn header(bytes: &[u8]) -> Result<&FileHeader64<Endianness>, Fail> {
    if !bytes.starts_with(&elf::ELFMAG) {
        let what = if bytes
            .iter()
            .take(512)
            .all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace())
        {
            "it is a text, not a shared library"
        } else {
            "it is not a shared library (no ELF header)"
        };
        return Err(Fail::new(
            what,
            "remove it from the plugins directory, or build the plugin as a cdylib",
        ));
    }
    // e_ident[EI_CLASS]
    if bytes.get(4) == Some(&elf::ELFCLASS32) {
        return Err(Fail::new("it is a 32-bit library", BUILD_AGAIN));
    }
    let header = FileHeader64::<Endianness>::parse(bytes).map_err(|_| damaged("its ELF header"))?;
    let endian = header.endian().map_err(|_| damaged("its byte order"))?;
    let machine = header.e_machine(endian);
    if machine != MACHINE.0 || header.is_big_endian() != cfg!(target_endian = "big") {
        let other = match machine {
            elf::EM_X86_64 => "x86_64".to_owned(),
            elf::EM_AARCH64 => "aarch64".to_owned(),
            elf::EM_RISCV => "riscv64".to_owned(),
            elf::EM_PPC64 => "powerpc64".to_owned(),
            elf::EM_S390 => "s390x".to_owned(),
            number => format!("machine number {number}"),
        };
        return Err(Fail::new(
            format!("it is built for {other}; this machine is {}", MACHINE.1),
            BUILD_AGAIN,
        ));
    }
    Ok(header)
}

/// The parts of a library that are mapped, or read while mapping: its headers and loadable segments. What lies outside of
/// them (section headers, the full symbol table, debug information) is most of a file. None when the headers cannot be read;
/// [`check`] says why.
pub(crate) fn mapped(bytes: &[u8]) -> Option<Vec<Range<usize>>> {
    let header = FileHeader64::<Endianness>::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, bytes).ok()?;
    let list = usize::try_from(header.e_phoff(endian)).ok()?;
    let mut parts = vec![0..size_of_val(header), list..list.checked_add(size_of_val(segments))?];
    for segment in segments.iter().filter(|s| s.p_type(endian) != elf::PT_NULL) {
        let at = usize::try_from(segment.p_offset(endian)).ok()?;
        parts.push(at..at.checked_add(usize::try_from(segment.p_filesz(endian)).ok()?)?);
    }
    parts.iter().all(|part| part.end <= bytes.len()).then_some(parts)
}

/// Everything that is to be mapped, or read while mapping, lies in the file.
fn segments(bytes: &[u8], header: &FileHeader64<Endianness>, endian: Endianness) -> Result<(), Fail> {
    let headers = header
        .program_headers(endian, bytes)
        .map_err(|_| damaged("the list of its segments"))?;
    let (mut loads, mut dynamic) = (0, false);
    for segment in headers {
        let (kind, offset, size) = (
            segment.p_type(endian),
            segment.p_offset(endian),
            segment.p_filesz(endian),
        );
        let whole = offset.checked_add(size).is_some_and(|end| end <= bytes.len() as u64);
        if !whole && kind != elf::PT_NULL {
            return Err(Fail::new(
                format!(
                    "it is cut short: a segment of {size} bytes at {offset} does not lie in its {} bytes",
                    bytes.len()
                ),
                COPY_AGAIN,
            ));
        }
        if kind == elf::PT_LOAD {
            loads += 1;
            if segment.p_memsz(endian) < size {
                return Err(damaged("the size of a segment"));
            }
        }
        dynamic |= kind == elf::PT_DYNAMIC;
    }
    if loads == 0 || !dynamic {
        return Err(Fail::new(
            "it has nothing to load: no loadable or no dynamic segment",
            "build the plugin as a cdylib",
        ));
    }
    Ok(())
}

/// ABI versions of the mark symbols that the library defines.
fn marks(bytes: &[u8], header: &FileHeader64<Endianness>, endian: Endianness) -> Result<Vec<u32>, Fail> {
    let sections = header
        .sections(endian, bytes)
        .map_err(|_| damaged("the list of its sections"))?;
    for section in sections.iter() {
        let in_file = section.file_range(endian);
        let whole = in_file.is_none_or(|(at, size)| at.checked_add(size).is_some_and(|end| end <= bytes.len() as u64));
        if !whole {
            return Err(damaged("a section"));
        }
    }
    let symbols = sections
        .symbols(endian, bytes, elf::SHT_DYNSYM)
        .map_err(|_| damaged("its symbol table"))?;
    let mut versions = Vec::new();
    for symbol in symbols.iter().filter(|s| s.st_shndx(endian) != elf::SHN_UNDEF) {
        let name = symbols
            .symbol_name(endian, symbol)
            .map_err(|_| damaged("the name of a symbol"))?;
        let version = name
            .strip_prefix(v1::MARK_PREFIX.as_bytes())
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse::<u32>().ok());
        versions.extend(version);
    }
    Ok(versions)
}
