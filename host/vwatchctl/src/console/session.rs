//! What a console remembers between statements, and its own words.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use jiff::Zoned;
use vwatch_client::output::Format;
use vwatch_model::query::Request;
use vwatch_model::time::{Moment, format_ns, parse_moment, parse_relative};
use vwatch_model::unit::format_duration;

use crate::answer::{stream, tell_partial};
use crate::cli::OutputFormat;
use crate::context::Context;
use crate::failure::{Failed, Outcome, say};
use crate::listing::human_span;
use crate::tables;

const HELP: &str = "\
  SELECT … ;     a question; it may take several lines
  \\d             tables            \\d TABLE      columns of a table
  \\at TIME       read state tables as of TIME; \\at alone: now again
  \\from TIME     read histories and events from TIME on; \\from alone: from their beginning
  \\to TIME       … up to TIME; \\to alone: up to their end
  \\o FORMAT      table, json, jsonl, csv
  \\timing        say how long each answer took, or no longer
  help           this
  \\q, quit       leave (also Ctrl-D)
A relative time (-5m) is reckoned when it is given. Ctrl-C gives up on a question.
";

/// What became of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Done(Outcome),
    Cancelled,
    Quit,
}

pub struct Session {
    context: Context,
    interactive: bool,
    at: Option<Moment>,
    from: Option<Moment>,
    to: Option<Moment>,
    timing: bool,
}

impl Session {
    pub fn new(context: &Context, interactive: bool) -> Self {
        Session {
            context: context.clone(),
            interactive,
            at: None,
            from: None,
            to: None,
            timing: false,
        }
    }

    /// The moment that is set, for the prompt.
    pub fn at(&self) -> Option<String> {
        self.at.map(|at| told(at, &Zoned::now()))
    }

    /// Runs one statement, until it is done or Ctrl-C.
    pub async fn run(&mut self, statement: &str) -> Result<Flow, Failed> {
        tokio::select! {
            flow = self.execute(statement) => flow,
            _ = tokio::signal::ctrl_c() => {
                say("\ncancelled\n");
                Ok(Flow::Cancelled)
            }
        }
    }

    async fn execute(&mut self, statement: &str) -> Result<Flow, Failed> {
        let statement = statement.trim();
        let bare = statement.trim_end_matches(';').trim_end();
        if !statement.starts_with('\\') {
            return match bare.to_ascii_lowercase().as_str() {
                "help" => self.help(),
                "quit" | "exit" => Ok(Flow::Quit),
                _ => self.question(statement).await,
            };
        }
        let (word, rest) = bare.split_once(char::is_whitespace).unwrap_or((bare, ""));
        let argument = Some(rest.trim()).filter(|a| !a.is_empty());
        match word {
            "\\d" => self.describe(argument).await,
            "\\at" => self.set(argument, "state tables", |s| &mut s.at),
            "\\from" => self.set(argument, "from", |s| &mut s.from),
            "\\to" => self.set(argument, "to", |s| &mut s.to),
            "\\o" => self.format(argument),
            "\\timing" => {
                self.timing = !self.timing;
                say(if self.timing {
                    "timing is on\n"
                } else {
                    "timing is off\n"
                });
                Ok(Flow::Done(Outcome::Done))
            }
            "\\q" => Ok(Flow::Quit),
            "\\?" | "\\h" | "\\help" => self.help(),
            _ => Err(Failed::Usage {
                message: format!("{word} is no word of the console"),
                hint: Some("help lists them".to_owned()),
            }),
        }
    }

    async fn question(&self, sql: &str) -> Result<Flow, Failed> {
        let began = Instant::now();
        let request = Request {
            at: self.at,
            from: self.from,
            to: self.to,
            ..self.context.request(sql)
        };
        let done = stream(&self.context, &request, self.context.sink()?).await?;
        let rows = match done.rows {
            1 => "1 row".to_owned(),
            n => format!("{n} rows"),
        };
        let outcome = tell_partial(&done.partial);
        if self.timing {
            let scanned = done.scanned.rows_scanned;
            say(&format!("({rows} out of {scanned} read, {})\n", precise(began)));
        } else if self.interactive {
            say(&format!("({rows})\n"));
        }
        Ok(Flow::Done(outcome))
    }

    async fn describe(&self, table: Option<&str>) -> Result<Flow, Failed> {
        let outcome = match table {
            None => tables::list(&self.context).await?,
            Some(table) if vwatch_model::name::is_identifier(table) => tables::schema(&self.context, table).await?,
            Some(other) => {
                return Err(Failed::Usage {
                    message: format!("{other:?} is not the name of a table"),
                    hint: None,
                });
            }
        };
        Ok(Flow::Done(outcome))
    }

    /// Sets a time, or takes it back.
    fn set(
        &mut self,
        time: Option<&str>,
        what: &str,
        place: impl FnOnce(&mut Self) -> &mut Option<Moment>,
    ) -> Result<Flow, Failed> {
        let now = Zoned::now();
        let moment = match time.map(|t| t.trim_matches(['\'', '"'])) {
            None => None,
            Some(text) => Some(self.moment(text, &now)?),
        };
        *place(self) = moment;
        let said = match (what, moment) {
            ("state tables", None) => "state tables are read as they are now".to_owned(),
            ("state tables", Some(at)) => format!("state tables are read as of {}", told(at, &now)),
            (_, None) => format!("histories and events: no bound {what}"),
            (_, Some(at)) => format!("histories and events: {what} {}", told(at, &now)),
        };
        say(&format!("{said}\n"));
        Ok(Flow::Done(Outcome::Done))
    }

    /// What is relative to a running host's now is fixed when it is set: `\\at -5m` stays that moment while one looks around.
    fn moment(&self, text: &str, now: &Zoned) -> Result<Moment, Failed> {
        let read = match self.context.has_daemon() {
            true => parse_moment(text, now).map(Moment::Ns),
            false => parse_relative(text, now),
        };
        read.map_err(|e| Failed::Usage {
            message: e.to_string(),
            hint: None,
        })
    }

    fn format(&mut self, name: Option<&str>) -> Result<Flow, Failed> {
        let known = name
            .and_then(|n| OutputFormat::from_str(n, true).ok())
            .map(Format::from);
        let Some(format) = known.filter(|f| !f.is_binary()) else {
            return Err(Failed::Usage {
                message: "\\o takes one of: table, json, jsonl, csv".to_owned(),
                hint: None,
            });
        };
        self.context = self.context.with_format(format);
        Ok(Flow::Done(Outcome::Done))
    }

    fn help(&self) -> Result<Flow, Failed> {
        say(HELP);
        Ok(Flow::Done(Outcome::Done))
    }
}

fn told(moment: Moment, now: &Zoned) -> String {
    match moment {
        Moment::Ns(ns) => format_ns(ns, now.time_zone()),
        Moment::AgoNs(ns) => {
            let ago = Duration::from_nanos(ns.unsigned_abs());
            format!("{} before the end of the recording", format_duration(ago))
        }
    }
}

fn precise(since: Instant) -> String {
    let spent = since.elapsed();
    match spent.as_secs() {
        0 => format!("{:.1} ms", spent.as_secs_f64() * 1e3),
        _ => human_span(spent),
    }
}
