use super::*;
use serde_json::json;

fn good() -> Value {
    json!({
        "name": "web-server", "version": "1.2.3-rc.1", "doc": "d", "unknown": {"ignored": true},
        "tables": [
            {"name": "site", "kind": "state", "columns": [
                {"name": "host", "type": "string", "key": true},
                {"name": "sent_bytes", "type": "i64", "unit": "bytes", "counter": true, "nullable": true}]},
            {"name": "hit", "kind": "event", "access": "owner", "columns": [
                {"name": "time", "type": "timestamp"}, {"name": "owner_uid", "type": "u32"}]},
        ],
        "probes": [
            {"name": "site", "tables": ["site"], "every_ms": 250, "default_on": true, "options": [
                {"name": "window", "type": "duration", "default": 5},
                {"name": "port", "type": "integer", "required": true}]},
            {"name": "hit", "tables": ["hit"], "mode": "stream"},
        ],
        "subscribers": [{"name": "all", "tables": ["load", "site"]}],
        "commands": [{"name": "show sites", "changes": false}],
    })
}

fn read(said: &Value) -> Result<Manifest, ManifestError> {
    Manifest::read(said.to_string().as_bytes())
}

/// Reads the good manifest with one place changed.
fn refused(place: &str, value: Value, expect: &str) {
    let mut said = good();
    match said.pointer_mut(place) {
        Some(there) => *there = value,
        None => {
            let (parent, key) = place.rsplit_once('/').unwrap();
            said.pointer_mut(parent).unwrap()[key] = value;
        }
    }
    assert_eq!(read(&said).unwrap_err().to_string(), expect, "{place}");
}

#[test]
fn a_good_one() {
    let manifest = read(&good()).unwrap();
    assert_eq!(manifest.name, "web-server");
    assert_eq!(manifest.tables[1].access, Access::Owner);
    let sent = manifest.tables[0].column("sent_bytes").unwrap();
    assert_eq!(sent.unit.as_deref(), Some("bytes"));
    assert!(sent.counter && sent.nullable && !sent.key);
    assert_eq!(manifest.probes[0].every, Duration::from_millis(250));
    assert_eq!(
        (manifest.probes[1].mode, manifest.probes[1].every),
        (Mode::Stream, Duration::ZERO)
    );
    assert_eq!(manifest.probes[0].options[0].kind, OptionType::Duration);
    let least = read(&json!({"name": "a", "version": "1"})).unwrap();
    assert!(least.tables.is_empty() && least.probes.is_empty());
}

#[test]
fn names() {
    let form = "is not of the form [a-z][a-z0-9_]* (at most 64 characters)";
    refused(
        "/name",
        json!("a.b"),
        "plugin name \"a.b\" is not of the form [a-z][a-z0-9_-]* (at most 64 characters)",
    );
    refused(
        "/version",
        json!("1 2"),
        "version \"1 2\" is not 1 to 64 printable characters",
    );
    refused(
        "/version",
        json!(""),
        "version \"\" is not 1 to 64 printable characters",
    );
    refused("/tables/0/name", json!("Site"), &format!("table name \"Site\" {form}"));
    refused("/tables/0/name", json!("gap"), "table gap is one of the host's own");
    refused("/tables/1/name", json!("site"), "table site is declared twice");
    refused("/probes/0/name", json!("a-b"), &format!("probe name \"a-b\" {form}"));
    refused("/probes/1/name", json!("site"), "probe site is declared twice");
    refused(
        "/probes/0/options/0/name",
        json!(""),
        &format!("option name \"\" {form}"),
    );
    refused(
        "/probes/0/options/0/name",
        json!("port"),
        "in probe site, option port is declared twice",
    );
    refused(
        "/probes/0/options/0/name",
        json!("every"),
        "option every of probe site: the key is the host's own",
    );
    refused(
        "/subscribers/0/name",
        json!("../x"),
        &format!("subscriber name \"../x\" {form}"),
    );
    refused(
        "/subscribers/0/tables/0",
        json!("*"),
        &format!("table name \"*\" {form}"),
    );
    for bad in ["", "show  sites", "Show", "a b c d e", "-x"] {
        let expect = format!("command {bad:?} is not one to 4 words of the form [a-z][a-z0-9_-]*");
        refused("/commands/0/name", json!(bad), &expect);
    }
}

