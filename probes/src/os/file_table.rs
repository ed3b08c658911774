//! Open files, inodes and directory entries that the kernel holds, from `/proc/sys/fs` (proc_sys_fs(5)).

use crate::read;
use std::path::PathBuf;
use vwatch_sdk::prelude::*;

/// Tables of open files, inodes and directory entries of the whole host. Source: `/proc/sys/fs`.
#[derive(Row, Debug, Clone, PartialEq)]
#[row(table = "file_table", state)]
pub struct FileTable {
    /// Open files: what `open`, `socket`, `pipe` and the like have made. Source: field 1 of `file-nr`.
    pub nr_files: i64,
    /// Allocated but not used; 0 since Linux 2.6. Source: field 2 of `file-nr`.
    pub nr_free_files: i64,
    /// Open files that may be at a time, for who is not privileged. Source: field 3 of `file-nr`, which is `file-max`.
    pub max_files: i64,
    /// Descriptors that one process may have, at most. Source: `nr_open`.
    pub nr_open: Option<i64>,
    /// Inodes in memory. Source: field 1 of `inode-nr`.
    pub nr_inodes: Option<i64>,
    /// Of those, the ones that nobody uses. Source: field 2 of `inode-nr`.
    pub nr_free_inodes: Option<i64>,
    /// Directory entries in memory. Source: field 1 of `dentry-state`.
    pub nr_dentry: Option<i64>,
    /// Of those, the ones that nobody uses. Source: field 2 of `dentry-state`.
    pub nr_unused_dentry: Option<i64>,
    /// Age from which an unused entry may be reclaimed when memory is short. Source: field 3 of `dentry-state`.
    #[row(unit = "s")]
    pub age_limit_s: Option<i64>,
    /// Pages that the system asks for; 0 in all kernels of today. Source: field 4 of `dentry-state`.
    pub want_pages: Option<i64>,
    /// Unused entries of names that do not exist; 0 before Linux 5.0. Source: field 5 of `dentry-state`.
    pub nr_negative_dentry: Option<i64>,
}

pub struct FileTableProbe {
    dir: PathBuf,
}

impl Probe for FileTableProbe {
    type Options = NoOptions;
    type Tables = FileTable;
    const NAME: &'static str = "file_table";
    const DOC: &'static str = "Open files, inodes and directory entries of the host, from /proc/sys/fs.";
    const SCHEDULE: Schedule = Schedule::every_secs(10);

    fn open(context: &Context, _options: NoOptions) -> Result<Self> {
        let dir = context.proc_dir().join("sys/fs");
        read::text(&dir.join("file-nr"))?;
        Ok(FileTableProbe { dir })
    }

    fn run(&mut self, _tick: &Tick, out: &mut Out) -> Result<()> {
        let file_nr = self.dir.join("file-nr");
        let [nr_files, nr_free_files, max_files] =
            parse(&read::text(&file_nr)?).map_err(|line| damaged(&file_nr, &line))?;
        let limit = self.optional::<1>("nr_open")?;
        let inodes = self.optional::<2>("inode-nr")?;
        let dentries = self.optional::<5>("dentry-state")?;
        out.full(vec![FileTable {
            nr_files,
            nr_free_files,
            max_files,
            nr_open: limit.map(|[n]| n),
            nr_inodes: inodes.map(|n| n[0]),
            nr_free_inodes: inodes.map(|n| n[1]),
            nr_dentry: dentries.map(|n| n[0]),
            nr_unused_dentry: dentries.map(|n| n[1]),
            age_limit_s: dentries.map(|n| n[2]),
            want_pages: dentries.map(|n| n[3]),
            nr_negative_dentry: dentries.map(|n| n[4]),
        }]);
        Ok(())
    }
}

impl FileTableProbe {
    /// The first numbers of a file that may be missing.
    fn optional<const N: usize>(&self, name: &str) -> Result<Option<[i64; N]>> {
        let path = self.dir.join(name);
        let Some(line) = read::value(&path) else {
            return Ok(None);
        };
        parse(&line).map(Some).map_err(|line| damaged(&path, &line))
    }
}

/// `764 0 2466183`, parted by tabs; more numbers than asked for may follow. The error is the line.
fn parse<const N: usize>(text: &str) -> std::result::Result<[i64; N], String> {
    let mut words = text.split_ascii_whitespace();
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = words.next().and_then(read::quantity).ok_or_else(|| text.to_owned())?;
    }
    Ok(numbers)
}

fn damaged(path: &std::path::Path, line: &str) -> ProbeError {
    ProbeError::failed(format!("{}: line 1: not of its known form: {line:?}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_the_files() {
        assert_eq!(parse("764\t0\t2466183\n"), Ok([764, 0, 2_466_183]));
        assert_eq!(parse("1\t0\t18446744073709551615\n"), Ok([1, 0, i64::MAX]));
        assert_eq!(
            parse("317555\t-45\t45\t0\t158810\t0\n"),
            Ok([317_555, -45, 45, 0, 158_810])
        );
        for broken in ["", "\n", "1\t2\n", "1\t2\tx\n"] {
            assert_eq!(parse::<3>(broken), Err(broken.to_owned()));
        }
    }
}
