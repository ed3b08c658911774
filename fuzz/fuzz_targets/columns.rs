//! libFuzzer over `vwatch_store::fuzzing::columns`. README.md says how to run it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vwatch_fuzz::{Counting, bounded};

#[global_allocator]
static MEMORY: Counting = Counting;

fuzz_target!(|data: &[u8]| bounded(data, || {
    // Any error is an answer.
    let _ = vwatch_store::fuzzing::columns(data);
}));
