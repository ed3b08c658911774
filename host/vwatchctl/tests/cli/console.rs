//! The console without a terminal: a script on standard input.

use arrow_array::record_batch;
use vwatch_model::time::Moment;

use crate::fake::{Daemon, answer, partial, refusal};

fn daemon() -> Daemon {
    let rows = record_batch!(("x", Int32, [1])).unwrap();
    Daemon::default()
        .query("SELECT bad", refusal("syntax", "what is bad?", None, 1, 8))
        .query("SELECT part", partial(&rows, "a gap"))
        .query("", answer(&rows))
}

#[test]
fn statements_run_one_after_the_other() {
    let daemon = daemon().start();
    let script =
        "\\o csv\nSELECT 1;\n\\at 2024-05-01 12:30\nSELECT\n ';' -- two;\n FROM x; SELECT 3;\n\\at\n\\o json\nSELECT 4";
    let ended = daemon.run_with(&["console"], &[], script).exits(0);
    assert_eq!(ended.out, "x\n1\nx\n1\nx\n1\n[\n{\"x\":1}\n]\n");
    assert_eq!(
        ended.err,
        "state tables are read as of 2024-05-01T12:30:00.000+02:00\nstate tables are read as they are now\n"
    );
    let asked: Vec<_> = daemon.questions().into_iter().map(|q| (q.sql, q.at)).collect();
    let at = Some(Moment::Ns(1_714_559_400_000_000_000));
    assert_eq!(
        asked,
        [
            ("SELECT 1".to_owned(), None),
            ("SELECT\n ';' -- two;\n FROM x".to_owned(), at),
            ("SELECT 3".to_owned(), at),
            ("SELECT 4".to_owned(), None),
        ]
    );
}

#[test]
fn an_error_is_told_and_the_script_goes_on() {
    let daemon = daemon().start();
    let ended = daemon
        .run_with(&["console", "-o", "csv"], &[], "SELECT bad;\nSELECT 1;\n")
        .exits(1);
    assert_eq!(ended.out, "x\n1\n");
    assert_eq!(ended.err, "error: what is bad?\n   1 | SELECT bad\n     |        ^\n");
    let ended = daemon
        .run_with(&["console", "-o", "csv"], &[], "\\frob\n\\at soon\nSELECT 1;")
        .exits(2);
    assert!(
        ended.err.starts_with("error: \\frob is no word of the console\n"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("\"soon\" is not a time"), "{}", ended.err);
}

#[test]
fn the_end_of_a_script_is_its_exit_status() {
    let daemon = daemon().start();
    let code = |script: &str| daemon.run_with(&["console"], &[], script).code;
    assert_eq!(code(""), 0);
    assert_eq!(code("SELECT part;\nSELECT 1;\n"), 4);
    assert_eq!(code("SELECT 1;\nquit\nSELECT bad;\n"), 0);
    assert_eq!(code("\\timing\nSELECT 1;\n\\d\n\\q\n"), 0);
}
