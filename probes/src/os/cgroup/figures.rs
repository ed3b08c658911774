//! The figures in a control group's directory. A file or a name that is not there leaves NULL.

use super::Cgroup;
use crate::os::pressure;
use crate::read;
use std::path::Path;

/// Limits from here on are none: version 1 writes the largest multiple of a page.
const UNLIMITED: i64 = i64::MAX & !0xf_ffff;

pub fn version_2(row: &mut Cgroup, dir: &Path) {
    let text = |name: &str| text(dir, name);
    for (name, value) in flat(&text("cpu.stat")) {
        match name {
            "usage_usec" => row.usage_ns = us(value),
            "user_usec" => row.user_ns = us(value),
            "system_usec" => row.system_ns = us(value),
            "nr_periods" => row.nr_periods = read::counter(value),
            "nr_throttled" => row.nr_throttled = read::counter(value),
            "throttled_usec" => row.throttled_ns = us(value),
            _ => {}
        }
    }
    row.memory_current_bytes = read::quantity(text("memory.current").trim());
    row.memory_peak_bytes = read::quantity(text("memory.peak").trim());
    row.memory_max_bytes = limit(&text("memory.max"));
    row.swap_current_bytes = read::quantity(text("memory.swap.current").trim());
    for (name, value) in flat(&text("memory.stat")) {
        match name {
            "anon" => row.anon_bytes = read::quantity(value),
            "file" => row.file_bytes = read::quantity(value),
            "kernel" => row.kernel_bytes = read::quantity(value),
            "slab" => row.slab_bytes = read::quantity(value),
            "sock" => row.sock_bytes = read::quantity(value),
            "shmem" => row.shmem_bytes = read::quantity(value),
            "file_mapped" => row.file_mapped_bytes = read::quantity(value),
            "file_dirty" => row.file_dirty_bytes = read::quantity(value),
            "file_writeback" => row.file_writeback_bytes = read::quantity(value),
            "pgfault" => row.pgfault = read::counter(value),
            "pgmajfault" => row.pgmajfault = read::counter(value),
            _ => {}
        }
    }
    row.oom_kill = counter_of(&text("memory.events"), "oom_kill");
    if let Ok(bytes) = read::bytes(&dir.join("io.stat")) {
        let stat = String::from_utf8_lossy(&bytes);
        row.io_read_bytes = Some(sum(&stat, "rbytes="));
        row.io_write_bytes = Some(sum(&stat, "wbytes="));
        row.io_reads = Some(sum(&stat, "rios="));
        row.io_writes = Some(sum(&stat, "wios="));
    }
    pids(row, dir);
    fill_pressure(row, dir);
}

pub fn version_1(row: &mut Cgroup, dir: &Path, controllers: &[&str], user_hz: i64) {
    for controller in controllers {
        match *controller {
            "cpu" => cpu_1(row, dir),
            "cpuacct" => cpuacct_1(row, dir, user_hz),
            "memory" => memory_1(row, dir),
            "blkio" => blkio_1(row, dir),
            _ => pids(row, dir),
        }
    }
}

fn cpu_1(row: &mut Cgroup, dir: &Path) {
    for (name, value) in flat(&text(dir, "cpu.stat")) {
        match name {
            "nr_periods" => row.nr_periods = read::counter(value),
            "nr_throttled" => row.nr_throttled = read::counter(value),
            "throttled_time" => row.throttled_ns = read::counter(value),
            _ => {}
        }
    }
}

fn cpuacct_1(row: &mut Cgroup, dir: &Path, user_hz: i64) {
    row.usage_ns = read::counter(text(dir, "cpuacct.usage").trim());
    let ticks = |value: &str| Some(read::ticks_ns(value.parse().ok()?, user_hz));
    for (name, value) in flat(&text(dir, "cpuacct.stat")) {
        match name {
            "user" => row.user_ns = ticks(value),
            "system" => row.system_ns = ticks(value),
            _ => {}
        }
    }
}

fn memory_1(row: &mut Cgroup, dir: &Path) {
    let amount = |name: &str| read::quantity(text(dir, name).trim());
    row.memory_current_bytes = amount("memory.usage_in_bytes");
    row.memory_peak_bytes = amount("memory.max_usage_in_bytes");
    row.memory_max_bytes = limit(&text(dir, "memory.limit_in_bytes"));
    row.kernel_bytes = amount("memory.kmem.usage_in_bytes");
    row.sock_bytes = amount("memory.kmem.tcp.usage_in_bytes");
    for (name, value) in flat(&text(dir, "memory.stat")) {
        match name {
            "total_swap" => row.swap_current_bytes = read::quantity(value),
            "total_rss" => row.anon_bytes = read::quantity(value),
            "total_cache" => row.file_bytes = read::quantity(value),
            "total_shmem" => row.shmem_bytes = read::quantity(value),
            "total_mapped_file" => row.file_mapped_bytes = read::quantity(value),
            "total_dirty" => row.file_dirty_bytes = read::quantity(value),
            "total_writeback" => row.file_writeback_bytes = read::quantity(value),
            "total_pgfault" => row.pgfault = read::counter(value),
            "total_pgmajfault" => row.pgmajfault = read::counter(value),
            _ => {}
        }
    }
    row.oom_kill = counter_of(&text(dir, "memory.oom_control"), "oom_kill");
}

