//! What the parts of vwatchd agree on: tables and columns, times and how people write them, names, and the documents
//! that its two sockets speak.
//!
//! **Invariant:** no I/O and no tokio here. The only thing read from outside is the system's time zone.

pub mod control;
pub mod core_tables;
pub mod name;
pub mod paths;
pub mod query;
pub mod table;
pub mod time;
pub mod unit;

pub use table::{Access, Column, ColumnType, TableKind, TableSchema};
