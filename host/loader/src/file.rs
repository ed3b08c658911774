//! The first gate: who could have written the file, and a private copy of what it contains.
//!
//! The path is walked by file descriptor, one component at a time, symbolic links included, so that each directory is
//! checked as the very one that is passed through. The file is read once, from the descriptor that was checked, into a
//! memfd that is sealed against writing: nobody can exchange what the later gates look at. A memfd is memory: it gets the
//! parts of a library that are mapped, and holes for the rest.

use crate::elf;
use crate::refusal::Fail;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, OFlag, SealFlag, fcntl, openat, readlinkat};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::geteuid;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

/// Far above any plugin (a debug build with all its symbols has some 100 MB), far below what would hurt the host.
const MAX_BYTES: u64 = 512 << 20;
/// As many symbolic links as the kernel follows.
const MAX_LINKS: u32 = 40;

/// Which file, and which content, a plugin was loaded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub dev: u64,
    pub ino: u64,
    pub mtime_ns: i64,
    pub size: u64,
    /// CRC-32 of the content: two files with the same size and crc are the same plugin.
    pub crc: u32,
}

impl Identity {
    /// The content is the same, wherever it lies.
    pub fn same_content(&self, other: &Identity) -> bool {
        (self.size, self.crc) == (other.size, other.crc)
    }
}

/// What the later gates look at.
pub(crate) struct PrivateCopy {
    pub memfd: OwnedFd,
    pub bytes: Vec<u8>,
    pub identity: Identity,
}

/// Path under which this process (and a child that inherits the descriptor) opens the copy.
pub(crate) fn fd_path(fd: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Checks a file and everything above it, and copies it.
pub(crate) fn take(path: &Path) -> Result<PrivateCopy, Fail> {
    if !path.is_absolute() {
        return Err(Fail::new("its path is not absolute", "name it by its full path"));
    }
    if path.extension() != Some(OsStr::new("so")) {
        return Err(Fail::new(
            "its name does not end in .so",
            "a plugin is a shared library; move other files out of the plugins directory",
        ));
    }
    let (fd, before) = Walk::new()?.open(path)?;
    let size = u64::try_from(before.st_size).unwrap_or(0);
    if size == 0 {
        return Err(Fail::new("it is empty", "copy the plugin again"));
    }
    if size > MAX_BYTES {
        return Err(Fail::new(
            format!("it has {size} bytes; at most {MAX_BYTES} are loaded"),
            "strip the debug information from it",
        ));
    }
    let bytes = read_whole(fd, &before)?;
    let identity = Identity {
        dev: before.st_dev,
        ino: before.st_ino,
        mtime_ns: before
            .st_mtime
            .saturating_mul(1_000_000_000)
            .saturating_add(before.st_mtime_nsec),
        size,
        crc: crc32fast::hash(&bytes),
    };
    let memfd = sealed_copy(path, &bytes)?;
    Ok(PrivateCopy { memfd, bytes, identity })
}

fn read_whole(fd: OwnedFd, before: &FileStat) -> Result<Vec<u8>, Fail> {
    let unreadable = |why: String| {
        Fail::new(
            format!("it cannot be read: {why}"),
            "see to the disk or its permissions",
        )
    };
    let mut file = File::from(fd);
    let mut bytes = Vec::with_capacity(usize::try_from(before.st_size).unwrap_or(0));
    (&mut file)
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| unreadable(e.to_string()))?;
    let after = fstat(&file).map_err(|e| unreadable(e.to_string()))?;
    let stamp = |s: &FileStat| (s.st_size, s.st_mtime, s.st_mtime_nsec, s.st_ctime, s.st_ctime_nsec);
    if stamp(before) != stamp(&after) || bytes.len() as i64 != after.st_size {
        return Err(Fail::new(
            "it changed while it was read",
            "it is looked at again when its writer has closed it",
        ));
    }
    Ok(bytes)
}

