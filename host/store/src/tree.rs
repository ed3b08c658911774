//! LMDB's B-trees walked as plain bytes: page numbers, page kinds, node places and key lengths, so that a damaged or cut file
//! is found out by a read that fails a check and not by a fault in the mapped file.
//!
//! Layout: `MDB_page`, `MDB_node` and `MDB_db` of LMDB 0.9's `mdb.c`, 64-bit, little-endian. Overflow pages (the values) are
//! checked to lie in the file; what is in them has checksums of our own.

use crate::bytes::{Bytes, Flaw};
use crate::error::{Result, StoreError};
use crate::pages::{self, NO_PAGE, Tree};
use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const PAGE_HEADER: usize = 16;
const PAGE_BRANCH: u16 = 0x01;
const PAGE_LEAF: u16 = 0x02;
const NODE_BIG: u16 = 0x01;
const NODE_TREE: u16 = 0x02;
const NODE_DUPLICATES: u16 = 0x04;
const MAX_KEY: usize = 511;
/// LMDB's cursor stack.
const MAX_DEPTH: u16 = 32;

struct Walker<'a> {
    file: &'a File,
    page_bytes: u64,
    /// Pages of the file; one that a tree names lies below.
    pages: u64,
    seen: HashSet<u64>,
    /// The named database whose tree is walked, for what is said.
    database: String,
    found: Vec<Flaw>,
}

/// More than this is not told: one page in a wrong place makes many others wrong.
const MOST_FLAWS: usize = 100;

/// Checks meta pages and trees.
pub(crate) fn check(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(|e| StoreError::io(path, "open", e))?;
    match flaws(path, &file)?.0.into_iter().next() {
        None => Ok(()),
        Some(flaw) => Err(StoreError::damaged(path, flaw)),
    }
}

/// Everything that is wrong with the trees, the first hundred of it, and how many of their pages were looked at. An error is
/// a file whose meta pages cannot be used.
pub(crate) fn flaws(path: &Path, file: &File) -> Result<(Vec<Flaw>, u64)> {
    let meta = pages::check_file(path, file)?;
    let length = file.metadata().map_err(|e| StoreError::io(path, "stat", e))?.len();
    let mut walker = Walker {
        file,
        page_bytes: meta.page_bytes,
        pages: (length / meta.page_bytes).min(meta.last_page.saturating_add(1)),
        seen: HashSet::new(),
        database: String::new(),
        found: Vec::new(),
    };
    for (tree, kind) in [(meta.free, Kind::Free), (meta.main, Kind::Main)] {
        walker.database = kind.name().to_owned();
        if let Err(flaw) = walker.tree(&tree, kind) {
            walker.tell(flaw);
        }
    }
    Ok((walker.found, walker.seen.len() as u64))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Free,
    Main,
    Named,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Free => "free list",
            Kind::Main | Kind::Named => "main",
        }
    }
}

/// A node's key; none for the first of a branch, which is never looked at.
fn key(node: &[u8], index: usize, depth: u16) -> Option<&[u8]> {
    let bytes = usize::from(u16::from_le_bytes([*node.get(6)?, *node.get(7)?]));
    node.get(8..8 + bytes).filter(|_| depth == 1 || index > 0)
}

