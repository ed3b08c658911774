//! What a command needs from the machine: looked for, and installed where that can be done.

use anyhow::{Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// A program, and the Debian package that brings it.
pub struct Need {
    pub program: &'static str,
    pub package: &'static str,
    pub why: &'static str,
}

const COMPILER: Need = Need {
    program: "cc",
    package: "gcc",
    why: "builds the C of LMDB and zstd",
};

/// What every build needs.
pub const BUILD: &[Need] = &[
    COMPILER,
    Need {
        program: "/usr/include/stdio.h",
        package: "libc6-dev",
        why: "builds the C of LMDB and zstd",
    },
];

/// What the tests need: the independent sources that answers are compared with.
pub const TEST: &[Need] = &[
    COMPILER,
    Need {
        program: "/usr/include/stdio.h",
        package: "libc6-dev",
        why: "builds the C of LMDB and zstd",
    },
    Need {
        program: "ps",
        package: "procps",
        why: "answers about processes are compared with it",
    },
    Need {
        program: "lscpu",
        package: "util-linux",
        why: "answers about CPUs are compared with it",
    },
    Need {
        program: "ip",
        package: "iproute2",
        why: "answers about interfaces are compared with it",
    },
    Need {
        program: "curl",
        package: "curl",
        why: "the control socket is spoken to with it",
    },
    Need {
        program: "bzip2",
        package: "bzip2",
        why: "unpacks the kernel trees of real machines",
    },
];

/// Installs what is missing where that is possible (Debian, root), else names it.
pub fn check(needs: &[Need]) -> Result<()> {
    let mut missing: Vec<&Need> = needs.iter().filter(|n| !present(n.program)).collect();
    missing.dedup_by_key(|n| n.package);
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        eprintln!("needs {} (Debian package {}): {}", need.program, need.package, need.why);
    }
    let packages: Vec<&str> = missing.iter().map(|n| n.package).collect();
    let by_hand = format!("apt-get install -y {}", packages.join(" "));
    if !(is_root() && present("apt-get")) {
        bail!("install what is missing first: {by_hand}");
    }
    eprintln!("installing: {by_hand}");
    apt(&["update", "-qq"])?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(&packages);
    apt(&install)?;
    match missing.iter().find(|n| !present(n.program)) {
        Some(need) => bail!("{} is still missing after installing {}", need.program, need.package),
        None => Ok(()),
    }
}

fn apt(args: &[&str]) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null());
    crate::cargo::done(&mut apt)
}

/// Whether a program is on PATH, or a file is there.
pub fn present(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}
