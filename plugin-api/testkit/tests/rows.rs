//! Rows of the sdk over the ABI, and what it refuses.

use std::borrow::Cow;
use vwatch_sdk::__private::ProbeEntry;
use vwatch_sdk::describe::{Access, ColumnType, TableKind};
use vwatch_sdk::prelude::*;
use vwatch_sdk::{Definition, Tables};
use vwatch_testkit::FixtureHost;

/// A row of every type,
/// and the same that may be null.
#[derive(Debug, Clone, PartialEq, Row)]
#[row(table = "every_type", state, access = "owner")]
struct EveryType {
    /// First key.
    #[row(key)]
    pid: i32,
    /// Second key.
    #[row(key, name = "type")]
    kind: Cow<'static, str>,
    /// Whose.
    owner_uid: u32,
    /// Time on a CPU.
    #[row(unit = "ns", counter)]
    cpu_ns: i64,
    /// A text.
    text: String,
    /// A flag.
    flag: bool,
    /// Optional.
    o_bool: Option<bool>,
    /// Optional.
    o_i32: Option<i32>,
    /// Optional.
    o_i64: Option<i64>,
    /// Optional.
    o_u32: Option<u32>,
    /// Optional.
    o_u64: Option<u64>,
    /// Optional.
    o_f64: Option<f64>,
    /// Optional.
    o_string: Option<String>,
    /// Optional.
    o_cow: Option<Cow<'static, str>>,
    /// Optional.
    o_bytes: Option<Vec<u8>>,
    /// Optional.
    o_time: Option<Timestamp>,
}

fn full_row(pid: i32) -> EveryType {
    EveryType {
        pid,
        kind: "leader".into(),
        owner_uid: 1000,
        cpu_ns: i64::MAX,
        text: "two words\n".to_owned(),
        flag: true,
        o_bool: Some(false),
        o_i32: Some(i32::MIN),
        o_i64: Some(-1),
        o_u32: Some(u32::MAX),
        o_u64: Some(u64::MAX),
        o_f64: Some(0.5),
        o_string: Some("ü".to_owned()),
        o_cow: Some(Cow::Borrowed("b")),
        o_bytes: Some(vec![0, 255]),
        o_time: Some(Timestamp::from_ns(7)),
    }
}

fn bare_row(pid: i32) -> EveryType {
    EveryType {
        o_bool: None,
        o_i32: None,
        o_i64: None,
        o_u32: None,
        o_u64: None,
        o_f64: None,
        o_string: None,
        o_cow: None,
        o_bytes: None,
        o_time: None,
        ..full_row(pid)
    }
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Row)]
#[row(table = "happening", event)]
struct Happening {
    /// When.
    time: Timestamp,
    /// What.
    what: String,
}

/// A picture of one row.
#[derive(Debug, Clone, PartialEq, Row)]
#[row(table = "single", state)]
struct Single {
    /// A number.
    number: f64,
}

/// Options of the probe under test.
#[derive(Options)]
struct What {
    /// What to hand over.
    what: String,
}

struct Under {
    what: String,
}

impl Probe for Under {
    type Options = What;
    type Tables = (EveryType, Happening);
    const NAME: &'static str = "under";
    const DOC: &'static str = "Under test.";
    const SCHEDULE: Schedule = Schedule::every_ms(250).on_demand();

    fn open(_: &Context, options: What) -> Result<Self> {
        Ok(Under { what: options.what })
    }

    fn run(&mut self, tick: &Tick, out: &mut Out) -> Result<()> {
        match self.what.as_str() {
            "full" => out.full(vec![full_row(20), bare_row(3)]),
            "delta" => out.delta(vec![full_row(1)], vec![full_row(9).key(), bare_row(8).key()]),
            "twice" => out.full(vec![full_row(1), bare_row(1)]),
            "none" => {
                out.full::<EveryType>(vec![]);
                out.events::<Happening>(vec![]);
            }
            "events" => out.events(vec![
                Happening {
                    time: Timestamp::from_ns(tick.time_ns),
                    what: String::new(),
                },
                Happening {
                    time: Timestamp::from_ns(1),
                    what: "-".to_owned(),
                },
            ]),
            "other" => out.full(vec![Single { number: 1.0 }]),
            "key" => out.put_state(&"k".repeat(401), b"v".as_slice()),
            "past" => out.full_at(5, vec![full_row(1)]),
            _ => {}
        }
        Ok(())
    }
}

fn run(what: &str) -> Result<vwatch_testkit::Sampled> {
    FixtureHost::new().run_once::<Under>(&format!("what={what}"))
}

