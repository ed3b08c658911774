//! Mounted file systems, from `/proc/PID/mountinfo` (proc_pid_mountinfo(5)) and statvfs(3).
//!
//! The mounts are those of process 1, that is of the host; a daemon that may not read them shows its own. Space is asked for
//! only of the running kernel, only through a path that leads to that very mount (another may lie over it), and never of
//! file systems that may wait for a server, nor below one: a dead server would hold the probe.
//!
//! Cost: one file, and about 10 us for each mount that is asked.

use crate::read;
use std::collections::HashSet;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use vwatch_sdk::prelude::*;

/// Mounted file systems.
#[derive(Row, Debug, Clone, PartialEq, Default)]
#[row(table = "mount", state)]
pub struct Mount {
    /// Number of the mount; used again after an unmount. Source: field 1 of `mountinfo`.
    #[row(key)]
    pub mount_id: i32,
    /// Mount that it is mounted on. Source: field 2.
    pub parent_id: i32,
    /// Major number of the device; 0 where there is none. Source: field 3.
    pub major: i32,
    /// Minor number of the device. Source: field 3.
    pub minor: i32,
    /// Part of the file system that is mounted; `/` for all of it. Source: field 4.
    pub root: String,
    /// Where it is mounted. Source: field 5.
    pub target: String,
    /// Options of the mount. Source: field 6.
    pub options: String,
    /// Peer groups to and from which mounts propagate: `shared:1 master:2`; empty when private. Source: field 7.
    pub propagation: String,
    /// Type of the file system. Source: field after the `-`.
    pub fstype: String,
    /// Device, server or any other name. Source: the field after that; NULL for `none`.
    pub source: Option<String>,
    /// Options of the file system. Source: the last field.
    pub super_options: String,
    /// Nothing can be written through this mount. Source: `ro` in either options.
    pub read_only: bool,
    /// Size. Source: `f_blocks` of statvfs; NULL where the file system has no size, where asking could hang, and where another
    /// mount lies over it.
    #[row(unit = "bytes")]
    pub total_bytes: Option<i64>,
    /// Free. Source: `f_bfree`.
    #[row(unit = "bytes")]
    pub free_bytes: Option<i64>,
    /// Free for users other than root. Source: `f_bavail`.
    #[row(unit = "bytes")]
    pub available_bytes: Option<i64>,
    /// Bytes of a block. Source: `f_frsize`.
    #[row(unit = "bytes")]
    pub block_bytes: Option<i64>,
    /// Inodes; NULL where they are made when needed. Source: `f_files`.
    pub inodes: Option<i64>,
    /// Free inodes. Source: `f_ffree`.
    pub free_inodes: Option<i64>,
    /// Longest name of a file. Source: `f_namemax`.
    #[row(unit = "bytes")]
    pub name_max_bytes: Option<i64>,
}

pub struct MountProbe {
    proc_dir: PathBuf,
    live: bool,
}

impl Probe for MountProbe {
    type Options = NoOptions;
    type Tables = Mount;
    const NAME: &'static str = "mount";
    const DOC: &'static str = "Mounted file systems and their space, from /proc/1/mountinfo and statvfs";
    const SCHEDULE: Schedule = Schedule::every_secs(60);

    fn open(context: &Context, _: NoOptions) -> Result<Self> {
        Ok(MountProbe {
            proc_dir: context.proc_dir().to_owned(),
            live: context.live(),
        })
    }

    fn run(&mut self, _: &Tick, out: &mut Out) -> Result<()> {
        let of_host = read::text(&self.proc_dir.join("1/mountinfo"));
        let (text, root) = match of_host {
            Ok(text) => (text, self.proc_dir.join("1/root")),
            Err(_) => (read::text(&self.proc_dir.join("self/mountinfo"))?, PathBuf::from("/")),
        };
        let mut rows = parse_mountinfo(&text);
        if self.live {
            fill_space(&mut rows, &root);
        }
        out.full(rows);
        Ok(())
    }
}

/// The lines of `mountinfo`; damaged ones are passed over.
pub fn parse_mountinfo(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    // Fields are parted by one space; an empty source makes two follow each other.
    let mut words = line.split(' ');
    let (mount_id, parent_id) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let (major, minor) = words.next()?.split_once(':')?;
    let (root, target, options) = (words.next()?, words.next()?, words.next()?);
    let propagation: Vec<&str> = words.by_ref().take_while(|word| *word != "-").collect();
    let (fstype, source) = (words.next()?, words.next()?);
    let super_options = words.next().unwrap_or_default();
    let read_only = |options: &str| options.split(',').any(|option| option == "ro");
    Some(Mount {
        mount_id,
        parent_id,
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        root: read::unescape(root),
        target: read::unescape(target),
        options: options.to_owned(),
        propagation: propagation.join(" "),
        fstype: fstype.to_owned(),
        source: Some(read::unescape(source)).filter(|s| !s.is_empty() && s != "none"),
        super_options: read::unescape(super_options),
        read_only: read_only(options) || read_only(super_options),
        ..Mount::default()
    })
}

/// Types whose answers come from a server or another process, which may be dead, or where asking mounts something.
fn may_hang(fstype: &str) -> bool {
    const SERVED: [&str; 20] = [
        "9p",
        "acfs",
        "afs",
        "autofs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "fuse",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "pvfs2",
        "smb3",
        "smbfs",
    ];
    SERVED.contains(&fstype) || fstype.starts_with("fuse.")
}

