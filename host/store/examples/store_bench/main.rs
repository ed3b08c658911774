//! What the store costs, on a captured host, on a made-up one, and in bursts of events; and the tools for captures and for
//! large made-up stores. `cargo xtask bench` is the way to it.
//!
//! `store_bench bench DIR CAPTURE…`, `store_bench capture STORE OUT [PGRP]`, `store_bench synthetic STORE CAPTURE PROCESSES
//! HOURS`. DIR is where stores are made, and is emptied of them. Times are CPU time of this process.

mod below;
mod burst;
mod capture;
mod cost;
mod figure;
mod host;
mod read;
mod record;

use capture::{Capture, Differ};
use figure::{Figures, count};
use read::Reading;
use record::Recording;
use std::error::Error;
use std::path::{Path, PathBuf};
use vwatch_store::{ReadMode, Reader, TableStorage};

type Failed = Box<dyn Error>;

const SECOND_NS: i64 = 1_000_000_000;
const START_NS: i64 = 1_700_006_400 * SECOND_NS;
const HOUR: usize = 3600;
/// Goals are about an hour of a host with a thousand processes; a store this much smaller is mostly its fixed part.
const ROWS_OF_GOALS: u64 = 1_000_000;
const BELOW: &str = "below's layout";

fn main() -> Result<(), Failed> {
    cost::own_group();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["bench", dir, ref captures @ ..] if !captures.is_empty() => bench(Path::new(dir), captures),
        ["capture", store, out] => taken(capture::write(store.as_ref(), out.as_ref(), None)?),
        ["capture", store, out, group] => taken(capture::write(store.as_ref(), out.as_ref(), Some(group.parse()?))?),
        ["synthetic", store, capture, processes, hours] => {
            let seconds = (hours.parse::<f64>()? * HOUR as f64) as usize;
            let recording = synthetic(store.as_ref(), capture.as_ref(), processes.parse()?, seconds)?;
            println!(
                "{} rows in {:.1} s of CPU",
                count(recording.rows),
                recording.cost.cpu_ns / 1e9
            );
            recording.close()
        }
        _ => Err("bench DIR CAPTURE…, capture STORE OUT [PGRP] or synthetic STORE CAPTURE PROCESSES HOURS".into()),
    }
}

fn taken((samples, rows): (u64, u64)) -> Result<(), Failed> {
    println!("{} samples, {} rows", count(samples), count(rows));
    Ok(())
}

fn bench(dir: &Path, captures: &[&str]) -> Result<(), Failed> {
    for capture in captures {
        captured(&fresh(dir, "captured.db")?, Path::new(capture))?.print();
    }
    let store = fresh(dir, "synthetic.db")?;
    let recording = synthetic(&store, Path::new(captures[0]), 1000, HOUR)?;
    let title = format!("a made-up hour of {} process-samples", count(recording.rows));
    let mut figures = Figures::new(title, "");
    written(&mut figures, &recording, None, in_blocks(&store)?);
    reading(&store, &recording, None)?.figures(&mut figures)?;
    recording.close()?;
    figures.print();
    burst::figures(&fresh(dir, "burst.db")?)?.print();
    Ok(())
}

/// A path in `dir` at which no store lies.
fn fresh(dir: &Path, name: &str) -> Result<PathBuf, Failed> {
    std::fs::create_dir_all(dir)?;
    for file in [name.to_owned(), format!("{name}-lock"), format!("{name}-writer")] {
        match std::fs::remove_file(dir.join(file)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
    }
    Ok(dir.join(name))
}

fn captured(store: &Path, path: &Path) -> Result<Figures, Failed> {
    let mut samples = Capture::open(path)?.peekable();
    let schema = Capture::open(path)?.schema;
    let columns = schema.columns.len();
    let mut differ = Differ::new(&schema)?;
    let first = match samples.peek() {
        Some(Ok(sample)) => (sample.time_ns, below::Fields::of(&sample.rows)),
        _ => return Err(format!("{}: no sample", path.display()).into()),
    };
    let mut recording = Recording::begin(store, &schema, first.0)?;
    let mut logs = [below::Log::new(below::LEVEL), below::Log::new(below::STRONGER)];
    for (n, sample) in samples.enumerate() {
        let sample = sample?;
        let count = sample.rows.num_rows();
        // The baseline takes its time: of a long capture it gets one chunk in eight.
        if n < 320 || (n / 16).is_multiple_of(8) {
            for log in &mut logs {
                log.push(&sample.rows)?;
            }
        }
        recording.sample(sample.time_ns, count, differ.body(sample.rows)?)?;
    }
    let short = match recording.rows >= ROWS_OF_GOALS {
        true => "",
        false => " (too few for the goals: such a file is mostly its fixed part)",
    };
    let title = format!(
        "captured: {}, {} samples, {} process-samples, {columns} columns{short}",
        path.file_name().unwrap_or_default().display(),
        count(recording.samples.len() as u64),
        count(recording.rows),
    );
    let mut figures = Figures::new(title, BELOW);
    written(&mut figures, &recording, Some(&logs), in_blocks(store)?);
    reading(store, &recording, Some((&logs[0], first.1)))?.figures(&mut figures)?;
    recording.close()?;
    Ok(figures)
}

fn reading<'a>(
    store: &Path,
    recording: &'a Recording,
    log: Option<(&'a below::Log, below::Fields)>,
) -> Result<Reading<'a>, Failed> {
    Ok(Reading {
        recording,
        reader: Reader::open(store, ReadMode::Live)?,
        log,
        goals: recording.rows >= ROWS_OF_GOALS,
    })
}

