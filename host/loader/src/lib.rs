//! Finds, checks and opens plugins, and turns their ABI into the host's model.
//!
//! A plugin file goes through four gates, each of which answers with a [`Refusal`] that names the file, the reason and the
//! mend, and never with a panic or a dead process:
//! 1. `file`: who could have written it (owner and mode of the file and of every directory above it). It is read once,
//!    into a sealed private copy; everything after looks at that copy, so nothing can be exchanged in between.
//! 2. `elf`: a whole 64-bit library of this machine, with the mark of this ABI version among its symbols.
//! 3. `trial`: a child process loads it first ([`check_child`]), limited in time, CPU and memory. What crashes, hangs or
//!    exits there never reaches the host.
//! 4. `open`: the host loads the same copy, abi_stable compares the layouts, and the manifest is checked.
//!
//! **Invariants:** a library that was opened is never closed (Rust dylibs cannot be unloaded safely). `vwatch-abi` is seen
//! by no other crate of the host: what leaves here are this crate's own types and Arrow record batches of exactly the
//! declared schema. Rows are checked when they come in, at a cost of a pass over offsets and text.

mod check;
mod commit;
mod convert;
mod elf;
mod fault;
mod file;
mod host_object;
mod manifest;
mod open;
mod options;
mod plugin;
mod refusal;
mod rows;
mod services;
mod trial;
mod watch;

pub use check::check_child;
pub use commit::{Batch, Commit, Loss, OutboxEntry, Rows};
pub use fault::{Fault, FaultKind};
pub use file::Identity;
pub use manifest::{CommandEntry, Manifest, Mode, OptionType, ProbeEntry, ProbeOption, SubscriberEntry};
pub use open::Loader;
pub use options::read_options;
pub use plugin::{CommandAnswer, CommandCall, Plugin, ProbeHandle, ReceivedRows, Tick};
pub use refusal::Refusal;
pub use services::{Environment, HostServices, InstanceSpec, Level, Query};
pub use trial::Checker;
pub use watch::{DirChange, WatchError, Watcher, scan_dir};
