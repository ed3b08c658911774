//! The plugin over fixture hosts, through the ABI, against golden rows. `UPDATE_GOLDEN=1` writes them anew; then read the diff.

// Helpers of a test may fail as the test itself may.
#![allow(clippy::unwrap_used)]

use vwatch_cpu::vwatch_plugin;
use vwatch_sdk::Kind;
use vwatch_testkit::FixtureHost;

const HOSTS: [&str; 3] = ["numa-server", "arm-board", "old-vm"];

fn fixture(host: &str) -> FixtureHost {
    FixtureHost::at(format!(
        "{}/../../tests/fixtures/hosts/{host}",
        env!("CARGO_MANIFEST_DIR")
    ))
}

#[test]
fn cpu_time() {
    for name in HOSTS {
        let host = fixture(name);
        let mut probe = host.load(vwatch_plugin()).unwrap().open("cpu_time", "").unwrap();
        probe
            .run()
            .unwrap()
            .golden("cpu_time", &format!("tests/golden/{name}/cpu_time.txt"));
    }
}

#[test]
fn cpu_time_of_one_cpu() {
    let host = fixture("numa-server");
    let plugin = host.load(vwatch_plugin()).unwrap();
    let cpus = |options: &str| {
        let text = plugin
            .open("cpu_time", options)
            .unwrap()
            .run()
            .unwrap()
            .text("cpu_time");
        let names = text
            .lines()
            .skip(1)
            .map(|line| line.split(' ').next().unwrap_or_default().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(cpus("cpu=2"), ["cpu2", "total"]);
    assert_eq!(cpus("cpu=2 total=false"), ["cpu2"]);
    assert_eq!(cpus("total=false").len(), 7);
}

#[test]
fn what_cannot_be_is_said() {
    let host = fixture("numa-server");
    let plugin = host.load(vwatch_plugin()).unwrap();
    let offline = plugin.open("cpu_time", "cpu=7").unwrap().run().unwrap_err();
    assert_eq!(
        (offline.kind, offline.message.contains("cpu7")),
        (Kind::NoData, true),
        "{offline}"
    );
    let negative = plugin.open("cpu_time", "cpu=-1").err().unwrap();
    assert_eq!(
        (negative.kind, negative.message.contains("cpu")),
        (Kind::BadInput, true),
        "{negative}"
    );

    let bare = FixtureHost::new();
    let run = || bare.load(vwatch_plugin()).unwrap().open("cpu_time", "").unwrap().run();
    let absent = run().unwrap_err();
    assert_eq!(
        (absent.kind, absent.message.contains("proc/stat")),
        (Kind::Unsupported, true),
        "{absent}"
    );
    bare.file("proc/stat", "");
    assert_eq!(run().unwrap_err().kind, Kind::Failed);
}

#[test]
fn every_column_says_what_it_is_and_where_it_is_from() {
    let host = FixtureHost::new();
    let plugin = host.load(vwatch_plugin()).unwrap();
    for table in &plugin.manifest().tables {
        assert!(!table.doc.is_empty(), "{}", table.name);
        for column in &table.columns {
            let name = format!("{}.{}", table.name, column.name);
            assert!(column.doc.contains("Source: "), "{name}: {}", column.doc);
            let unit = ["ns", "us", "bytes", "hz", "mbps", "bits"]
                .into_iter()
                .find(|u| name.ends_with(&format!("_{u}")));
            assert!(
                unit.is_none() || column.unit.as_deref() == unit,
                "{name}: {:?}",
                column.unit
            );
        }
    }
}
