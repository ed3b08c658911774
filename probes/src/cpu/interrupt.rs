//! Interrupts by source and by CPU, from `/proc/interrupts` (proc_interrupts(5), `kernel/irq/proc.c` and
//! `arch/*/kernel/irq.c`).
//!
//! Two tables. `interrupt` has a row for each source, with its description and the sum over all CPUs. `interrupt_cpu` has a row
//! for each source and CPU whose count is above zero. A column for each CPU would make a table that differs from host
//! to host, and a row for each pair a table of mostly zeros: a host of 128 CPUs with 1,000 sources has 128,000 pairs, but the
//! line of a device is served by one CPU or a few. What does not change between two samples is not handed over again.
//!
//! The kernel counts each pair in 32 bits: a timer at 1,000 interrupts a second begins again at 0 after 50 days. Then the
//! sum falls too. The sum is over the CPUs that are online: it also falls when one goes offline.
//!
//! Cost: one file, which the kernel formats while it is read: 30 us on 2 CPUs with 35 sources, growing with both.

use super::{bad_line, heading, no_such_cpu, only_cpu};
use crate::os::hand_over;
use crate::read;
use std::path::{Path, PathBuf};
use vwatch_sdk::prelude::*;

/// Sources of interrupts: lines of devices, and what the architecture itself counts (timers, interrupts between CPUs).
#[derive(Row, Debug, Clone, PartialEq)]
#[row(table = "interrupt", state)]
pub struct Interrupt {
    /// Number of the line, or short name of a source that has none (`LOC`, `IPI0`). Source: first field of the line in
    /// `/proc/interrupts`.
    #[row(key)]
    pub irq: String,
    /// Interrupts since boot on all CPUs that are online. Source: sum of the line's counts; for `ERR` and `MIS` the one count.
    #[row(counter)]
    pub interrupts: i64,
    /// Kind of interrupt controller: `IO-APIC`, `PCI-MSIX-0000:00:02.0`, `GICv3`; older kernels on x86 put the trigger behind
    /// it, `PCI-MSI-edge`. Source: first word after the counts.
    pub chip_name: Option<String>,
    /// Number of the line at its controller. Source: the number after the chip, which older kernels on x86 lack.
    pub hwirq: Option<i64>,
    /// How the line signals: `edge`, `fasteoi`, `Level` … in the kernel's own words. Source: what follows the number at the
    /// controller.
    pub trigger: Option<String>,
    /// Drivers or devices that have asked for the line, separated by commas; of a source without a number what it is.
    /// Source: the rest of the line.
    pub description: Option<String>,
}

/// How often each CPU was interrupted by each source. A source that has never interrupted a CPU has no row for it.
#[derive(Row, Debug, Clone, PartialEq)]
#[row(table = "interrupt_cpu", state)]
pub struct InterruptCpu {
    /// As in `interrupt`. Source: first field of the line in `/proc/interrupts`.
    #[row(key)]
    pub irq: String,
    /// `cpu0` …, as in `cpu_time`. Source: heading of the column in `/proc/interrupts`.
    #[row(key)]
    pub cpu: String,
    /// Interrupts since boot, in 32 bits. Source: the CPU's column in `/proc/interrupts`.
    #[row(counter)]
    pub interrupts: i64,
}

/// Options of `cpu.interrupt`.
#[derive(Options)]
pub struct InterruptOptions {
    /// In `interrupt_cpu` only the CPU of this number.
    pub cpu: Option<i64>,
    /// Also the counts of each CPU, in `interrupt_cpu`.
    #[option(default = true)]
    pub per_cpu: bool,
}

pub struct InterruptProbe {
    path: PathBuf,
    only: Option<String>,
    per_cpu: bool,
    last: Vec<Interrupt>,
    last_cpu: Vec<InterruptCpu>,
}

impl Probe for InterruptProbe {
    type Options = InterruptOptions;
    type Tables = (Interrupt, InterruptCpu);
    const NAME: &'static str = "interrupt";
    const DOC: &'static str = "Interrupts by source and by CPU, from /proc/interrupts";
    const SCHEDULE: Schedule = Schedule::every_secs(10);

    fn open(context: &Context, options: InterruptOptions) -> Result<Self> {
        Ok(InterruptProbe {
            path: context.proc_dir().join("interrupts"),
            only: only_cpu(options.cpu)?,
            per_cpu: options.per_cpu,
            last: Vec::new(),
            last_cpu: Vec::new(),
        })
    }

    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()> {
        let (cpus, lines) = parse(&self.path, &read::text(&self.path)?)?;
        let only = self.only.as_deref();
        if let Some(only) = only.filter(|only| !cpus.iter().any(|cpu| cpu == only)) {
            return Err(no_such_cpu(only));
        }
        let mut by_cpu = Vec::new();
        for line in lines.iter().filter(|_| self.per_cpu) {
            let counts = cpus.iter().zip(&line.counts).filter(|(_, count)| **count > 0);
            let counts = counts.filter(|(cpu, _)| only.is_none_or(|only| only == cpu.as_str()));
            by_cpu.extend(counts.map(|(cpu, count)| InterruptCpu {
                irq: line.source.irq.clone(),
                cpu: cpu.clone(),
                interrupts: *count,
            }));
        }
        let rows = lines.into_iter().map(|line| line.source).collect();
        hand_over(rows, &mut self.last, |a, b| a.irq == b.irq, tick, out);
        let same_key = |a: &InterruptCpu, b: &InterruptCpu| a.irq == b.irq && a.cpu == b.cpu;
        hand_over(by_cpu, &mut self.last_cpu, same_key, tick, out);
        Ok(())
    }
}