impl Walker<'_> {
    fn tell(&mut self, flaw: Flaw) {
        if self.found.len() < MOST_FLAWS {
            self.found.push(format!("its {} tree: {flaw}", self.database));
        }
    }

    fn tree(&mut self, tree: &Tree, kind: Kind) -> std::result::Result<(), Flaw> {
        if tree.root == NO_PAGE {
            return Ok(());
        }
        if tree.depth == 0 || tree.depth > MAX_DEPTH {
            return Err(format!("a depth of {}", tree.depth));
        }
        self.page(tree.root, tree.depth, kind)
    }

    /// Checks a page that is `depth` levels above the ground, 1 for a leaf, and all below it.
    fn page(&mut self, number: u64, depth: u16, kind: Kind) -> std::result::Result<(), Flaw> {
        let page = self.read(number)?;
        let mut header = Bytes::new(&page);
        let stored = header.u64()?;
        header.take(2)?;
        let flags = header.u16()?;
        let (lower, upper) = (usize::from(header.u16()?), usize::from(header.u16()?));
        let due = if depth > 1 { PAGE_BRANCH } else { PAGE_LEAF };
        // A dirty mark may have been left by the writer; it says nothing here.
        if stored != number || flags & 0x6f != due {
            return Err(format!(
                "page {number} is not what it should be (number {stored}, flags {flags:#x})"
            ));
        }
        if lower < PAGE_HEADER || lower > upper || upper > page.len() || !lower.is_multiple_of(2) {
            return Err(format!("page {number} has its free space from {lower} to {upper}"));
        }
        let mut offsets = Bytes::new(&page[PAGE_HEADER..lower]);
        let count = (lower - PAGE_HEADER) / 2;
        if count == 0 {
            return Err(format!("page {number} is empty"));
        }
        let mut before: Option<&[u8]> = None;
        for index in 0..count {
            let offset = usize::from(offsets.u16()?);
            if offset < upper || offset >= page.len() {
                return Err(format!("node {index} of page {number} lies at {offset}"));
            }
            let key = key(&page[offset..], index, depth);
            // A seek bisects: a key in a wrong place hides others. The free list's are numbers in the machine's order.
            if kind != Kind::Free && before.is_some() && before >= key {
                self.tell(format!(
                    "node {index} of page {number}: its key is not after the one before"
                ));
            }
            before = key.or(before);
            // What hangs on the next node may be sound.
            if let Err(flaw) = self.node(&page[offset..], index, depth, kind) {
                self.tell(match flaw.starts_with("page ") {
                    true => flaw,
                    false => format!("node {index} of page {number}: {flaw}"),
                });
            }
        }
        Ok(())
    }

    fn node(&mut self, bytes: &[u8], index: usize, depth: u16, kind: Kind) -> std::result::Result<(), Flaw> {
        let mut node = Bytes::new(bytes);
        let (low, high) = (u64::from(node.u16()?), u64::from(node.u16()?));
        let (flags, key_bytes) = (node.u16()?, usize::from(node.u16()?));
        if key_bytes > MAX_KEY {
            return Err(format!("a key of {key_bytes} bytes"));
        }
        if depth > 1 {
            // The first key of a branch is never looked at, and may be empty.
            node.take(if index == 0 { 0 } else { key_bytes })?;
            let child = low | high << 16 | u64::from(flags) << 32;
            return self.page(child, depth - 1, kind);
        }
        let data_bytes = low | high << 16;
        let key = node.take(key_bytes)?;
        if flags & NODE_DUPLICATES != 0 {
            return Err("duplicate values, which are not used here".into());
        }
        if flags & NODE_BIG != 0 {
            return self.overflow(node.u64()?, data_bytes);
        }
        let data = node.take(usize::try_from(data_bytes).map_err(|e| e.to_string())?)?;
        match (kind, flags & NODE_TREE != 0) {
            (Kind::Main, true) => {
                let tree = Tree::parse(&mut Bytes::new(data))?;
                let outer = std::mem::replace(&mut self.database, String::from_utf8_lossy(key).into_owned());
                let walked = self.tree(&tree, Kind::Named);
                if let Err(flaw) = walked {
                    self.tell(flaw);
                }
                self.database = outer;
                Ok(())
            }
            (_, true) => Err("a tree inside a tree".into()),
            (Kind::Free, false) => self.free_pages(data),
            (Kind::Main | Kind::Named, false) => Ok(()),
        }
    }

    /// A value on pages of its own.
    fn overflow(&mut self, first: u64, data_bytes: u64) -> std::result::Result<(), Flaw> {
        let count = (PAGE_HEADER as u64 + data_bytes).div_ceil(self.page_bytes);
        let end = first.checked_add(count).ok_or("a page number out of range")?;
        if first < 2 || end > self.pages {
            return Err(format!("its value lies on pages {first} to {end} of {}", self.pages));
        }
        Ok(())
    }

    /// A list of free pages: its length, then page numbers, falling.
    fn free_pages(&self, data: &[u8]) -> std::result::Result<(), Flaw> {
        let mut list = Bytes::new(data);
        let count = list.u64()?;
        let mut before = u64::MAX;
        for _ in 0..count {
            let page = list.u64()?;
            if page < 2 || page >= before {
                return Err(format!("free page {page} after {before}"));
            }
            before = page;
        }
        Ok(())
    }

    fn read(&mut self, number: u64) -> std::result::Result<Vec<u8>, Flaw> {
        if number < 2 || number >= self.pages {
            return Err(format!("page {number} of {} is missing", self.pages));
        }
        if !self.seen.insert(number) {
            return Err(format!("page {number} is in the trees twice"));
        }
        let mut page = vec![0; usize::try_from(self.page_bytes).map_err(|e| e.to_string())?];
        self.file
            .read_exact_at(&mut page, number * self.page_bytes)
            .map_err(|e| format!("page {number} cannot be read: {e}"))?;
        Ok(page)
    }
}
