//! Commands: `beh …`.

use crate::shared::Shared;
use std::sync::atomic::Ordering;
use vwatch_sdk::prelude::*;
use vwatch_sdk::{Kind, StartInstance, describe};

/// How long a query may take.
const QUERY_LIMIT: Duration = Duration::from_secs(30);

pub struct Echo;

impl Command for Echo {
    const NAME: &'static str = "beh echo";
    const USAGE: &'static str = "WORDS…";
    const DOC: &'static str = "Answers the words, and who spoke them.";

    fn run(context: &Context, call: &mut Call) -> Result<Answer> {
        context.shared::<Shared>()?.commands.fetch_add(1, Ordering::Relaxed);
        let lengths = call.words.iter().map(|word| word.len() as i64).collect();
        Ok(Answer::new()
            .column("word", "As it was given.", call.words.clone())
            .column("bytes", "Its length.", lengths)
            .note(format!("uid {} gid {} pid {}", call.uid, call.gid, call.pid)))
    }
}

pub struct Fail;

impl Command for Fail {
    const NAME: &'static str = "beh fail";
    const USAGE: &'static str = "GOOD… BAD";
    const DOC: &'static str = "Refuses the last word, at its place.";

    fn run(_: &Context, call: &mut Call) -> Result<Answer> {
        call.word(0, "a word to refuse")?;
        let last = call.words.len() - 1;
        Err(call.wrong(last, format!("{:?} is refused", call.words[last])))
    }
}

pub struct Panic;

impl Command for Panic {
    const NAME: &'static str = "beh panic";
    const USAGE: &'static str = "";
    const DOC: &'static str = "Panics.";

    fn run(_: &Context, _: &mut Call) -> Result<Answer> {
        panic!("told to panic in a command")
    }
}

pub struct Start;

impl Command for Start {
    const NAME: &'static str = "beh start";
    const USAGE: &'static str = "PLUGIN.PROBE [NAME [EVERY_MS [FOR_MS]]]";
    const DOC: &'static str = "Starts an instance; answers its name.";
    const CHANGES: bool = true;

    fn run(context: &Context, call: &mut Call) -> Result<Answer> {
        let mut start = StartInstance::of(call.word(0, "a probe")?);
        if let Some(name) = call.words.get(1) {
            start = start.named(name);
        }
        if let Some(every) = milliseconds(call, 2)? {
            start = start.every(every);
        }
        if let Some(lasting) = milliseconds(call, 3)? {
            start = start.lasting(lasting);
        }
        let name = context.start_instance(&start)?;
        Ok(Answer::new().column("name", "Name of the instance.", vec![name]))
    }
}

fn milliseconds(call: &Call, index: usize) -> Result<Option<Duration>> {
    let Some(word) = call.words.get(index) else {
        return Ok(None);
    };
    match word.parse() {
        Ok(n) => Ok(Some(Duration::from_millis(n))),
        Err(_) => Err(call.wrong(index, format!("{word:?} is not a number of milliseconds"))),
    }
}

pub struct Stop;

impl Command for Stop {
    const NAME: &'static str = "beh stop";
    const USAGE: &'static str = "NAME";
    const DOC: &'static str = "Stops an instance that `beh start` started.";
    const CHANGES: bool = true;

    fn run(context: &Context, call: &mut Call) -> Result<Answer> {
        context.stop_instance(call.word(0, "the name of an instance")?)?;
        Ok(Answer::new())
    }
}

pub struct Query;

impl Command for Query {
    const NAME: &'static str = "beh query";
    const USAGE: &'static str = "SQL";
    const DOC: &'static str = "Asks the store.";

    fn run(context: &Context, call: &mut Call) -> Result<Answer> {
        call.word(0, "SQL")?;
        let query = describe::Query {
            sql: call.words.join(" "),
            at_ns: None,
            from_ns: None,
            to_ns: None,
        };
        let batches = context.query_within(&query, QUERY_LIMIT)?;
        let rows: usize = batches.iter().map(|b| b.num_rows()).sum();
        Ok(Answer::batches(&batches)?.note(format!("{rows} rows")))
    }
}

/// `beh stream`: live output.
pub struct Live;

impl Command for Live {
    const NAME: &'static str = "beh stream";
    const USAGE: &'static str = "N";
    const DOC: &'static str = "Sends N lines to the waiting client, 10 ms apart.";

    fn run(context: &Context, call: &mut Call) -> Result<Answer> {
        let word = call.word(0, "the number of lines")?;
        let lines: u64 = word
            .parse()
            .map_err(|_| call.wrong(0, format!("{word:?} is not a number")))?;
        let Some(stream) = call.stream() else {
            return Err(ProbeError::unsupported("the client does not wait for live output"));
        };
        let context = context.clone();
        let work = move || {
            for line in 1..=lines {
                let text = format!("line {line} of {lines}\n");
                while let Err(error) = stream.send(text.as_bytes()) {
                    if error.kind != Kind::Busy {
                        context.log(Level::Info, &format!("beh stream: {error}"));
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        std::thread::Builder::new().name("beh_stream".to_owned()).spawn(work)?;
        Ok(Answer::new().note(format!("{lines} lines follow")))
    }
}

pub struct Schema;

impl Command for Schema {
    const NAME: &'static str = "beh schema";
    const USAGE: &'static str = "TABLE";
    const DOC: &'static str = "Columns of a table, as the host tells them.";

    fn run(context: &Context, call: &mut Call) -> Result<Answer> {
        let table = context.schema(call.word(0, "a table")?)?;
        let names = table.columns.iter().map(|c| c.name.clone()).collect();
        let units = table.columns.into_iter().map(|c| c.unit).collect();
        Ok(Answer::new()
            .column("column", "Its name.", names)
            .column::<Option<String>>("unit", "Its unit.", units))
    }
}

pub struct Stored;

impl Command for Stored {
    const NAME: &'static str = "beh stored";
    const USAGE: &'static str = "[PREFIX]";
    const DOC: &'static str = "Durable state of the plugin, and its outbox.";

    fn run(context: &Context, call: &mut Call) -> Result<Answer> {
        let mut keys = context.state_keys(call.words.first().map_or("", String::as_str))?;
        let mut values = Vec::new();
        for key in &keys {
            values.push(context.state(key)?);
        }
        for entry in context.outbox(100)? {
            keys.push(format!("outbox {}", entry.id));
            values.push(Some(entry.body));
        }
        Ok(Answer::new()
            .column("key", "Key of durable state, or `outbox` and an entry's id.", keys)
            .column("value", "Its value.", values))
    }
}

pub struct Report;

impl Command for Report {
    const NAME: &'static str = "beh report";
    const USAGE: &'static str = "";
    const DOC: &'static str = "Where the plugin runs, and what it has counted.";

    fn run(context: &Context, _: &mut Call) -> Result<Answer> {
        let shared: &Shared = context.shared()?;
        let of = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed).to_string();
        let figures = [
            ("proc_dir", context.proc_dir().display().to_string()),
            ("live", context.live().to_string()),
            ("config", context.config().to_string()),
            ("commands", of(&shared.commands)),
            ("reconfigurations", of(&shared.reconfigurations)),
        ];
        let (names, values) = figures.into_iter().map(|(n, v)| (n.to_owned(), v)).unzip();
        Ok(Answer::new()
            .column::<String>("figure", "What it is.", names)
            .column::<String>("value", "What it says.", values))
    }
}
