//! Lays out what was built as a package would: `bin/`, `lib/vwatchd/plugins/`, `share/`.

use crate::cargo::{self, PLUGINS, PROGRAMS, Profile};
use crate::needs;
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn run(release: bool, dir: &Path) -> Result<()> {
    needs::check(needs::BUILD)?;
    let profile = if release { Profile::Release } else { Profile::Quick };
    cargo::build(profile)?;
    lay_out(profile, dir)?;
    eprintln!("staged in {}", dir.display());
    Ok(())
}

/// Copies the results of a finished build. Files are replaced by rename, so that running programs keep theirs.
pub fn lay_out(profile: Profile, dir: &Path) -> Result<()> {
    let from = cargo::out_dir(profile);
    for program in PROGRAMS {
        put(&from.join(program), &dir.join("bin").join(program), 0o755)?;
    }
    for plugin in PLUGINS {
        put(
            &from.join(format!("libvwatch_{plugin}.so")),
            &plugins_dir(dir).join(format!("{plugin}.so")),
            0o644,
        )?;
    }
    let share = dir.join("share");
    put(
        &cargo::root().join("config/vwatchd.conf"),
        &share.join("doc/vwatchd/examples/vwatchd.conf"),
        0o644,
    )?;
    let packaging = cargo::root().join("packaging");
    put(
        &packaging.join("vwatchd.service"),
        &dir.join("lib/systemd/system/vwatchd.service"),
        0o644,
    )?;
    put(
        &packaging.join("sysusers.conf"),
        &dir.join("lib/sysusers.d/vwatchd.conf"),
        0o644,
    )?;
    put(&packaging.join("vwatchd.conf"), &dir.join("etc/vwatchd.conf"), 0o644)?;
    let vwatchctl = dir.join("bin/vwatchctl");
    let man = share.join("man/man1");
    make_dir(&man)?;
    cargo::done(Command::new(&vwatchctl).arg("man").arg(&man))?;
    for (shell, file) in [
        ("bash", "bash-completion/completions/vwatchctl"),
        ("zsh", "zsh/vendor-completions/_vwatchctl"),
        ("fish", "fish/vendor_completions.d/vwatchctl.fish"),
    ] {
        let out = Command::new(&vwatchctl).args(["completions", shell]).output()?;
        anyhow::ensure!(out.status.success(), "vwatchctl completions {shell}: {}", out.status);
        let file = share.join(file);
        make_dir(file.parent().unwrap_or(&share))?;
        fs::write(&file, out.stdout).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Where the plugins of a staged tree lie.
pub fn plugins_dir(stage: &Path) -> PathBuf {
    stage.join("lib/vwatchd/plugins")
}

fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    make_dir(to.parent().unwrap_or(to))?;
    let name = to.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let new = to.with_file_name(format!(".{name}.new"));
    fs::copy(from, &new).with_context(|| format!("cannot copy {} to {}", from.display(), new.display()))?;
    fs::set_permissions(&new, fs::Permissions::from_mode(mode))?;
    fs::rename(&new, to).with_context(|| format!("cannot rename to {}", to.display()))
}

/// The loader refuses plugins under a directory that others may write to, whatever the umask is.
fn make_dir(dir: &Path) -> Result<()> {
    let fresh = !dir.exists();
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    if fresh {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