fn sealed_copy(path: &Path, bytes: &[u8]) -> Result<OwnedFd, Fail> {
    let no_copy = |why: Errno| {
        let hint = match why {
            Errno::EACCES => "vm.memfd_noexec forbids executable memory files: set it to 0 or 1",
            Errno::EMFILE | Errno::ENFILE => "too many open files: restart the daemon, or raise its limit",
            _ => "see that there is memory left",
        };
        Fail::new(format!("no private copy can be made: {why}"), hint)
    };
    // Shown as /memfd:NAME in /proc/PID/maps; the kernel takes 249 bytes.
    let name: String = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .chars()
        .take(60)
        .collect();
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let executable = flags | MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let memfd = memfd_create(name.as_str(), executable)
        .or_else(|why| match why {
            // A kernel before 6.3, where every memfd is executable.
            Errno::EINVAL => memfd_create(name.as_str(), flags),
            why => Err(why),
        })
        .map_err(no_copy)?;
    let file = File::from(memfd);
    write_mapped(&file, bytes).map_err(|e| no_copy(e.raw_os_error().map_or(Errno::EIO, Errno::from_raw)))?;
    let memfd = OwnedFd::from(file);
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
    fcntl(&memfd, FcntlArg::F_ADD_SEALS(seals)).map_err(no_copy)?;
    Ok(memfd)
}

/// What is no library is copied whole: the next gate refuses it.
fn write_mapped(file: &File, bytes: &[u8]) -> std::io::Result<()> {
    file.set_len(bytes.len() as u64)?;
    let Some(parts) = elf::mapped(bytes) else {
        return file.write_all_at(bytes, 0);
    };
    for part in parts {
        file.write_all_at(&bytes[part.clone()], part.start as u64)?;
    }
    Ok(())
}

/// Whether a descriptor is a copy that [`take`] has made (in this process or its parent).
pub(crate) fn is_sealed(fd: impl AsFd) -> bool {
    fcntl(fd, FcntlArg::F_GET_SEALS)
        .is_ok_and(|seals| SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_WRITE))
}

/// A walk from `/` to a file, with the directories passed so far (for `..`).
struct Walk {
    passed: Vec<(OwnedFd, PathBuf)>,
    ahead: VecDeque<OsString>,
    links: u32,
    euid: u32,
}

fn not_reached(path: &Path, why: Errno) -> Fail {
    let hint = match why {
        Errno::ENOENT => "see that it was not moved, and that a link does not point nowhere",
        Errno::EACCES | Errno::EPERM => "let the daemon's user read it",
        _ => "see to the file system",
    };
    Fail::new(format!("{} cannot be opened: {}", path.display(), why.desc()), hint)
}

impl Walk {
    fn new() -> Result<Walk, Fail> {
        let root = Path::new("/");
        let mut walk = Walk {
            passed: Vec::new(),
            ahead: VecDeque::new(),
            links: 0,
            euid: geteuid().as_raw(),
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(root, flags, Mode::empty()).map_err(|e| not_reached(root, e))?;
        walk.enter(fd, root.to_owned())?;
        Ok(walk)
    }

    /// The regular file at `path`, open for reading, and its stat.
    fn open(mut self, path: &Path) -> Result<(OwnedFd, FileStat), Fail> {
        self.lie_ahead(path);
        while let Some(name) = self.ahead.pop_front() {
            if name == ".." {
                // The root's parent is the root.
                if self.passed.len() > 1 {
                    self.passed.pop();
                }
                continue;
            }
            let (dir, at) = self.here();
            let at = at.join(&name);
            let stat = fstatat(dir, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|e| not_reached(&at, e))?;
            match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
                SFlag::S_IFLNK => self.follow(&name, &at, &stat)?,
                SFlag::S_IFDIR if self.ahead.is_empty() => {
                    return Err(Fail::new("it is a directory", "name the plugin's file"));
                }
                SFlag::S_IFDIR => {
                    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                    let fd = openat(dir, name.as_os_str(), flags, Mode::empty()).map_err(|e| not_reached(&at, e))?;
                    self.enter(fd, at)?;
                }
                SFlag::S_IFREG if self.ahead.is_empty() => return self.arrive(&name, &at),
                SFlag::S_IFREG => return Err(not_reached(&at, Errno::ENOTDIR)),
                _ => {
                    return Err(Fail::new(
                        format!("{} is a device, a pipe or a socket, not a regular file", at.display()),
                        "remove it from the plugins directory",
                    ));
                }
            }
        }
        Err(Fail::new("it is a directory", "name the plugin's file"))
    }

    fn here(&self) -> (&OwnedFd, &Path) {
        let (fd, at) = self.passed.last().expect("the root is never popped");
        (fd, at)
    }

