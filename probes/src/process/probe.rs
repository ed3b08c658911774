//! All processes, from `/proc/PID` (proc(5)).
//!
//! **Cost** follows what changes: a process that has done nothing since the last sample is one `pread` of its `stat`, 5 µs. Only
//! when that text differs are `status`, `io` and `wchan` read, 30 µs more; and `cmdline`, `exe`, `cgroup` and the OOM scores, 35 µs, when
//! it has become another program, and each 30 s of all.
//!
//! **Accuracy.** `stat` counts CPU time in ticks of 10 ms, so a process that runs for less and faults nothing can change its
//! `status` unseen; the reading each 30 s bounds that. A process can end between the reading of two of its files: it is
//! left out then, never half read.

use super::files::{self, StatFile};
use super::origin::Origin;
use super::row::{Process, ProcessKey};
use super::stat::{self, Image, Units};
use super::users::Names;
use super::{cmdline, status};
use crate::read;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use vwatch_sdk::prelude::*;

/// All files of a process are read at least this often.
const REFRESH_NS: i64 = 30_000_000_000;
/// `status` has all groups of a process in it: 65,536 at most.
const MOST_STATUS: usize = 1 << 20;
const MOST_OTHERS: usize = 64 << 10;

/// Options of `process.process`.
#[derive(Options)]
pub struct ProcessOptions {
    /// Only the process of this id.
    pub pid: Option<i64>,
    /// Only processes of this real user id.
    pub uid: Option<i64>,
    /// Only processes of this command name.
    pub comm: Option<String>,
}

pub struct ProcessProbe {
    proc_dir: PathBuf,
    options: ProcessOptions,
    units: Units,
    origin: Origin,
    /// Of users and groups.
    names: Option<(Names, Names)>,
    /// Boxed: each is taken out and put back at every sample, and a table of whole ones has as much room again to grow.
    known: HashMap<i32, Box<Known>>,
    /// The host has been given all that is known.
    given: bool,
    text: Vec<u8>,
}

/// A process that was there at the last sample.
struct Known {
    file: StatFile,
    stat: Vec<u8>,
    row: Process,
    image: Image,
    /// The host has it in its picture.
    shown: bool,
    /// When all of its files were last read, by the time since boot.
    refreshed_ns: i64,
    /// The sample that last saw it.
    seen: u64,
}

impl Probe for ProcessProbe {
    type Options = ProcessOptions;
    type Tables = Process;
    const NAME: &'static str = "process";
    const DOC: &'static str = "All processes, from /proc/PID.";
    const SCHEDULE: Schedule = Schedule::every_secs(1);

    fn open(context: &Context, options: ProcessOptions) -> Result<Self> {
        for (name, value) in [("pid", options.pid), ("uid", options.uid)] {
            if value.is_some_and(|value| !(0..=i64::from(u32::MAX)).contains(&value)) {
                return Err(ProbeError::bad_option(name, "not an id"));
            }
        }
        // The host's own: process 1 sees the host's root where we are in a container with another.
        let of_init = context.proc_dir().join("1/root/etc");
        let etc = match fs::metadata(of_init.join("passwd")) {
            Ok(_) => Some(of_init),
            Err(_) => context.live().then(|| PathBuf::from("/etc")),
        };
        Ok(ProcessProbe {
            proc_dir: context.proc_dir().to_owned(),
            options,
            units: Units::of_this_kernel(),
            origin: Origin::open(context)?,
            names: etc.map(|etc| (Names::new(etc.join("passwd")), Names::new(etc.join("group")))),
            known: HashMap::new(),
            given: false,
            text: Vec::new(),
        })
    }

    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()> {
        // A run that fails half way leaves the host behind what is known.
        let full = tick.full || !std::mem::replace(&mut self.given, false);
        let again = self.origin.follow(tick, out) | self.names_have_changed();
        let mut picture = Picture {
            full,
            ..Picture::default()
        };
        for pid in self.pids()? {
            self.sample(pid, tick, again, &mut picture)
                .map_err(|e| read::error(&self.dir(pid), &e))?;
        }
        self.known.retain(|_, known| {
            let there = known.seen == tick.sequence;
            if !there {
                picture.end(known);
            }
            there
        });
        // One that could not be read for a moment is not gone.
        picture
            .gone
            .retain(|key| self.known.get(&key.pid).is_none_or(|k| !k.shown || k.row.key() != *key));
        if full {
            let shown = self.known.values().filter(|known| known.shown);
            let mut rows = Vec::with_capacity(self.known.len());
            rows.extend(shown.map(|known| known.row.clone()));
            rows.sort_unstable_by_key(|row| (row.pid, row.start_ticks));
            out.full(rows);
        } else {
            out.delta(picture.changed, picture.gone);
        }
        self.given = true;
        Ok(())
    }
}

/// What has changed since the last sample.
#[derive(Default)]
struct Picture {
    /// Everything is handed over, whether it has changed or not: `changed` stays empty.
    full: bool,
    changed: Vec<Process>,
    gone: Vec<ProcessKey>,
}

impl Picture {
    fn change(&mut self, row: &Process) {
        if !self.full {
            self.changed.push(row.clone());
        }
    }

