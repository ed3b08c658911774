//! The recorder of vwatchd: schedules probe instances, brings their rows to the store, and serves control and query
//! sockets.
//!
//! Threads: `scheduler` (what runs when), `run-N` (calls into probes), `writer` (the store), `plugins` (the plugins directory), `in-NAME`
//! (deliveries to a plugin), and the main thread with sockets and signals (tokio, current thread).
//!
//! **Invariants:** no TCP or UDP socket is ever opened. No call into a plugin is made under a lock. A slow or hanging plugin
//! costs its own thread and nothing else. What is not recorded is said to be: a row of `gap`, `probe_run` or `plugin_event`.

mod calls;
mod clock;
mod control;
mod error;
mod instances;
mod keep;
mod notify;
mod pipeline;
mod plugins;
pub mod process;
mod query;
mod query_answer;
mod recorder;
#[cfg(test)]
mod recorder_tests;
mod rows;
mod scheduler;
mod services;
mod socket;
mod start;
mod streams;
mod taps;
#[cfg(test)]
mod testing;
mod watch;

pub use error::CoreError;
pub use query::note as query_note;
pub use start::{Start, check_store, is_live, run};
