//! What SQL over a large store costs: in this process, and by the whole command. `cargo xtask bench query` makes the store.
//!
//! `query_bench STORE VWATCHCTL`: the store has a table `process` with its default instance. Times are CPU time, of this
//! process or of the command and what it started; the baseline is the same statement over the same rows held in memory as
//! Arrow batches.

mod command;
#[path = "../../../store/examples/store_bench/cost.rs"]
mod cost;
#[path = "../../../store/examples/store_bench/figure.rs"]
mod figure;
mod memory;

use command::Command;
use cost::Cost;
use figure::{Figures, count, number};
use jiff::Timestamp;
use std::error::Error;
use std::path::Path;
use tokio::runtime::Runtime;
use vwatch_model::query::{Limits, Request};
use vwatch_sql::{Asker, Outcome, Terms};
use vwatch_store::{InstanceId, ReadMode, Reader, TableId};

type Failed = Box<dyn Error>;

const TIME_MS: u64 = 3_600_000;
const ROUNDS: usize = 20;
const COMMANDS: usize = 5;
/// Cost of a filter that selects a hundredth, in percent of the whole scan's.
const HUNDREDTH: f64 = 5.0;
const COMMAND_MB: f64 = 512.0;

fn main() -> Result<(), Failed> {
    cost::own_group();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [store, vwatchctl] = &args[..] else {
        return Err("query_bench STORE VWATCHCTL".into());
    };
    let store = Path::new(store);
    let day = Day::open(store)?;
    let command = Command::new(vwatchctl.as_ref(), store)?;
    let stored = day.ask("SELECT pid FROM process_history")?.1;
    let rows = stored as f64;
    let bytes = std::fs::metadata(store)?.len() as f64;
    let title = format!(
        "a made-up history of {} process-samples: {} MB, {:.2} bytes a process-sample",
        count(stored),
        number(bytes / 1e6),
        bytes / rows,
    );
    let mut figures = Figures::new(title, "rows in memory");
    day.groups(&mut figures, &command, rows)?;
    day.pictures(&mut figures, &command)?;
    let memory = figures.lower(
        "vwatch-query, peak memory",
        command.peak_bytes() as f64 / 1e6,
        "MB anonymous",
    );
    memory.goal(COMMAND_MB, None);
    figures.print();
    Ok(())
}

/// The statement of the goals, over all rows or those that `only` says.
fn grouped(only: &str) -> String {
    format!("SELECT pid, max(rss_bytes), delta(utime_ns, time) FROM process_history {only} GROUP BY pid")
}

/// The same in functions that every engine has; of a counter that was set back it says less.
const PLAIN: &str = "SELECT pid, max(rss_bytes), max(utime_ns) - min(utime_ns) FROM process_history GROUP BY pid";

/// The store, and where its table lies.
struct Day {
    reader: Reader,
    runtime: Runtime,
    table: TableId,
    instance: InstanceId,
    first_ns: i64,
    last_ns: i64,
    now_ns: i64,
}

impl Day {
    fn open(store: &Path) -> Result<Day, Failed> {
        let reader = Reader::open(store, ReadMode::Copy)?;
        let catalog = reader.catalog()?;
        let table = catalog.tables.iter().find(|t| t.schema.name == "process");
        let table = table.ok_or("the store has no table process")?;
        let instance = catalog
            .instances
            .iter()
            .find(|i| i.info.default && i.tables.contains(&table.id));
        Ok(Day {
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().build()?,
            table: table.id,
            instance: instance.ok_or("the store has no default instance of process")?.id,
            first_ns: table.first_ns.ok_or("the table is empty")?,
            last_ns: table.last_ns.ok_or("the table is empty")?,
            now_ns: catalog.last_commit.ok_or("the store is empty")?.wall_ns,
            reader,
        })
    }

    /// The cost of a statement in this process, the rows of its answer, and the stored rows that it read.
    fn ask(&self, sql: &str) -> Result<(Cost, u64, u64), Failed> {
        let limits = Limits {
            time_ms: Some(TIME_MS),
            ..Limits::default()
        };
        let request = Request {
            sql: sql.to_owned(),
            limits,
            ..Request::default()
        };
        let terms = Terms {
            now_ns: self.now_ns,
            live: false,
            asker: Asker::All,
            limits,
        };
        let answer = vwatch_sql::answer(self.reader.clone(), &request, &terms, std::io::sink());
        let (outcome, cost) = cost::of(|| self.runtime.block_on(answer));
        match outcome? {
            Outcome::Done(done) => Ok((cost, done.rows, done.scanned.rows_scanned)),
            Outcome::Failed(failure) => Err(format!("{sql}: {}", failure.message).into()),
        }
    }

