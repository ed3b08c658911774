//! Plugins that crash, hang, exit or lie while they are loaded: the trial's child meets them, the host does not.

use crate::support::{
    Recorder, c_library, chmod, dir, hand_plugin, hand_plugin_in, is_root, load, loader, odd_plugin, refusal, write,
};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MARK: &str = "const char vwatch_plugin_abi_v1[20] = \"vwatch plugin\";\n";

fn in_mode(mode: &[u8; 4]) -> (tempfile::TempDir, PathBuf) {
    let dir = dir();
    let file = write(dir.path(), "hand.so", &hand_plugin_in(mode));
    (dir, file)
}

fn check(mode: &[u8; 4], reason: &str) {
    let (_dir, file) = in_mode(mode);
    let refused = refusal(&file);
    assert_eq!(refused.reason, reason, "{refused}");
}

#[test]
fn setups_that_fail() {
    check(b"flts", "its setup says (unsupported): this kernel has no such thing");
    check(b"abrt", "it crashes when loaded (SIGABRT)");
    check(b"segv", "it crashes when loaded (SIGSEGV)");
    check(b"exit", "it ends the process that loads it (exit code 7)");
    check(b"quit", "it ends the process that loads it (exit code 0)");
    check(b"face", "its manifest is another one each time it is loaded");
}

#[test]
fn manifests_that_are_wrong() {
    check(
        b"json",
        "its manifest is not the JSON it should be: EOF while parsing a value at line 1 column 16",
    );
    check(
        b"name",
        "table name \"a thing\" is not of the form [a-z][a-z0-9_]* (at most 64 characters)",
    );
}

#[test]
fn output_of_a_plugin_is_not_taken_for_an_answer() {
    let (_dir, file) = in_mode(b"talk");
    load(&file).expect("a plugin may print");
}

#[test]
fn a_plugin_may_hand_over_rows_while_it_is_made() {
    let (_dir, file) = in_mode(b"emit");
    let host = Arc::new(Recorder::default());
    loader().load(&file, host.clone()).expect("loaded");
    assert_eq!(host.said(), ["hand: emit for 0: 3 rows"]);
}

