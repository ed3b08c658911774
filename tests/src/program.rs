//! Programs with names of their own, to be found in the record.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A copy of a shell under `name`, so that its `comm` is that name.
pub fn named(dir: &Path, name: &str) -> PathBuf {
    assert!(name.len() <= 15, "the kernel keeps 15 bytes of a comm");
    let path = dir.join(name);
    std::fs::copy("/bin/sh", &path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Runs `script` in a shell called `name`; it reads from a pipe, and so can wait until it is told to go on with [`release`].
pub fn start(dir: &Path, name: &str, script: &str) -> Child {
    Command::new(named(dir, name))
        .arg("-c")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Closes the program's standard input, and waits for its end. Answers its exit code.
pub fn release(mut child: Child) -> Option<i32> {
    drop(child.stdin.take());
    child.wait().unwrap().code()
}
