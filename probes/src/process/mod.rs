//! Processes: what each one is and does, and how each one ended.
//!
//! `process` reads `/proc/PID`, `process_exit` listens to the kernel's taskstats. A process is known by its pid and when it was
//! started: pids are used again.

pub mod cmdline;
pub mod exit;
mod files;
mod groups;
mod netlink;
mod origin;
pub mod probe;
mod row;
mod stat;
mod status;
mod taskstats;
mod users;

pub use exit::{ProcessExit, ProcessExitProbe};
pub use probe::ProcessProbe;
pub use row::{Process, ProcessKey};
