//! The measurement code of vwatchd's own plugins: one module per domain, one file per probe.
//!
//! **Invariants:** a probe knows only the sdk, never the host; it reads the kernel's trees under the roots that its context
//! names, so that every probe runs over a fixture; parsers are pure functions of text and never panic on it.

pub mod cpu;
pub mod os;
pub mod process;
pub mod read;
pub mod system;
