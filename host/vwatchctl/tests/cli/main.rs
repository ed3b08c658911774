//! The built vwatchctl against sockets and engines that say what a test wants them to.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod console;
mod control;
mod docs;
mod export;
mod fake;
mod questions;
mod store;
#[path = "../../../client/tests/client/stream.rs"]
mod stream;
