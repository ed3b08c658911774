//! One writer per store: an open-file-description lock (`fcntl(2)`, `F_OFD_SETLK`) on `FILE-writer`, which holds the pid.
//!
//! The kernel drops the lock with the process, so one left by a dead writer is taken over by taking the lock. The lock is
//! asked about with `F_OFD_GETLK`, which takes nothing: asking never makes a writer's opening fail.

use crate::error::{Result, StoreError};
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Held for the life of a writer.
#[derive(Debug)]
pub(crate) struct WriterLock {
    _file: File,
}

fn lock_path(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push("-writer");
    name.into()
}

fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

impl WriterLock {
    /// `store` is the store's resolved path.
    pub fn take(store: &Path) -> Result<WriterLock> {
        let path = lock_path(store);
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
            .open(&path)
            .map_err(|e| StoreError::io(&path, "open", e))?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
            Ok(_) => {}
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => {
                return Err(StoreError::Held {
                    path: store.into(),
                    pid: pid_in(&mut file),
                });
            }
            Err(e) => return Err(StoreError::io(&path, "lock", e.into())),
        }
        // Over the last writer's, so that no space is needed on a full disk; of a fixed width, so that nothing of it is left.
        let pid = format!("{:<15}\n", std::process::id());
        file.write_all_at(pid.as_bytes(), 0)
            .map_err(|e| StoreError::io(&path, "write", e))?;
        Ok(WriterLock { _file: file })
    }
}

/// 0 when the file says nothing yet: its writer has just taken the lock.
fn pid_in(file: &mut File) -> i32 {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(32).read_to_string(&mut text));
    read.ok().and_then(|_| text.trim().parse().ok()).unwrap_or(0)
}

/// The process that writes the store now; None when nobody does.
pub fn writer_pid(path: &Path) -> Result<Option<i32>> {
    let lock = lock_path(&crate::env::resolve(path)?);
    let mut file = match File::open(&lock) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StoreError::io(&lock, "open", e)),
    };
    let mut asked = whole_file();
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut asked))
        .map_err(|e| StoreError::io(&lock, "ask about the lock of", e.into()))?;
    if i32::from(asked.l_type) == libc::F_UNLCK {
        return Ok(None);
    }
    Ok(Some(pid_in(&mut file)))
}
