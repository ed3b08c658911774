//! The SQL engine process: one connection, one request, one answer.
//!
//! vwatchd starts one per connection to `query.sock`, the connected socket as standard input and output; a client starts one
//! beside its own executable for a store file. Order matters: the store is opened with the rights of whoever started the
//! process, then those rights are given up and limits set ([`confine`]), and only then is the first byte of the request
//! read.
//!
//! Exit code: 0 when the answer ends in `Done`, 1 when it ends in a `Failure` or could not be written, 2 for bad usage.

mod confine;
mod input;
mod operation;
mod watch;

use anyhow::Context;
use clap::Parser;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};
use vwatch_model::query::{Failure, Limits, Request};
use vwatch_sql::{Asker, DEFAULT_MEMORY_BYTES, DEFAULT_TIME_MS, Outcome, SqlError, Terms, kind};
use vwatch_store::{ReadMode, Reader, StoreError};

#[global_allocator]
static ALLOCATOR: vwatch_sql::memory::Counting = vwatch_sql::memory::Counting;

/// Answers one SQL request over a vwatchd store. Started by vwatchd and its clients; people use vwatchctl query.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The store file
    #[arg(long, value_name = "FILE")]
    store: PathBuf,
    /// Beside the recorder that writes the store: standard input and output are a client's socket
    #[arg(long)]
    live: bool,
    /// The user who asks; tables of owners answer with this user's rows. Without it: every row
    #[arg(long, value_name = "UID")]
    asker_uid: Option<u32>,
    /// After opening the store, become this user and group
    #[arg(long, value_name = "UID:GID", value_parser = confine::parse_identity)]
    drop_to: Option<confine::Identity>,
    /// Memory that a query may use
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_MEMORY_BYTES)]
    memory: u64,
    /// Time that a query may take, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = DEFAULT_TIME_MS)]
    time: u64,
    /// Rows that an answer may have
    #[arg(long, value_name = "N")]
    rows: Option<u64>,
}

/// How long a client may take to send its request.
const REQUEST_WAIT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    confine::keep_freed_memory();
    let args = Args::parse();
    match serve(&args) {
        Ok(Outcome::Done(_)) => ExitCode::SUCCESS,
        Ok(Outcome::Failed(_)) => ExitCode::FAILURE,
        Err(error) => {
            let gone = error
                .downcast_ref::<SqlError>()
                .is_some_and(|e| matches!(e, SqlError::Send(_)));
            if !gone {
                eprintln!("vwatch-query: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &Args) -> anyhow::Result<Outcome> {
    let opened = open(args);
    let asker = asker(args);
    confine::confine(args.live, args.drop_to, args.memory, args.time).context("cannot give up rights")?;
    let out = File::from(
        std::io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .context("standard output")?,
    );
    confine::blocking(args.live).context("standard input and output")?;
    let request = input::read_request(REQUEST_WAIT);
    watch::end_with_the_client(args.live).context("cannot watch the client")?;
    if let Ok(request) = &request
        && let Some(operation) = request.operation
    {
        confine::for_an_operation().context("cannot set the limits of an operation")?;
        let now_ns = opened.as_ref().map_or_else(|_| wall_clock_ns(), |opened| opened.now_ns);
        let task = operation::Task {
            request,
            asker,
            now_ns,
            out,
            store: &args.store,
            live: args.live || opened.as_ref().is_ok_and(|opened| opened.live),
        };
        return operation::run(task, operation, opened.map(|opened| opened.reader));
    }
    let (reader, request) = match (opened, request) {
        (Ok(reader), Ok(request)) => (reader, request),
        (Err(error), Ok(_)) => return refuse(out, store_failure(&error)),
        (_, Err(failure)) => return refuse(out, failure),
    };
    answer(args, reader, &request, asker, out)
}

fn answer(args: &Args, opened: Opened, request: &Request, asker: Asker, out: File) -> anyhow::Result<Outcome> {
    let terms = Terms {
        now_ns: opened.now_ns,
        live: opened.live,
        asker,
        limits: Limits {
            memory_bytes: Some(args.memory),
            time_ms: Some(args.time),
            rows: args.rows,
        },
    };
    // One thread: a query must not take a second CPU from the host that it looks at.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    Ok(runtime.block_on(vwatch_sql::answer(opened.reader, request, &terms, out))?)
}

fn refuse(out: File, failure: Failure) -> anyhow::Result<Outcome> {
    vwatch_sql::answer::refuse(out, &failure)?;
    Ok(Outcome::Failed(failure))
}

struct Opened {
    reader: Reader,
    live: bool,
    now_ns: i64,
}

/// Opens the store: beside its writer when there is one, else as a file that nobody changes, where `now` is its last commit.
fn open(args: &Args) -> Result<Opened, StoreError> {
    let live = args.live || vwatch_store::writer_pid(&args.store)?.is_some();
    let mode = if live { ReadMode::Live } else { ReadMode::Copy };
    let reader = Reader::open(&args.store, mode)?;
    let last_commit = match live {
        true => None,
        false => reader.catalog()?.last_commit,
    };
    Ok(Opened {
        reader,
        live,
        now_ns: last_commit.map_or_else(wall_clock_ns, |stamp| stamp.wall_ns),
    })
}

fn wall_clock_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Root sees every row, and so does the owner of the store's file, who can read it without this program.
fn asker(args: &Args) -> Asker {
    match args.asker_uid {
        None | Some(0) => Asker::All,
        Some(uid) if owner_of(&args.store) == Some(uid) => Asker::All,
        Some(uid) => Asker::User(uid),
    }
}

fn owner_of(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().map(|m| m.uid())
}

fn store_failure(error: &StoreError) -> Failure {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    Failure {
        kind: kind::STORE.to_owned(),
        message,
        ..Failure::default()
    }
}
