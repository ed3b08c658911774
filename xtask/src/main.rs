//! `cargo xtask`: build and run, test, stage, tidy, bench. Each command checks for what it needs, and says so.

mod bench;
mod capture;
mod cargo;
mod load;
mod needs;
mod run;
mod stage;
mod test;
mod tidy;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "What developers of vwatchd do often")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything and record this host: the store lies in your state directory, no root needed for the basics.
    Run {
        /// Build with optimisation (profile `release`): slower to build, cheaper to run.
        #[arg(long)]
        release: bool,
        /// Flags for vwatchd, after `--`.
        #[arg(last = true)]
        vwatchd: Vec<String>,
    },
    /// Build everything and run all tests.
    Test {
        /// Arguments for the test runner, such as a part of a test's name.
        args: Vec<String>,
    },
    /// Lay out programs, plugins, man pages and completions as a package would: bin/, lib/vwatchd/plugins/, share/.
    Stage {
        #[arg(long)]
        release: bool,
        dir: PathBuf,
    },
    /// Check the rules that the compiler cannot see.
    Tidy,
    /// Measure; prints figures beside their goals and a baseline of the same run.
    Bench {
        #[command(subcommand)]
        what: bench::What,
    },
}

fn main() -> ExitCode {
    let result = load::role().unwrap_or_else(|| done(Cli::parse().command));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn done(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run { release, vwatchd } => run::run(release, &vwatchd),
        Command::Test { args } => test::run(&args),
        Command::Stage { release, dir } => stage::run(release, &dir),
        Command::Tidy => tidy::run(),
        Command::Bench { what } => bench::run(what),
    }
}
