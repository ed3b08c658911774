//! Kernel settings (`sysctl`), so that each change of one is on record. Source: `/proc/sys`, described in proc_sys(5).
//! Cost: one small file read per setting and sample.

use vwatch_sdk::prelude::*;

/// A kernel setting.
#[derive(Row)]
#[row(table = "sysctl", state)]
pub struct Sysctl {
    /// As sysctl(8) writes it: `vm.swappiness`.
    #[row(key)]
    pub name: String,
    /// Its text, without the newline at the end; NULL when the daemon may not read it.
    pub value: Option<String>,
}

/// Options of `sysctl.sysctl`.
#[derive(Options)]
pub struct SysctlOptions {
    /// Settings to record; those that this kernel lacks are left out.
    #[option(default = "fs.file-max,kernel.pid_max,net.core.somaxconn,vm.overcommit_memory,vm.swappiness")]
    pub names: Vec<String>,
}

pub struct SysctlProbe {
    context: Context,
    names: Vec<String>,
}

impl Probe for SysctlProbe {
    type Options = SysctlOptions;
    type Tables = Sysctl;
    const NAME: &'static str = "sysctl";
    const DOC: &'static str = "Kernel settings.";
    const SCHEDULE: Schedule = Schedule::every_secs(1);

    fn open(context: &Context, options: SysctlOptions) -> Result<Self> {
        let (context, names) = (context.clone(), options.names);
        Ok(SysctlProbe { context, names })
    }

    fn run(&mut self, _: &Tick, out: &mut Out) -> Result<()> {
        let mut rows = Vec::with_capacity(self.names.len());
        for name in &self.names {
            let value = match self.context.read_proc(&format!("sys/{}", name.replace('.', "/"))) {
                Ok(text) => Some(text.trim_end().to_owned()),
                Err(error) if error.kind == Kind::Denied => None,
                Err(error) if error.kind == Kind::Unsupported => continue,
                Err(error) => return Err(error),
            };
            let name = name.clone();
            rows.push(Sysctl { name, value });
        }
        out.full(rows);
        Ok(())
    }
}

plugin! {
    name: "sysctl",
    doc: "Kernel settings, so that each change of one is on record.",
    probes: [SysctlProbe],
}

#[cfg(test)]
mod tests {
    use super::*;
    use vwatch_testkit::FixtureHost;

    fn host() -> FixtureHost {
        FixtureHost::new()
            .with_file("proc/sys/vm/swappiness", "60\n")
            .with_file("proc/sys/kernel/pid_max", "4194304\n")
            .with_file("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n")
    }

    #[test]
    fn settings_are_read() {
        let sampled = host().run_once::<SysctlProbe>("").unwrap();
        sampled.golden("sysctl", "tests/golden/default.txt");
        let sampled = host()
            .run_once::<SysctlProbe>("names=net.ipv4.tcp_rmem,no.such")
            .unwrap();
        sampled.golden("sysctl", "tests/golden/named.txt");
    }

    #[test]
    fn the_plugin_says_what_it_brings() {
        let plugin = host().load(vwatch_plugin()).unwrap();
        assert_eq!(plugin.manifest().name, "sysctl");
        assert_eq!(plugin.manifest().probes[0].options[0].name, "names");
        let refused = plugin.open("sysctl", "name=vm.swappiness").map(|_| ()).unwrap_err();
        assert!(refused.message.contains("did you mean \"names\"?"), "{refused}");
    }
}
