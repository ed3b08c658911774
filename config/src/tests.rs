use super::*;
use serde_json::json;

fn parse(text: &str) -> Result<File, ConfigError> {
    File::parse(Path::new("/etc/vwatchd.conf"), text)
}

/// The refusal's text, without the file's name.
fn refused(text: &str) -> String {
    let message = parse(text).expect_err(text).to_string();
    message
        .strip_prefix("/etc/vwatchd.conf:")
        .map(str::to_owned)
        .unwrap_or(message)
}

#[test]
fn the_example_holds_every_key() {
    let text = include_str!("../vwatchd.conf");
    assert_eq!(parse(text).expect("as it is shipped"), File::default());
    // Every commented-out setting, taken in, is valid too.
    let opened: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let file = parse(&opened).expect("with all comments opened");
    assert_eq!(file.store, Some("/var/lib/vwatchd/vwatchd.db".into()));
    assert!(file.remote_host.is_some() && file.log_level.is_some() && !file.probes.is_empty());
    assert!(!file.instances.is_empty() && !file.plugin_sections.is_empty());
}

#[test]
fn a_whole_file() {
    let file = parse(
        r#"
store = "/data/v.db"
[probe."process.process"]
every = "250ms"
max_cpu = "1%"
threads = true
[probe."cpu.cpu_time"]
enabled = false
[[instance]]
probe = "process.process"
name = "fast"
every = "1s"
names = ["a", "b"]
[plugin.alerting]
sender = "x"
[plugin.alerting.mail]
port = 25
[query]
memory = "64MiB"
time = "5s"
rows = 10
"#,
    )
    .unwrap();
    let process = &file.probes["process.process"];
    assert_eq!(process.every, Some(Duration::from_millis(250)));
    assert_eq!(process.max_cpu, Some(0.01));
    assert_eq!(process.options.values["threads"], json!(true));
    assert_eq!(process.options.places["threads"].line, 6);
    assert_eq!(file.probes["cpu.cpu_time"].enabled, Some(false));
    assert_eq!(file.instances[0].options.values["names"], json!(["a", "b"]));
    assert_eq!(file.plugin_sections["alerting"]["mail"], json!({"port": 25}));
    assert_eq!(file.query.memory_bytes, 64 << 20);
    assert_eq!(file.query.rows, 10);
}

#[test]
fn refusals_name_place_and_nearest_key() {
    let check = |text: &str, expect: &str| assert_eq!(refused(text), expect, "{text}");
    check(
        "stor = \"/x\"",
        "1:1: unknown key \"stor\" at the top of the file; did you mean \"store\"?",
    );
    check(
        "\n  remote_host = \"x\"",
        "2:3: unknown key \"remote_host\" at the top of the file; did you mean \"remote-host\"?",
    );
    check(
        "[query]\nmemroy = \"1GiB\"",
        "2:1: unknown key \"memroy\" in [query]; did you mean \"memory\"?",
    );
    check("store = 7", "1:9: store must be a string, not an integer");
    check("store = \"x.db\"", "1:9: store: \"x.db\" is not an absolute path");
    check(
        "[query]\nrows = \"many\"",
        "2:8: rows must be a whole number, not a string",
    );
    check("[query]\nrows = 0", "2:8: rows: 0 is not a number from 1 on");
    check(
        "[probe.\"p.p\"]\nenabled = 1",
        "2:11: enabled must be true or false, not an integer",
    );
    check("log = 3", "1:7: log must be a table, not an integer");
    check(
        "[[instance]]\nname = \"x\"",
        "1:1: [[instance]] needs the key \"probe\"",
    );
    check(
        "[log]\nlevel = \"loud\"",
        "2:9: level: \"loud\" is not one of error, warn, info, debug, trace",
    );
    check(
        "[[instance]]\nprobe = \"a.b\"\nname = \"x\"\n[[instance]]\nprobe = \"a.b\"\nname = \"x\"",
        "6:8: name: \"x\" is the instance of line 3 already",
    );
    assert!(refused("[probe.process]\nevery = \"1s\"").starts_with("1:8: probe: \"process\" is not of the form"));
    assert!(refused("[probe.\"p.p\"]\nevery = \"soon\"").starts_with("2:9: every: \"soon\" is not a duration"));
    assert!(refused("store = ").starts_with("1:"));
    assert!(refused("store = \"/a\"\nstore = \"/b\"").starts_with("2:1: "));
}

#[test]
fn columns_count_characters() {
    assert_eq!(refused("log = {'ü' = \"a\"}"), "1:8: unknown key \"ü\" in [log]");
    assert_eq!(
        refused("log = {level = \"info\", 'ü' = 1}"),
        "1:24: unknown key \"ü\" in [log]"
    );
}

