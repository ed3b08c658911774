//! Starts the real programs in a directory of their own, and asks them as a user would.
//!
//! The programs and plugins are those that `cargo build --workspace` left beside the test; `cargo xtask test` builds them
//! first. Nothing here knows a host crate: what is tested is what a user has.

pub mod deadline;
pub mod duckdb;
pub mod host;
pub mod program;
pub mod s3;

pub use deadline::{LONG, SOON, until};
pub use host::{Answer, Host};

use std::path::PathBuf;

/// Where the build of this test lies: `target/debug`.
pub fn out_dir() -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its executable");
    let deps = test.parent().expect("tests lie in a directory");
    let out = if deps.ends_with("deps") {
        deps.parent().expect("deps lies in the build directory")
    } else {
        deps
    };
    out.to_path_buf()
}

/// Now, as `--at` and SQL take it.
pub fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// A program of this build.
pub fn built(name: &str) -> PathBuf {
    let path = out_dir().join(name);
    assert!(
        path.exists(),
        "{} is not built: run the tests with `cargo xtask test`",
        path.display()
    );
    path
}

/// Whether this process is root; prints why the test does nothing when it is not.
pub fn is_root_or_skip(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: {test} needs root");
    }
    root
}