    fn end(&mut self, known: &Known) {
        if known.shown {
            self.gone.push(known.row.key());
        }
    }
}

impl ProcessProbe {
    fn names_have_changed(&mut self) -> bool {
        match &mut self.names {
            Some((users, groups)) => users.refresh() | groups.refresh(),
            None => false,
        }
    }

    fn pids(&self) -> Result<Vec<i32>> {
        if let Some(pid) = self.options.pid {
            return Ok(i32::try_from(pid).into_iter().collect());
        }
        let entries = fs::read_dir(&self.proc_dir).map_err(|e| read::error(&self.proc_dir, &e))?;
        Ok(entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect())
    }

    /// Brings what is known of one process up to date. A process that ends meanwhile, or that we may not see, is left out;
    /// the error is that of a recorder that can read no process at all.
    fn sample(&mut self, pid: i32, tick: &Tick, again: bool, picture: &mut Picture) -> io::Result<()> {
        if let Some(mut known) = self.known.remove(&pid) {
            match self.update(&mut known, tick, again, picture) {
                Ok(true) => {
                    self.known.insert(pid, known);
                    return Ok(());
                }
                Err(e) if files::is_ours(&e) => return Err(e),
                Ok(false) | Err(_) => picture.end(&known),
            }
        }
        // Not seen before, or in the place of one that has ended.
        match self.begin(pid, tick) {
            Ok(known) => {
                if known.shown {
                    picture.change(&known.row);
                }
                self.known.insert(pid, known);
                Ok(())
            }
            Err(e) if files::is_ours(&e) => Err(e),
            Err(_) => Ok(()),
        }
    }

    fn begin(&self, pid: i32, tick: &Tick) -> io::Result<Box<Known>> {
        let dir = self.dir(pid);
        let file = StatFile::open(&dir)?;
        let mut stat = Vec::new();
        file.read(&mut stat)?;
        // Kept as long as the process lives, and read into a page.
        stat.shrink_to_fit();
        let (row, image) = self.read(&dir, &stat, None)?;
        Ok(Box::new(Known {
            file,
            stat,
            shown: self.is_wanted(&row),
            row,
            image,
            // Spread over the interval, so that not all are read again in the same second.
            refreshed_ns: tick.boottime_ns - i64::from(pid) * 1_000_000_000 % REFRESH_NS,
            seen: tick.sequence,
        }))
    }

    /// False when another process has its pid now.
    fn update(&mut self, known: &mut Known, tick: &Tick, again: bool, picture: &mut Picture) -> io::Result<bool> {
        known.file.read(&mut self.text)?;
        known.seen = tick.sequence;
        let refresh = again || tick.boottime_ns - known.refreshed_ns >= REFRESH_NS;
        if !refresh && self.text == known.stat {
            return Ok(true);
        }
        let last = (!refresh).then_some((&known.row, known.image));
        let (row, image) = self.read(&self.dir(known.row.pid), &self.text, last)?;
        // A kept descriptor is of one process; without one the pid may be another's by now.
        if row.start_ticks != known.row.start_ticks {
            return Ok(false);
        }
        if refresh {
            known.refreshed_ns = tick.boottime_ns;
        }
        let was_shown = std::mem::replace(&mut known.shown, self.is_wanted(&row));
        if known.shown && (row != known.row || !was_shown) {
            picture.change(&row);
        } else if was_shown && !known.shown {
            picture.gone.push(row.key());
        }
        (known.row, known.image) = (row, image);
        known.stat.clone_from(&self.text);
        Ok(true)
    }

    fn dir(&self, pid: i32) -> PathBuf {
        self.proc_dir.join(pid.to_string())
    }

    fn is_wanted(&self, row: &Process) -> bool {
        let ProcessOptions { pid, uid, comm } = &self.options;
        pid.is_none_or(|pid| pid == i64::from(row.pid))
            && uid.is_none_or(|uid| uid == i64::from(row.uid))
            && comm.as_ref().is_none_or(|comm| *comm == row.comm)
    }

    /// The row of a process whose `stat` says `text`. What changes with its program only is taken from the `last` row and
    /// image, if that may be.
    fn read(&self, dir: &Path, text: &[u8], last: Option<(&Process, Image)>) -> io::Result<(Process, Image)> {
        let mut row = Process::default();
        let image = stat::fill(text, self.units, &mut row).ok_or(io::ErrorKind::InvalidData)?;
        row.start_time = self.origin.start_time(row.start_ticks, self.units.ticks_per_second);
        let mut text = Vec::new();
        files::bytes(&dir.join("status"), MOST_STATUS, &mut text)?;
        status::fill(&String::from_utf8_lossy(&text), &mut row);
        if optional(dir, "io", &mut text)? {
            fill_io(&String::from_utf8_lossy(&text), &mut row);
        }
        if optional(dir, "wchan", &mut text)? {
            row.wchan = Some(lossy(&text)).filter(|symbol| !symbol.is_empty() && symbol != "0");
        }
        match last.filter(|(last, was)| *was == image && same_program(last, &row)) {
            Some((last, _)) => take_program(last, &mut row),
            None => self.read_program(dir, &mut row, &mut text)?,
        }
        Ok((row, image))
    }

