//! The command line: one definition for help, man pages and completions.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use vwatch_client::output::Format;
use vwatch_model::name::is_identifier;
use vwatch_model::time::Moment;

use crate::context;

const EXIT_CODES: &str = "\
Exit status:
  0  done
  1  failed
  2  usage: the command line, or a time or name on it, cannot be understood
  3  no daemon answers
  4  partial answer: something was not recorded, or a limit was met; the reasons are on standard error

Times:
  RFC 3339 (2024-05-01T10:42:00+02:00), 10:42, 10:42:07.5, yesterday 10:42, 2024-05-01 10:42, -5m, @1714559400, now.
  A time without a zone is local.

Environment:
  VWATCH_SOCKET, VWATCH_STORE  as --socket and --store, which win over them
  NO_COLOR                     no colours, unless --color says otherwise
  TZ                           the local time zone";

/// Ask and control vwatchd, the flight recorder.
///
/// Talks to the vwatchd of this user or of this host, or reads a store file with no daemon at all (--store). Answers go to
/// standard output, everything else to standard error.
#[derive(Debug, Parser)]
#[command(name = "vwatchctl", version, max_term_width = 110, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Control socket of the daemon [env: VWATCH_SOCKET] [default: this user's daemon, then the system's]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub socket: Option<PathBuf>,
    /// Read this store file instead of asking a daemon: a copy, another host's [env: VWATCH_STORE]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "socket")]
    pub store: Option<PathBuf>,
    /// Form of the answer [default: table on a terminal, jsonl (an object per line) otherwise]
    #[arg(long, short, global = true, value_name = "FORMAT")]
    pub output: Option<OutputFormat>,
    /// Colours: auto means on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: When,
    /// Give up after this long, e.g. 10s [default: 30s for control, none for queries]
    #[arg(long, global = true, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Table,
    Json,
    Jsonl,
    Csv,
    Arrow,
    Parquet,
}

