//! SQL over real stores, written by the store's own writer into directories of the test's own.
//!
//! One binary: linking the engine takes longer than running all of these.
#![cfg(test)]

mod access;
mod describe;
mod documented;
mod errors;
mod gaps;
mod instances;
mod limits;
mod pushdown;
mod ranges;
mod rates;
mod recording;
mod times;