/// Blocks of a store, and their bytes, after all merging.
fn in_blocks(store: &Path) -> Result<(u64, u64), Failed> {
    let tables = Reader::open(store, ReadMode::Live)?.storage()?;
    let sum = |(blocks, bytes), table: &TableStorage| (blocks + table.blocks, bytes + table.bytes);
    Ok(tables.iter().fold((0, 0), sum))
}

/// What writing came to. The baselines: below's layout, at its own level and at a stronger one.
fn written(
    figures: &mut Figures,
    recording: &Recording,
    logs: Option<&[below::Log; 2]>,
    (blocks, block_bytes): (u64, u64),
) {
    let stats = recording.writer.stats();
    let rows = recording.rows as f64;
    let goals = recording.rows >= ROWS_OF_GOALS;
    let in_file = stats.file_bytes as f64 / rows;
    let file = figures.lower("file", in_file, "bytes a process-sample");
    file.goal_if(goals, 2.5, Some(1.5));
    if let Some([log, stronger]) = logs {
        file.baseline(log.bytes_a_row());
        if goals {
            let smaller = figures.higher("smaller than below's layout", log.bytes_a_row() / in_file, "times");
            smaller.goal(3.0, Some(4.0));
        }
        figures.lower(
            "  below's layout by zstd 9",
            stronger.bytes_a_row(),
            "bytes a process-sample",
        );
    }
    let head_from = recording.head_from_ns();
    let sealed: usize = recording.samples.iter().filter(|s| s.0 < head_from).map(|s| s.1).sum();
    let in_blocks = block_bytes as f64 / sealed.max(1) as f64;
    figures.lower(
        &format!("its {blocks} blocks alone"),
        in_blocks,
        "bytes a process-sample",
    );
    figures.lower(
        "written to the head",
        recording.head_bytes as f64 / rows,
        "bytes a process-sample",
    );
    let encode = figures.lower(
        "push, commit, seal, merge",
        recording.cost.cpu_ns / rows / 1e3,
        "us CPU a row",
    );
    encode.goal_if(goals, 0.5, Some(0.15));
    if let Some([log, stronger]) = logs {
        encode.baseline(log.cpu_us_a_row());
        figures.lower("  below's layout by zstd 9", stronger.cpu_us_a_row(), "us CPU a row");
    }
    let merging = recording.upkeep.cpu_ns / rows / 1e3;
    figures.lower("  merging's part", merging, "us CPU a row");
    let thousand = recording.cost.cpu_ns / rows * 1000.0 / 1e6;
    let writer = figures.lower("writer at 1,000 processes", thousand, "ms CPU a second");
    writer.goal_if(goals, 1.0, None);
    figures.lower("a commit as usual", recording.usual_cpu_ns() / 1e6, "ms CPU");
    figures.lower("dearest commit", recording.longest.cpu_ns / 1e6, "ms CPU");
    figures.lower("longest commit", recording.longest.wall_ns / 1e6, "ms");
    figures.lower("dearest step of merging", recording.longest_step.cpu_ns / 1e6, "ms CPU");
    figures.lower("longest step of merging", recording.longest_step.wall_ns / 1e6, "ms");
}

/// Records a made-up host of so many processes for so many seconds, like those of a capture's first sample.
fn synthetic(store: &Path, like: &Path, processes: usize, seconds: usize) -> Result<Recording, Failed> {
    let mut capture = Capture::open(like)?;
    let schema = capture.schema.clone();
    let sample = capture.next().ok_or("a capture without a sample")??;
    let mut host = host::Host::new(&schema, sample.rows, processes);
    let mut recording = Recording::begin(store, &schema, START_NS)?;
    for second in 0..seconds {
        let body = host.second()?;
        recording.sample(START_NS + second as i64 * SECOND_NS, host.count(), body)?;
    }
    Ok(recording)
}