    fn read_program(&self, dir: &Path, row: &mut Process, text: &mut Vec<u8>) -> io::Result<()> {
        if optional(dir, "cmdline", text)? {
            row.cmdline = cmdline::line(text);
        }
        if optional(dir, "cgroup", text)? {
            row.cgroup = cgroup(&lossy(text));
        }
        if optional(dir, "oom_score", text)? {
            row.oom_score = lossy(text).parse().ok();
        }
        if optional(dir, "oom_score_adj", text)? {
            row.oom_score_adj = lossy(text).parse().ok();
        }
        // A kernel thread has none, and another user's is closed.
        row.exe = fs::read_link(dir.join("exe"))
            .ok()
            .map(|path| path.to_string_lossy().into_owned());
        if let Some((users, groups)) = &self.names {
            row.user_name = users.get(row.uid).map(str::to_owned);
            row.group_name = groups.get(row.gid).map(str::to_owned);
        }
        Ok(())
    }
}

/// Whether the files that tell of the program need not be read again, as far as one who may not see a process's image can tell:
/// after exec a process is seldom of the same size, and its peak of resident memory begins anew.
fn same_program(last: &Process, now: &Process) -> bool {
    last.comm == now.comm
        && last.ppid == now.ppid
        && (last.state == "Z") == (now.state == "Z")
        && (last.uid, last.gid) == (now.uid, now.gid)
        && last.vm_stk_bytes == now.vm_stk_bytes
        && last.vm_exe_bytes == now.vm_exe_bytes
        && last.vm_hwm_bytes <= now.vm_hwm_bytes
}

fn take_program(last: &Process, row: &mut Process) {
    row.cmdline.clone_from(&last.cmdline);
    row.cgroup.clone_from(&last.cgroup);
    row.exe.clone_from(&last.exe);
    row.user_name.clone_from(&last.user_name);
    row.group_name.clone_from(&last.group_name);
    row.oom_score = last.oom_score;
    row.oom_score_adj = last.oom_score_adj;
}

/// Reads a file that a process or a kernel may be without, or that may be closed to us: then false.
fn optional(dir: &Path, name: &str, text: &mut Vec<u8>) -> io::Result<bool> {
    match files::bytes(&dir.join(name), MOST_OTHERS, text) {
        Ok(()) => Ok(true),
        Err(e) if files::is_ours(&e) || e.raw_os_error() == Some(libc::ESRCH) => Err(e),
        // No such file, or no such process any more: its directory tells which.
        Err(e) if files::is_gone(&e) && !dir.exists() => Err(e),
        Err(_) => Ok(false),
    }
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).trim_end().to_owned()
}

/// `rchar: 8698` on each line.
fn fill_io(text: &str, row: &mut Process) {
    for (name, value) in read::pairs(text) {
        let value = read::counter(value);
        match name {
            "rchar" => row.rchar = value,
            "wchar" => row.wchar = value,
            "syscr" => row.syscr = value,
            "syscw" => row.syscw = value,
            "read_bytes" => row.read_bytes = value,
            "write_bytes" => row.write_bytes = value,
            "cancelled_write_bytes" => row.cancelled_write_bytes = value,
            _ => {}
        }
    }
}

/// `HIERARCHY:CONTROLLERS:PATH` on each line; hierarchy 0 is v2. On a host where v1 does the work all is in v2's root.
fn cgroup(text: &str) -> Option<String> {
    let lines = || {
        text.lines().filter_map(|line| {
            let (hierarchy, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let rank = match (hierarchy, controllers) {
                ("0", _) => 0,
                (_, "name=systemd") => 1,
                (_, "memory") => 2,
                _ => 3,
            };
            Some((rank, path))
        })
    };
    let placed = lines().filter(|(_, path)| *path != "/").min_by_key(|(rank, _)| *rank);
    placed.or_else(|| lines().next()).map(|(_, path)| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_groups() {
        let check = |text: &str, expect: Option<&str>| assert_eq!(cgroup(text).as_deref(), expect, "{text}");
        check("0::/system.slice/ssh.service\n", Some("/system.slice/ssh.service"));
        check("4:memory:/m\n1:name=systemd:/s:x\n0::/\n", Some("/s:x"));
        check("9:pids:/p\n4:memory:/m\n1:name=systemd:/\n0::/\n", Some("/m"));
        check("9:cpu,cpuacct:/p\n", Some("/p"));
        check("9:name=systemd:/\n0::/\n", Some("/"));
        check("", None);
        check("garbage\n1:2\n", None);
    }

    #[test]
    fn io() {
        let mut row = Process::default();
        fill_io(
            "rchar: 8698\nwchar: 9223372036854775808\nsyscr: x\nread_bytes: 4096\ncancelled_write_bytes: 1\n",
            &mut row,
        );
        assert_eq!(
            (row.rchar, row.wchar, row.syscr, row.read_bytes),
            (Some(8698), Some(0), None, Some(4096))
        );
        assert_eq!((row.cancelled_write_bytes, row.write_bytes), (Some(1), None));
    }
}
