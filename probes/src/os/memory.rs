//! Use of memory, from `/proc/meminfo` (proc_meminfo(5)).

use crate::read;
use std::path::PathBuf;
use vwatch_sdk::prelude::*;

/// Use of memory and swap. A field that this kernel does not have is NULL. Source: `/proc/meminfo`, whose `kB` are 1,024 bytes.
#[derive(Row, Debug, Clone, Default, PartialEq)]
#[row(table = "memory", state)]
pub struct Memory {
    /// `MemTotal`: Usable memory: what is installed less what the kernel's code and the firmware keep.
    #[row(unit = "bytes")]
    pub mem_total_bytes: Option<i64>,
    /// `MemFree`: Memory that nobody uses.
    #[row(unit = "bytes")]
    pub mem_free_bytes: Option<i64>,
    /// `MemAvailable`: Estimate of what a new program could get without swapping.
    #[row(unit = "bytes")]
    pub mem_available_bytes: Option<i64>,
    /// `Buffers`: Cache of block devices.
    #[row(unit = "bytes")]
    pub buffers_bytes: Option<i64>,
    /// `Cached`: Page cache of files, and shared memory; swap cache not included.
    #[row(unit = "bytes")]
    pub cached_bytes: Option<i64>,
    /// `SwapCached`: Memory that is both in swap and in memory.
    #[row(unit = "bytes")]
    pub swap_cached_bytes: Option<i64>,
    /// `Active`: Used recently.
    #[row(unit = "bytes")]
    pub active_bytes: Option<i64>,
    /// `Inactive`: Not used recently: first to be reclaimed.
    #[row(unit = "bytes")]
    pub inactive_bytes: Option<i64>,
    /// `Active(anon)`: Anonymous and shared memory used recently.
    #[row(unit = "bytes")]
    pub active_anon_bytes: Option<i64>,
    /// `Inactive(anon)`: Anonymous and shared memory not used recently.
    #[row(unit = "bytes")]
    pub inactive_anon_bytes: Option<i64>,
    /// `Active(file)`: Page cache used recently.
    #[row(unit = "bytes")]
    pub active_file_bytes: Option<i64>,
    /// `Inactive(file)`: Page cache not used recently.
    #[row(unit = "bytes")]
    pub inactive_file_bytes: Option<i64>,
    /// `Unevictable`: Memory that cannot be reclaimed: locked, ramfs, secret.
    #[row(unit = "bytes")]
    pub unevictable_bytes: Option<i64>,
    /// `Mlocked`: Memory locked by mlock(2).
    #[row(unit = "bytes")]
    pub mlocked_bytes: Option<i64>,
    /// `HighTotal`: High memory (32-bit kernels).
    #[row(unit = "bytes")]
    pub high_total_bytes: Option<i64>,
    /// `HighFree`: High memory that nobody uses (32-bit kernels).
    #[row(unit = "bytes")]
    pub high_free_bytes: Option<i64>,
    /// `LowTotal`: Low memory (32-bit kernels).
    #[row(unit = "bytes")]
    pub low_total_bytes: Option<i64>,
    /// `LowFree`: Low memory that nobody uses (32-bit kernels).
    #[row(unit = "bytes")]
    pub low_free_bytes: Option<i64>,
    /// `MmapCopy`: Memory copied for mappings (kernels without an MMU).
    #[row(unit = "bytes")]
    pub mmap_copy_bytes: Option<i64>,
    /// `SwapTotal`: Swap space.
    #[row(unit = "bytes")]
    pub swap_total_bytes: Option<i64>,
    /// `SwapFree`: Swap space that nobody uses.
    #[row(unit = "bytes")]
    pub swap_free_bytes: Option<i64>,
    /// `Zswap`: Memory that compressed swap takes.
    #[row(unit = "bytes")]
    pub zswap_bytes: Option<i64>,
    /// `Zswapped`: Memory kept in compressed swap, before compression.
    #[row(unit = "bytes")]
    pub zswapped_bytes: Option<i64>,
    /// `Dirty`: Page cache that waits to be written.
    #[row(unit = "bytes")]
    pub dirty_bytes: Option<i64>,
    /// `Writeback`: Page cache that is being written.
    #[row(unit = "bytes")]
    pub writeback_bytes: Option<i64>,
    /// `AnonPages`: Anonymous memory mapped into processes.
    #[row(unit = "bytes")]
    pub anon_pages_bytes: Option<i64>,
    /// `Mapped`: Files mapped into processes.
    #[row(unit = "bytes")]
    pub mapped_bytes: Option<i64>,
    /// `Shmem`: Shared memory and tmpfs.
    #[row(unit = "bytes")]
    pub shmem_bytes: Option<i64>,
    /// `KReclaimable`: Kernel memory that can be reclaimed: SReclaimable and others'.
    #[row(unit = "bytes")]
    pub kreclaimable_bytes: Option<i64>,
    /// `Slab`: Kernel data structures in slabs.
    #[row(unit = "bytes")]
    pub slab_bytes: Option<i64>,
    /// `SReclaimable`: Slabs that can be reclaimed: caches of inodes, directory entries.
    #[row(unit = "bytes")]
    pub sreclaimable_bytes: Option<i64>,
    /// `SUnreclaim`: Slabs that cannot be reclaimed.
    #[row(unit = "bytes")]
    pub sunreclaim_bytes: Option<i64>,
    /// `KernelStack`: Kernel stacks of all threads.
    #[row(unit = "bytes")]
    pub kernel_stack_bytes: Option<i64>,
    /// `ShadowCallStack`: Shadow call stacks of all threads (arm64).
    #[row(unit = "bytes")]
    pub shadow_call_stack_bytes: Option<i64>,
    /// `PageTables`: Page tables of processes.
    #[row(unit = "bytes")]
    pub page_tables_bytes: Option<i64>,
    /// `SecPageTables`: Page tables of virtual machines and IOMMUs.
    #[row(unit = "bytes")]
    pub sec_page_tables_bytes: Option<i64>,
    /// `NFS_Unstable`: Sent to an NFS server, not yet committed there; 0 since kernel 5.8.
    #[row(unit = "bytes")]
    pub nfs_unstable_bytes: Option<i64>,
    /// `Bounce`: Bounce buffers of block devices.
    #[row(unit = "bytes")]
    pub bounce_bytes: Option<i64>,
    /// `WritebackTmp`: Temporary memory of FUSE for writing.
    #[row(unit = "bytes")]
    pub writeback_tmp_bytes: Option<i64>,
    /// `CommitLimit`: How much may be promised under strict overcommit.
    #[row(unit = "bytes")]
    pub commit_limit_bytes: Option<i64>,
    /// `Committed_AS`: Memory promised to processes, used or not.
    #[row(unit = "bytes")]
    pub committed_as_bytes: Option<i64>,
    /// `VmallocTotal`: Address space of vmalloc.
    #[row(unit = "bytes")]
    pub vmalloc_total_bytes: Option<i64>,
    /// `VmallocUsed`: Memory in the address space of vmalloc.
    #[row(unit = "bytes")]
    pub vmalloc_used_bytes: Option<i64>,
    /// `VmallocChunk`: Largest free piece of it; 0 since kernel 4.4.
    #[row(unit = "bytes")]
    pub vmalloc_chunk_bytes: Option<i64>,
    /// `Percpu`: Memory of the per-CPU allocator.
    #[row(unit = "bytes")]
    pub percpu_bytes: Option<i64>,
    /// `EarlyMemtestBad`: Memory found bad by the test at boot.
    #[row(unit = "bytes")]
    pub early_memtest_bad_bytes: Option<i64>,
    /// `HardwareCorrupted`: Memory taken out of use after errors of the hardware.
    #[row(unit = "bytes")]
    pub hardware_corrupted_bytes: Option<i64>,
    /// `AnonHugePages`: Anonymous memory in transparent huge pages.
    #[row(unit = "bytes")]
    pub anon_huge_pages_bytes: Option<i64>,
    /// `ShmemHugePages`: Shared memory in huge pages.
    #[row(unit = "bytes")]
    pub shmem_huge_pages_bytes: Option<i64>,
    /// `ShmemPmdMapped`: Shared memory mapped in huge pages.
    #[row(unit = "bytes")]
    pub shmem_pmd_mapped_bytes: Option<i64>,
    /// `FileHugePages`: Page cache in huge pages.
    #[row(unit = "bytes")]
    pub file_huge_pages_bytes: Option<i64>,
    /// `FilePmdMapped`: Page cache mapped in huge pages.
    #[row(unit = "bytes")]
    pub file_pmd_mapped_bytes: Option<i64>,
    /// `CmaTotal`: Memory of the contiguous memory allocator.
    #[row(unit = "bytes")]
    pub cma_total_bytes: Option<i64>,
    /// `CmaFree`: What of it nobody uses.
    #[row(unit = "bytes")]
    pub cma_free_bytes: Option<i64>,
    /// `Unaccepted`: Memory that a confidential guest has not accepted yet.
    #[row(unit = "bytes")]
    pub unaccepted_bytes: Option<i64>,
    /// `Balloon`: Memory given back to the hypervisor.
    #[row(unit = "bytes")]
    pub balloon_bytes: Option<i64>,
    /// `HugePages_Total`: Huge pages of the default size in the pool.
    pub hugepages_total: Option<i64>,
    /// `HugePages_Free`: Huge pages in the pool that nobody uses.
    pub hugepages_free: Option<i64>,
    /// `HugePages_Rsvd`: Huge pages promised and not yet taken.
    pub hugepages_rsvd: Option<i64>,
    /// `HugePages_Surp`: Huge pages above the size of the pool.
    pub hugepages_surp: Option<i64>,
    /// `Hugepagesize`: Default size of a huge page.
    #[row(unit = "bytes")]
    pub hugepagesize_bytes: Option<i64>,
    /// `Hugetlb`: Memory of huge pages of all sizes.
    #[row(unit = "bytes")]
    pub hugetlb_bytes: Option<i64>,
    /// `DirectMap4k`: Memory that the kernel maps in 4 KiB pages.
    #[row(unit = "bytes")]
    pub direct_map_4k_bytes: Option<i64>,
    /// `DirectMap64k`: Memory that the kernel maps in 64 KiB pages.
    #[row(unit = "bytes")]
    pub direct_map_64k_bytes: Option<i64>,
    /// `DirectMap1M`: Memory that the kernel maps in 1 MiB pages.
    #[row(unit = "bytes")]
    pub direct_map_1m_bytes: Option<i64>,
    /// `DirectMap2M`: Memory that the kernel maps in 2 MiB pages.
    #[row(unit = "bytes")]
    pub direct_map_2m_bytes: Option<i64>,
    /// `DirectMap4M`: Memory that the kernel maps in 4 MiB pages.
    #[row(unit = "bytes")]
    pub direct_map_4m_bytes: Option<i64>,
    /// `DirectMap1G`: Memory that the kernel maps in 1 GiB pages.
    #[row(unit = "bytes")]
    pub direct_map_1g_bytes: Option<i64>,
    /// `DirectMap2G`: Memory that the kernel maps in 2 GiB pages.
    #[row(unit = "bytes")]
    pub direct_map_2g_bytes: Option<i64>,
}