fn blkio_1(row: &mut Cgroup, dir: &Path) {
    let of = |name: &str| {
        let recursive = read::bytes(&dir.join(format!("{name}_recursive")));
        let bytes = recursive.or_else(|_| read::bytes(&dir.join(name))).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Some((sum(&text, "Read "), sum(&text, "Write ")))
    };
    let (bytes, operations) = (of("blkio.throttle.io_service_bytes"), of("blkio.throttle.io_serviced"));
    row.io_read_bytes = bytes.map(|(read, _)| read);
    row.io_write_bytes = bytes.map(|(_, written)| written);
    row.io_reads = operations.map(|(reads, _)| reads);
    row.io_writes = operations.map(|(_, writes)| writes);
}

fn pids(row: &mut Cgroup, dir: &Path) {
    row.pids_current = read::quantity(text(dir, "pids.current").trim());
    row.pids_max = limit(&text(dir, "pids.max"));
}

fn fill_pressure(row: &mut Cgroup, dir: &Path) {
    let files = ["cpu", "memory", "io"].map(|name| (name, text(dir, &format!("{name}.pressure"))));
    let all: Vec<_> = files
        .iter()
        .flat_map(|(name, text)| pressure::parse(name, text))
        .collect();
    let pressure = |resource: &str, kind: &str| all.iter().find(|p| p.resource == resource && p.kind == kind);
    if let Some(p) = pressure("cpu", "some") {
        row.cpu_some_avg10 = Some(p.avg10);
        row.cpu_some_avg60 = Some(p.avg60);
        row.cpu_some_avg300 = Some(p.avg300);
        row.cpu_some_total_ns = Some(p.total_ns);
    }
    if let Some(p) = pressure("cpu", "full") {
        row.cpu_full_avg10 = Some(p.avg10);
        row.cpu_full_avg60 = Some(p.avg60);
        row.cpu_full_avg300 = Some(p.avg300);
        row.cpu_full_total_ns = Some(p.total_ns);
    }
    if let Some(p) = pressure("memory", "some") {
        row.memory_some_avg10 = Some(p.avg10);
        row.memory_some_avg60 = Some(p.avg60);
        row.memory_some_avg300 = Some(p.avg300);
        row.memory_some_total_ns = Some(p.total_ns);
    }
    if let Some(p) = pressure("memory", "full") {
        row.memory_full_avg10 = Some(p.avg10);
        row.memory_full_avg60 = Some(p.avg60);
        row.memory_full_avg300 = Some(p.avg300);
        row.memory_full_total_ns = Some(p.total_ns);
    }
    if let Some(p) = pressure("io", "some") {
        row.io_some_avg10 = Some(p.avg10);
        row.io_some_avg60 = Some(p.avg60);
        row.io_some_avg300 = Some(p.avg300);
        row.io_some_total_ns = Some(p.total_ns);
    }
    if let Some(p) = pressure("io", "full") {
        row.io_full_avg10 = Some(p.avg10);
        row.io_full_avg60 = Some(p.avg60);
        row.io_full_avg300 = Some(p.avg300);
        row.io_full_total_ns = Some(p.total_ns);
    }
}

/// Empty where it cannot be read.
fn text(dir: &Path, name: &str) -> String {
    let bytes = read::bytes(&dir.join(name)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `nr_periods 0` on each line.
fn flat(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.split_once(' '))
}

fn counter_of(text: &str, wanted: &str) -> Option<i64> {
    flat(text)
        .find(|(name, _)| *name == wanted)
        .and_then(|(_, value)| read::counter(value))
}

fn us(value: &str) -> Option<i64> {
    Some(read::wrap(value.parse::<u64>().ok()?.wrapping_mul(1000)))
}

/// A limit, `max` or a number past all memory for none.
fn limit(text: &str) -> Option<i64> {
    read::quantity(text.trim()).filter(|&limit| limit < UNLIMITED)
}

/// The sum over the devices of the number after a mark: `254:0 rbytes=4096 wbytes=0` or `254:0 Read 4096`.
fn sum(text: &str, mark: &str) -> i64 {
    let of_line = |line: &str| {
        let (_, values) = line.split_once(' ')?;
        let values = values.split(mark).collect::<Vec<_>>();
        // Another name may end as this one does.
        let starts = |before: &str| before.is_empty() || before.ends_with(' ');
        let at = values.windows(2).find(|pair| starts(pair[0]))?[1];
        at.split(' ').next()?.parse::<u64>().ok()
    };
    read::wrap(text.lines().filter_map(of_line).fold(0, u64::wrapping_add))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        assert_eq!(limit("max\n"), None);
        assert_eq!(limit("9223372036854771712\n"), None);
        // Pages of 64 kB; and the kernel before 3.18.
        assert_eq!(limit("9223372036854710272\n"), None);
        assert_eq!(limit("18446744073709551615\n"), None);
        assert_eq!((limit("1073741824\n"), limit("")), (Some(1 << 30), None));
    }

    #[test]
    fn sums_over_devices() {
        let v2 = "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=7 dios=1\n\
                  8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=50331648 dios=3021\n7:0 \n";
        assert_eq!((sum(v2, "rbytes="), sum(v2, "wios=")), (91_889_664, 1605));
        let v1 = "8:0 Read 4096\n8:0 Write 512\n8:0 Sync 9\n8:0 Total 4608\n8:16 Read 1\nTotal 4609\n";
        assert_eq!((sum(v1, "Read "), sum(v1, "Write ")), (4097, 512));
        assert_eq!((sum("Total 0\n", "Read "), sum("", "Read ")), (0, 0));
    }
}
