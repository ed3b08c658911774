//! vwatchd, the recorder: command line, log, and the start of `vwatch_core`.
//!
//! Exit code 0: stopped as asked. 1: something failed. 2: wrong usage.

mod check;
mod log;

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use vwatch_config::{Config, ConfigError, Overrides};

/// Records what this host does: processes, CPUs, devices, memory, network, and what plugins add to that.
#[derive(Debug, Parser)]
#[command(name = "vwatchd", version, max_term_width = 100)]
struct Cli {
    /// Configuration file [default: /etc/vwatchd.conf, if it is there]
    #[arg(long, value_name = "FILE", env = "VWATCH_CONFIG")]
    config: Option<PathBuf>,

    /// Cluster document [default: vwatchd.cluster.json beside the configuration, if it is there]
    #[arg(long, value_name = "FILE")]
    cluster: Option<PathBuf>,

    /// The store, one file [default: /vwatchd.db; without root in the state directory of the user]
    #[arg(long, value_name = "FILE", env = "VWATCH_STORE")]
    store: Option<PathBuf>,

    /// Directory of plugins [default: /usr/lib/vwatchd/plugins]
    #[arg(long, value_name = "DIR", env = "VWATCH_PLUGINS")]
    plugins: Option<PathBuf>,

    /// Control socket; query.sock lies beside it [default: /run/vwatchd/control.sock; without root in the runtime directory
    /// of the user]
    #[arg(long, value_name = "FILE", env = "VWATCH_SOCKET")]
    socket: Option<PathBuf>,

    /// Where the kernel's /proc is mounted [default: /proc]
    #[arg(long, value_name = "DIR")]
    proc: Option<PathBuf>,

    /// Where the kernel's /sys is mounted [default: /sys]
    #[arg(long, value_name = "DIR")]
    sys: Option<PathBuf>,

    /// Check configuration, plugins and store, say what is wrong, and end
    #[arg(long)]
    check: bool,

    /// What the recorder runs in a child to try a plugin
    #[arg(long, value_name = "FILE", hide = true)]
    check_plugin: Option<PathBuf>,

    /// What the recorder runs in a child before it opens a store
    #[arg(long, value_name = "FILE", hide = true)]
    check_store: Option<PathBuf>,
}

impl Cli {
    fn overrides(&self) -> Overrides {
        Overrides {
            config: self.config.clone(),
            cluster: self.cluster.clone(),
            store: self.store.clone(),
            plugins: self.plugins.clone(),
            socket: self.socket.clone(),
            proc_dir: self.proc.clone(),
            sys_dir: self.sys.clone(),
        }
    }
}

fn read_config(overrides: &Overrides) -> Result<Config, ConfigError> {
    let uid = nix::unistd::geteuid().as_raw();
    Config::load(overrides, uid, |name| std::env::var(name).ok())
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(file) = &cli.check_plugin {
        return ExitCode::from(vwatch_loader::check_child(file) as u8);
    }
    if let Some(file) = &cli.check_store {
        return check::store_child(file);
    }
    vwatch_core::process::prepare();
    let overrides = cli.overrides();
    let config = match read_config(&overrides) {
        Ok(config) => config,
        Err(e) => {
            eprintln!("vwatchd: {e}");
            return ExitCode::FAILURE;
        }
    };
    if cli.check {
        return match check::report(&config) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(e) => {
                eprintln!("vwatchd: {e:#}");
                ExitCode::FAILURE
            }
        };
    }
    let level = log::start(config.log_level);
    let result = vwatch_core::run(vwatch_core::Start {
        config,
        reread: Box::new(move || read_config(&overrides)),
        reconfigured: Box::new(move |config| log::set(&level, config.log_level)),
    });
    // A probe may hang in a thread of its own: the process ends all the same, without waiting for it.
    let code = match result {
        Ok(()) => 0,
        Err(e) => {
            tracing::error!("{e}");
            1
        }
    };
    std::process::exit(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