#[test]
fn tables_and_probes() {
    refused(
        "/probes/0/tables",
        json!(["sites"]),
        "probe site fills table \"sites\", which the plugin does not declare",
    );
    refused("/probes/0/tables", json!([]), "probe site fills no table");
    refused(
        "/probes/0/tables",
        json!(["site", "site"]),
        "in probe site, table site is declared twice",
    );
    refused(
        "/probes/0/every_ms",
        json!(0),
        "polled probe site has no interval of 1 ms to 366 days",
    );
    refused(
        "/probes/0/every_ms",
        json!(u64::MAX),
        "polled probe site has no interval of 1 ms to 366 days",
    );
    refused("/tables/0/columns", json!([]), "table site has no columns");
    refused(
        "/tables/1/columns/0/nullable",
        json!(true),
        "event table hit: its first column must be `time`, a timestamp that is never null",
    );
    refused(
        "/tables/1/columns/1/type",
        json!("i64"),
        "table hit: rows for their owner only need a column `owner_uid` of type u32",
    );
}

#[test]
fn defaults_are_of_their_type() {
    let option = "/probes/0/options/0";
    let with = |kind: &str, default: Value| json!({"name": "o", "type": kind, "default": default});
    for (kind, default, word) in [
        ("bool", json!("true"), "bool"),
        ("integer", json!(1.5), "integer"),
        ("integer", json!(u64::MAX), "integer"),
        ("float", json!("1"), "float"),
        ("string", json!(1), "string"),
        ("duration", json!("5s"), "duration"),
        ("bytes", json!(-1), "bytes"),
        ("list", json!([1]), "list"),
    ] {
        let expect = format!("option o of probe site: its default {default} is no {word}");
        refused(option, with(kind, default), &expect);
    }
    refused(
        "/probes/0/options/1/default",
        json!(80),
        "option port of probe site is required and has a default",
    );
}

#[test]
fn bounds() {
    let many = |n: usize| {
        Value::Array(
            (0..n)
                .map(|i| json!({"name": format!("c{i}"), "type": "bool"}))
                .collect(),
        )
    };
    refused(
        "/tables/0/columns",
        many(1025),
        "it declares 1025 columns in table \"site\"; at most 1024 are taken",
    );
    refused(
        "/probes/0/options",
        many(65),
        "it declares 65 options of probe site; at most 64 are taken",
    );
    refused(
        "/commands",
        many(257),
        "it declares 257 commands; at most 256 are taken",
    );
    let mut long = good();
    long["doc"] = json!("x".repeat(MAX_BYTES));
    assert!(matches!(read(&long), Err(ManifestError::Size(_))));
    let deep = "[".repeat(10_000);
    assert!(matches!(Manifest::read(deep.as_bytes()), Err(ManifestError::Json(_))));
    assert!(matches!(Manifest::read(b"\xff"), Err(ManifestError::Json(_))));
    refused("/tables/0/kind", json!("heap"), &read_error("heap"));
}

/// What serde says of a table kind, with the place where it stands in the good manifest.
fn read_error(kind: &str) -> String {
    let mut said = good();
    said["tables"][0]["kind"] = json!(kind);
    match read(&said) {
        Err(ManifestError::Json(e)) => {
            assert!(
                e.to_string()
                    .starts_with("unknown variant `heap`, expected `state` or `event`"),
                "{e}"
            );
            ManifestError::Json(e).to_string()
        }
        other => panic!("{other:?}"),
    }
}
