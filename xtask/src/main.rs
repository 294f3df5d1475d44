//! Sets up, builds, runs and tests greygate.
fn main() {}
