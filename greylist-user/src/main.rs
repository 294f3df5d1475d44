//! Arguments, signals, exit codes.
fn main() {}
