//! Loaded modules of the kernel, from `/proc/modules` and `/sys/module` (kernel documentation: `ABI/stable/sysfs-module`,
//! `ABI/testing/sysfs-module`).
//!
//! What is built into the kernel is no module. A kernel that cannot load any has no `/proc/modules`. Addresses are left out:
//! they help attackers more than anybody else.
//!
//! Cost: one read, and two small files a module, 0.02 ms each.

use crate::read::{self, Dir};
use std::path::PathBuf;
use vwatch_sdk::prelude::*;

/// Modules that are loaded into the kernel.
#[derive(Row, Debug, Clone, PartialEq, Default)]
#[row(table = "kernel_module", state)]
pub struct KernelModule {
    /// Source: `/proc/modules`.
    #[row(key)]
    pub name: String,
    /// Memory that its code and data take. Source: `/proc/modules`.
    #[row(unit = "bytes")]
    pub size_bytes: i64,
    /// How many uses keep it from being unloaded; NULL where the kernel cannot unload any. Source: `/proc/modules`.
    pub refcount: Option<i64>,
    /// Modules that use it, by name. Source: `/proc/modules`.
    pub used_by: String,
    /// It can never be unloaded: it has no code for that. Source: `[permanent]` in `/proc/modules`.
    pub permanent: bool,
    /// `Live`, `Loading` or `Unloading`. Source: `/proc/modules`.
    pub state: String,
    /// Letters of what it taints the kernel with: `P` proprietary, `O` out of tree, `E` unsigned, `F` forced, `C` staging; NULL
    /// when nothing. Source: `/proc/modules`.
    pub taint: Option<String>,
    /// Version that its author gave. Source: `/sys/module/NAME/version`.
    pub version: Option<String>,
    /// Checksum of its source. Source: `/sys/module/NAME/srcversion`.
    pub srcversion: Option<String>,
}

pub struct KernelModuleProbe {
    modules: PathBuf,
    sys: Dir,
}

impl Probe for KernelModuleProbe {
    type Options = NoOptions;
    type Tables = KernelModule;
    const NAME: &'static str = "kernel_module";
    const DOC: &'static str = "Loaded kernel modules, from /proc/modules and /sys/module";
    const SCHEDULE: Schedule = Schedule::every_secs(60);

    fn open(context: &Context, _: NoOptions) -> Result<Self> {
        Ok(KernelModuleProbe {
            modules: context.proc_dir().join("modules"),
            sys: Dir::new(context.sys_dir().join("module")),
        })
    }

    fn run(&mut self, _: &Tick, out: &mut Out) -> Result<()> {
        let text = read::text(&self.modules)?;
        let mut rows = Vec::new();
        for line in text.lines() {
            let Some(module) = parse_line(line) else {
                let file = self.modules.display();
                return Err(ProbeError::failed(format!("{file}: not of its known form: {line:?}")));
            };
            let dir = self.sys.dir(&module.name);
            rows.push(KernelModule {
                version: dir.value("version"),
                srcversion: dir.value("srcversion"),
                ..module
            });
        }
        out.full(rows);
        Ok(())
    }
}

/// `nf_nat 57344 2 nft_chain_nat,xt_MASQUERADE, Live 0xffffffffc0a00000 (OE)`
fn parse_line(line: &str) -> Option<KernelModule> {
    let mut words = line.split_whitespace();
    let (name, size, refcount) = (words.next()?, words.next()?, words.next()?);
    let (users, state) = (words.next()?, words.next()?);
    // After the address; `+` and `-` in it say again that the module is loading or unloading.
    let taint = words.nth(1).map(|word| word.trim_matches(['(', ')', '+', '-']));
    let users = || users.split(',').filter(|user| !["", "-"].contains(user));
    let names: Vec<&str> = users().filter(|user| *user != "[permanent]").collect();
    Some(KernelModule {
        name: name.to_owned(),
        size_bytes: read::quantity(size)?,
        refcount: match refcount {
            "-" => None,
            count => Some(read::quantity(count)?),
        },
        used_by: names.join(","),
        permanent: users().any(|user| user == "[permanent]"),
        state: state.to_owned(),
        taint: taint.filter(|taint| !taint.is_empty()).map(str::to_owned),
        ..KernelModule::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let module = |name: &str, size_bytes, refcount, used_by: &str| KernelModule {
            name: name.to_owned(),
            size_bytes,
            refcount,
            used_by: used_by.to_owned(),
            state: "Live".to_owned(),
            ..KernelModule::default()
        };
        let check = |line: &str, expect: Option<KernelModule>| assert_eq!(parse_line(line), expect, "{line:?}");
        check(
            "vfat 20480 1 - Live 0xffffffffc0176000",
            Some(module("vfat", 20_480, Some(1), "")),
        );
        check(
            "x_tables 40960 2 xt_conntrack,ip_tables, Live 0x0000000000000000",
            Some(module("x_tables", 40_960, Some(2), "xt_conntrack,ip_tables")),
        );
        let nvidia = KernelModule {
            taint: Some("PO".to_owned()),
            ..module("nvidia", 56_602_624, None, "")
        };
        check("nvidia 56602624 - - Live 0xffffffffc03e0000 (PO)", Some(nvidia));
        let loading = KernelModule {
            permanent: true,
            state: "Loading".to_owned(),
            ..module("ipv6", 286_720, Some(-1), "br_netfilter")
        };
        check(
            "ipv6 286720 -1 br_netfilter,[permanent], Loading 0xffffffffa02e9000 (+)",
            Some(loading),
        );
        check("vfat 20480 1 -", None);
        check("vfat large 1 - Live 0x0", None);
        check("vfat 20480 many - Live 0x0", None);
        check("", None);
    }
}
