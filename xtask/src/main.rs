//! What developers of vwatchd do often
fn main() {}
