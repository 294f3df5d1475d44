//! stub
use std::io::IsTerminal;
/// Whether text for `stream` may be coloured.
pub fn wants_colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
