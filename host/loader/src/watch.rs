//! Watches the plugins directory, and says which files to look at again.
//!
//! Source: inotify(7). A file is reported when it has been quiet for a while: shortly after its writer closed it or it was
//! moved in, later when somebody still seems to write. Notifications are hints, not truth: after an overflow, and whenever
//! the directory was gone, the directory is read and compared with what was seen last. While it is absent its nearest
//! existing parent is watched, so the descriptor wakes its poller when it comes back.
//!
//! Cost: nothing while nothing happens; one stat of the directory per [`Watcher::next`].

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a closed or moved file has to be left alone.
const QUIET: Duration = Duration::from_millis(100);
/// How long one has to be left alone that somebody may still have open: also links, which nobody ever closes.
const QUIET_UNCLOSED: Duration = Duration::from_millis(800);
/// How often a directory that is gone is looked for, beside what its parent's watch says.
const SEEK: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("the plugins directory {} cannot be watched: {source}", dir.display())]
    Watch { dir: PathBuf, source: io::Error },
    #[error("the plugins directory {} cannot be read: {source}", dir.display())]
    Read { dir: PathBuf, source: io::Error },
    #[error("the plugins directory {} is not an absolute path", .0.display())]
    Relative(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirChange {
    /// A file is new, was replaced, written or changed its mode: load it, or look why not.
    Changed(PathBuf),
    /// A file that was there is not any more.
    Removed(PathBuf),
    /// The directory itself is gone; each file in it is reported as removed.
    DirGone(PathBuf),
    /// The directory is there again; each file in it is reported as changed.
    DirBack(PathBuf),
}

/// Candidates for plugins in a directory, sorted: every regular file or symbolic link whose name does not start with a dot.
pub fn scan_dir(dir: &Path) -> Result<Vec<PathBuf>, WatchError> {
    let failed = |source| WatchError::Read {
        dir: dir.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        if is_candidate(&entry.file_name()) && (kind.is_file() || kind.is_symlink()) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn is_candidate(name: &OsStr) -> bool {
    !name.as_bytes().starts_with(b".")
}

/// What of a file tells that it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Stamp {
    /// Of the file itself, not of what it may link to. None when there is nothing, or no candidate.
    fn of(path: &Path) -> Option<Stamp> {
        let m = std::fs::symlink_metadata(path).ok()?;
        (m.is_file() || m.is_symlink()).then(|| Stamp {
            dev: m.dev(),
            ino: m.ino(),
            size: m.size(),
            mtime: (m.mtime(), m.mtime_nsec()),
            ctime: (m.ctime(), m.ctime_nsec()),
        })
    }
}

/// What is watched at the moment.
enum Watched {
    /// The directory: its watch, and its device and inode.
    Dir(WatchDescriptor, (u64, u64)),
    /// It is gone: its nearest existing parent.
    Parent(Option<WatchDescriptor>),
}

pub struct Watcher {
    dir: PathBuf,
    inotify: Inotify,
    watched: Watched,
    /// Files as last reported, or as they were at the start.
    known: HashMap<PathBuf, Stamp>,
    /// Files that something happened to, and when they will have been quiet long enough.
    pending: HashMap<PathBuf, Instant>,
}

impl Watcher {
    /// Watches an existing directory. To miss nothing, make the watcher first and [`scan_dir`] then: what happens between
    /// the two is reported as well.
    pub fn new(dir: &Path) -> Result<Watcher, WatchError> {
        if !dir.is_absolute() {
            return Err(WatchError::Relative(dir.to_owned()));
        }
        let failed = |errno: Errno| WatchError::Watch {
            dir: dir.to_owned(),
            source: errno.into(),
        };
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(failed)?;
        let mut watcher = Watcher {
            dir: dir.to_owned(),
            inotify,
            watched: Watched::Parent(None),
            known: HashMap::new(),
            pending: HashMap::new(),
        };
        let wd = watcher.watch_dir().map_err(failed)?;
        let place = place(dir).map_err(|source| WatchError::Watch {
            dir: dir.to_owned(),
            source,
        })?;
        watcher.watched = Watched::Dir(wd, place);
        for file in scan_dir(dir)? {
            watcher.known.extend(Stamp::of(&file).map(|stamp| (file, stamp)));
        }
        Ok(watcher)
    }

    /// Readable when something has happened: call [`Watcher::next`] then, and again after it (files need to be quiet).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Waits until there is something to report, at most `timeout`. Each file is reported once per burst of changes.
    pub fn next(&mut self, timeout: Duration) -> Vec<DirChange> {
        let deadline = Instant::now() + timeout;
        loop {
            let mut changes = Vec::new();
            self.read_events(&mut changes);
            self.look_for_dir(&mut changes);
            self.report_quiet(&mut changes);
            let now = Instant::now();
            if !changes.is_empty() || now >= deadline {
                return changes;
            }
            let mut until = self
                .pending
                .values()
                .copied()
                .chain([deadline])
                .min()
                .unwrap_or(deadline);
            if matches!(self.watched, Watched::Parent(_)) {
                until = until.min(now + SEEK);
            }
            self.wait(until.saturating_duration_since(now));
        }
    }

    fn wait(&self, span: Duration) {
        // Rounded up: a wait that ends a moment too early would be repeated at once.
        let millis = i32::try_from(span.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        let mut fds = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
        // An error here is a signal or a lack of memory: the caller's loop looks again anyway.
        let _ = poll(&mut fds, PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX));
    }

    fn read_events(&mut self, changes: &mut Vec<DirChange>) {
        // EAGAIN ends it; any other error leaves the comparison with the directory.
        while let Ok(events) = self.inotify.read_events() {
            for event in events {
                self.take_event(&event, changes);
            }
        }
    }

    fn take_event(&mut self, event: &InotifyEvent, changes: &mut Vec<DirChange>) {
        use AddWatchFlags as F;
        if event.mask.contains(F::IN_Q_OVERFLOW) {
            self.compare(changes);
            return;
        }
        let Watched::Dir(wd, _) = &self.watched else { return };
        // Events of a parent, or of a directory that was given up.
        if event.wd != *wd {
            return;
        }
        if event
            .mask
            .intersects(F::IN_DELETE_SELF | F::IN_MOVE_SELF | F::IN_UNMOUNT | F::IN_IGNORED)
        {
            self.lose_dir(changes);
            return;
        }
        let Some(name) = event.name.as_deref().filter(|name| is_candidate(name)) else {
            return;
        };
        if event.mask.contains(F::IN_ISDIR) {
            return;
        }
        let unclosed = event.mask.intersects(F::IN_CREATE | F::IN_MODIFY);
        let quiet = if unclosed { QUIET_UNCLOSED } else { QUIET };
        self.pending.insert(self.dir.join(name), Instant::now() + quiet);
    }

    /// Reports pending files whose time has come.
    fn report_quiet(&mut self, changes: &mut Vec<DirChange>) {
        let now = Instant::now();
        let mut due: Vec<PathBuf> = Vec::new();
        self.pending.retain(|path, until| {
            let waits = *until > now;
            if !waits {
                due.push(path.clone());
            }
            waits
        });
        due.sort();
        for path in due {
            match Stamp::of(&path) {
                Some(stamp) => {
                    self.known.insert(path.clone(), stamp);
                    changes.push(DirChange::Changed(path));
                }
                None => {
                    // A file that came and went within one burst was never reported.
                    if self.known.remove(&path).is_some() {
                        changes.push(DirChange::Removed(path));
                    }
                }
            }
        }
    }

    /// Finds out whether the path still leads to the watched directory, or leads to one again.
    fn look_for_dir(&mut self, changes: &mut Vec<DirChange>) {
        let now = place(&self.dir).ok();
        match &self.watched {
            Watched::Dir(_, then) if now == Some(*then) => return,
            Watched::Dir(..) => self.lose_dir(changes),
            Watched::Parent(_) => {}
        }
        let Some(now) = now else {
            self.watch_parent();
            return;
        };
        match self.watch_dir() {
            Ok(wd) => {
                if let Watched::Parent(Some(parent)) = &self.watched {
                    let _ = self.inotify.rm_watch(*parent);
                }
                self.watched = Watched::Dir(wd, now);
                changes.push(DirChange::DirBack(self.dir.clone()));
                self.compare(changes);
            }
            Err(_) => self.watch_parent(),
        }
    }

    fn lose_dir(&mut self, changes: &mut Vec<DirChange>) {
        if let Watched::Dir(wd, _) = &self.watched {
            // Already gone when the directory was deleted; still there when it was renamed.
            let _ = self.inotify.rm_watch(*wd);
        }
        self.watched = Watched::Parent(None);
        self.pending.clear();
        changes.push(DirChange::DirGone(self.dir.clone()));
        let mut gone: Vec<PathBuf> = self.known.drain().map(|(path, _)| path).collect();
        gone.sort();
        changes.extend(gone.into_iter().map(DirChange::Removed));
    }

    /// Compares the directory with what is known. Changed files go through the quiet time as well.
    fn compare(&mut self, changes: &mut Vec<DirChange>) {
        // Not readable any more: look_for_dir finds out why.
        let Ok(there) = scan_dir(&self.dir) else { return };
        let until = Instant::now() + QUIET;
        for path in &there {
            if Stamp::of(path).is_some_and(|stamp| self.known.get(path) != Some(&stamp)) {
                self.pending.entry(path.clone()).or_insert(until);
            }
        }
        let mut gone: Vec<PathBuf> = self
            .known
            .keys()
            .filter(|path| there.binary_search(path).is_err())
            .cloned()
            .collect();
        gone.sort();
        for path in gone {
            self.known.remove(&path);
            self.pending.remove(&path);
            changes.push(DirChange::Removed(path));
        }
    }

    fn watch_dir(&self) -> nix::Result<WatchDescriptor> {
        use AddWatchFlags as F;
        let files = F::IN_CLOSE_WRITE | F::IN_MOVE | F::IN_DELETE | F::IN_ATTRIB | F::IN_CREATE | F::IN_MODIFY;
        let itself = F::IN_DELETE_SELF | F::IN_MOVE_SELF | F::IN_ONLYDIR;
        self.inotify.add_watch(&self.dir, files | itself)
    }

    /// Watches the nearest parent that exists; when it is watched already, the kernel answers the same watch.
    fn watch_parent(&mut self) {
        use AddWatchFlags as F;
        let flags = F::IN_CREATE | F::IN_MOVED_TO | F::IN_DELETE_SELF | F::IN_MOVE_SELF | F::IN_ONLYDIR;
        let parent = self
            .dir
            .ancestors()
            .skip(1)
            .find_map(|parent| self.inotify.add_watch(parent, flags).ok());
        let old = match &self.watched {
            Watched::Parent(old) => *old,
            Watched::Dir(..) => None,
        };
        if let Some(old) = old
            && Some(old) != parent
        {
            let _ = self.inotify.rm_watch(old);
        }
        self.watched = Watched::Parent(parent);
    }
}

/// Device and inode of the directory that the path leads to.
fn place(dir: &Path) -> io::Result<(u64, u64)> {
    let m = std::fs::metadata(dir)?;
    if m.is_dir() {
        Ok((m.dev(), m.ino()))
    } else {
        Err(io::Error::from(io::ErrorKind::NotADirectory))
    }
}
