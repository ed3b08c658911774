//! The files of `/proc/PID`, and which of them stay open.
//!
//! Opening, reading and closing costs twice what reading does, so each process's `stat` is kept open while it lives: 5 µs per
//! process and sample. A descriptor belongs to the process and not to its number: once the process has ended, reading answers
//! `ESRCH`, even where the pid is used again. The other files are read only when a process has done something, and are opened
//! for it.
//!
//! **Invariant:** all instances together keep at most half of the descriptors that the daemon may have (`RLIMIT_NOFILE`); where
//! those are used up, `stat` is opened for each reading too.

use nix::sys::resource::{Resource, getrlimit};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Descriptors kept by all instances of this plugin.
static KEPT: AtomicU64 = AtomicU64::new(0);

/// No file of a process but `status` with thousands of groups comes near it.
const LIMIT: usize = 1 << 20;

/// `/proc/PID/stat`, open if it may stay so.
pub struct StatFile {
    path: PathBuf,
    file: Option<File>,
}

impl StatFile {
    pub fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join("stat");
        let file = File::open(&path)?;
        let keep = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft / 2);
        let room = |kept: u64| (kept < keep).then_some(kept + 1);
        let kept = KEPT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok();
        Ok(StatFile {
            path,
            file: kept.then_some(file),
        })
    }

    pub fn is_kept(&self) -> bool {
        self.file.is_some()
    }

    pub fn read(&self, text: &mut Vec<u8>) -> io::Result<()> {
        match &self.file {
            Some(file) => read_from_start(file, LIMIT, text),
            None => read_from_start(&File::open(&self.path)?, LIMIT, text),
        }
    }
}

impl Drop for StatFile {
    fn drop(&mut self) {
        if self.is_kept() {
            KEPT.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The bytes of a file of a process, at most `limit`.
pub fn bytes(path: &Path, limit: usize, text: &mut Vec<u8>) -> io::Result<()> {
    read_from_start(&File::open(path)?, limit, text)
}

/// One `pread` for most files: the kernel makes a whole file of a process at once, so that a short answer is the end.
fn read_from_start(file: &File, limit: usize, text: &mut Vec<u8>) -> io::Result<()> {
    let mut room = limit.min(4096);
    text.clear();
    loop {
        let from = text.len();
        text.resize(room, 0);
        let got = file.read_at(&mut text[from..], from as u64);
        text.truncate(from + *got.as_ref().unwrap_or(&0));
        match got {
            Ok(_) if text.len() < room || room == limit => return Ok(()),
            Ok(_) => room = limit.min(room * 2),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Whether an error means that the process has ended.
pub fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// Whether an error is about us and not about the process that is read: no descriptors or memory left.
pub fn is_ours(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn files_of_all_lengths() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut text = vec![7; 9];
        for length in [0, 1, 4095, 4096, 4097, 8192, 20_000] {
            let content: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            std::fs::write(&path, &content).unwrap();
            bytes(&path, LIMIT, &mut text).unwrap();
            assert_eq!(text, content);
            bytes(&path, 100, &mut text).unwrap();
            assert_eq!(text, content[..length.min(100)]);
        }
    }

    #[test]
    fn a_kept_file_knows_that_its_process_has_ended() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let dir = PathBuf::from(format!("/proc/{}", child.id()));
        let stat = StatFile::open(&dir).unwrap();
        let mut text = Vec::new();
        stat.read(&mut text).unwrap();
        assert!(text.starts_with(format!("{} (", child.id()).as_bytes()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_gone(&stat.read(&mut text).unwrap_err()));
        assert!(is_gone(&StatFile::open(&dir).err().unwrap()));
    }
}
