//! `vwatchctl completions` and `vwatchctl man`: made from the command line's own definition.

use std::io::Write;
use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;

use crate::cli::Cli;
use crate::context::stdout;
use crate::failure::{Failed, Outcome, say};
use crate::listing::print_text;

pub fn completions(shell: clap_complete::Shell) -> Result<Outcome, Failed> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "vwatchctl", &mut script);
    print_text(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}

pub fn man(dir: Option<&Path>) -> Result<Outcome, Failed> {
    // The pages of `help` itself would say nothing.
    let command = Cli::command().disable_help_subcommand(true);
    let Some(dir) = dir else {
        let mut out = stdout();
        Man::new(command).render(&mut out)?;
        out.flush()?;
        return Ok(Outcome::Done);
    };
    let at = |e: std::io::Error| Failed::because(format!("{}: {e}", dir.display()));
    std::fs::create_dir_all(dir).map_err(at)?;
    clap_mangen::generate_to(command, dir).map_err(at)?;
    say(&format!("wrote the man pages to {}\n", dir.display()));
    Ok(Outcome::Done)
}
