//! Rows and the tables they make.

use crate::error::Result;
use arrow_array::RecordBatch;
use vwatch_abi::arrow_c::ArrowArray;
use vwatch_abi::describe::{self, Access, ColumnType, TableKind};

/// A table, as `#[derive(Row)]` reads it from a struct.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TableDescriptor {
    pub name: &'static str,
    pub kind: TableKind,
    pub doc: &'static str,
    /// Rows are for root and the user in their `owner_uid`.
    pub owner_only: bool,
    pub columns: &'static [ColumnDescriptor],
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ColumnDescriptor {
    pub name: &'static str,
    pub kind: ColumnType,
    pub unit: Option<&'static str>,
    pub doc: &'static str,
    pub key: bool,
    pub nullable: bool,
    pub counter: bool,
}

impl TableDescriptor {
    /// The same as it stands in the plugin's manifest.
    pub fn describe(&self) -> describe::Table {
        describe::Table {
            name: self.name.to_owned(),
            kind: self.kind,
            doc: self.doc.to_owned(),
            access: if self.owner_only { Access::Owner } else { Access::All },
            columns: self.columns.iter().map(ColumnDescriptor::describe).collect(),
        }
    }
}

impl ColumnDescriptor {
    pub fn describe(&self) -> describe::Column {
        describe::Column {
            name: self.name.to_owned(),
            kind: self.kind,
            unit: self.unit.map(str::to_owned),
            doc: self.doc.to_owned(),
            key: self.key,
            nullable: self.nullable,
            counter: self.counter,
        }
    }
}

/// A row of a table. Implemented by `#[derive(Row)]`.
///
/// ```
/// use vwatch_sdk::prelude::*;
///
/// /// Time each CPU has spent in each mode since boot.
/// #[derive(Row)]
/// #[row(table = "cpu_time", state)]
/// pub struct CpuTime {
///     /// `cpu0` …, or `total`.
///     #[row(key)]
///     pub cpu: String,
///     /// In user mode, `nice` not included.
///     #[row(unit = "ns", counter)]
///     pub user_ns: i64,
///     /// Running a guest, where the kernel says it.
///     #[row(unit = "ns", counter)]
///     pub guest_ns: Option<i64>,
/// }
///
/// assert_eq!(CpuTime::TABLE.name, "cpu_time");
/// let key = CpuTimeKey { cpu: "cpu0".to_owned() };   // what `Out::delta` takes for rows that are gone
/// ```
///
/// On the struct: `table = "NAME"`; `state` (a picture at each sample time) or `event` (rows with their own time, in a first field
/// `time: Timestamp`); `access = "owner"` when only root and the user in the row's `owner_uid: u32` may read it. On a
/// field: `key` (part of the row's identity in a picture), `unit = "ns"`, `counter` (only grows; a fall means a restart),
/// `name = "…"` where the column's name is no Rust name. The doc comments are the table's documentation, so each column
/// must have one:
///
/// ```compile_fail
/// # use vwatch_sdk::prelude::*;
/// /// A table.
/// #[derive(Row)]
/// #[row(table = "t", state)]
/// struct T {
///     undocumented: i64,
/// }
/// ```
/// ```compile_fail
/// # use vwatch_sdk::prelude::*;
/// /// No `#[row(table = …)]`.
/// #[derive(Row)]
/// struct T {
///     /// Documented.
///     a: i64,
/// }
/// ```
/// ```compile_fail
/// # use vwatch_sdk::prelude::*;
/// /// Not a column type.
/// #[derive(Row)]
/// #[row(table = "t", state)]
/// struct T {
///     /// Documented.
///     a: i8,
/// }
/// ```
/// ```compile_fail
/// # use vwatch_sdk::prelude::*;
/// /// An event without its time.
/// #[derive(Row)]
/// #[row(table = "t", event)]
/// struct T {
///     /// Documented.
///     a: i64,
/// }
/// ```
/// ```compile_fail
/// # use vwatch_sdk::prelude::*;
/// /// A key that may be null.
/// #[derive(Row)]
/// #[row(table = "t", state)]
/// struct T {
///     /// Documented.
///     #[row(key)]
///     a: Option<i64>,
/// }
/// ```
pub trait Row: Sized + Send + 'static {
    /// The key columns: a struct named like the row with `Key` at its end, or [`NoKey`].
    type Key: Key;
    const TABLE: TableDescriptor;

    fn key(&self) -> Self::Key;
    /// One array per column.
    fn columns(rows: &[Self]) -> Vec<ArrowArray>;
    /// Rows from columns of these names, whatever their order.
    fn read(batch: &RecordBatch) -> Result<Vec<Self>>;
}

/// A row of a table that is a picture at every sample time.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a row of a state table",
    note = "pictures are of tables declared with #[row(table = \"…\", state)]; rows of an event table go through `events`"
)]
pub trait StateRow: Row {}

/// A row that carries its own time.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a row of an event table",
    note = "events are of tables declared with #[row(table = \"…\", event)]; rows of a state table go through `full` or `delta`"
)]
pub trait EventRow: Row {}

/// The key columns of a row.
pub trait Key: Sized + Send + 'static {
    /// One array per key column.
    fn columns(rows: &[Self]) -> Vec<ArrowArray>;
}

/// The key of a table without key columns: of events, and of pictures of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NoKey;

impl Key for NoKey {
    fn columns(_: &[Self]) -> Vec<ArrowArray> {
        Vec::new()
    }
}

/// The tables that a probe fills: one row type, or a tuple of up to six.
pub trait Tables {
    fn tables() -> Vec<TableDescriptor>;
}

impl<R: Row> Tables for R {
    fn tables() -> Vec<TableDescriptor> {
        vec![R::TABLE]
    }
}

impl Tables for () {
    fn tables() -> Vec<TableDescriptor> {
        Vec::new()
    }
}

macro_rules! tuples {
    ($($($name:ident)+;)*) => {$(
        impl<$($name: Row),+> Tables for ($($name,)+) {
            fn tables() -> Vec<TableDescriptor> {
                vec![$($name::TABLE),+]
            }
        }
    )*};
}

tuples! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
}