fn nothing(_: &str) -> Option<String> {
    None
}

#[test]
fn flag_before_file_before_default() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v.conf");
    std::fs::write(&path, "store = \"/from/file.db\"\nplugins = \"/from/file\"\n").unwrap();
    let overrides = Overrides {
        config: Some(path.clone()),
        store: Some("/from/flag.db".into()),
        ..Overrides::default()
    };
    let config = Config::load(&overrides, 0, nothing).unwrap();
    assert_eq!(config.store, PathBuf::from("/from/flag.db"));
    assert_eq!(config.plugins, PathBuf::from("/from/file"));
    assert_eq!(config.socket, PathBuf::from("/run/vwatchd/control.sock"));
    assert_eq!(config.query_socket(), PathBuf::from("/run/vwatchd/query.sock"));
    assert_eq!(config.file, Some(path));
}

#[test]
fn a_named_file_must_exist_and_be_small_text() {
    let dir = tempfile::tempdir().unwrap();
    let load = |name: &str| {
        let overrides = Overrides {
            config: Some(dir.path().join(name)),
            ..Overrides::default()
        };
        Config::load(&overrides, 1000, nothing)
    };
    assert!(matches!(load("absent.conf"), Err(ConfigError::Read { .. })));
    std::fs::write(dir.path().join("big.conf"), vec![b'#'; MAX_FILE_BYTES as usize + 1]).unwrap();
    assert!(matches!(load("big.conf"), Err(ConfigError::TooLong { .. })));
    std::fs::write(dir.path().join("raw.conf"), b"# \xff").unwrap();
    assert!(matches!(load("raw.conf"), Err(ConfigError::NotText { offset: 2, .. })));
    std::fs::write(dir.path().join("empty.conf"), "").unwrap();
    assert!(load("empty.conf").is_ok());
}

#[test]
fn nearest_is_near() {
    let known = ["process.process", "cpu.cpu_time"];
    assert_eq!(nearest("proces.process", known), Some("process.process".into()));
    assert_eq!(nearest("process", known), Some("process.process".into()));
    assert_eq!(nearest("zebra", known), None);
}

#[test]
fn what_packages_install_is_valid() {
    let file = parse(include_str!("../../packaging/vwatchd.conf")).unwrap();
    assert_eq!(file.store, Some("/var/lib/vwatchd/vwatchd.db".into()));
}

#[test]
fn what_the_store_keeps() {
    let file = parse(
        r#"
[store]
path = "/data/v.db"
keep = "14d"
max_bytes = "4GiB"
thin = [{ after = "1h", every = "10s" }, { after = "1d", every = "5m" }]
[store.table.syscall]
keep = "1h"
[store.table.process]
max_bytes = "unlimited"
thin = []
"#,
    )
    .unwrap();
    assert_eq!(file.store, Some("/data/v.db".into()));
    let keep = file.keep.or_default();
    let all = "kept for 14d, at most 4294967296 bytes, after 1h one sample in 10s, after 1d one sample in 5m";
    assert_eq!(keep.all.to_string(), all);
    assert_eq!(keep.tables["syscall"].to_string(), "kept for 1h");
    assert_eq!(keep.tables["process"].to_string(), "of any size, never thinned");
    let default = "kept for 30d, at most 10% of the disk, after 1d one sample in 10s, after 7d one sample in 1m";
    assert_eq!(Keep::default().or_default().all.to_string(), default);
    let check = |text: &str, expect: &str| assert_eq!(refused(text), expect, "{text}");
    check(
        "[store]\nkepe = \"1d\"",
        "2:1: unknown key \"kepe\" in [store]; did you mean \"keep\"?",
    );
    check("[store]\nkeep = \"1s\"", "2:8: keep: \"1s\" is less than 10m");
    check(
        "[store]\nmax_bytes = \"99%\"",
        "2:13: max_bytes: \"99%\" is more than 95%",
    );
    check(
        "[store.table.process]\nmax_byte = \"1GiB\"",
        "2:1: unknown key \"max_byte\" in [store.table.\"process\"]; did you mean \"max_bytes\"?",
    );
    check(
        "[store]\nthin = [{ after = \"1d\" }]",
        "2:9: a step of thin needs the key \"every\"",
    );
    check(
        "[store]\nthin = [{ after = \"1d\", every = \"1m\" }, { after = \"2d\", every = \"10s\" }]",
        "2:41: thin: each step is later and wider than the one before",
    );
    check(
        "[store]\nthin = 3",
        "2:8: thin must be an array of tables, not an integer",
    );
}
