//! What the author of a vwatchd plugin uses, and all that a plugin depends on.
//!
//! A plugin brings **probes**: types that implement [`Probe`] (the host asks them for rows at each tick) or
//! [`StreamProbe`] (they push rows by themselves). Rows are structs with `#[derive(Row)]`: their doc comments, units and key
//! columns are the table's schema. Options are structs with `#[derive(Options)]`. One [`plugin!`] line binds them to a
//! library that vwatchd loads.
//!
//! ```
//! //! Entropy the kernel has gathered, from `/proc/sys/kernel/random`.
//! use vwatch_sdk::prelude::*;
//!
//! /// Bits in the kernel's entropy pool.
//! #[derive(Row)]
//! #[row(table = "entropy", state)]
//! pub struct Entropy {
//!     /// Bits available now.
//!     #[row(unit = "bits")]
//!     pub available_bits: i64,
//! }
//!
//! pub struct EntropyProbe(Context);
//!
//! impl Probe for EntropyProbe {
//!     type Options = NoOptions;
//!     type Tables = Entropy;
//!     const NAME: &'static str = "entropy";
//!     const DOC: &'static str = "Bits in the kernel's entropy pool.";
//!     const SCHEDULE: Schedule = Schedule::every_secs(10);
//!
//!     fn open(context: &Context, _: NoOptions) -> Result<Self> {
//!         Ok(EntropyProbe(context.clone()))
//!     }
//!
//!     fn run(&mut self, _: &Tick, out: &mut Out) -> Result<()> {
//!         let text = self.0.read_proc("sys/kernel/random/entropy_avail")?;
//!         let available_bits = text.trim().parse().map_err(|e| ProbeError::failed(format!("entropy_avail: {e}")))?;
//!         out.full(vec![Entropy { available_bits }]);
//!         Ok(())
//!     }
//! }
//!
//! plugin! {
//!     name: "entropy",
//!     doc: "Figures of the kernel's random number generator.",
//!     probes: [EntropyProbe],
//! }
//! # fn main() {}
//! ```
//!
//! **Invariants:** every call of the host into a plugin runs under `catch_unwind` and answers a fault when the author's code
//! panics; no panic hook is set in the host's process. A panicked probe answers `panicked` until the host opens it anew;
//! a panicked subscriber is opened anew for the next rows.

// The derives name this crate from outside; its own tests use them, too.
#[cfg(test)]
extern crate self as vwatch_sdk;

mod adapter;
mod answer;
mod build;
mod cell;
mod column;
mod command;
mod context;
mod emitter;
mod error;
mod exchange;
mod guard;
mod host;
mod macros;
mod option;
mod out;
mod plugin;
mod probe;
mod received;
mod row;
mod tick;
mod unit;
mod worker;

pub use answer::Answer;
pub use cell::{Cell, Timestamp};
pub use command::{Call, Command, Stream};
pub use context::Context;
pub use emitter::Emitter;
pub use error::{Kind, ProbeError, Result};
pub use host::{Level, OutboxEntry, StartInstance, TimerId};
pub use option::{Bytes, NoOptions, OptionValue, Options};
pub use out::Out;
pub use plugin::Definition;
pub use probe::{Probe, Schedule, StreamProbe};
pub use received::{ReceivedRows, RowsKind, Subscriber};
pub use row::{ColumnDescriptor, EventRow, Key, NoKey, Row, StateRow, TableDescriptor, Tables};
pub use tick::Tick;
pub use worker::{Stopping, Worker};

pub use vwatch_abi::describe::{self, ColumnType, Environment, Query, TableKind};
pub use vwatch_derive::{Options, Row};

/// A JSON object, as options and configuration sections cross.
pub type JsonObject = serde_json::Map<String, serde_json::Value>;

pub use arrow_array;
pub use arrow_schema;
pub use serde_json;

/// Everything that a plugin's source usually names.
pub mod prelude {
    pub use crate::{
        Answer, Bytes, Call, Command, Context, Emitter, Kind, Level, NoOptions, Options, Out, Probe, ProbeError,
        ReceivedRows, Result, Row, Schedule, Stopping, StreamProbe, Subscriber, Tick, Timestamp, Worker, plugin,
    };
    pub use std::time::Duration;
}

/// For the macros, and for the testkit. Not part of what authors may rely on.
#[doc(hidden)]
pub mod __private {
    pub use crate::adapter::create;
    pub use crate::build::rows;
    pub use crate::column::Column;
    pub use crate::exchange::{export, import};
    pub use crate::macros::{header, module, root_module};
    pub use crate::option::{check_names, decode_option, describe_option};
    pub use crate::plugin::{CommandEntry, ProbeEntry, SubscriberEntry};
    pub use crate::unit::{bytes, bytes_or_panic, duration_ns, duration_ns_or_panic, list};
    pub use vwatch_abi::abi_stable::library::{LibHeader, RootModuleResult};
    pub use vwatch_abi::abi_stable::std_types::RResult;
    pub use vwatch_abi::arrow_c::ArrowArray;
    pub use vwatch_abi::v1;
}
