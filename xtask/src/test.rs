//! Builds everything and runs all tests.
//!
//! The end-to-end tests use the programs and plugins of the dev profile, and the example plugin, which has a workspace
//! of its own: all are built first, so that no test waits for a compiler.

use crate::cargo::{cargo, done, root, target_dir};
use crate::needs;
use anyhow::Result;

pub fn run(args: &[String]) -> Result<()> {
    needs::check(needs::TEST)?;
    done(cargo().args(["build", "--workspace"]))?;
    example("build")?;
    if args.is_empty() {
        example("test")?;
    }
    if !needs::present("cargo-nextest") {
        eprintln!("cargo-nextest is not installed: running the tests with cargo test");
        return done(cargo().args(["test", "--workspace", "--no-fail-fast"]).args(args));
    }
    if args.is_empty() {
        // nextest does not run documentation tests. They come first: the runner's last lines are to be the summary.
        done(cargo().args(["test", "--workspace", "--doc", "--quiet"]))?;
    }
    let mut nextest = cargo();
    nextest.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
    done(nextest.args(args))
}

/// The example plugin has a workspace of its own; it shares the target directory, and so what is built already.
fn example(what: &str) -> Result<()> {
    let mut cargo = cargo();
    cargo
        .args([what, "--manifest-path"])
        .arg(root().join("plugin-api/example/Cargo.toml"));
    done(cargo.arg("--target-dir").arg(target_dir()))
}