struct Line {
    source: Interrupt,
    /// One for each CPU; none when the kernel tells but a sum.
    counts: Vec<i64>,
}

/// Names of the CPUs that are online, and the sources.
fn parse(path: &Path, text: &str) -> Result<(Vec<String>, Vec<Line>)> {
    let mut lines = text.lines().enumerate();
    let cpus = lines.next().and_then(|(_, line)| heading(line));
    let cpus = cpus.ok_or_else(|| bad_line(path, 1, "no heading with the names of CPUs"))?;
    let mut parsed = Vec::new();
    for (i, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let line = parse_line(line, cpus.len());
        parsed.push(line.ok_or_else(|| bad_line(path, i + 1, "not a source of interrupts and its counts"))?);
    }
    Ok((cpus, parsed))
}

fn parse_line(line: &str, cpus: usize) -> Option<Line> {
    let (irq, mut rest) = line.split_once(':')?;
    let mut counts = Vec::new();
    while counts.len() < cpus {
        rest = rest.trim_start();
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let Some(count) = read::counter(&rest[..end]) else {
            break;
        };
        counts.push(count);
        rest = &rest[end..];
    }
    if counts.is_empty() {
        return None;
    }
    let irq = irq.trim();
    let interrupts = counts.iter().fold(0, |sum: i64, count| sum.saturating_add(*count));
    // Some are counted for the machine as a whole. A CPU that went offline while the file was read leaves too few counts as
    // well: which CPU's is missing cannot be told.
    if counts.len() < cpus || matches!(irq, "ERR" | "MIS" | "Err" | "BAD") {
        counts.clear();
    }
    let mut source = Interrupt {
        irq: irq.to_owned(),
        interrupts,
        chip_name: None,
        hwirq: None,
        trigger: None,
        description: None,
    };
    if irq.bytes().all(|b| b.is_ascii_digit()) {
        describe(rest, &mut source);
    } else {
        source.description = text(rest);
    }
    Some(Line { source, counts })
}

/// `IO-APIC   2-edge      timer`, `GICv3  27 Level     arch_timer`, `GPIO  38 Edge    -davinci_gpio  spi1.0`, `xen-dyn    -event
/// xenbus`, and in older kernels on x86 `IO-APIC-edge      timer`. The name of a chip may have spaces: `Hyper-V PCIe MSI`.
fn describe(rest: &str, source: &mut Interrupt) {
    let words = || rest.split_ascii_whitespace();
    let number = |word: &str| {
        let digits = word.split('-').next().unwrap_or_default();
        // Empty before the `-` of a chip that has no numbers.
        digits.parse::<u64>().is_ok() || (digits.is_empty() && word.len() > 1)
    };
    let after = |count: usize| {
        let mut rest = rest;
        for _ in 0..count {
            rest = rest.trim_start();
            rest = &rest[rest.find(char::is_whitespace).unwrap_or(rest.len())..];
        }
        rest
    };
    let Some(at) = words().take(5).skip(1).position(number).map(|at| at + 1) else {
        source.chip_name = words().next().map(str::to_owned);
        source.description = text(after(1));
        return;
    };
    source.chip_name = Some(words().take(at).collect::<Vec<_>>().join(" "));
    let word = words().nth(at).unwrap_or_default();
    let (digits, handler) = word.split_once('-').unwrap_or((word, ""));
    source.hwirq = digits.parse().ok().map(read::wrap);
    source.trigger = text(handler);
    let mut used = at + 1;
    if let Some(level) = words().nth(used).filter(|word| matches!(*word, "Level" | "Edge")) {
        source.trigger = Some(level.to_owned());
        used += 1;
        // The flow's name, where it has one too.
        used += usize::from(words().nth(used).is_some_and(|word| word.starts_with('-')));
    }
    source.description = text(after(used));
}

