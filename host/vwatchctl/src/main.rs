//! vwatchctl: control of vwatchd and questions to its store.

mod answer;
mod cli;
mod console;
mod context;
mod diff;
mod docs;
mod failure;
mod forward;
mod listing;
mod plugin;
mod probe;
mod progress;
mod show;
mod status;
mod store;
mod tables;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use cli::{Cli, Command};
use context::Context;
use failure::{Failed, Outcome, say};

/// What a shell makes of SIGINT.
const INTERRUPTED: u8 = 130;
/// Cap on waiting for an interrupted command to let go of its connection or its engine.
const LET_GO: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    context::started();
    let cli = Cli::parse();
    let context = Context::new(&cli.global);
    let color = context.color_errors;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(interruptible(cli.command, context));
            // A thread that still hangs in a read or a write must not keep the process.
            runtime.shutdown_background();
            result
        }
        Err(e) => Err(Failed::because(format!("cannot start: {e}"))),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Partial) => ExitCode::from(4),
        Err(failed) => {
            say(&failed.render(color));
            ExitCode::from(failed.exit_code())
        }
    }
}

/// Runs a command until it ends or Ctrl-C ends it. The console deals with Ctrl-C itself.
async fn interruptible(command: Command, context: Context) -> Result<Outcome, Failed> {
    if matches!(command, Command::Console) {
        return console::run(&context).await;
    }
    let mut task = tokio::spawn(async move { run(command, &context).await });
    let died = |e: tokio::task::JoinError| Failed::because(format!("internal error: {e}"));
    tokio::select! {
        result = &mut task => result.map_err(died)?,
        _ = tokio::signal::ctrl_c() => {
            // Dropping the command closes its connection, which cancels the query.
            task.abort();
            let _ = tokio::time::timeout(LET_GO, task).await;
            Err(Failed::Said(INTERRUPTED))
        }
    }
}

async fn run(command: Command, context: &Context) -> Result<Outcome, Failed> {
    match command {
        Command::Status => status::run(context).await,
        Command::Plugin(command) => plugin::run(context, command).await,
        Command::Probe(command) => probe::run(context, command).await,
        Command::Tables => tables::list(context).await,
        Command::Schema { table } => tables::schema(context, &table).await,
        Command::Query(query) => answer::query(context, query).await,
        Command::Show(show) => show::run(context, show).await,
        Command::Diff(diff) => diff::run(context, diff).await,
        Command::Console => console::run(context).await,
        Command::Store(command) => store::run(context, command).await,
        Command::Add(words) => forward::verb(context, "add", words).await,
        Command::Remove(words) => forward::verb(context, "remove", words).await,
        Command::Silence(words) => forward::verb(context, "silence", words).await,
        Command::Ack(words) => forward::verb(context, "ack", words).await,
        Command::Test(words) => forward::verb(context, "test", words).await,
        Command::AnyOf(words) => forward::command(context, &words.words).await,
        Command::Completions { shell } => docs::completions(shell),
        Command::Man { dir } => docs::man(dir.as_deref()),
    }
}
