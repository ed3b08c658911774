//! The store of vwatchd: one LMDB file with a head log and column-wise blocks.
//!
//! One [`Writer`] takes samples and commits them once a second into the *head*, one record for all tables. When a wall-clock
//! minute is over, everything of it in the head is *sealed* into *blocks*, one for each table and instance. Any number of
//! [`Reader`]s, in this process or others, answer the picture at a time ([`Reader::as_of`]) and the rows of a span
//! ([`Reader::scan`]); a copied file is read without a daemon. `FORMAT.md` has the file byte by byte.
//!
//! **Invariants:** LMDB is known to this crate alone. A commit is durable as a whole or not at all: rows, plugins' state,
//! outbox, records. Bytes of a file are outside input: every length is checked, every record and block has a checksum, and
//! damage is an error that names it, never a panic and never a wrong row.

mod assemble;
mod block;
mod bytes;
mod catalog;
mod columns;
mod commit;
mod compare;
mod contents;
mod copy;
mod damage;
mod draft;
mod durable;
mod encode;
mod env;
mod error;
mod expire;
mod failpoint;
mod fetch;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod head_read;
mod held;
mod inspect;
mod keys;
mod listing;
mod lock;
mod maintain;
mod merge;
mod moving;
mod pages;
mod payload;
mod picture;
mod reader;
mod retention;
mod rewrite;
mod run;
mod scan;
mod schema;
mod seal;
mod series;
mod stamps;
mod storage;
mod thin;
mod tree;
mod types;
mod verify;
mod window;
mod writer;

pub use catalog::{Catalog, InstanceEntry, TableEntry};
pub use copy::{Compacted, compact, copy_to};
pub use damage::{Damage, Part};
pub use error::StoreError;
pub use inspect::inspect;
pub use lock::writer_pid;
pub use pages::PageCounts;
pub use reader::Reader;
pub use retention::{Maintained, Retention, Rules, Thin, Work};
pub use scan::Scan;
pub use storage::TableStorage;
pub use types::*;
pub use verify::{Flaw, Step, Verified, Where, verify};
pub use writer::Writer;