#[test]
fn the_table_is_as_the_struct_says() {
    let table = EveryType::TABLE.describe();
    assert_eq!(
        (table.name.as_str(), table.kind, table.access),
        ("every_type", TableKind::State, Access::Owner)
    );
    assert_eq!(table.doc, "A row of every type, and the same that may be null.");
    let keys: Vec<_> = table
        .columns
        .iter()
        .filter(|c| c.key)
        .map(|c| c.name.as_str())
        .collect();
    assert_eq!(keys, ["pid", "type"]);
    let cpu = &table.columns[3];
    assert_eq!(
        (cpu.unit.as_deref(), cpu.counter, cpu.nullable, cpu.kind),
        (Some("ns"), true, false, ColumnType::I64)
    );
    assert_eq!(cpu.doc, "Time on a CPU.");
    assert!(table.columns[6..].iter().all(|c| c.nullable));
    let event = Happening::TABLE.describe();
    assert_eq!(
        (event.kind, event.columns[0].kind),
        (TableKind::Event, ColumnType::Timestamp)
    );
    assert_eq!(<(EveryType, Happening)>::tables().len(), 2);
}

#[test]
fn every_type_crosses_and_comes_back() {
    let sampled = run("full").unwrap();
    assert_eq!(sampled.rows::<EveryType>(), [full_row(20), bare_row(3)]);
    let table = sampled.table("every_type");
    assert_eq!(
        (table.kind, table.time_ns),
        (vwatch_sdk::RowsKind::Full, 1_700_000_000_000_000_000)
    );
    assert_eq!(run("past").unwrap().table("every_type").time_ns, 5);
    // Sorted by the keys, as numbers.
    let lines: Vec<String> = sampled
        .text("every_type")
        .lines()
        .map(|line| line[..11].trim().to_owned())
        .collect();
    assert_eq!(lines, ["pid  type", "3  leader", "20  leader"]);
}

#[test]
fn a_delta_names_the_gone() {
    let sampled = run("delta").unwrap();
    assert_eq!(sampled.rows::<EveryType>(), [full_row(1)]);
    assert!(sampled.text("every_type").ends_with("gone 8 leader\ngone 9 leader\n"));
}

#[test]
fn an_empty_picture_is_one_and_no_events_are_none() {
    let sampled = run("none").unwrap();
    assert_eq!(sampled.batch("every_type").num_rows(), 0);
    assert!(!sampled.has("happening"));
    assert_eq!(
        run("events").unwrap().text("happening"),
        "               time  what\n1700000000000000000  \"\"\n                  1  \"-\"\n"
    );
}

#[test]
fn what_may_not_be_handed_over_fails_the_run() {
    let refused = |what| run(what).unwrap_err().message;
    assert_eq!(refused("other"), "table single is not among the tables of probe under");
    assert!(
        refused("key").starts_with("state: a key has 1 to 400 bytes, not 401: kkk"),
        "{}",
        refused("key")
    );
    // Not the sdk but the testkit finds this one: it would cost every run to look for it.
    assert_eq!(refused("twice"), "every_type: two rows have the key 1 leader");
}

/// The same table, declared otherwise.
#[derive(Row)]
#[row(table = "single", state)]
struct Otherwise {
    /// A number.
    number: i64,
}

struct Twin<R>(std::marker::PhantomData<R>);

impl<R: vwatch_sdk::StateRow + Sync> Probe for Twin<R> {
    type Options = NoOptions;
    type Tables = R;
    const NAME: &'static str = R::TABLE.columns[0].doc;
    const DOC: &'static str = "";
    const SCHEDULE: Schedule = Schedule::every_secs(1);

    fn open(_: &Context, _: NoOptions) -> Result<Self> {
        Ok(Twin(std::marker::PhantomData))
    }

    fn run(&mut self, _: &Tick, _: &mut Out) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_plugin_that_contradicts_itself_is_refused() {
    let define = || Definition::new("p", "1", "");
    let message = |definition| FixtureHost::new().load(definition).map(|_| ()).unwrap_err().message;
    let twice = define()
        .probe(ProbeEntry::poll::<Under>())
        .probe(ProbeEntry::poll::<Under>());
    assert_eq!(message(twice), "probe under is declared twice");
    let different = define().tables::<(Single, Happening)>().tables::<Otherwise>();
    assert_eq!(message(different), "table single is declared twice, differently");
    let same = define().tables::<Single>().probe(ProbeEntry::poll::<Twin<Single>>());
    assert_eq!(FixtureHost::new().load(same).unwrap().manifest().tables.len(), 1);
}

#[test]
fn rows_are_read_by_name_and_by_type() {
    let sampled = run("full").unwrap();
    let batch = sampled.batch("every_type");
    let without = batch.project(&[0, 1, 2, 3, 4, 5]).unwrap();
    assert_eq!(EveryType::read(&without).unwrap(), [bare_row(20), bare_row(3)]);
    let error = EveryType::read(&batch.project(&[1, 2, 3, 4, 5]).unwrap()).unwrap_err();
    assert_eq!(error.message, "column pid is not among the rows");
    let single = FixtureHost::new()
        .load(Definition::new("p", "1", "").tables::<Single>())
        .unwrap();
    assert_eq!(single.table("single").columns.len(), 1);
}