fn text(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `irq sum [counts] chip|hwirq|trigger|description`, with `-` for NULL.
    #[track_caller]
    fn check(line: &str, cpus: usize, expect: &str) {
        let Line { source, counts } = parse_line(line, cpus).unwrap();
        let said = |value: Option<String>| value.unwrap_or("-".to_owned());
        let found = format!(
            "{} {} {counts:?} {}|{}|{}|{}",
            source.irq,
            source.interrupts,
            said(source.chip_name),
            said(source.hwirq.map(|n| n.to_string())),
            said(source.trigger),
            said(source.description)
        );
        assert_eq!(found, expect);
    }

    #[test]
    fn lines_of_x86() {
        check(
            "  0:         35          0  IR-IO-APIC    2-edge      timer",
            2,
            "0 35 [35, 0] IR-IO-APIC|2|edge|timer",
        );
        check(
            " 36:          0    6458994 PCI-MSIX-0000:00:02.0   1-edge      virtio1-req.0",
            2,
            "36 6458994 [0, 6458994] PCI-MSIX-0000:00:02.0|1|edge|virtio1-req.0",
        );
        check(
            " 16:    1000000          0          0          7  IR-IO-APIC   16-fasteoi   ehci_hcd:usb1, i801_smbus",
            4,
            "16 1000007 [1000000, 0, 0, 7] IR-IO-APIC|16|fasteoi|ehci_hcd:usb1, i801_smbus",
        );
        check(
            " 26:          0          1  Hyper-V PCIe MSI 4138200989698-edge      mana_q1@pci:7870:00:00.0",
            2,
            "26 1 [0, 1] Hyper-V PCIe MSI|4138200989698|edge|mana_q1@pci:7870:00:00.0",
        );
        check(
            " 48:     123456   xen-dyn    -event     blkif",
            1,
            "48 123456 [123456] xen-dyn|-|event|blkif",
        );
        check(" 12:          3  IO-APIC  12-edge", 1, "12 3 [3] IO-APIC|12|edge|-");
    }

    #[test]
    fn lines_of_old_kernels() {
        check(
            " 16:    2576519          0   IO-APIC-fasteoi   uhci_hcd:usb4, HDA Intel, ivtv0",
            2,
            "16 2576519 [2576519, 0] IO-APIC-fasteoi|-|-|uhci_hcd:usb4, HDA Intel, ivtv0",
        );
        check("  3:          2    XT-PIC-XT      ", 1, "3 2 [2] XT-PIC-XT|-|-|-");
        check(
            "112:        347   xen-dyn-event     xenbus",
            1,
            "112 347 [347] xen-dyn-event|-|-|xenbus",
        );
    }

    #[test]
    fn lines_of_arm() {
        check(
            " 11:        104        191    GICv3  27 Level     arch_timer",
            2,
            "11 295 [104, 191] GICv3|27|Level|arch_timer",
        );
        check(
            "372:          0          0      GPIO  38 Edge    -davinci_gpio  spi1.0",
            2,
            "372 0 [0, 0] GPIO|38|Edge|spi1.0",
        );
        check(
            " 14:          9          0    GICv3 418 Level     100ac000.serial:rx err",
            2,
            "14 9 [9, 0] GICv3|418|Level|100ac000.serial:rx err",
        );
        check(
            "IPI1:       315        240       Function call interrupts",
            2,
            "IPI1 555 [315, 240] -|-|-|Function call interrupts",
        );
        check("Err:          3", 1, "Err 3 [] -|-|-|-");
    }

    #[test]
    fn sources_of_the_architecture() {
        check(
            "LOC:    7057991    7318698   Local timer interrupts",
            2,
            "LOC 14376689 [7057991, 7318698] -|-|-|Local timer interrupts",
        );
        check("ERR:          1", 2, "ERR 1 [] -|-|-|-");
        check("MIS:          0", 1, "MIS 0 [] -|-|-|-");
        // s390 has sources that are sums of others, and says of which one they are part.
        check("EXT:     198430      64312", 2, "EXT 262742 [198430, 64312] -|-|-|-");
        check(
            "CLK:     189012      61002  [EXT] Clock Comparator",
            2,
            "CLK 250014 [189012, 61002] -|-|-|[EXT] Clock Comparator",
        );
        // A CPU went offline between the heading and the line.
        check(
            "RES:          7   Rescheduling interrupts",
            2,
            "RES 7 [] -|-|-|Rescheduling interrupts",
        );
    }

    #[test]
    fn damaged_text_is_named() {
        let failed = |text: &str| parse(Path::new("/proc/interrupts"), text).err().unwrap().to_string();
        let heading = "/proc/interrupts:1: no heading with the names of CPUs";
        assert_eq!(failed(""), heading);
        assert_eq!(failed("LOC: 1 2\n"), heading);
        assert_eq!(failed("CPU0 CPUx\n"), heading);
        for line in ["  1", "  1:", "  1: x", "LOC: Local timer interrupts"] {
            let expect = "/proc/interrupts:3: not a source of interrupts and its counts";
            assert_eq!(
                failed(&format!("  CPU0\n  0: 1 XT-PIC timer\n{line}\n")),
                expect,
                "{line}"
            );
        }
    }

    #[test]
    fn headings_have_the_cpus_online() {
        let (cpus, lines) = parse(Path::new("f"), "           CPU0       CPU3       CPU12      \n\n").unwrap();
        assert_eq!(cpus, ["cpu0", "cpu3", "cpu12"]);
        assert!(lines.is_empty());
    }
}
