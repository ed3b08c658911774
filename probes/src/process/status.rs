//! `/proc/PID/status` (proc_pid_status(5)): `Name:` and value on each line, more of them with each kernel.

use super::row::Process;
use crate::read;
use std::str::FromStr;

/// Fills the columns that come from `status`; what the text does not have is left as it was.
pub fn fill(text: &str, row: &mut Process) {
    for (name, value) in read::pairs(text) {
        if name == "VmRSS" {
            // `stat` has an estimate of it, that lags by some pages for each CPU.
            row.rss_bytes = read::size_bytes(value).unwrap_or(row.rss_bytes);
        } else if let Some(field) = memory(row, name) {
            *field = read::size_bytes(value);
        } else if let Some(field) = mask(row, name) {
            *field = u64::from_str_radix(value, 16).unwrap_or_default();
        } else {
            other(row, name, value);
        }
    }
}

fn memory<'a>(row: &'a mut Process, name: &str) -> Option<&'a mut Option<i64>> {
    Some(match name {
        "VmPeak" => &mut row.vm_peak_bytes,
        "VmLck" => &mut row.vm_lck_bytes,
        "VmPin" => &mut row.vm_pin_bytes,
        "VmHWM" => &mut row.vm_hwm_bytes,
        "RssAnon" => &mut row.rss_anon_bytes,
        "RssFile" => &mut row.rss_file_bytes,
        "RssShmem" => &mut row.rss_shmem_bytes,
        "VmData" => &mut row.vm_data_bytes,
        "VmStk" => &mut row.vm_stk_bytes,
        "VmExe" => &mut row.vm_exe_bytes,
        "VmLib" => &mut row.vm_lib_bytes,
        "VmPTE" => &mut row.vm_pte_bytes,
        "VmSwap" => &mut row.vm_swap_bytes,
        "HugetlbPages" => &mut row.hugetlb_bytes,
        _ => return None,
    })
}

fn mask<'a>(row: &'a mut Process, name: &str) -> Option<&'a mut u64> {
    Some(match name {
        "SigPnd" => &mut row.sig_pnd,
        "ShdPnd" => &mut row.shd_pnd,
        "SigBlk" => &mut row.sig_blk,
        "SigIgn" => &mut row.sig_ign,
        "SigCgt" => &mut row.sig_cgt,
        "CapInh" => &mut row.cap_inh,
        "CapPrm" => &mut row.cap_prm,
        "CapEff" => &mut row.cap_eff,
        "CapBnd" => &mut row.cap_bnd,
        "CapAmb" => row.cap_amb.insert(0),
        _ => return None,
    })
}

