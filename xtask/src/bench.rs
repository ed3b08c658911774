//! Benchmarks. Each prints ratios against a baseline measured in the same run, in CPU time.

use crate::cargo::{cargo, done};
use crate::needs;
use anyhow::Result;
use clap::ValueEnum;

#[derive(Clone, Copy, ValueEnum)]
pub enum What {
    /// The store: bytes per row, encoding, AS OF, against a row-wise layout.
    Store,
}

pub fn run(what: What, args: &[String]) -> Result<()> {
    needs::check(needs::BUILD)?;
    let (package, example) = match what {
        What::Store => ("vwatch-store", "store_bench"),
    };
    let mut cargo = cargo();
    cargo
        .args(["run", "--release", "--package", package, "--example", example, "--"])
        .args(args);
    done(&mut cargo)
}
