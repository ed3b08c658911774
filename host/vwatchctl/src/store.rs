//! `vwatchctl store`: the file itself: whether it is sound, what it takes, a copy of it, a smaller one.
//!
//! The work is vwatch-query's, like that of a query; here is what a person sees of it, and the file that a copy goes into,
//! which is written with the caller's rights and never seen half made.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use vwatch_client::output::Sink;
use vwatch_client::{Answer, Part};
use vwatch_model::query::{Done, Operation, Request, Summary};

use crate::answer::tell_partial;
use crate::cli::{StoreCommand, StoreCopy};
use crate::context::Context;
use crate::failure::{Failed, Outcome, say};
use crate::listing::{human_bytes, human_span};
use crate::progress::{ProgressLine, grouped};

/// A damaged store, when the flaws have been listed.
const DAMAGED: u8 = 1;

pub async fn run(context: &Context, command: StoreCommand) -> Result<Outcome, Failed> {
    match command {
        StoreCommand::Verify => verify(context).await,
        StoreCommand::Stats => stats(context).await,
        StoreCommand::Copy(copy) => self::copy(context, &copy).await,
        StoreCommand::Compact => compact(context).await,
    }
}

/// Asks for an operation and hands its parts on. The talk is cleared before rows are handed on.
async fn ask(
    context: &Context,
    operation: Operation,
    mut part: impl FnMut(Part) -> Result<(), Failed>,
) -> Result<Done, Failed> {
    let mut talk = ProgressLine::new();
    let request = Request {
        operation: Some(operation),
        progress: talk.is_wanted(),
        ..context.request("")
    };
    let mut answer = context.queries()?.ask(&request).await?;
    let done = parts(&mut answer, &mut talk, &mut part).await;
    talk.end();
    done
}

async fn parts(
    answer: &mut Answer,
    talk: &mut ProgressLine,
    part: &mut impl FnMut(Part) -> Result<(), Failed>,
) -> Result<Done, Failed> {
    loop {
        match answer.next().await? {
            Some(Part::Progress(progress)) => talk.show(&progress),
            Some(Part::Done(done)) => return Ok(done),
            Some(other) => {
                talk.clear();
                part(other)?;
            }
            None => return Err(Failed::because("the answer has no end")),
        }
    }
}

/// Writes rows to standard output. A table without rows would say nothing, so its head is kept back.
fn to_sink(sink: &mut dyn Sink, part: Part) -> Result<(), Failed> {
    match part {
        Part::Schema(schema) => sink.schema(&schema)?,
        Part::Rows(batch) => sink.rows(&batch)?,
        Part::Progress(_) | Part::Done(_) => {}
    }
    Ok(())
}

async fn verify(context: &Context) -> Result<Outcome, Failed> {
    let since = Instant::now();
    let mut sink = context.sink()?;
    let mut begun = false;
    let mut kept = None;
    let people = context.is_for_people();
    let answer = ask(context, Operation::Verify {}, |part| match part {
        // For people a sound store is a sentence, not an empty table.
        Part::Schema(schema) if people => {
            kept = Some(schema);
            Ok(())
        }
        part => {
            if let Some(schema) = kept.take() {
                sink.schema(&schema)?;
            }
            begun = true;
            to_sink(sink.as_mut(), part)
        }
    });
    let done = answer.await;
    if begun || !people {
        for note in sink.finish()? {
            say(&format!("note: {note}\n"));
        }
    }
    let done = done?;
    let outcome = tell_partial(&done.partial);
    let Some(Summary::Verified {
        flaws,
        pages,
        head_records,
        blocks,
        samples,
        rows,
        bytes,
    }) = done.summary
    else {
        return Err(Failed::because("the answer has no summary"));
    };
    let verdict = match flaws {
        0 => "sound".to_owned(),
        1 => "1 flaw".to_owned(),
        n => format!("{n} flaws"),
    };
    say(&format!(
        "{verdict}: {} blocks, {} head records, {} pages, {} samples, {} rows, {} checked in {}\n",
        grouped(blocks),
        grouped(head_records),
        grouped(pages),
        grouped(samples),
        grouped(rows),
        human_bytes(bytes),
        human_span(since.elapsed())
    ));
    match flaws {
        0 => Ok(outcome),
        _ => Err(Failed::Said(DAMAGED)),
    }
}