fn other(row: &mut Process, name: &str, value: &str) {
    match name {
        "Umask" => row.umask = u32::from_str_radix(value, 8).ok(),
        "TracerPid" => row.tracer_pid = number(value),
        "Ngid" => row.ngid = number(value),
        "Uid" => [row.uid, row.euid, row.suid, row.fsuid] = ids(value),
        "Gid" => [row.gid, row.egid, row.sgid, row.fsgid] = ids(value),
        "FDSize" => row.fdsize = number(value),
        "Groups" => value.clone_into(&mut row.groups),
        "NSpid" => row.ns_pid = Some(value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")),
        "Kthread" => row.kthread = switch(value),
        "CoreDumping" => row.core_dumping = switch(value),
        "THP_enabled" => row.thp_enabled = switch(value),
        "SigQ" => {
            let (queued, limit) = value.split_once('/').unwrap_or((value, ""));
            (row.sigq_queued, row.sigq_limit) = (read::quantity(queued), read::quantity(limit));
        }
        "NoNewPrivs" => row.no_new_privs = switch(value),
        "Seccomp" => row.seccomp = value.parse().ok(),
        "Seccomp_filters" => row.seccomp_filters = value.parse().ok(),
        "Speculation_Store_Bypass" => row.speculation_store_bypass = Some(value.to_owned()),
        "SpeculationIndirectBranch" => row.speculation_indirect_branch = Some(value.to_owned()),
        "Cpus_allowed_list" => row.cpus_allowed_list = Some(value.to_owned()),
        "Mems_allowed_list" => row.mems_allowed_list = Some(value.to_owned()),
        "voluntary_ctxt_switches" => row.voluntary_ctxt_switches = read::counter(value),
        "nonvoluntary_ctxt_switches" => row.nonvoluntary_ctxt_switches = read::counter(value),
        _ => {}
    }
}

fn number<T: FromStr + Default>(value: &str) -> T {
    value.parse().unwrap_or_default()
}

fn switch(value: &str) -> Option<bool> {
    value.parse::<u8>().ok().map(|n| n != 0)
}

/// Real, effective, saved and filesystem id. One that has no mapping in the reader's user namespace is shown as 65534.
fn ids(value: &str) -> [u32; 4] {
    let mut ids = [0; 4];
    for (id, word) in ids.iter_mut().zip(value.split_ascii_whitespace()) {
        *id = number(word);
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Process {
        let mut row = Process::default();
        fill(text, &mut row);
        row
    }

    #[test]
    fn a_process_of_today() {
        let row = parse(
            "Name:\ta\\nb\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t9\nNgid:\t3\nPid:\t9\nPPid:\t1\nTracerPid:\t77\n\
             Uid:\t1000\t0\t4294967295\t7\nGid:\t100\t101\t102\t103\nFDSize:\t256\nGroups:\t4 24 27 \nNSpid:\t9\t1\n\
             Kthread:\t0\nVmPeak:\t    3060 kB\nVmLck:\t       4 kB\nVmHWM:\t    1688 kB\nVmRSS:\t    1600 kB\nVmSwap:\t       8 kB\n\
             CoreDumping:\t0\nTHP_enabled:\t1\nSigQ:\t2/96365\nSigPnd:\t0000000000000001\nSigCgt:\t8000000000000000\n\
             CapEff:\t000001fffeffffff\nCapAmb:\t0000000000000400\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n\
             Speculation_Store_Bypass:\tthread vulnerable\nCpus_allowed_list:\t0-1,4\nMems_allowed_list:\t0\n\
             voluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t9223372036854775808\n",
        );
        assert_eq!((row.umask, row.ngid, row.tracer_pid), (Some(0o22), 3, 77));
        assert_eq!((row.uid, row.euid, row.suid, row.fsuid), (1000, 0, u32::MAX, 7));
        assert_eq!((row.gid, row.egid, row.sgid, row.fsgid), (100, 101, 102, 103));
        assert_eq!(
            (row.fdsize, row.groups.as_str(), row.ns_pid.as_deref()),
            (256, "4 24 27", Some("9 1"))
        );
        assert_eq!(
            (row.vm_peak_bytes, row.vm_hwm_bytes),
            (Some(3060 * 1024), Some(1688 * 1024))
        );
        assert_eq!(row.rss_bytes, 1600 * 1024);
        assert_eq!(
            (row.vm_lck_bytes, row.vm_swap_bytes, row.vm_pin_bytes),
            (Some(4096), Some(8192), None)
        );
        assert_eq!(
            (row.kthread, row.core_dumping, row.thp_enabled),
            (Some(false), Some(false), Some(true))
        );
        assert_eq!((row.sigq_queued, row.sigq_limit), (Some(2), Some(96_365)));
        assert_eq!((row.sig_pnd, row.sig_cgt), (1, 1 << 63));
        assert_eq!((row.cap_eff, row.cap_amb), (0x1ff_feff_ffff, Some(0x400)));
        assert_eq!(
            (row.no_new_privs, row.seccomp, row.seccomp_filters),
            (Some(true), Some(2), Some(3))
        );
        assert_eq!(row.speculation_store_bypass.as_deref(), Some("thread vulnerable"));
        assert_eq!(
            (row.cpus_allowed_list.as_deref(), row.mems_allowed_list.as_deref()),
            (Some("0-1,4"), Some("0"))
        );
        assert_eq!(
            (row.voluntary_ctxt_switches, row.nonvoluntary_ctxt_switches),
            (Some(12), Some(0))
        );
    }

    #[test]
    fn kernel_threads_old_kernels_and_garbage() {
        let row = parse("Name:\tkthreadd\nUid:\t0\t0\t0\t0\nGroups:\t \nThreads:\t1\n");
        assert_eq!(
            (row.vm_peak_bytes, row.cap_amb, row.umask, row.groups.as_str()),
            (None, None, None, "")
        );
        assert_eq!(parse(""), Process::default());
        assert_eq!(
            parse("Uid:\nGid:\tx\nSigPnd:\tzz\nSigQ:\t/\nUmask:\t9\nNoNewPrivs:\t-1\n:\n"),
            Process::default()
        );
    }
}
