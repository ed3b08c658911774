//! What `vwatchd --check-plugin FILE` does, as a program of its own: the loader's tests try plugins with it.

use std::path::PathBuf;

fn main() {
    let file = std::env::args_os().nth(1).map(PathBuf::from);
    let code = match file {
        Some(file) => vwatch_loader::check_child(&file),
        None => {
            eprintln!("usage: check_plugin FILE");
            2
        }
    };
    std::process::exit(code);
}
