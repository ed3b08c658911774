//! The recorder
fn main() {}