    /// Puts the components of `path` before those still to go.
    fn lie_ahead(&mut self, path: &Path) {
        for component in path.components().rev() {
            match component {
                Component::Normal(name) => self.ahead.push_front(name.to_owned()),
                Component::ParentDir => self.ahead.push_front("..".into()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
    }

    fn enter(&mut self, fd: OwnedFd, at: PathBuf) -> Result<(), Fail> {
        let stat = fstat(&fd).map_err(|e| not_reached(&at, e))?;
        self.trusted_owner("directory ", &at, &stat)?;
        let sticky = stat.st_mode & libc::S_ISVTX != 0;
        if let (Some(who), false) = (writable_by(&stat), sticky) {
            return Err(Fail::new(
                format!("directory {} can be written by {who}", at.display()),
                format!("chmod go-w {}", at.display()),
            ));
        }
        self.passed.push((fd, at));
        Ok(())
    }

    fn follow(&mut self, name: &OsStr, at: &Path, stat: &FileStat) -> Result<(), Fail> {
        self.trusted_owner("symbolic link ", at, stat)?;
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(not_reached(at, Errno::ELOOP));
        }
        let target = readlinkat(self.here().0, name).map_err(|e| not_reached(at, e))?;
        let target = PathBuf::from(target);
        if target.is_absolute() {
            self.passed.truncate(1);
        }
        self.lie_ahead(&target);
        Ok(())
    }

    fn arrive(&self, name: &OsStr, at: &Path) -> Result<(OwnedFd, FileStat), Fail> {
        // Non-blocking: what was a file a moment ago may be a pipe now.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let fd = openat(self.here().0, name, flags, Mode::empty()).map_err(|e| not_reached(at, e))?;
        let stat = fstat(&fd).map_err(|e| not_reached(at, e))?;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Err(Fail::new(
                "it is not a regular file",
                "remove it from the plugins directory",
            ));
        }
        self.trusted_owner("", at, &stat)?;
        if let Some(who) = writable_by(&stat) {
            return Err(Fail::new(
                format!("{} can be written by {who}", at.display()),
                format!("chmod go-w {}", at.display()),
            ));
        }
        Ok((fd, stat))
    }

    fn trusted_owner(&self, what: &str, at: &Path, stat: &FileStat) -> Result<(), Fail> {
        if stat.st_uid == 0 || stat.st_uid == self.euid {
            return Ok(());
        }
        let (mine, hint) = if self.euid == 0 {
            ("root".to_owned(), format!("chown -h root {}", at.display()))
        } else {
            let mine = format!("root or the daemon's user ({})", self.euid);
            (mine, format!("chown -h {} {}", self.euid, at.display()))
        };
        Err(Fail::new(
            format!("{what}{} belongs to user {}, not to {mine}", at.display(), stat.st_uid),
            hint,
        ))
    }
}

fn writable_by(stat: &FileStat) -> Option<&'static str> {
    match (stat.st_mode & libc::S_IWGRP != 0, stat.st_mode & libc::S_IWOTH != 0) {
        (_, true) => Some("everybody"),
        (true, false) => Some("its group"),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_copy_has_what_is_mapped_and_holes_for_the_rest() {
        // This test itself: with its symbols and debug information, as plugins come.
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let copy = File::from(sealed_copy(Path::new("/own.so"), &bytes).unwrap());
        assert!(is_sealed(&copy));
        let metadata = copy.metadata().unwrap();
        assert_eq!(metadata.len(), bytes.len() as u64);
        let parts = elf::mapped(&bytes).unwrap();
        for part in &parts {
            let mut got = vec![0; part.len()];
            copy.read_exact_at(&mut got, part.start as u64).unwrap();
            assert!(got == bytes[part.clone()], "{part:?}");
        }
        let mapped: usize = parts.iter().map(|p| p.len()).sum();
        let slack = 4096 * 2 * parts.len();
        assert!(metadata.blocks() * 512 <= (mapped + slack) as u64);
        assert!(mapped + slack < bytes.len(), "this test has no symbols to leave out");
    }

    #[test]
    fn what_is_no_library_is_copied_whole() {
        for bytes in [&b"#!/bin/sh\n"[..], b"\x7fELF", &[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]] {
            let copy = File::from(sealed_copy(Path::new("/text.so"), bytes).unwrap());
            let mut got = vec![0; bytes.len()];
            copy.read_exact_at(&mut got, 0).unwrap();
            assert_eq!(got, bytes);
        }
    }
}
