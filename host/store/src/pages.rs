//! LMDB's meta pages, read as plain bytes: LMDB maps its file and believes what is in it, so another program's file or a cut
//! one is found out before LMDB sees it.
//!
//! Layout: `MDB_page` and `MDB_meta` of LMDB 0.9's `mdb.c`, 64-bit. The two newest states alternate between pages 0 and 1.

use crate::bytes::{Bytes, Flaw};
use crate::error::{Result, StoreError};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u32 = 0xBEEF_C0DE;
const DATA_VERSION: u32 = 1;
const FLAG_META: u16 = 0x08;
/// Where a meta page says which transaction it is of.
const TRANSACTION_AT: usize = 144;
const META_BYTES: usize = 152;
/// A tree without pages.
pub(crate) const NO_PAGE: u64 = u64::MAX;

/// `MDB_db`: a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tree {
    pub pad: u32,
    pub flags: u16,
    pub depth: u16,
    pub root: u64,
}

impl Tree {
    pub fn parse(bytes: &mut Bytes<'_>) -> std::result::Result<Tree, Flaw> {
        let (pad, flags, depth) = (bytes.u32()?, bytes.u16()?, bytes.u16()?);
        // Branch, leaf and overflow pages and entries: counts that nothing here relies on.
        bytes.take(32)?;
        Ok(Tree {
            pad,
            flags,
            depth,
            root: bytes.u64()?,
        })
    }
}

/// One of the two states that the file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    pub page_bytes: u64,
    pub free: Tree,
    pub main: Tree,
    pub last_page: u64,
    pub transaction: u64,
}

#[derive(Debug)]
enum MetaFlaw {
    Foreign(String),
    Broken(String),
}

fn parse(page: &[u8], number: u64) -> std::result::Result<Meta, MetaFlaw> {
    let broken = MetaFlaw::Broken;
    let mut bytes = Bytes::new(page);
    let stored_number = bytes.u64().map_err(broken)?;
    bytes.take(2).map_err(broken)?;
    let flags = bytes.u16().map_err(broken)?;
    bytes.take(4).map_err(broken)?;
    let (magic, version) = (bytes.u32().map_err(broken)?, bytes.u32().map_err(broken)?);
    if magic != MAGIC || flags & FLAG_META == 0 || stored_number != number {
        return Err(MetaFlaw::Foreign("it does not begin as an LMDB file does".into()));
    }
    if version != DATA_VERSION {
        return Err(MetaFlaw::Foreign(format!(
            "it is an LMDB file of data version {version}"
        )));
    }
    bytes.take(16).map_err(broken)?;
    let free = Tree::parse(&mut bytes).map_err(broken)?;
    let main = Tree::parse(&mut bytes).map_err(broken)?;
    let page_bytes = u64::from(free.pad);
    if !page_bytes.is_power_of_two() || !(512..=65536).contains(&page_bytes) {
        return Err(broken(format!(
            "meta page {number} says that pages have {page_bytes} bytes"
        )));
    }
    Ok(Meta {
        page_bytes,
        free,
        main,
        last_page: bytes.u64().map_err(broken)?,
        transaction: bytes.u64().map_err(broken)?,
    })
}

/// The newest state of the file, the sanity of both checked. The file may be under a writer's hands.
pub(crate) fn check(path: &Path) -> Result<Meta> {
    let file = File::open(path).map_err(|e| StoreError::io(path, "open", e))?;
    check_file(path, &file)
}

pub(crate) fn check_file(path: &Path, file: &File) -> Result<Meta> {
    let foreign = |what: &str| StoreError::NotAStore {
        path: path.into(),
        what: what.into(),
    };
    let kind = file.metadata().map_err(|e| StoreError::io(path, "stat", e))?;
    if !kind.is_file() {
        return Err(foreign("it is not a regular file"));
    }
    if kind.len() == 0 {
        return Err(foreign("it is empty"));
    }
    let first = read_meta(path, file, 0, 0)?;
    let second = read_meta(path, file, first.page_bytes, 1)?;
    if first.page_bytes != second.page_bytes {
        return Err(StoreError::damaged(
            path,
            "its two meta pages differ in their page size",
        ));
    }
    let newest = if second.transaction > first.transaction {
        second
    } else {
        first
    };
    // After the meta pages: a writer lengthens the file before it writes them.
    let length = file.metadata().map_err(|e| StoreError::io(path, "stat", e))?.len();
    let pages = length / newest.page_bytes;
    for (tree, name) in [(newest.free, "free list"), (newest.main, "main")] {
        if tree.root == NO_PAGE {
            continue;
        }
        if tree.root > newest.last_page || tree.root < 2 {
            return Err(StoreError::damaged(
                path,
                format!("the root of its {name} tree is page {}", tree.root),
            ));
        }
        if tree.root >= pages {
            let what = format!("it is cut short: page {} of its {name} tree is missing", tree.root);
            return Err(StoreError::damaged(path, what));
        }
    }
    Ok(newest)
}

/// Pages of a store's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PageCounts {
    pub page_bytes: u64,
    /// All that were ever used.
    pub total: u64,
    /// Free for the writer to use again.
    pub free: u64,
    pub file_bytes: u64,
}

/// Makes both meta pages of a compacted copy, which nobody has open yet, say the same state, of transaction `last`.
///
/// LMDB begins a copy's transactions at 1, while a lock file beside the place that it is moved to may count on from the
/// original's: a reader goes by the lock file's number, whose parity names the meta page. With both pages alike and no number
/// below the original's, each way leads to the same state.
pub(crate) fn renumber_copy(path: &Path, file: &File, last: u64) -> Result<()> {
    let newest = check_file(path, file)?;
    let page_bytes = newest.page_bytes;
    let mut body = vec![0; META_BYTES];
    let source = if newest.transaction % 2 == 1 { page_bytes } else { 0 };
    let io = |op| move |e| StoreError::io(path, op, e);
    file.read_exact_at(&mut body, source).map_err(io("read"))?;
    for (page, transaction) in [(0, last - last % 2), (1, last.saturating_sub(1) | 1)] {
        body[..8].copy_from_slice(&u64::to_le_bytes(page));
        body[TRANSACTION_AT..TRANSACTION_AT + 8].copy_from_slice(&u64::to_le_bytes(transaction));
        file.write_all_at(&body, page * page_bytes).map_err(io("write"))?;
    }
    check_file(path, file)?;
    Ok(())
}

fn read_meta(path: &Path, file: &File, offset: u64, number: u64) -> Result<Meta> {
    // A writer's pwrite of a meta page may be seen half done: look again before calling it broken.
    let mut last = String::new();
    for _ in 0..3 {
        let mut page = [0; META_BYTES];
        match file.read_exact_at(&mut page, offset) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof && number > 0 => {
                return Err(StoreError::damaged(
                    path,
                    "it is cut short: its second meta page is missing",
                ));
            }
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(StoreError::NotAStore {
                    path: path.into(),
                    what: "it is too short".into(),
                });
            }
            Err(e) => return Err(StoreError::io(path, "read", e)),
        }
        match parse(&page, number) {
            Ok(meta) => return Ok(meta),
            Err(MetaFlaw::Foreign(what)) if number == 0 => {
                return Err(StoreError::NotAStore {
                    path: path.into(),
                    what,
                });
            }
            Err(MetaFlaw::Foreign(_)) => last = "its second meta page is not one".into(),
            Err(MetaFlaw::Broken(what)) => last = what,
        }
    }
    Err(StoreError::damaged(path, last))
}