/// Asks each mount for its space, but for those that may hang and all below them.
fn fill_space(rows: &mut [Mount], root: &Path) {
    // Children may stand before their parents after a move, so: until no more are found.
    let mut shunned: HashSet<i32> = rows
        .iter()
        .filter(|m| may_hang(&m.fstype))
        .map(|m| m.mount_id)
        .collect();
    loop {
        let before = shunned.len();
        let below = rows
            .iter()
            .filter(|m| m.mount_id != m.parent_id && shunned.contains(&m.parent_id));
        let below: Vec<i32> = below.map(|m| m.mount_id).collect();
        shunned.extend(below);
        if shunned.len() == before {
            break;
        }
    }
    for mount in rows.iter_mut().filter(|m| !shunned.contains(&m.mount_id)) {
        let path = root.join(mount.target.trim_start_matches('/'));
        if let Ok(path) = CString::new(path.as_os_str().as_bytes())
            && mount_id_at(&path) == Some(mount.mount_id)
        {
            fill(mount, &path);
        }
    }
}

/// The mount that a path leads to now. Needs Linux 5.8.
fn mount_id_at(path: &CString) -> Option<i32> {
    // SAFETY: statx is a struct of integers, for which zeros are a value.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_NO_AUTOMOUNT | libc::AT_STATX_DONT_SYNC;
    // SAFETY: `path` is a C string and `stat` a statx, both alive during the call.
    let failed = unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, libc::STATX_MNT_ID, &mut stat) } != 0;
    let known = !failed && stat.stx_mask & libc::STATX_MNT_ID != 0;
    known.then(|| i32::try_from(stat.stx_mnt_id).ok()).flatten()
}

fn fill(mount: &mut Mount, path: &CString) {
    let Ok(space) = nix::sys::statvfs::statvfs(path.as_c_str()) else {
        return;
    };
    let (blocks, inodes) = (space.blocks(), space.files());
    let bytes = |n: u64| Some(i64::try_from(n.saturating_mul(space.fragment_size())).unwrap_or(i64::MAX));
    if blocks > 0 {
        mount.total_bytes = bytes(blocks);
        mount.free_bytes = bytes(space.blocks_free());
        mount.available_bytes = bytes(space.blocks_available());
    }
    if inodes > 0 {
        mount.inodes = i64::try_from(inodes).ok();
        mount.free_inodes = i64::try_from(space.files_free()).ok();
    }
    mount.block_bytes = i64::try_from(space.fragment_size()).ok();
    mount.name_max_bytes = i64::try_from(space.name_max()).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expect: Option<Mount>) {
        assert_eq!(parse_mountinfo(line), Vec::from_iter(expect));
    }

    #[test]
    fn a_line() {
        check(
            "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 unbindable - ext3 /dev/root rw,errors=continue\n",
            Some(Mount {
                mount_id: 36,
                parent_id: 35,
                major: 98,
                minor: 0,
                root: "/mnt1".into(),
                target: "/mnt2".into(),
                options: "rw,noatime".into(),
                propagation: "master:1 unbindable".into(),
                fstype: "ext3".into(),
                source: Some("/dev/root".into()),
                super_options: "rw,errors=continue".into(),
                ..Mount::default()
            }),
        );
    }

    #[test]
    fn odd_names() {
        let row = |line: &str| parse_mountinfo(line).remove(0);
        let spaces = row(r"41 27 0:36 / /media/my\040disk\011\134x rw - vfat /dev/sd\040a1 ro");
        assert_eq!(spaces.target, "/media/my disk\t\\x");
        assert_eq!(spaces.source.as_deref(), Some("/dev/sd a1"));
        assert!(spaces.read_only && spaces.propagation.is_empty());
        let nameless = row("41 27 0:36 / /run rw - tmpfs  rw,size=4k");
        assert_eq!((nameless.source, nameless.super_options.as_str()), (None, "rw,size=4k"));
        assert_eq!(row("41 27 0:36 / /run rw - tmpfs none rw").source, None);
        assert_eq!(
            row("9 1 0:4 net:[4026532] /run/netns/a rw shared:4 - nsfs nsfs rw").root,
            "net:[4026532]"
        );
    }

    #[test]
    fn damaged_lines() {
        for line in [
            "",
            "36",
            "36 35 98 / / rw - ext4 /dev/a rw",
            "36 35 98:0 / / rw shared:1",
            "x 35 98:0 / / rw - ext4 /dev/a rw",
            "99999999999 35 98:0 / / rw - ext4 /dev/a rw",
        ] {
            check(line, None);
        }
    }

    #[test]
    fn what_may_hang_is_not_asked_nor_what_is_below() {
        let text = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                    22 21 0:5 / / rw - tmpfs t rw\n\
                    21 20 0:9 / / rw - nfs4 server:/ rw\n\
                    23 20 0:6 / / rw - fuse.sshfs u@h: rw\n";
        let mut rows = parse_mountinfo(text);
        fill_space(&mut rows, Path::new("/"));
        assert!(rows[1..].iter().all(|m| m.block_bytes.is_none()));
        assert!(may_hang("nfs") && may_hang("fuse.glusterfs") && !may_hang("fuseblk") && !may_hang("nfsd"));
    }
}
