//! What a probe learns of its host, and the testkit's own fixtures.

use vwatch_sdk::prelude::*;
use vwatch_testkit::{FixtureHost, assert_golden};

/// What a file said.
#[derive(Debug, Clone, PartialEq, Row)]
#[row(table = "content", state)]
struct Content {
    /// Its text.
    text: String,
}

/// Options of the reader.
#[derive(Options)]
struct File {
    /// The file.
    file: String,
    /// Under `sys` rather than `proc`.
    #[option(default = false)]
    sys: bool,
}

struct Reader(Context, File);

impl Probe for Reader {
    type Options = File;
    type Tables = Content;
    const NAME: &'static str = "reader";
    const DOC: &'static str = "Reads a file.";
    const SCHEDULE: Schedule = Schedule::every_ms(250);

    fn open(context: &Context, options: File) -> Result<Self> {
        Ok(Reader(context.clone(), options))
    }

    fn run(&mut self, _: &Tick, out: &mut Out) -> Result<()> {
        let Reader(context, options) = self;
        let text = if options.sys {
            context.read_sys(&options.file)?
        } else {
            context.read_proc(&options.file)?
        };
        out.full(vec![Content { text }]);
        Ok(())
    }
}

#[test]
fn files_come_from_the_fixture() {
    let host = FixtureHost::new()
        .with_file("proc/a/b", b"x\xffy")
        .with_file("sys/c", "z");
    let text = |options| {
        host.run_once::<Reader>(options)
            .map(|s| s.rows::<Content>()[0].text.clone())
    };
    assert_eq!(text("file=a/b").unwrap(), "x\u{fffd}y");
    // An absolute path does not leave the fixture.
    assert_eq!(text("file=/c sys=true").unwrap(), "z");
    host.link("proc/l", "a/b");
    assert_eq!(text("file=l").unwrap(), "x\u{fffd}y");
    let missing = text("file=d").unwrap_err();
    assert_eq!(missing.kind, Kind::Unsupported);
    assert!(missing.message.ends_with("proc/d does not exist"), "{missing}");
    let dir = text("file=a").unwrap_err();
    assert_eq!(dir.kind, Kind::Failed);
    host.remove("proc/a");
    assert_eq!(text("file=a/b").unwrap_err().kind, Kind::Unsupported);
    assert_eq!(
        text("file=1 2").unwrap_err().message,
        "\"2\" is not of the form NAME=VALUE"
    );
    assert_eq!(text("").unwrap_err().message, "option file: it is required");
}

#[test]
fn a_directory_or_the_live_host_serve_as_well() {
    let first = FixtureHost::new().with_file("proc/uptime", "1 2");
    let second = FixtureHost::at(first.path(""));
    let sampled = second.run_once::<Reader>("file=uptime").unwrap();
    assert_eq!(sampled.rows::<Content>()[0].text, "1 2");
    let live = FixtureHost::live()
        .run_once::<Reader>("file=sys/kernel/ostype")
        .unwrap();
    assert_eq!(live.text("content"), "text\n\"Linux\\n\"\n");
}

#[test]
fn ticks_are_an_interval_apart() {
    let host = FixtureHost::new().with_file("proc/a", "");
    let mut instance = host.open::<Reader>("file=a").unwrap();
    let first = instance.next_tick();
    assert!(first.full);
    instance.run().unwrap();
    let second = instance.next_tick();
    assert_eq!((second.full, second.sequence), (false, 1));
    assert_eq!(second.time_ns - first.time_ns, 250_000_000);
    assert_eq!(second.boottime_ns - first.boottime_ns, 250_000_000);
}

struct Configured;

impl Probe for Configured {
    type Options = NoOptions;
    type Tables = Content;
    const NAME: &'static str = "configured";
    const DOC: &'static str = "Looks at its context.";
    const SCHEDULE: Schedule = Schedule::every_secs(1);

    fn open(context: &Context, _: NoOptions) -> Result<Self> {
        let limits: std::collections::BTreeMap<String, u32> = context.config_as()?;
        context.log(Level::Warning, &format!("{limits:?} {}", context.live()));
        context.shared::<u32>()?;
        Ok(Configured)
    }

    fn run(&mut self, _: &Tick, _: &mut Out) -> Result<()> {
        Ok(())
    }
}

#[test]
fn the_configuration_is_typed_and_the_shared_value_must_be_made() {
    let host = FixtureHost::new();
    host.config(vwatch_sdk::serde_json::json!({"a": 1}));
    let error = host.open::<Configured>("").map(|_| ()).unwrap_err();
    assert_eq!(error.message, "plugin! has no setup that makes a u32");
    host.recorded(|r| assert_eq!((r.log[0].level, r.log[0].message.as_str()), (2, "{\"a\": 1} false")));
    host.config(vwatch_sdk::serde_json::json!({"a": "b"}));
    let error = host.open::<Configured>("").map(|_| ()).unwrap_err();
    assert_eq!(error.kind, Kind::BadInput);
    assert!(error.message.starts_with("the plugin's configuration: "), "{error}");
}

#[test]
fn a_golden_file_that_differs_is_shown() {
    let scratch = FixtureHost::new().with_file("proc/golden", "a\nb\n");
    let file = scratch.path("proc/golden").display().to_string();
    assert_golden(&file, "a\nb\n");
    let differs = std::panic::catch_unwind(|| assert_golden(&file, "a\nc\n")).unwrap_err();
    let message = differs.downcast::<String>().unwrap();
    assert!(message.contains("   2 - b\n   2 + c\n"), "{message}");
}
