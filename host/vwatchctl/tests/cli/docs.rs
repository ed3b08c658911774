//! The command line's own documents: the reference is a snapshot (`UPDATE=1` rewrites it), the rest must come out.

use std::path::Path;

use crate::fake::{run, vwatchctl};

fn help(path: &[&str]) -> String {
    let args: Vec<&str> = path.iter().chain(&["--help"]).copied().collect();
    run(vwatchctl(&args), "").exits(0).out
}

/// Names of the subcommands that a help text lists.
fn subcommands(help: &str) -> Vec<String> {
    let lines = help
        .lines()
        .skip_while(|l| *l != "Commands:")
        .skip(1)
        .take_while(|l| !l.is_empty());
    let names = lines
        .filter(|l| !l.starts_with("   "))
        .filter_map(|l| l.split_whitespace().next());
    names.filter(|n| *n != "help").map(str::to_owned).collect()
}

fn reference(path: &[&str], text: &mut String) {
    let help = help(path);
    let title = ["vwatchctl"].iter().chain(path).copied().collect::<Vec<_>>().join(" ");
    text.push_str(&format!("== {title} ==\n\n{}\n", help.trim_end().replace(" \n", "\n")));
    for name in subcommands(&help) {
        text.push('\n');
        reference(&[path, &[name.as_str()]].concat(), text);
    }
}

#[test]
fn the_reference_is_what_the_help_says() {
    let mut got = String::new();
    reference(&[], &mut got);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli-reference.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &got).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap();
    assert!(
        got == want,
        "the command line has changed; UPDATE=1 rewrites tests/cli-reference.txt, then read its diff"
    );
    // Every command shows how it is used.
    for part in got.split("\n== ").filter(|p| !p.contains("Commands:")) {
        assert!(
            part.contains("Examples:\n"),
            "no examples: {}",
            part.lines().next().unwrap()
        );
    }
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(vwatchctl(&["completions", shell]), "").exits(0).out;
        assert!(script.contains("vwatchctl") && script.contains("reload"), "{shell}");
    }
}

#[test]
fn man_pages_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("man1");
    run(vwatchctl(&["man", into.to_str().unwrap()]), "").exits(0);
    let mut text = String::new();
    reference(&[], &mut text);
    let commands = text.lines().filter_map(|l| l.strip_prefix("== ")?.strip_suffix(" =="));
    for command in commands {
        let page = std::fs::read_to_string(into.join(format!("{}.1", command.replace(' ', "-")))).unwrap();
        assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{command}");
    }
    assert!(run(vwatchctl(&["man"]), "").exits(0).out.contains(".TH vwatchctl 1"));
}
