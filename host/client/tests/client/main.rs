//! The client against streams, sockets and golden files.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod batches;
mod decoder;
mod formats;
mod sockets;
mod stream;