#[test]
fn a_hang_ends_with_the_time_limit() {
    let (_dir, file) = in_mode(b"hang");
    let mut loader = loader();
    loader.checker.time_limit = Duration::from_millis(700);
    let began = Instant::now();
    let refused = loader.load(&file, Arc::new(Recorder::default())).unwrap_err();
    assert_eq!(refused.reason, "it does not finish loading within 0.7 s");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn constructors_of_a_library() {
    let dir = dir();
    let constructor = |name: &str, includes: &str, body: &str| {
        let source = format!("{includes}\n{MARK}__attribute__((constructor)) static void begin(void) {{ {body} }}\n");
        c_library(dir.path(), name, &source)
    };
    let Some(crash) = constructor("crash", "", "*(volatile int *)0 = 1;") else {
        return;
    };
    assert_eq!(refusal(&crash).reason, "it crashes when loaded (SIGSEGV)");
    let says = constructor(
        "says",
        "#include <stdio.h>\n#include <stdlib.h>",
        "fputs(\"no luck\\n\\n\", stderr); abort();",
    );
    assert_eq!(
        refusal(&says.unwrap()).reason,
        "it crashes when loaded (SIGABRT): no luck"
    );
    let exit = constructor("exit", "#include <unistd.h>", "_exit(3);");
    assert_eq!(
        refusal(&exit.unwrap()).reason,
        "it ends the process that loads it (exit code 3)"
    );

    let hang = constructor("hang", "#include <unistd.h>", "for (;;) pause();").unwrap();
    let spin = constructor("spin", "", "for (volatile int i = 1; i;) ;").unwrap();
    let mut loader = loader();
    loader.checker.time_limit = Duration::from_millis(500);
    for file in [hang, spin] {
        let refused = loader.load(&file, Arc::new(Recorder::default())).unwrap_err();
        assert_eq!(refused.reason, "it does not finish loading within 0.5 s");
    }
}

/// A child that leaves a grandchild with its pipes behind is neither waited for, nor is the grandchild left running.
#[test]
fn what_a_constructor_starts_ends_with_the_trial() {
    let dir = dir();
    let note = dir.path().join("pid");
    let source = format!(
        "#include <stdio.h>\n#include <unistd.h>\n{MARK}__attribute__((constructor)) static void begin(void) {{\n\
         if (fork() == 0) {{ FILE *f = fopen(\"{}\", \"w\"); fprintf(f, \"%d\", getpid()); fclose(f); for (;;) pause(); }}\n\
         while (access(\"{0}\", F_OK)) usleep(1000); }}\n",
        note.display()
    );
    let Some(file) = c_library(dir.path(), "forks", &source) else {
        return;
    };
    let began = Instant::now();
    let refused = refusal(&file);
    assert!(refused.reason.contains("no root module"), "{refused}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    // Written once the file was made, maybe not yet filled; gone processes have no /proc entry, or are zombies of init.
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let pid = std::fs::read_to_string(&note).unwrap();
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if pid.is_empty() || state.is_empty() || state.contains(") Z ") {
            break;
        }
        assert!(Instant::now() < deadline, "{state}");
        std::thread::yield_now();
    }
}

#[test]
fn libraries_that_cannot_be_bound() {
    let dir = dir();
    let source =
        format!("{MARK}extern void missing_in_every_library(void);\nvoid f(void) {{ missing_in_every_library(); }}\n");
    let Some(file) = c_library(dir.path(), "unbound", &source) else {
        return;
    };
    let refused = refusal(&file);
    assert_eq!(
        refused.reason,
        "it cannot be opened as a library: undefined symbol: missing_in_every_library"
    );
    let marked = c_library(dir.path(), "marked", MARK).unwrap();
    assert_eq!(
        refusal(&marked).reason,
        "it has the mark of a plugin, but no root module"
    );
    // The symbol of abi_stable is there, but leads to nothing of the kind.
    let source = format!(
        "{MARK}static char header[4096] = \"no header\"; char *_1as_0lib_1header_0root_bmodule_bloader = header;\n"
    );
    let header = c_library(dir.path(), "header", &source).unwrap();
    let refused = refusal(&header);
    assert!(refused.reason.contains("abi_stable"), "{refused}");
}

#[test]
fn a_library_with_another_layout() {
    let dir = dir();
    let refused = refusal(&write(dir.path(), "odd.so", &odd_plugin()));
    // The two PluginModules come from two packages: that is what abi_stable finds first.
    assert_eq!(
        refused.reason,
        "its types differ from this daemon's: PluginModule: mismatched package Expected: vwatch-abi Found: vwatch-loader"
    );
    assert_eq!(refused.hint, "build it with the vwatch-sdk of this vwatchd");
}

/// A daemon without root trusts root and its own user, and nobody else.
#[test]
fn a_daemon_of_another_user() {
    if !is_root("a_daemon_of_another_user") {
        return;
    }
    let dir = dir();
    chmod(dir.path(), 0o755);
    let program = dir.path().join("checker");
    std::fs::copy(loader().checker.program, &program).unwrap();
    chmod(&program, 0o755);
    let file = write(dir.path(), "hand.so", &hand_plugin());
    let run = |owner: u32| {
        std::os::unix::fs::chown(&file, Some(owner), None).unwrap();
        let output = Command::new(&program)
            .arg(&file)
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap();
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        said["refused"].as_str().map(str::to_owned)
    };
    assert_eq!(run(0), None);
    assert_eq!(run(65534), None);
    let refused = run(1000).unwrap();
    assert!(
        refused.ends_with("belongs to user 1000, not to root or the daemon's user (65534)"),
        "{refused}"
    );
}

#[test]
fn a_checker_that_does_not_start() {
    let dir = dir();
    let file = write(dir.path(), "hand.so", &hand_plugin());
    let mut loader = loader();
    loader.checker.program = dir.path().join("nothing");
    let refused = loader.load(&file, Arc::new(Recorder::default())).unwrap_err();
    assert!(
        refused.reason.starts_with("it could not be tried in a child process: "),
        "{refused}"
    );
}

/// Standard output of the checker is the manifest, or the refusal; a file named by a person passes all gates.
#[test]
fn what_the_checker_prints() {
    let dir = dir();
    let good = write(dir.path(), "hand.so", &hand_plugin_in(b"talk"));
    let run = |file: &Path| {
        let checker = loader().checker;
        let args: Vec<OsString> = checker.args.into_iter().chain([file.into()]).collect();
        let output = Command::new(checker.program).args(args).output().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), said)
    };
    let (code, manifest) = run(&good);
    assert_eq!((code, &manifest["name"]), (Some(0), &"hand".into()));
    assert_eq!(manifest["tables"][1]["name"], "happening");
    let bad = write(dir.path(), "text.so", b"text");
    let (code, verdict) = run(&bad);
    assert_eq!(
        (code, &verdict["refused"]),
        (Some(1), &"it is a text, not a shared library".into())
    );
}