pub struct MemoryProbe {
    path: PathBuf,
}

impl Probe for MemoryProbe {
    type Options = NoOptions;
    type Tables = Memory;
    const NAME: &'static str = "memory";
    const DOC: &'static str = "Use of memory and swap, from /proc/meminfo.";
    const SCHEDULE: Schedule = Schedule::every_secs(1);

    fn open(context: &Context, _options: NoOptions) -> Result<Self> {
        let path = context.proc_dir().join("meminfo");
        read::text(&path)?;
        Ok(MemoryProbe { path })
    }

    fn run(&mut self, _tick: &Tick, out: &mut Out) -> Result<()> {
        let text = read::text(&self.path)?;
        let row = parse(&text);
        if row.mem_total_bytes.is_none() {
            return Err(ProbeError::failed(format!(
                "{}: it has no line `MemTotal`",
                self.path.display()
            )));
        }
        out.full(vec![row]);
        Ok(())
    }
}

fn parse(text: &str) -> Memory {
    let mut row = Memory::default();
    for (name, value) in read::pairs(text) {
        if let Some(field) = field(&mut row, name) {
            *field = read::size_bytes(value);
        }
    }
    row
}

/// The column of a line of `/proc/meminfo`.
fn field<'a>(row: &'a mut Memory, name: &str) -> Option<&'a mut Option<i64>> {
    Some(match name {
        "MemTotal" => &mut row.mem_total_bytes,
        "MemFree" => &mut row.mem_free_bytes,
        "MemAvailable" => &mut row.mem_available_bytes,
        "Buffers" => &mut row.buffers_bytes,
        "Cached" => &mut row.cached_bytes,
        "SwapCached" => &mut row.swap_cached_bytes,
        "Active" => &mut row.active_bytes,
        "Inactive" => &mut row.inactive_bytes,
        "Active(anon)" => &mut row.active_anon_bytes,
        "Inactive(anon)" => &mut row.inactive_anon_bytes,
        "Active(file)" => &mut row.active_file_bytes,
        "Inactive(file)" => &mut row.inactive_file_bytes,
        "Unevictable" => &mut row.unevictable_bytes,
        "Mlocked" => &mut row.mlocked_bytes,
        "HighTotal" => &mut row.high_total_bytes,
        "HighFree" => &mut row.high_free_bytes,
        "LowTotal" => &mut row.low_total_bytes,
        "LowFree" => &mut row.low_free_bytes,
        "MmapCopy" => &mut row.mmap_copy_bytes,
        "SwapTotal" => &mut row.swap_total_bytes,
        "SwapFree" => &mut row.swap_free_bytes,
        "Zswap" => &mut row.zswap_bytes,
        "Zswapped" => &mut row.zswapped_bytes,
        "Dirty" => &mut row.dirty_bytes,
        "Writeback" => &mut row.writeback_bytes,
        "AnonPages" => &mut row.anon_pages_bytes,
        "Mapped" => &mut row.mapped_bytes,
        "Shmem" => &mut row.shmem_bytes,
        "KReclaimable" => &mut row.kreclaimable_bytes,
        "Slab" => &mut row.slab_bytes,
        "SReclaimable" => &mut row.sreclaimable_bytes,
        "SUnreclaim" => &mut row.sunreclaim_bytes,
        "KernelStack" => &mut row.kernel_stack_bytes,
        "ShadowCallStack" => &mut row.shadow_call_stack_bytes,
        "PageTables" => &mut row.page_tables_bytes,
        "SecPageTables" => &mut row.sec_page_tables_bytes,
        "NFS_Unstable" => &mut row.nfs_unstable_bytes,
        "Bounce" => &mut row.bounce_bytes,
        "WritebackTmp" => &mut row.writeback_tmp_bytes,
        "CommitLimit" => &mut row.commit_limit_bytes,
        "Committed_AS" => &mut row.committed_as_bytes,
        "VmallocTotal" => &mut row.vmalloc_total_bytes,
        "VmallocUsed" => &mut row.vmalloc_used_bytes,
        "VmallocChunk" => &mut row.vmalloc_chunk_bytes,
        "Percpu" => &mut row.percpu_bytes,
        "EarlyMemtestBad" => &mut row.early_memtest_bad_bytes,
        "HardwareCorrupted" => &mut row.hardware_corrupted_bytes,
        "AnonHugePages" => &mut row.anon_huge_pages_bytes,
        "ShmemHugePages" => &mut row.shmem_huge_pages_bytes,
        "ShmemPmdMapped" => &mut row.shmem_pmd_mapped_bytes,
        "FileHugePages" => &mut row.file_huge_pages_bytes,
        "FilePmdMapped" => &mut row.file_pmd_mapped_bytes,
        "CmaTotal" => &mut row.cma_total_bytes,
        "CmaFree" => &mut row.cma_free_bytes,
        "Unaccepted" => &mut row.unaccepted_bytes,
        "Balloon" => &mut row.balloon_bytes,
        "HugePages_Total" => &mut row.hugepages_total,
        "HugePages_Free" => &mut row.hugepages_free,
        "HugePages_Rsvd" => &mut row.hugepages_rsvd,
        "HugePages_Surp" => &mut row.hugepages_surp,
        "Hugepagesize" => &mut row.hugepagesize_bytes,
        "Hugetlb" => &mut row.hugetlb_bytes,
        "DirectMap4k" => &mut row.direct_map_4k_bytes,
        "DirectMap64k" => &mut row.direct_map_64k_bytes,
        "DirectMap1M" => &mut row.direct_map_1m_bytes,
        "DirectMap2M" => &mut row.direct_map_2m_bytes,
        "DirectMap4M" => &mut row.direct_map_4m_bytes,
        "DirectMap1G" => &mut row.direct_map_1g_bytes,
        "DirectMap2G" => &mut row.direct_map_2g_bytes,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_today() {
        let row = parse(
            "MemTotal:       24684096 kB\nMemFree:        12797880 kB\nActive(anon):       1568 kB\n\
             HugePages_Total:       3\nHugepagesize:       2048 kB\nDirectMap1G:    25165824 kB\nSomethingNew: 9 kB\n",
        );
        assert_eq!(row.mem_total_bytes, Some(24_684_096 * 1024));
        assert_eq!(row.mem_free_bytes, Some(12_797_880 * 1024));
        assert_eq!(row.active_anon_bytes, Some(1568 * 1024));
        assert_eq!(
            (row.hugepages_total, row.hugepagesize_bytes),
            (Some(3), Some(2048 * 1024))
        );
        assert_eq!(row.direct_map_1g_bytes, Some(25_165_824 * 1024));
        assert_eq!(row.mem_available_bytes, None);
    }

    #[test]
    fn odd_files() {
        assert_eq!(parse(""), Memory::default());
        assert_eq!(parse("MemTotal:\nMemFree: x kB\nnonsense\n"), Memory::default());
        assert_eq!(
            parse("MemTotal: 18446744073709551615 kB\n").mem_total_bytes,
            Some(i64::MAX)
        );
    }

    /// Whatever the kernel that runs says is in the table, but for names newer than this code.
    #[test]
    fn every_line_of_this_kernel_is_known() {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        let mut row = Memory::default();
        let unknown: Vec<_> = read::pairs(&text)
            .filter(|(name, _)| field(&mut row, name).is_none())
            .collect();
        assert_eq!(unknown, []);
    }
}
