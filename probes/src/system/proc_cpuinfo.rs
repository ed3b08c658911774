//! The text of `/proc/cpuinfo`, whose names differ on every architecture (`arch/*/kernel/**/proc.c`, `show_cpuinfo`).
//!
//! Three forms: a block per CPU that begins with `processor : N` (nearly all); one line per CPU, `processor N: …`, with what is
//! common before it (s390, whose newer kernels add blocks that begin with `cpu number : N`); blocks followed by what is
//! common (32-bit Arm). A line outside of a block holds for every CPU.

use std::collections::BTreeMap;

type Pairs<'a> = Vec<(&'a str, &'a str)>;

/// What the kernel says of each CPU.
pub struct ProcCpuinfo<'a> {
    common: Pairs<'a>,
    cpus: BTreeMap<i32, Pairs<'a>>,
}

impl<'a> ProcCpuinfo<'a> {
    pub fn parse(text: &'a str) -> Self {
        let mut common = Vec::new();
        let mut cpus: BTreeMap<i32, Pairs<'a>> = BTreeMap::new();
        let mut block = None;
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else {
                block = None;
                continue;
            };
            let (name, value) = (name.trim(), value.trim());
            if let Some(number) = block_start(name, value) {
                cpus.entry(number).or_default();
                block = Some(number);
            } else if let Some(number) = s390_line(name) {
                let pairs = value.split(',').filter_map(|p| p.split_once('='));
                let pairs = pairs.map(|(name, value)| (name.trim(), value.trim()));
                cpus.entry(number).or_default().extend(pairs);
            } else if let Some(pairs) = block.and_then(|number| cpus.get_mut(&number)) {
                pairs.push((name, value));
            } else {
                common.push((name, value));
            }
        }
        ProcCpuinfo { common, cpus }
    }

    /// Numbers of the CPUs spoken of: those online.
    pub fn numbers(&self) -> impl Iterator<Item = i32> {
        self.cpus.keys().copied()
    }

    /// The first of `names` that the CPU has, in its block or in common. Upper and lower case are one.
    pub fn get(&self, cpu: i32, names: &[&str]) -> Option<&'a str> {
        let own = self.cpus.get(&cpu)?;
        names.iter().find_map(|wanted| {
            own.iter()
                .chain(&self.common)
                .find(|(name, value)| name.eq_ignore_ascii_case(wanted) && !value.is_empty())
                .map(|(_, value)| *value)
        })
    }
}

/// Old Arm kernels also have a line `Processor : ARMv7 …`, which is a name, not a number.
fn block_start(name: &str, value: &str) -> Option<i32> {
    matches!(name, "processor" | "cpu number")
        .then(|| value.parse().ok())
        .flatten()
}

fn s390_line(name: &str) -> Option<i32> {
    name.strip_prefix("processor ")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, names: &[&str], expect: &[(i32, Option<&str>)]) {
        let info = ProcCpuinfo::parse(text);
        let found: Vec<_> = info.numbers().map(|n| (n, info.get(n, names))).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn x86() {
        let text = "processor\t: 0\nmodel name\t:   Intel(R) Xeon(TM) CPU 2.60GHz\npower management:\n\n\
                    processor\t: 3\nmodel name\t: other: with colon\n\n";
        check(
            text,
            &["model name"],
            &[
                (0, Some("Intel(R) Xeon(TM) CPU 2.60GHz")),
                (3, Some("other: with colon")),
            ],
        );
        check(text, &["power management"], &[(0, None), (3, None)]);
    }

    #[test]
    fn arm_of_32_bits_has_its_features_after_the_blocks() {
        let text = "Processor\t: ARMv7 Processor rev 4 (v7l)\nprocessor\t: 0\nBogoMIPS\t: 1694.10\n\n\
                    processor\t: 1\nBogoMIPS\t: 1694.11\n\nFeatures\t: swp half\nCPU part\t: 0xc0f\n\nHardware\t: EXYNOS5\n";
        check(text, &["features"], &[(0, Some("swp half")), (1, Some("swp half"))]);
        check(text, &["bogomips"], &[(0, Some("1694.10")), (1, Some("1694.11"))]);
        check(
            text,
            &["model name", "Processor"],
            &[
                (0, Some("ARMv7 Processor rev 4 (v7l)")),
                (1, Some("ARMv7 Processor rev 4 (v7l)")),
            ],
        );
    }

    #[test]
    fn s390() {
        let text = "vendor_id       : IBM/S390\n# processors    : 2\nfeatures\t: esan3 zarch \n\
                    processor 1: version = 00,  identification = 279F25,  machine = 2817\n\
                    processor 5: version = 00,  identification = 279F25,  machine = 2818\n\n\
                    cpu number      : 5\ncpu MHz dynamic : 5200\n";
        check(text, &["machine"], &[(1, Some("2817")), (5, Some("2818"))]);
        check(text, &["vendor_id"], &[(1, Some("IBM/S390")), (5, Some("IBM/S390"))]);
        check(text, &["cpu MHz dynamic"], &[(1, None), (5, Some("5200"))]);
    }

    #[test]
    fn nothing_and_nonsense() {
        check("", &["model"], &[]);
        check("processor\t: 99999999999\nprocessor x: y = z\n: :\n", &["model"], &[]);
    }
}