async fn stats(context: &Context) -> Result<Outcome, Failed> {
    let mut sink = context.sink()?;
    let done = ask(context, Operation::Stats {}, |part| to_sink(sink.as_mut(), part)).await?;
    for note in sink.finish()? {
        say(&format!("note: {note}\n"));
    }
    if let Some(Summary::Store {
        host,
        file_bytes,
        page_bytes,
        pages,
        free_pages,
    }) = done.summary
    {
        say(&format!(
            "store of {host}: {} on disk, {} pages of {}, {} free ({})\n",
            human_bytes(file_bytes),
            grouped(pages),
            human_bytes(page_bytes),
            grouped(free_pages),
            human_bytes(free_pages * page_bytes)
        ));
    }
    Ok(tell_partial(&done.partial))
}

async fn compact(context: &Context) -> Result<Outcome, Failed> {
    let since = Instant::now();
    let done = ask(context, Operation::Compact {}, |_| Ok(())).await?;
    if let Some(Summary::Compacted {
        before_bytes,
        after_bytes,
    }) = done.summary
    {
        say(&format!(
            "compacted: {} before, {} now, in {}\n",
            human_bytes(before_bytes),
            human_bytes(after_bytes),
            human_span(since.elapsed())
        ));
    }
    Ok(Outcome::Done)
}

async fn copy(context: &Context, copy: &StoreCopy) -> Result<Outcome, Failed> {
    let since = Instant::now();
    let operation = Operation::Copy { compact: copy.compact };
    if copy.file == Path::new("-") {
        let mut out = crate::context::stdout();
        let done = ask(context, operation, |part| Ok(write(&mut out, part)?)).await?;
        out.flush()?;
        return Ok(said(&done, "standard output", since.elapsed()));
    }
    let mut into = Target::create(&copy.file, copy.force)?;
    let done = ask(context, operation, |part| {
        write(&mut into.file, part).map_err(|e| into_failed(&copy.file, &e))
    })
    .await?;
    into.finish()?;
    Ok(said(&done, &copy.file.display().to_string(), since.elapsed()))
}

fn said(done: &Done, place: &str, took: Duration) -> Outcome {
    if let Some(Summary::Copied { bytes }) = done.summary {
        say(&format!(
            "copied {} to {place} in {}\n",
            human_bytes(bytes),
            human_span(took)
        ));
    }
    tell_partial(&done.partial)
}

fn write(out: &mut impl Write, part: Part) -> std::io::Result<()> {
    if let Part::Rows(batch) = part
        && let Some(bytes) = batch.columns().first().and_then(|c| c.as_binary_opt::<i32>())
    {
        bytes.iter().flatten().try_for_each(|piece| out.write_all(piece))?;
    }
    Ok(())
}

fn into_failed(path: &Path, error: &std::io::Error) -> Failed {
    Failed::because(format!("cannot write {}: {error}", path.display()))
}

/// A file under another name until it is whole. Dropped before that, it is removed.
struct Target {
    path: PathBuf,
    part: PathBuf,
    file: File,
    force: bool,
    finished: bool,
}

impl Target {
    fn create(path: &Path, force: bool) -> Result<Target, Failed> {
        let name = path.file_name().ok_or_else(|| Failed::Usage {
            message: format!("{} names no file", path.display()),
            hint: None,
        })?;
        if !force && path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(hidden);
        // What it holds was readable to few.
        let file = File::options().write(true).create_new(true).mode(0o600).open(&part);
        let file = file.map_err(|e| into_failed(&part, &e))?;
        Ok(Target {
            path: path.to_path_buf(),
            part,
            file,
            force,
            finished: false,
        })
    }

    fn finish(mut self) -> Result<(), Failed> {
        let failed = |e: std::io::Error| into_failed(&self.path, &e);
        self.file.sync_all().map_err(failed)?;
        let here = nix::fcntl::AT_FDCWD;
        let flags = match self.force {
            true => nix::fcntl::RenameFlags::empty(),
            false => nix::fcntl::RenameFlags::RENAME_NOREPLACE,
        };
        match nix::fcntl::renameat2(here, &self.part, here, &self.path, flags) {
            Ok(()) => {}
            Err(nix::Error::EEXIST) => return Err(exists(&self.path)),
            // A file system that knows no such flag.
            Err(nix::Error::EINVAL) if self.path.symlink_metadata().is_err() => {
                std::fs::rename(&self.part, &self.path).map_err(failed)?;
            }
            Err(e) => return Err(failed(e.into())),
        }
        self.finished = true;
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(directory).and_then(|d| d.sync_all()).map_err(failed)
    }
}

fn exists(path: &Path) -> Failed {
    Failed::Because {
        message: format!("{} exists already", path.display()),
        hint: Some("--force replaces it".to_owned()),
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.finished {
            // Nobody is left to be told.
            let _ = std::fs::remove_file(&self.part);
        }
    }
}
