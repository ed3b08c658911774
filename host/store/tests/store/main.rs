//! Tests of the store from outside, in one program: what they share is compiled once.

#![allow(clippy::unwrap_used, reason = "tests")]

mod api;
mod crash;
mod files;
mod full;
mod keep;
mod live;
mod model;
mod storage;
mod support;
mod verify;