impl From<OutputFormat> for Format {
    fn from(format: OutputFormat) -> Format {
        match format {
            OutputFormat::Table => Format::Table,
            OutputFormat::Json => Format::Json,
            OutputFormat::Jsonl => Format::Jsonl,
            OutputFormat::Csv => Format::Csv,
            OutputFormat::Arrow => Format::Arrow,
            OutputFormat::Parquet => Format::Parquet,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// What the daemon is doing: since when, into which store, at what cost
    #[command(after_help = "Examples:\n  vwatchctl status\n  vwatchctl status --output json")]
    Status,
    /// List, load, unload and reload plugins
    #[command(subcommand)]
    Plugin(Plugin),
    /// List, add, remove and show probe instances
    #[command(subcommand)]
    Probe(Probe),
    /// List the tables
    #[command(after_help = "Examples:\n  vwatchctl tables\n  vwatchctl --store old.db tables --output json")]
    Tables,
    /// Columns of a table: types, units, keys, what they mean
    #[command(after_help = "Examples:\n  vwatchctl schema process")]
    Schema {
        /// Name of the table
        #[arg(value_parser = identifier)]
        table: String,
    },
    /// Ask a question in SQL
    #[command(after_help = QUERY_EXAMPLES)]
    Query(Query),
    /// Show a table as it is now, or as it was; or what a plugin has to show
    #[command(after_help = SHOW_EXAMPLES)]
    Show(Show),
    /// What started, ended and changed in a table between two times
    #[command(after_help = DIFF_EXAMPLES)]
    Diff(Diff),
    /// Ask questions one after the other, with history and completion
    #[command(after_help = CONSOLE_EXAMPLES)]
    Console,
    /// Tell a plugin to add something (an alert, a silence …)
    #[command(after_help = "Examples:\n  vwatchctl add alert load 'load_1m > 8 for 5m'")]
    Add(Words),
    /// Tell a plugin to remove something
    #[command(after_help = "Examples:\n  vwatchctl remove alert load")]
    Remove(Words),
    /// Tell a plugin to keep silent about something
    #[command(after_help = "Examples:\n  vwatchctl silence load 2h")]
    Silence(Words),
    /// Tell a plugin that something has been seen
    #[command(after_help = "Examples:\n  vwatchctl ack load")]
    Ack(Words),
    /// Tell a plugin to try something out
    #[command(after_help = "Examples:\n  vwatchctl test load")]
    Test(Words),
    /// Any command of any plugin, by its words
    #[command(
        name = "command",
        after_help = "Examples:\n  vwatchctl command show alerts\n  vwatchctl --output json command show alerts"
    )]
    AnyOf(Words),
    /// Print the completion script of a shell
    #[command(
        after_help = "Examples:\n  vwatchctl completions bash > /usr/share/bash-completion/completions/vwatchctl\n  \
                            vwatchctl completions zsh > \"${fpath[1]}/_vwatchctl\""
    )]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory; without one, print vwatchctl(1)
    #[command(after_help = "Examples:\n  vwatchctl man /usr/share/man/man1\n  vwatchctl man | man -l -")]
    Man {
        /// Directory to write to; it is made if need be
        #[arg(value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Plugin {
    /// List the plugins: loaded, refused and why
    #[command(after_help = "Examples:\n  vwatchctl plugin list")]
    List,
    /// Load a plugin from a file
    #[command(after_help = "Examples:\n  vwatchctl plugin load target/debug/libdisk_temperature.so")]
    Load {
        /// The shared object
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Stop a plugin's instances and let it go
    #[command(after_help = "Examples:\n  vwatchctl plugin unload process")]
    Unload {
        /// Name or file of the plugin
        name: String,
    },
    /// Load a plugin anew from its file, and go on with its instances
    #[command(after_help = "Examples:\n  vwatchctl plugin reload process")]
    Reload {
        /// Name or file of the plugin
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Probe {
    /// List the instances: their state, their pace, their cost
    #[command(after_help = "Examples:\n  vwatchctl probe list\n  vwatchctl probe list --available")]
    List {
        /// List the probes that can be added instead, with their options
        #[arg(long)]
        available: bool,
    },
    /// Add an instance of a probe; it stays across restarts of the daemon
    #[command(
        after_help = "Examples:\n  vwatchctl probe add process.process every=250ms name=fast\n  \
                            vwatchctl probe add os.disk_io every=100ms for=10m max_cpu=1%"
    )]
    Add {
        /// PLUGIN.PROBE
        #[arg(value_name = "PLUGIN.PROBE")]
        probe: String,
        /// every=TIME, name=NAME, for=TIME, max_cpu=SHARE, and the probe's own options
        #[arg(value_name = "KEY=VALUE", value_parser = setting)]
        settings: Vec<(String, String)>,
    },
    /// Remove an instance; what it recorded stays
    #[command(after_help = "Examples:\n  vwatchctl probe remove fast")]
    Remove {
        /// Name of the instance
        name: String,
    },
    /// Everything about one instance
    #[command(after_help = "Examples:\n  vwatchctl probe show process.process")]
    Show {
        /// Name of the instance
        name: String,
    },
}

#[derive(Debug, Args)]
pub struct Query {
    /// The question; - reads it from standard input
    #[arg(value_name = "SQL", allow_hyphen_values = true)]
    pub sql: String,
    /// State tables as of this time instead of now
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    pub at: Option<Moment>,
    /// Histories and events from this time on
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    pub from: Option<Moment>,
    /// Histories and events up to and with this time
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    pub to: Option<Moment>,
}

#[derive(Debug, Args)]
pub struct Show {
    /// A table, or the words of a plugin's command (alerts, silences …)
    #[arg(required = true)]
    pub words: Vec<String>,
    /// As of this time instead of now
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    pub at: Option<Moment>,
    /// Rows of this instance instead of the table's default one
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// Only these columns
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = identifier)]
    pub columns: Vec<String>,
    /// Only rows for which this SQL condition holds
    #[arg(long = "where", value_name = "SQL")]
    pub filter: Option<String>,
    /// At most so many rows
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

#[derive(Debug, Args)]
pub struct Diff {
    /// A state table
    #[arg(value_parser = identifier)]
    pub table: String,
    /// From this time
    #[arg(value_name = "T1", value_parser = moment, allow_hyphen_values = true)]
    pub from: Moment,
    /// to this one
    #[arg(value_name = "T2", value_parser = moment, allow_hyphen_values = true)]
    pub to: Moment,
    /// Rows of this instance instead of the table's default one
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// Compare only these columns
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = identifier)]
    pub columns: Vec<String>,
    /// Only rows for which this SQL condition holds
    #[arg(long = "where", value_name = "SQL")]
    pub filter: Option<String>,
}

