//! What an invocation stands on: where the daemon or the store is, in which form answers go out, what time it is here.
//! The only module that reads the environment and asks about the terminal.

use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use jiff::Zoned;
use vwatch_client::output::{self, Format, Sink, Style};
use vwatch_client::{ControlClient, QueryClient, Source, engine_places};
use vwatch_model::paths;
use vwatch_model::query::Request;

use crate::cli::{Global, When};
use crate::failure::Failed;

/// How long a control request may take unless told otherwise. Loading a plugin takes seconds on a busy host.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(30);

/// The moment this invocation began, in the local zone: the `now` of every time on the command line.
pub fn started() -> &'static Zoned {
    static STARTED: OnceLock<Zoned> = OnceLock::new();
    STARTED.get_or_init(Zoned::now)
}

pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[derive(Debug, Clone)]
pub struct Context {
    sockets: Vec<PathBuf>,
    store: Option<PathBuf>,
    /// `--store` stood on the command line, rather than in the environment.
    store_asked: bool,
    pub format: Format,
    timeout: Option<Duration>,
    pub color: bool,
    pub color_errors: bool,
}

impl Context {
    /// Flags win over the environment, the environment over the defaults.
    pub fn new(global: &Global) -> Self {
        let uid = nix::unistd::geteuid().as_raw();
        let store = match (&global.store, &global.socket) {
            (Some(store), _) => Some(store.clone()),
            // A socket on the command line is a wish for the daemon.
            (None, Some(_)) => None,
            (None, None) => env("VWATCH_STORE").map(PathBuf::from),
        };
        let socket = global
            .socket
            .clone()
            .or_else(|| env("VWATCH_SOCKET").map(PathBuf::from));
        let sockets = match socket {
            Some(socket) => vec![socket],
            None => paths::control_socket_candidates(uid, env),
        };
        let terminal = std::io::stdout().is_terminal();
        let color = |terminal: bool| match global.color {
            When::Always => true,
            When::Never => false,
            When::Auto => terminal && env("NO_COLOR").is_none() && env("TERM").as_deref() != Some("dumb"),
        };
        Context {
            sockets,
            store,
            store_asked: global.store.is_some(),
            format: match global.output {
                Some(format) => format.into(),
                None if terminal => Format::Table,
                None => Format::Jsonl,
            },
            timeout: global.timeout,
            color: color(terminal),
            color_errors: color(std::io::stderr().is_terminal()),
        }
    }

    /// The daemon. A store on the command line has none.
    pub fn control(&self) -> Result<ControlClient, Failed> {
        if self.store_asked {
            return Err(Failed::Usage {
                message: "this command needs a running daemon, and --store names a file".to_owned(),
                hint: Some("tables, schema, query, show, diff, console, export and store work with --store".to_owned()),
            });
        }
        Ok(ControlClient::new(
            self.sockets.clone(),
            self.timeout.unwrap_or(CONTROL_TIMEOUT),
        ))
    }

    /// Plugins' commands can be asked for.
    pub fn has_daemon(&self) -> bool {
        self.store.is_none()
    }

    pub fn queries(&self) -> Result<QueryClient, Failed> {
        let source = match &self.store {
            None => Source::Sockets(self.sockets.clone()),
            Some(file) => {
                let exe =
                    std::env::current_exe().map_err(|e| Failed::because(format!("where is this program? {e}")))?;
                Source::Store {
                    file: file.clone(),
                    engines: engine_places(&exe),
                }
            }
        };
        Ok(QueryClient::new(source, self.timeout))
    }

    /// A question in the local zone.
    pub fn request(&self, sql: impl Into<String>) -> Request {
        Request {
            sql: sql.into(),
            zone: Some(zone_name(started())),
            ..Request::default()
        }
    }

    pub fn zone(&self) -> String {
        zone_name(started())
    }

    /// Where the answer goes.
    pub fn sink(&self) -> Result<Box<dyn Sink>, Failed> {
        self.styled_sink(self.style())
    }

    /// Where a list of the daemon's goes: it has no NULL, only nothing to say, and ends in a reason.
    pub fn listing_sink(&self) -> Result<Box<dyn Sink>, Failed> {
        self.styled_sink(Style {
            null: "",
            last_whole: true,
            ..self.style()
        })
    }

    fn styled_sink(&self, style: Style) -> Result<Box<dyn Sink>, Failed> {
        if self.format.is_binary() && std::io::stdout().is_terminal() {
            return Err(Failed::Usage {
                message: "this form is not for a terminal".to_owned(),
                hint: Some("send it into a file: > answer".to_owned()),
            });
        }
        Ok(output::sink(self.format, style, stdout()))
    }

    pub fn style(&self) -> Style {
        let terminal = std::io::stdout().is_terminal();
        let width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        Style {
            width: width.filter(|w| terminal && *w > 0),
            color: self.color,
            null: if self.color { "NULL" } else { "" },
            last_whole: false,
        }
    }

    /// Documents (`status`, `probe show`) are for people unless a form was asked for or nobody sees a terminal.
    pub fn is_for_people(&self) -> bool {
        self.format == Format::Table
    }

    pub fn with_format(&self, format: Format) -> Context {
        Context { format, ..self.clone() }
    }
}

pub fn stdout() -> Box<dyn Write + Send> {
    Box::new(BufWriter::with_capacity(64 * 1024, std::io::stdout()))
}

/// IANA name of the zone of `now`; its offset where the zone has no name (a POSIX `TZ`).
fn zone_name(now: &Zoned) -> String {
    let zone = now.time_zone();
    if zone.is_unknown() {
        return "UTC".to_owned();
    }
    match zone.iana_name() {
        Some(name) => name.to_owned(),
        None => now.strftime("%:z").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::zone_name;
    use jiff::tz::TimeZone;
    use jiff::{Timestamp, Zoned};

    #[test]
    fn a_zone_without_a_name_is_its_offset() {
        let at = |zone| Zoned::new(Timestamp::UNIX_EPOCH, zone);
        assert_eq!(zone_name(&at(TimeZone::get("Europe/Berlin").unwrap())), "Europe/Berlin");
        assert_eq!(zone_name(&at(TimeZone::posix("IST-5:30").unwrap())), "+05:30");
        assert_eq!(zone_name(&at(TimeZone::unknown())), "UTC");
        assert_eq!(zone_name(&at(TimeZone::UTC)), "UTC");
    }
}