    fn groups(&self, figures: &mut Figures, command: &Command, rows: f64) -> Result<(), Failed> {
        let in_memory = memory::Rows::read(&self.reader, self.table, self.instance)?;
        let baseline = in_memory.rows_a_second(&self.runtime, PLAIN)? / 1e6;
        let rate = |cost: Cost| rows / cost.cpu_ns * 1e3;
        let (whole, ..) = self.ask(&grouped(""))?;
        let (plain, ..) = self.ask(PLAIN)?;
        let command = command.run(&grouped(""))?;
        for (words, cost) in [
            ("max, delta GROUP BY pid, in process", whole),
            ("max, delta GROUP BY pid, whole command", command),
            ("max, max - min GROUP BY pid, in process", plain),
        ] {
            let figure = figures.higher(words, rate(cost), "M rows/s CPU");
            figure.goal(10.0, Some(50.0)).baseline(baseline);
        }
        for (words, only) in [("pid", self.of_pids()?), ("time", self.of_times())] {
            let sql = grouped(&only);
            let (cost, _, read) = self.ask(&sql)?;
            let name = format!("1 % by {words}, in process");
            let figure = figures.lower(&name, 100.0 * cost.cpu_ns / whole.cpu_ns, "% of the whole's CPU");
            figure.goal(HUNDREDTH, None);
            figures.lower(
                "  rows that came from the store",
                read as f64 / rows * 100.0,
                "% of all",
            );
        }
        Ok(())
    }

    /// One in a hundred of the processes that live in the middle, spread over all of them.
    fn of_pids(&self) -> Result<String, Failed> {
        let columns = ["pid".to_owned()];
        let at = (self.first_ns + self.last_ns) / 2;
        let picture = self.reader.as_of(self.table, self.instance, at, Some(&columns))?;
        let picture = picture.ok_or("no picture in the middle")?;
        let pids = memory::pids(&picture.rows)?;
        let chosen = pids.iter().skip(pids.len() / 200).step_by(100).map(i32::to_string);
        Ok(format!("WHERE pid IN ({})", chosen.collect::<Vec<_>>().join(", ")))
    }

    fn of_times(&self) -> String {
        let hundredth = (self.last_ns - self.first_ns) / 100;
        let from = self.first_ns + 50 * hundredth;
        let (from, to) = (moment(from), moment(from + hundredth));
        format!("WHERE time >= '{from}' AND time < '{to}'")
    }

    fn pictures(&self, figures: &mut Figures, command: &Command) -> Result<(), Failed> {
        let span = self.last_ns - self.first_ns;
        // All rounds at a place are within a hundredth of the span.
        let step = span / 100 / ROUNDS as i64;
        let places = [
            ("start", self.first_ns + span / 100),
            ("middle", self.first_ns + span / 2),
            ("end", self.last_ns - span / 50),
        ];
        for (place, at) in places {
            let mut of_store = Cost::default();
            for round in 0..ROUNDS {
                let at = at + round as i64 * step;
                let (picture, cost) = cost::of(|| self.reader.as_of(self.table, self.instance, at, None));
                picture?.ok_or("no picture")?;
                of_store.add(cost);
            }
            let ms = of_store.cpu_ns / ROUNDS as f64 / 1e6;
            figures
                .lower(&format!("AS OF, {place}, the store's part"), ms, "ms CPU")
                .goal(2.0, None);
            let mut in_process = Cost::default();
            for round in 0..ROUNDS {
                in_process.add(self.ask(&all_at(at + round as i64 * step))?.0);
            }
            let ms = in_process.cpu_ns / ROUNDS as f64 / 1e6;
            figures
                .lower(&format!("AS OF, {place}, in process, SQL and all"), ms, "ms CPU")
                .goal(2.0, None);
            let mut whole = Cost::default();
            for round in 0..COMMANDS {
                whole.add(command.run(&all_at(at + round as i64 * step))?);
            }
            let name = format!("AS OF, {place}, whole command");
            let ms = whole.cpu_ns / COMMANDS as f64 / 1e6;
            figures.lower(&name, ms, "ms CPU").goal(25.0, Some(15.0));
            figures.lower(
                &format!("AS OF, {place}, whole command, wall"),
                whole.wall_ns / COMMANDS as f64 / 1e6,
                "ms",
            );
        }
        Ok(())
    }
}

fn all_at(at_ns: i64) -> String {
    format!("SELECT * FROM process FOR SYSTEM_TIME AS OF '{}'", moment(at_ns))
}

fn moment(ns: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(ns)).unwrap_or_default()
}