#[derive(Debug, Args)]
pub struct Words {
    /// The words, as the plugin knows them; flags of vwatchctl come before them
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "WORDS"
    )]
    pub words: Vec<String>,
}

const QUERY_EXAMPLES: &str = "\
Examples:
  vwatchctl query \"SELECT pid, comm, rss_bytes FROM process ORDER BY rss_bytes DESC LIMIT 5\"
  vwatchctl query \"SELECT pid, comm FROM process\" --at 10:42
  vwatchctl query \"SELECT pid FROM process FOR SYSTEM_TIME AS OF 'yesterday 10:42'\"
  vwatchctl query \"SELECT time, load_1m FROM load_history\" --from -1h --output csv
  vwatchctl query - < question.sql";

const SHOW_EXAMPLES: &str = "\
Examples:
  vwatchctl show mount
  vwatchctl show process --at -5m --columns pid,comm,rss_bytes --where \"uid = 1000\" --limit 20
  vwatchctl show alerts";

const DIFF_EXAMPLES: &str = "\
A table says it in words: + started, - ended, ~ changed; counters as what they grew by and per second, quantities as what
they grew or shrank by, anything else as old → new. In the other forms every row is whole, behind a column `change`:
started, ended, or changed_from and changed_to, which follow each other.

Examples:
  vwatchctl diff process 10:00 10:05
  vwatchctl diff mount yesterday now
  vwatchctl diff process -5m now --columns comm,state,rss_bytes,utime_ns";

const CONSOLE_EXAMPLES: &str = "\
A statement ends with ; and may take several lines. `help` lists the console's own words. Without a terminal, statements
are read from standard input; then the exit status is that of the first that failed.

Examples:
  vwatchctl console
  vwatchctl --store old.db console
  echo 'SELECT count(*) FROM process;' | vwatchctl console";

fn moment(text: &str) -> Result<Moment, vwatch_model::time::TimeError> {
    vwatch_model::time::parse_relative(text, context::started())
}

fn duration(text: &str) -> Result<Duration, String> {
    match vwatch_model::unit::parse_duration(text) {
        Ok(Duration::ZERO) => Err("no time at all".to_owned()),
        Ok(duration) => Ok(duration),
        Err(e) => Err(e.to_string()),
    }
}

/// A name that goes into SQL as it is.
fn identifier(text: &str) -> Result<String, String> {
    match is_identifier(text) {
        true => Ok(text.to_owned()),
        false => Err("a name consists of a-z, 0-9 and _".to_owned()),
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if is_identifier(key) => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a setting has the form KEY=VALUE, such as every=250ms".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_stand_anywhere_and_times_may_begin_with_a_hyphen() {
        let cli = Cli::try_parse_from(["vwatchctl", "diff", "process", "-5m", "now", "-o", "json"]).unwrap();
        assert_eq!(cli.global.output, Some(OutputFormat::Json));
        assert!(
            matches!(cli.command, Command::Diff(d) if d.from == Moment::AgoNs(300_000_000_000) && d.to == Moment::AgoNs(0))
        );
        let cli = Cli::try_parse_from(["vwatchctl", "--output", "csv", "show", "process", "--at", "-5m"]).unwrap();
        assert!(matches!(cli.command, Command::Show(s) if s.at.is_some() && s.words == ["process"]));
        let cli = Cli::try_parse_from(["vwatchctl", "add", "alert", "x", "--for", "5m"]).unwrap();
        assert!(matches!(cli.command, Command::Add(w) if w.words == ["alert", "x", "--for", "5m"]));
    }

    #[test]
    fn bad_values_are_refused() {
        for bad in [
            &["query", "SELECT 1", "--at", "soon"][..],
            &["diff", "process; DROP", "-5m", "now"],
            &["probe", "add", "a.b", "every"],
            &["status", "--timeout", "0s"],
            &["--socket", "a", "--store", "b", "tables"],
            &["show"],
        ] {
            let args = ["vwatchctl"].iter().chain(bad);
            assert!(Cli::try_parse_from(args).is_err(), "{bad:?}");
        }
    }
}
