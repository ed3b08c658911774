//! The rules that the compiler cannot see: which crate may use which, how long a file may be, what may not be in it.
//! Runs as a command and as a test.

use crate::cargo::{cargo, root};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest file that needs no reason.
const MAX_LINES: usize = 600;

/// Which of our crates each crate may use outside its tests. What is not listed may use none.
const MAY_USE: &[(&str, &[&str])] = &[
    ("vwatch-abi", &[]),
    ("vwatch-derive", &[]),
    ("vwatch-model", &[]),
    ("vwatch-sdk", &["vwatch-abi", "vwatch-derive"]),
    ("vwatch-testkit", &["vwatch-abi", "vwatch-sdk"]),
    ("vwatch-probes", &["vwatch-sdk"]),
    ("vwatch-plugin-cpu", &["vwatch-probes", "vwatch-sdk"]),
    ("vwatch-plugin-os", &["vwatch-probes", "vwatch-sdk"]),
    ("vwatch-plugin-process", &["vwatch-probes", "vwatch-sdk"]),
    ("vwatch-plugin-system", &["vwatch-probes", "vwatch-sdk"]),
    ("vwatch-test-plugin", &["vwatch-sdk"]),
    ("vwatch-config", &["vwatch-model"]),
    ("vwatch-store", &["vwatch-model"]),
    ("vwatch-loader", &["vwatch-abi", "vwatch-model"]),
    (
        "vwatch-core",
        &["vwatch-config", "vwatch-loader", "vwatch-model", "vwatch-store"],
    ),
    (
        "vwatchd",
        &[
            "vwatch-config",
            "vwatch-core",
            "vwatch-loader",
            "vwatch-model",
            "vwatch-store",
        ],
    ),
    ("vwatch-sql", &["vwatch-model", "vwatch-store"]),
    ("vwatch-query", &["vwatch-model", "vwatch-sql", "vwatch-store"]),
    ("vwatch-client", &["vwatch-model"]),
    ("vwatchctl", &["vwatch-client", "vwatch-model"]),
    ("vwatch-tests", &[]),
    ("xtask", &[]),
];

/// Crates from outside that only the named crates may use.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("lmdb-rkv", &["vwatch-store"]),
    ("lmdb-rkv-sys", &["vwatch-store"]),
    ("datafusion", &["vwatch-sql"]),
    // The one way to a network: the user's own tool, when a URL is given.
    ("object_store", &["vwatchctl"]),
    (
        "abi_stable",
        &["vwatch-abi", "vwatch-sdk", "vwatch-testkit", "vwatch-loader"],
    ),
    (
        "tokio",
        &[
            "vwatch-core",
            "vwatchd",
            "vwatch-sql",
            "vwatch-query",
            "vwatch-client",
            "vwatchctl",
        ],
    ),
];

/// Text that may not stand in any file of the project.
const BANNED: &[(&str, &str)] = &[
    ("todo!(", "no stubs"),
    ("unimplemented!(", "no stubs"),
    ("#[ignore", "a test that does not run is no test"),
    ("allow(dead_code", "delete what is dead"),
];

pub fn run() -> Result<()> {
    let mut found = Vec::new();
    dependencies(&mut found)?;
    for file in files(&root())? {
        check_file(&file, &mut found)?;
    }
    if found.is_empty() {
        eprintln!("tidy: no objections");
        return Ok(());
    }
    bail!("tidy:\n{}", found.join("\n"));
}

fn dependencies(found: &mut Vec<String>) -> Result<()> {
    let out = cargo()
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()?;
    let metadata: Value = serde_json::from_slice(&out.stdout).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata: packages")?;
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(allowed) = rules.get(name) else {
            found.push(format!(
                "{name}: a crate without a rule; give it one in xtask/src/tidy.rs"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if dependency["kind"].as_str() == Some("dev") {
                continue;
            }
            let used = dependency["name"].as_str().unwrap_or_default();
            if rules.contains_key(used) && !allowed.contains(&used) {
                found.push(format!("{name} may not use {used}"));
            }
            let outside = ONLY_IN.iter().find(|(n, _)| *n == used);
            if outside.is_some_and(|(_, only)| !only.contains(&name)) {
                found.push(format!("{name} may not use {used}"));
            }
        }
    }
    Ok(())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("target") || name == ".git" || name == "hosts" {
            continue;
        }
        if path.is_dir() {
            all.extend(files(&path)?);
        } else if matches!(
            path.extension().and_then(|e| e.to_str()),
            Some("rs" | "toml" | "md" | "sh" | "c" | "h")
        ) {
            all.push(path);
        }
    }
    Ok(all)
}

fn check_file(path: &Path, found: &mut Vec<String>) -> Result<()> {
    let shown = path.strip_prefix(root()).unwrap_or(path).display().to_string();
    let text = fs::read_to_string(path).with_context(|| shown.clone())?;
    let this_file = shown == "xtask/src/tidy.rs";
    for (n, line) in text.lines().enumerate() {
        for (word, why) in BANNED {
            if !this_file && line.contains(word) {
                found.push(format!("{shown}:{}: {word} ({why})", n + 1));
            }
        }
    }
    if !shown.ends_with(".rs") {
        return Ok(());
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        found.push(format!("{shown}: {lines} lines; one idea a file, {MAX_LINES} at most"));
    }
    let in_tests = shown.contains("/tests/") || shown.starts_with("tests/") || shown.ends_with("/tests.rs");
    if !in_tests && !text.starts_with("//!") {
        found.push(format!(
            "{shown}: opens without //!: what it is, where its figures come from, its invariants"
        ));
    }
    if in_tests && text.contains("thread::sleep(Duration::from_secs") {
        found.push(format!("{shown}: a fixed sleep; wait for a condition with a deadline"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn tidy() {
        if let Err(objections) = super::run() {
            panic!("{objections}");
        }
    }
}
