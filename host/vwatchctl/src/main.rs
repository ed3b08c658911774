//! Control of vwatchd and questions to its store
fn main() {}
