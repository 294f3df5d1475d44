//! P.
use super::report::Report;
/// x
pub fn page(_: &Report) -> String {
    String::new()
}
