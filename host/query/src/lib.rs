//! SQL over a vwatchd store.
//!
//! SQL:2011 system-versioned tables on DataFusion: a state table is the picture of now, or of a moment with `FOR
//! SYSTEM_TIME AS OF`; `T_history` is every sample; event tables are histories by nature. What a picture is worth (gaps,
//! expiry) is told with the answer. `docs/sql.md` is the reference for users.
//!
//! **Invariants:** the only crate that knows the engine; SQL reads only the tables of one store; an answer that lacks
//! something says so in its [`vwatch_model::query::Done`].
//!
//! Cost of one request over a small store: session and planning about 5 ms, AS OF one block.

pub mod answer;
mod as_of;
mod bounds;
mod conditions;
mod counter;
mod describe;
mod dialect;
mod entities;
mod error;
mod failure;
mod give_way;
pub mod memory;
mod meter;
mod moments;
mod open_instances;
mod picture;
mod range_functions;
mod range_groups;
mod rate_columns;
mod rates;
mod run;
mod session;
mod snapshot;
mod statement;
mod stream;
mod table;
mod tables;
mod time_bucket;
mod zone;

pub use error::{Place, SqlError, kind};
pub use run::{DEFAULT_MEMORY_BYTES, DEFAULT_TIME_MS, Outcome, Terms, answer};
pub use snapshot::Asker;
