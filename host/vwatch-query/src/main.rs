//! The SQL engine process: one connection, one request, one answer
fn main() {}
